//! The manifests under `deploy/` on a real API server: they are accepted, the programs run by exactly the
//! arguments and the environment that they give, and with exactly the rights; a stolen token is of
//! little use.
//!
//! Needs a control plane (`KUBEBUILDER_ASSETS`, or Go), iproute2, and the right to make network
//! namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::Request;
use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::{Glance, wait_until};
use purelb_cli::lab::require;
use purelb_cli::lab::state::Labs;
use purelb_cli::lab::stop::Stop;
use purelb_k8s::{client, control_plane};
use serde_json::Value;

/// How long a fact may take to come true before a test fails.
const DEADLINE: Duration = Duration::from_secs(90);

/// A cluster without programs, and ways to talk to it.
struct Stage {
    cluster: Cluster,
    kubectl: PathBuf,
    programs: Vec<Child>,
}

/// What became of a command.
struct Done {
    ok: bool,
    out: String,
    errors: String,
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

impl Stage {
    fn set() -> Option<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let assets = control_plane::require::assets(&workspace)?;
        let kubectl = assets.program("kubectl").unwrap();
        let directory = Labs::of_this_user().and_then(|labs| labs.start()).unwrap();
        let blueprint = Blueprint {
            assets: Some(assets),
            purelb: Some(env!("CARGO_BIN_EXE_purelb").into()),
            ..Blueprint::default()
        };
        let cluster = Cluster::build(directory, None, &Stop::default(), blueprint).unwrap();
        Some(Self { cluster, kubectl, programs: Vec::new() })
    }

    /// Runs `kubectl` as the administrator.
    fn try_admin(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig()).args(arguments);
        done(command)
    }

    /// The same, and it must be done.
    fn admin(&self, arguments: &[&str]) -> String {
        let done = self.try_admin(arguments);
        assert!(done.ok, "kubectl {arguments:?}: {}", done.errors);
        done.out
    }

    fn render(&self, overlay: &str) -> Vec<Value> {
        let text = self.admin(&["kustomize", deploy(overlay).to_str().unwrap()]);
        serde_saphyr::from_multiple(&text).unwrap()
    }

    fn apply(&self, overlay: &str) {
        self.admin(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            deploy(overlay).to_str().unwrap(),
        ]);
    }

    /// A kubeconfig with a token of a ServiceAccount, bound to a pod on that node.
    fn pods_kubeconfig(&mut self, account: &str, node: &str) -> PathBuf {
        let pod = format!("{account}-{node}");
        let manifest = self.directory().join(format!("{pod}.json"));
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod, "namespace": "purelb" },
            "spec": {
                "serviceAccountName": account, "nodeName": node,
                "containers": [{ "name": account, "image": "purelb" }],
            },
        });
        fs::write(&manifest, object.to_string()).unwrap();
        self.admin(&["apply", "--server-side", "-f", manifest.to_str().unwrap()]);
        let bound = ["--bound-object-kind", "Pod", "--bound-object-name", &pod];
        self.token_kubeconfig(account, &pod, &bound)
    }

    fn token_kubeconfig(&mut self, account: &str, name: &str, bound: &[&str]) -> PathBuf {
        let token = self.admin(&[&["create", "token", account, "-n", "purelb"], bound].concat());
        let path = self.directory().join(format!("{name}.kubeconfig"));
        let plane = self.cluster.api_mut().plane().expect("a real one");
        fs::write(&path, plane.kubeconfig_with_token(token.trim())).unwrap();
        path
    }

    fn directory(&self) -> PathBuf {
        self.cluster.kubeconfig().parent().unwrap().to_owned()
    }

    /// Starts the one container of a workload by its own words.
    fn start(&mut self, workload: &Value, node: Option<usize>, kubeconfig: &Path) {
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        let program = container["command"][0].as_str().unwrap();
        let executable = match program {
            "allocator" => env!("CARGO_BIN_EXE_allocator"),
            "lbnodeagent" => env!("CARGO_BIN_EXE_lbnodeagent"),
            other => panic!("no program {other}"),
        };
        let hub = self.cluster.topology().hub();
        let namespace = node.map_or(hub, |node| self.cluster.node(node));
        let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
        let log = self.log(program, namespace);
        let mut command = Command::new(executable);
        command.args(args).env_clear();
        for variable in container["env"].as_array().unwrap() {
            command.env(variable["name"].as_str().unwrap(), value(variable, namespace));
        }
        // What the kubelet mounts into a pod is one file here.
        command.env("KUBECONFIG", kubeconfig);
        command.stdin(Stdio::null()).stdout(fs::File::create(log).unwrap());
        let child = namespace.spawn(command).unwrap();
        self.programs.push(child);
    }

    fn log(&self, program: &str, namespace: &Namespace) -> PathBuf {
        self.cluster.logs().join(format!("{program}-{}.log", namespace.name()))
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let held = wait_until(DEADLINE, &Stop::default(), || fact(holds()));
        if held.is_err() {
            for log in fs::read_dir(self.cluster.logs()).unwrap().flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(15).collect();
                eprintln!("{}: {tail:#?}", log.path().display());
            }
            panic!("not in time: {what}");
        }
    }

    fn shows(&self, arguments: &[&str], text: &str) -> bool {
        self.try_admin(arguments).out.contains(text)
    }

    /// What this user asked of the API: (group, resource, verb), with the status codes of refusals.
    fn used(&mut self, user: &str) -> (BTreeSet<Right>, Vec<String>) {
        let log = self.cluster.api_mut().plane().expect("a real one").audit_log();
        let (mut used, mut forbidden) = (BTreeSet::new(), Vec::new());
        for line in fs::read_to_string(log).unwrap().lines() {
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            if entry["user"]["username"] != user {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &entry["objectRef"];
            let mut resource = text(&object["resource"]);
            if let Some(sub) = object["subresource"].as_str() {
                resource = format!("{resource}/{sub}");
            }
            if entry["responseStatus"]["code"] == 403 {
                forbidden.push(format!(
                    "{} {resource}: {}",
                    text(&entry["verb"]),
                    entry["responseStatus"]["message"]
                ));
            }
            used.insert((text(&object["apiGroup"]), resource, text(&entry["verb"])));
        }
        (used, forbidden)
    }
}

impl Stage {
    fn end_programs(&mut self) {
        for mut program in self.programs.drain(..) {
            // One that has ended already is as good.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end_programs();
    }
}

fn fact(holds: bool) -> Result<(), Glance> {
    if holds { Ok(()) } else { Err(Glance::NotYet(String::new())) }
}

fn done(mut command: Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Done {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What the kubelet would make of a variable.
fn value(variable: &Value, namespace: &Namespace) -> String {
    if let Some(value) = variable["value"].as_str() {
        return value.to_owned();
    }
    match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap() {
        "metadata.namespace" => "purelb".to_owned(),
        "metadata.uid" => format!("00000000-{}", namespace.name()),
        "spec.nodeName" => namespace.name().to_owned(),
        other => panic!("no field {other}"),
    }
}

/// API group, resource with its subresource, verb.
type Right = (String, String, String);

/// What the roles in `objects` allow the account of that name.
fn allowed(objects: &[Value], role: &str) -> BTreeSet<Right> {
    let roles = objects.iter().filter(|object| {
        object["metadata"]["name"] == role
            && (object["kind"] == "ClusterRole" || object["kind"] == "Role")
    });
    let mut rights = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        let list =
            |key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
        for group in list("apiGroups") {
            for resource in list("resources") {
                for verb in list("verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn programs_run_by_their_manifests_with_exactly_the_rights_they_use_and_a_stolen_token_is_of_little_use()
 {
    require::privileged(|| {
        let Some(mut stage) = Stage::set() else { return };
        let objects = stage.render("base");
        stage.apply("base");
        stage.apply("overlays/ha");
        // As on a new cluster: the allocator creates it.
        stage.admin(&["delete", "lease", "purelb-allocator", "-n", "purelb"]);
        let allocator = stage.pods_kubeconfig("allocator", "node1");
        let agents = ["node1", "node2"].map(|node| stage.pods_kubeconfig("lbnodeagent", node));
        stage.start(find(&objects, "Deployment"), None, &allocator);
        for (node, kubeconfig) in agents.iter().enumerate() {
            stage.start(find(&objects, "DaemonSet"), Some(node), kubeconfig);
        }
        everything_they_do_for_a_cluster(&stage);
        // A watch is in the audit log once it has ended.
        stage.end_programs();
        rights_are_exactly_those_used(&mut stage, &objects);
        an_agents_token_is_good_for_its_own_reports_only(&mut stage, &agents[0]);
        the_allocators_token_is_good_for_answers_only(&stage, &allocator);
        // The same, where the Go PureLB was.
        stage.apply("overlays/migrate");
    });
}

/// Makes the programs do all that they can.
fn everything_they_do_for_a_cluster(stage: &Stage) {
    stage.admin(&["apply", "--server-side", "-f", deploy("samples").to_str().unwrap()]);
    let get = |name: &'static str| ["get", "service", name, "-o", "yaml"];
    stage.until("web has addresses", || stage.shows(&get("web"), "192.0.2.240"));
    stage.until("an agent announces it", || stage.shows(&get("web"), "announcing-IPv4"));
    stage.until("groups have a status", || {
        stage.shows(&["get", "sg", "-n", "purelb", "-o", "yaml"], "allocatedIPv4: 1")
    });
    // Endpoints count for this one.
    let local = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
    stage.admin(&["patch", "service", "web-routed", "-p", local]);
    // The same refusal twice, and an Event that counts it.
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"lost"},
        "spec":{"type":"LoadBalancer","ports":[{"port":80}]}}"#;
    let file = stage.directory().join("lost.json");
    fs::write(&file, service).unwrap();
    let events = ["get", "events.v1.events.k8s.io", "-o", "yaml"];
    stage.admin(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    for again in [false, true] {
        stage.until("it has an address", || stage.shows(&get("lost"), "ip: 192.0.2"));
        let wish = "purelb.io/addresses=203.0.113.1";
        stage.admin(&["annotate", "service", "lost", "--overwrite", wish]);
        stage.until("the refusal is told", || {
            stage.shows(&events, "reason: AllocationFailed")
                && (!again || counted(stage, "allocator"))
        });
        stage.admin(&["annotate", "service", "lost", "purelb.io/addresses-"]);
    }
    // A Service that is none any more is given back.
    let plain = r#"{"spec":{"type":"ClusterIP"}}"#;
    stage.admin(&["patch", "service", "lost", "-p", plain]);
    stage.until("its annotations are gone", || !stage.shows(&get("lost"), "allocated-by"));
    // Everything is withdrawn, and put back: the same Events again.
    let agent = ["delete", "lbnodeagent", "default", "-n", "purelb"];
    stage.admin(&agent);
    stage.until("it is withdrawn", || !stage.shows(&get("web"), "announcing-IPv4"));
    stage.admin(&[
        "apply",
        "--server-side",
        "-f",
        deploy("samples/lbnodeagent.yaml").to_str().unwrap(),
    ]);
    stage.until("it is back", || stage.shows(&get("web"), "announcing-IPv4"));
    stage.until("an agent counts what it told before", || counted(stage, "lbnodeagent"));
}

/// Whether this program has told of the same thing more than once, and counted that in one Event.
fn counted(stage: &Stage, program: &str) -> bool {
    let events = stage.try_admin(&["get", "events.v1.events.k8s.io", "-o", "json"]).out;
    let Ok(list) = serde_json::from_str::<Value>(&events) else { return false };
    list["items"].as_array().is_some_and(|events| {
        events.iter().any(|event| {
            let teller = event["reportingController"].as_str().unwrap_or_default();
            teller.ends_with(program) && event["series"]["count"].as_u64() >= Some(2)
        })
    })
}

fn rights_are_exactly_those_used(stage: &mut Stage, objects: &[Value]) {
    for account in ["allocator", "lbnodeagent"] {
        let user = format!("system:serviceaccount:purelb:{account}");
        let rights = allowed(objects, &format!("purelb:{account}"));
        let unused = |stage: &mut Stage| -> Vec<Right> {
            let (used, forbidden) = stage.used(&user);
            assert!(forbidden.is_empty(), "{account} lacks rights: {forbidden:#?}");
            rights.difference(&used).cloned().collect()
        };
        // Whether they all were used in time is seen below.
        let _ = wait_until(DEADLINE, &Stop::default(), || fact(unused(stage).is_empty()));
        let left = unused(stage);
        assert!(left.is_empty(), "{account} has rights that it does not use: {left:#?}");
    }
}

/// A request by hand, as who has only a token would send it.
struct Attempt<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a str,
}

fn patch<'a>(path: &'a str, body: &'a str) -> Attempt<'a> {
    Attempt { method: "PATCH", path, body }
}

fn attempt(stage: &Stage, kubeconfig: &Path, attempt: &Attempt<'_>) -> Result<(), String> {
    let Attempt { method, path, body } = *attempt;
    let content = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(body.as_bytes().to_vec())
        .unwrap();
    let send = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client::connect(kubeconfig.to_str(), "thief").await.unwrap();
            client.request_text(request).await.map(|_| ()).map_err(|error| error.to_string())
        })
    };
    stage.cluster.topology().hub().run(send).unwrap()
}

/// Tries something by a token, which must be refused with these words.
fn refused(stage: &Stage, kubeconfig: &Path, words: &str, tried: &Attempt<'_>) {
    let Attempt { method, path, body } = tried;
    match attempt(stage, kubeconfig, tried) {
        Ok(()) => panic!("{method} {path} {body} was done"),
        Err(error) => assert!(error.contains(words), "{method} {path} {body}: {error}"),
    }
}

const WEB: &str = "/api/v1/namespaces/default/services/web";
const WEB_STATUS: &str = "/api/v1/namespaces/default/services/web/status";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/purelb/leases";
const GHOST: &str = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease",
    "metadata":{"name":"purelb-node-ghost","namespace":"purelb"}}"#;
const INGRESS: &str = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.66"}]}}}"#;

fn an_agents_token_is_good_for_its_own_reports_only(stage: &mut Stage, token: &Path) {
    let own_lease = "a node agent may write the lease of its own node only";
    let subnets = r#"{"metadata":{"annotations":{"purelb.io/subnets":"192.0.2.0/24"}}}"#;
    for lease in ["purelb-node-node2", "purelb-allocator"] {
        refused(stage, token, own_lease, &patch(&format!("{LEASES}/{lease}"), subnets));
    }
    refused(stage, token, own_lease, &Attempt { method: "POST", path: LEASES, body: GHOST });
    for change in [
        r#"{"spec":{"type":"ClusterIP"}}"#,
        r#"{"spec":{"externalIPs":["192.0.2.66"]}}"#,
        r#"{"spec":{"ports":[{"port":22}]}}"#,
    ] {
        let words = "a node agent may not change the spec of a Service";
        refused(stage, token, words, &patch(WEB, change));
    }
    for change in [
        r#"{"metadata":{"annotations":{"purelb.io/addresses":"192.0.2.66"}}}"#,
        r#"{"metadata":{"annotations":{"purelb.io/allocated-by":null}}}"#,
        r#"{"metadata":{"annotations":{"example.com/x":"y"}}}"#,
    ] {
        let words = "a node agent may change only the annotations";
        refused(stage, token, words, &patch(WEB, change));
    }
    for change in [
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
        r#"{"metadata":{"finalizers":["example.com/stuck"]}}"#,
    ] {
        let words = "a node agent may change only annotations of a Service";
        refused(stage, token, words, &patch(WEB, change));
    }
    let own = format!("{LEASES}/purelb-node-node1");
    for forbidden in [
        patch(WEB_STATUS, INGRESS),
        patch("/api/v1/nodes/node1", r#"{"metadata":{"labels":{"a":"b"}}}"#),
        patch("/apis/purelb.io/v2/namespaces/purelb/servicegroups/default", "{}"),
        Attempt { method: "DELETE", path: WEB, body: "" },
        Attempt { method: "DELETE", path: &own, body: "" },
        Attempt { method: "PUT", path: WEB, body: "{}" },
        Attempt { method: "GET", path: "/api/v1/namespaces/purelb/secrets", body: "" },
    ] {
        refused(stage, token, "forbidden", &forbidden);
    }
    // What it is for.
    let report =
        r#"{"metadata":{"annotations":{"purelb.io/announcing-IPv6":"node1,eth0,2001:db8:1::9"}}}"#;
    for allowed in [patch(WEB, report), patch(&own, subnets)] {
        attempt(stage, token, &allowed).unwrap();
    }
    // A token that is bound to no pod names no node.
    let unbound = stage.token_kubeconfig("lbnodeagent", "unbound", &[]);
    refused(stage, &unbound, own_lease, &patch(&own, subnets));
}

fn the_allocators_token_is_good_for_answers_only(stage: &Stage, token: &Path) {
    for change in [
        r#"{"metadata":{"annotations":{"purelb.io/addresses":"192.0.2.66"}}}"#,
        r#"{"metadata":{"annotations":{"purelb.io/announcing-IPv4":"node1,eth0,192.0.2.66"}}}"#,
        r#"{"metadata":{"annotations":{"example.com/x":"y"}}}"#,
    ] {
        let words = "the allocator may change only the annotations that are its own";
        refused(stage, token, words, &patch(WEB_STATUS, change));
    }
    let labels = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    refused(stage, token, "only status and annotations", &patch(WEB_STATUS, labels));
    let words = "the allocator may write the lease purelb-allocator only";
    refused(stage, token, words, &Attempt { method: "POST", path: LEASES, body: GHOST });
    let lease = format!("{LEASES}/purelb-node-node1");
    for forbidden in [
        patch(WEB, r#"{"spec":{"type":"ClusterIP"}}"#),
        patch(&lease, "{}"),
        Attempt { method: "GET", path: "/api/v1/namespaces/purelb/secrets", body: "" },
        Attempt { method: "GET", path: "/api/v1/pods", body: "" },
    ] {
        refused(stage, token, "forbidden", &forbidden);
    }
    attempt(stage, token, &patch(WEB_STATUS, INGRESS)).unwrap();
}
