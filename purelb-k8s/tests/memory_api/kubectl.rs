//! The real `kubectl` against the API.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::cluster::{Cluster, in_time};

/// `kubectl` with the kubeconfig of a test's cluster.
pub(crate) struct Kubectl {
    pub(crate) cluster: Cluster,
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    async fn find() -> Option<Self> {
        Self::of(Cluster::any()).await
    }

    /// Nothing, and a word about it, where there is no `kubectl`.
    pub(crate) async fn of(cluster: impl Future<Output = Option<Cluster>>) -> Option<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = assets.into_iter().chain(std::env::split_paths(&path));
        let found = folders.find_map(|f| Some(f.join("kubectl")).filter(|p| p.is_file()));
        let Some(program) = found else {
            let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|r| r == "kubectl"), "kubectl not found");
            println!("skipped: kubectl not found in PATH or KUBEBUILDER_ASSETS");
            return None;
        };
        let cluster = cluster.await?;
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(home.path().join("kubeconfig"), &cluster.kubeconfig).expect("written");
        let kubectl = Self { cluster, program, home };
        let namespace = format!("--namespace={}", kubectl.cluster.namespace);
        kubectl.run(&["config", "set-context", "--current", &namespace], "").await;
        Some(kubectl)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("HOME", self.home.path())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn try_run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).await.expect("kubectl reads");
        drop(stdin);
        in_time("kubectl ends", child.wait_with_output()).await.expect("kubectl ran")
    }

    /// What a command prints; it must succeed without a warning.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_run(arguments, input).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
        assert_eq!(errors, "", "kubectl {arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command complains about; it must fail.
    pub(crate) async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_run(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments:?} succeeded");
        String::from_utf8(output.stderr).expect("text")
    }

    async fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.run(&["get", kind, name, "-o", "json"], "").await;
        serde_json::from_str(&text).expect("JSON")
    }
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {purelb.io/service-group: default, note: here}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  ports:
  - {name: http, port: 80}
  - {name: https, port: 443}
  selector: {app: web}
";

const GROUP: &str = "
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata:
  name: default
spec:
  local:
    v4pools:
    - {pool: 192.0.2.100-192.0.2.120, subnet: 192.0.2.0/24, aggregation: default}
";

const INGRESS: &str = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}"#;

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn get_prints_tables_and_objects() {
    let Some(kubectl) = Kubectl::find().await else { return };
    kubectl.run(&["create", "-f", "-"], WEB).await;
    let table = kubectl.run(&["get", "service"], "").await;
    let lines: Vec<&str> = table.lines().collect();
    let expected = ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
    assert_eq!(columns(lines[0]), expected);
    let row = columns(lines[1]);
    assert_eq!((row[0], row[1], row[3]), ("web", "LoadBalancer", "<pending>"));
    assert!(row[2].starts_with("10.96.") && row[4].contains("80:3") && row[5].ends_with('s'));
    let wide = kubectl.run(&["get", "svc", "web", "-o", "wide"], "").await;
    assert!(wide.contains("SELECTOR") && wide.contains("app=web"), "{wide}");
    let yaml = kubectl.run(&["get", "svc", "web", "-o", "yaml"], "").await;
    assert!(yaml.contains("clusterIP: 10.96.") && !yaml.contains("managedFields"), "{yaml}");
    let none =
        kubectl.run(&["get", "svc", "--field-selector", "spec.type=NodePort", "-o", "name"], "");
    assert_eq!(none.await, "");
    let names =
        kubectl.run(&["get", "svc,leases,endpointslices,events,pods,sg,lbna", "-o", "name"], "");
    assert_eq!(names.await, "service/web\n");
    let all = kubectl.run(&["get", "all"], "").await;
    assert!(all.contains("service/web"), "{all}");
    let missing = kubectl.fails(&["get", "svc", "none"], "").await;
    assert_eq!(missing.trim(), "Error from server (NotFound): services \"none\" not found");
}

#[tokio::test]
async fn apply_on_the_server_twice_removes_what_is_left_out() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let apply = ["apply", "--server-side", "-f", "-"];
    assert_eq!(kubectl.run(&apply, WEB).await, "service/web serverside-applied\n");
    let less = WEB.replace(", note: here", "").replace("  - {name: https, port: 443}\n", "");
    assert_eq!(kubectl.run(&apply, &less).await, "service/web serverside-applied\n");
    let web = kubectl.object("svc", "web").await;
    assert_eq!(web["metadata"]["annotations"], json!({"purelb.io/service-group": "default"}));
    assert_eq!(web["spec"]["ports"].as_array().map(Vec::len), Some(1));
    let taken = kubectl
        .run(&["annotate", "svc", "web", "--overwrite", "purelb.io/service-group=other"], "");
    taken.await;
    let conflict = kubectl.fails(&apply, &less).await;
    assert!(conflict.contains("conflict with \"kubectl-annotate\""), "{conflict}");
    kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &less).await;
    kubectl.run(&apply, GROUP).await;
    kubectl.run(&apply, &GROUP.replace("local", "remote")).await;
    assert!(kubectl.object("sg", "default").await["spec"].get("local").is_none());
}

#[tokio::test]
async fn apply_on_the_client_merges_three_ways() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let apply = ["apply", "-f", "-"];
    assert_eq!(kubectl.run(&apply, WEB).await, "service/web created\n");
    assert_eq!(kubectl.run(&apply, WEB).await, "service/web unchanged\n");
    let less = WEB.replace(", note: here", "").replace("  - {name: http, port: 80}\n", "");
    assert_eq!(kubectl.run(&apply, &less).await, "service/web configured\n");
    let web = kubectl.object("svc", "web").await;
    assert_eq!(web["spec"]["ports"].as_array().map(Vec::len), Some(1));
    assert_eq!(web["spec"]["ports"][0]["name"], "https");
    assert!(web["metadata"]["annotations"].get("note").is_none());
    assert_eq!(kubectl.run(&apply, GROUP).await, "servicegroup.purelb.io/default created\n");
    let more = GROUP.replace(".120", ".130");
    assert_eq!(kubectl.run(&apply, &more).await, "servicegroup.purelb.io/default configured\n");
    assert_eq!(kubectl.run(&["diff", "-f", "-"], &more).await, "", "nothing differs");
    // The server takes over what the client had applied.
    kubectl.run(&["apply", "--server-side", "-f", "-"], &less).await;
    let managers = kubectl.run(&["get", "svc", "web", "--show-managed-fields", "-o", "yaml"], "");
    assert!(!managers.await.contains("kubectl-client-side-apply"));
}

#[tokio::test]
async fn wrong_objects_are_refused_with_reasons() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let typo = WEB.replace("selector:", "selektor:");
    let why = kubectl.fails(&["apply", "-f", "-"], &typo).await;
    assert!(why.contains("unknown field \"spec.selektor\""), "{why}");
    let why = kubectl.fails(&["create", "-f", "-"], &WEB.replace("LoadBalancer", "Balancer")).await;
    assert!(why.contains("spec.type: Unsupported value: \"Balancer\""), "{why}");
    let both = format!("{GROUP}  remote: {{}}\n");
    let why = kubectl.fails(&["apply", "-f", "-"], &both).await;
    assert!(why.contains("exactly one of local, remote and external must be given"), "{why}");
    let why = kubectl.fails(&["get", "secretz"], "").await;
    assert!(why.contains("the server doesn't have a resource type \"secretz\""), "{why}");
}

#[tokio::test]
async fn small_edits_work() {
    let Some(kubectl) = Kubectl::find().await else { return };
    kubectl.run(&["create", "-f", "-"], WEB).await;
    kubectl.run(&["annotate", "svc", "web", "a=b"], "").await;
    kubectl.run(&["annotate", "svc", "web", "note-"], "").await;
    kubectl.run(&["label", "svc", "web", "l=m"], "").await;
    kubectl
        .run(&["patch", "svc", "web", "-p", r#"{"spec":{"ports":[{"port":80,"name":"web"}]}}"#], "")
        .await;
    kubectl
        .run(
            &[
                "patch",
                "svc",
                "web",
                "--type=json",
                "-p",
                r#"[{"op":"add","path":"/metadata/labels/n","value":"o"}]"#,
            ],
            "",
        )
        .await;
    kubectl
        .run(&["patch", "svc", "web", "--subresource=status", "--type=merge", "-p", INGRESS], "")
        .await;
    let web = kubectl.object("svc", "web").await;
    let annotations = json!({"purelb.io/service-group": "default", "a": "b"});
    assert_eq!(web["metadata"]["annotations"], annotations);
    assert_eq!(web["metadata"]["labels"], json!({"l": "m", "n": "o"}));
    assert_eq!(web["spec"]["ports"].as_array().map(Vec::len), Some(2));
    assert_eq!(web["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    let edit = kubectl
        .command(&["edit", "svc", "web"])
        .env("KUBE_EDITOR", "sed -i s/app:.web/app:\\ other/")
        .output();
    let edit = in_time("kubectl edit", edit).await.expect("it ran");
    assert!(edit.status.success(), "{}", String::from_utf8_lossy(&edit.stderr));
    assert_eq!(kubectl.object("svc", "web").await["spec"]["selector"]["app"], "other");
    let replaced = kubectl.run(&["replace", "-f", "-"], WEB).await;
    assert_eq!(replaced, "service/web replaced\n");
    kubectl.run(&["delete", "svc", "web"], "").await;
    kubectl.fails(&["get", "svc", "web"], "").await;
}

#[tokio::test]
async fn describe_shows_a_service_with_its_events() {
    let Some(kubectl) = Kubectl::find().await else { return };
    kubectl.run(&["create", "-f", "-"], WEB).await;
    let uid = kubectl.object("svc", "web").await["metadata"]["uid"].clone();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1"},
        "regarding": {
            "apiVersion": "v1", "kind": "Service", "name": "web", "uid": uid,
            "namespace": kubectl.cluster.namespace,
        },
        "eventTime": "2026-01-02T03:04:05.000006Z", "type": "Normal", "reason": "AddressAssigned",
        "action": "Allocate", "note": "192.0.2.1 from default",
        "reportingController": "purelb-allocator", "reportingInstance": "allocator-0",
    });
    kubectl.run(&["create", "-f", "-"], &event.to_string()).await;
    kubectl
        .run(&["patch", "svc", "web", "--subresource=status", "--type=merge", "-p", INGRESS], "")
        .await;
    let text = kubectl.run(&["describe", "svc", "web"], "").await;
    for part in ["LoadBalancer Ingress:", "192.0.2.1", "AddressAssigned", "192.0.2.1 from default"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let table = kubectl.run(&["get", "events"], "").await;
    assert!(table.contains("service/web") && table.contains("AddressAssigned"), "{table}");
    let events = kubectl.run(&["events", "--for", "service/web"], "").await;
    assert!(events.contains("AddressAssigned"), "{events}");
    kubectl.run(&["apply", "-f", "-"], GROUP).await;
    let text = kubectl.run(&["describe", "sg", "default"], "").await;
    assert!(text.contains("192.0.2.100-192.0.2.120"), "{text}");
}

#[tokio::test]
async fn watch_and_wait_see_changes() {
    let Some(kubectl) = Kubectl::find().await else { return };
    kubectl.run(&["create", "-f", "-"], WEB).await;
    let mut watch = kubectl
        .command(&["get", "svc", "--watch"])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
    let mut next = async || {
        let line = in_time("a line", lines.next_line()).await.expect("text");
        columns(&line.expect("kubectl goes on")).join(" ")
    };
    assert!(next().await.starts_with("NAME TYPE"));
    assert!(next().await.contains("<pending>"));
    let wait = [
        "wait",
        "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=192.0.2.1",
        "svc/web",
        "--timeout=15s",
    ];
    let patch = ["patch", "svc", "web", "--subresource=status", "--type=merge", "-p", INGRESS];
    let (waited, _) = tokio::join!(kubectl.run(&wait, ""), kubectl.run(&patch, ""));
    assert_eq!(waited, "service/web condition met\n");
    assert!(next().await.contains("web LoadBalancer 10.96."));
    kubectl.run(&["delete", "svc", "web"], "").await;
    assert!(next().await.contains("192.0.2.1"));
}

#[tokio::test]
async fn the_cluster_can_be_looked_around_in() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": kubectl.cluster.namespace, "labels": {"node-role.kubernetes.io/worker": ""}},
    });
    kubectl.run(&["apply", "-f", "-"], &node.to_string()).await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "purelb-node-a"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 5, "renewTime": "2026-01-02T03:04:05.000006Z"},
    });
    kubectl.run(&["apply", "-f", "-"], &lease.to_string()).await;
    let nodes = kubectl.run(&["get", "nodes"], "").await;
    assert_eq!(
        columns(nodes.lines().next().unwrap_or_default()),
        ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    );
    let node = kubectl.run(&["describe", "node", &kubectl.cluster.namespace], "").await;
    assert!(node.contains("worker"), "{node}");
    let leases = kubectl.run(&["get", "leases"], "").await;
    assert_eq!(columns(leases.lines().next().unwrap_or_default()), ["NAME", "HOLDER", "AGE"]);
    assert!(leases.contains("purelb-node-a   a"), "{leases}");
    kubectl.run(&["apply", "-f", "-"], GROUP).await;
    let groups = kubectl.run(&["get", "sgs"], "").await;
    let expected = ["NAME", "ANNOUNCE", "IPAM", "ALLOCATED-V4", "ALLOCATED-V6", "AGE"];
    assert_eq!(columns(groups.lines().next().unwrap_or_default()), expected);
    let resources = kubectl.run(&["api-resources", "--api-group=purelb.io"], "").await;
    assert!(resources.contains("lbna,lbnas") && resources.contains("sg,sgs"), "{resources}");
    // It may warn about a difference of versions.
    assert!(kubectl.try_run(&["version"], "").await.status.success());
    kubectl.run(&["delete", "node", &kubectl.cluster.namespace], "").await;
}

#[tokio::test]
async fn kubectl_makes_simple_objects_by_itself() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let create = ["create", "service", "loadbalancer", "web", "--tcp=80:8080"];
    assert_eq!(kubectl.run(&create, "").await, "service/web created\n");
    let spec = &kubectl.object("svc", "web").await["spec"];
    assert_eq!(
        (&spec["type"], &spec["selector"]),
        (&json!("LoadBalancer"), &json!({"app": "web"}))
    );
    assert_eq!(
        (&spec["ports"][0]["port"], &spec["ports"][0]["targetPort"]),
        (&json!(80), &json!(8080))
    );
    let expose = ["expose", "svc", "web", "--name=other", "--port=81", "--type=LoadBalancer"];
    assert_eq!(kubectl.run(&expose, "").await, "service/other exposed\n");
    let namespace = format!("{}-more", kubectl.cluster.namespace);
    kubectl.run(&["create", "namespace", &namespace], "").await;
    assert_eq!(kubectl.object("ns", &namespace).await["status"]["phase"], "Active");
}

/// A List of any kinds, and one of a kind's own, as `kubectl get -o json` prints it.
#[tokio::test]
async fn a_list_is_created_applied_and_deleted_object_by_object() {
    let Some(kubectl) = Kubectl::find().await else { return };
    let [web, group]: [Value; 2] =
        [WEB, GROUP].map(|text| serde_saphyr::from_str(text).expect("YAML"));
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "some" },
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [web, group, lease] });
    let list = list.to_string();
    let created = kubectl.run(&["create", "-f", "-"], &list).await;
    let names = ["service/web", "servicegroup.purelb.io/default", "lease.coordination.k8s.io/some"];
    assert_eq!(created, names.map(|name| format!("{name} created\n")).concat());
    assert_eq!(kubectl.object("service", "web").await["spec"]["ports"][1]["port"], 443);

    let again = kubectl.fails(&["create", "-f", "-"], &list).await;
    assert_eq!(again.matches("AlreadyExists").count(), 3, "each is tried: {again}");
    let applied = kubectl.run(&["apply", "--server-side", "-f", "-"], &list).await;
    assert_eq!(applied, names.map(|name| format!("{name} serverside-applied\n")).concat());

    let printed = kubectl.run(&["get", "services,leases", "-o", "json"], "").await;
    let deleted = kubectl.run(&["delete", "--wait=false", "-f", "-"], &printed).await;
    assert!(deleted.contains("service \"web\" deleted"), "{deleted}");
    assert!(deleted.contains("\"some\" deleted"), "{deleted}");
    assert_eq!(kubectl.run(&["get", "services,leases", "-o", "name"], "").await, "");
    let left = kubectl.run(&["get", "servicegroups", "-o", "name"], "").await;
    assert_eq!(left, "servicegroup.purelb.io/default\n");

    let mut two: Value = serde_json::from_str(&printed).expect("JSON");
    two["kind"] = "ServiceList".into();
    let services = two["items"].as_array_mut().expect("items");
    services.retain(|object| object["kind"] == "Service");
    for service in services {
        let metadata = service["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|key, _| key == "name");
        service["spec"] = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
    }
    let created = kubectl.run(&["create", "-f", "-"], &two.to_string()).await;
    assert_eq!(created, "service/web created\n");
}
