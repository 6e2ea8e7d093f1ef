//! The built `allocator` against the in-memory API: Services get addresses, people are told, and the
//! program ends as it should.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;
use purelb_core::store::{Change, Store};
use purelb_k8s::memory::MemoryApi;
use purelb_k8s::{client, watch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a fact may take to come true before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// An in-memory cluster with the sample groups, and a view of its Services.
struct Cluster {
    api: MemoryApi,
    kubeconfig: PathBuf,
    changes: BoxStream<'static, Change<Service>>,
    services: Store<Service>,
}

impl Cluster {
    async fn new(test: &str) -> Self {
        let api = MemoryApi::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = api.clone();
        tokio::spawn(async move { served.serve(listener).await });
        let name = format!("purelb-test-{test}-{}.kubeconfig", std::process::id());
        let kubeconfig = std::env::temp_dir().join(name);
        std::fs::write(&kubeconfig, MemoryApi::kubeconfig(&url)).unwrap();
        let client = client::connect(kubeconfig.to_str(), "purelb-test").await.unwrap();
        let cluster =
            Self { api, kubeconfig, changes: watch::services(client), services: Store::default() };
        cluster.create(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "purelb" },
        }));
        // Where there is no lease, a starter waits for the right of whoever may have had it.
        cluster.create(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "purelb-allocator", "namespace": "purelb" },
        }));
        for name in ["servicegroup-default.yaml", "servicegroup-routed.yaml"] {
            cluster.create(sample(name));
        }
        cluster
    }

    fn create(&self, object: Value) {
        self.api.apply("test", object).expect("a sound object");
    }

    /// A Service, once something holds of it.
    async fn service(&mut self, name: &str, holds: impl Fn(&Service) -> bool) -> Service {
        let key = ServiceKey::new("default", name);
        in_time(name, async {
            loop {
                if let Some(service) = self.services.get(&key).filter(|service| holds(service)) {
                    return service.clone();
                }
                let change = self.changes.next().await.expect("a watch never ends");
                self.services.apply(change);
            }
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A file that is gone already is as good.
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

fn sample(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples").join(name);
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A running allocator.
struct Allocator {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Allocator {
    fn start(cluster: &Cluster, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_allocator"))
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .args(["--namespace", "purelb", "--log-format", "json", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .env("DEFAULT_ANNOUNCER", "PureLB")
            .env_remove("PURELB_LOG_LEVEL")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the allocator was built");
        let stdout = child.stdout.take().expect("it is piped");
        Self { child, lines: BufReader::new(stdout).lines(), port }
    }

    /// The next line of its log with this message in it.
    async fn line(&mut self, message: &str) -> Value {
        in_time(message, async {
            loop {
                let line = self.lines.next_line().await.expect("text").expect("it still runs");
                let line: Value = serde_json::from_str(&line).expect("a JSON object per line");
                if line["message"].as_str().is_some_and(|text| text.contains(message)) {
                    return line;
                }
            }
        })
        .await
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it serves");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    async fn end(&mut self) -> ExitStatus {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        kill_process(pid.expect("it still runs"), Signal::TERM).expect("it can be told");
        in_time("its end", self.child.wait()).await.expect("a status")
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

#[tokio::test]
async fn sample_services_get_addresses_of_the_sample_groups() {
    let mut cluster = Cluster::new("samples").await;
    cluster.create(sample("service-local.yaml"));
    let mut allocator = Allocator::start(&cluster, free_port());
    let web = cluster.service("web", |service| service.ingress.len() == 2).await;
    assert_eq!(
        web.ingress.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.240", "2001:db8:1::240"]
    );
    assert!(web.is_branded());
    assert_eq!(web.annotations.allocated_from.as_deref(), Some("default"));
    assert_eq!(web.annotations.pool_type.as_deref(), Some("local"));

    cluster.create(sample("service-routed.yaml"));
    let routed = cluster.service("web-routed", |service| service.ingress.len() == 2).await;
    assert_eq!(routed.annotations.allocated_from.as_deref(), Some("routed"));
    assert_eq!(routed.annotations.pool_type.as_deref(), Some("remote"));

    let line = allocator.line("assigned 192.0.2.240").await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["service"], "default/web");
    assert_eq!(line["timestamp"], Value::Null);
    assert!(allocator.get("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = allocator.get("/metrics").await;
    assert!(
        metrics.contains("purelb_address_pool_addresses_in_use{pool=\"default\"} 2"),
        "{metrics}"
    );
    assert!(allocator.end().await.success());
}

#[tokio::test]
async fn a_restart_changes_no_address() {
    let mut cluster = Cluster::new("restart").await;
    cluster.create(sample("service-local.yaml"));
    let mut allocator = Allocator::start(&cluster, free_port());
    let before = cluster.service("web", |service| service.ingress.len() == 2).await;
    assert!(allocator.end().await.success());
    let version = cluster.api.version();
    let mut allocator = Allocator::start(&cluster, free_port());
    cluster.create(sample("service-routed.yaml"));
    cluster.service("web-routed", |service| service.ingress.len() == 2).await;
    assert!(allocator.end().await.success());
    let after = cluster.service("web", |_| true).await;
    assert_eq!(before.ingress, after.ingress);
    assert_eq!(before.version, after.version, "nothing was written (at {version})");
}

#[tokio::test]
async fn a_refusal_is_told_and_mended_by_a_new_group() {
    let mut cluster = Cluster::new("refusal").await;
    let mut service = sample("service-local.yaml");
    service["metadata"]["annotations"] = json!({ "purelb.io/service-group": "later" });
    cluster.create(service);
    let mut allocator = Allocator::start(&cluster, free_port());
    let line = allocator.line("later").await;
    assert_eq!((&line["level"], &line["reason"]), (&json!("WARN"), &json!("AllocationFailed")));
    let mut group = sample("servicegroup-default.yaml");
    group["metadata"]["name"] = "later".into();
    group["spec"]["local"]["v4pool"]["pool"] = "192.0.2.10-192.0.2.20".into();
    group["spec"]["local"]["v6pool"]["pool"] = "2001:db8:1::10-2001:db8:1::20".into();
    cluster.create(group);
    let web = cluster.service("web", |service| service.ingress.len() == 2).await;
    assert_eq!(web.ingress[0].to_string(), "192.0.2.10");
    let raised = in_time("the Event", async {
        loop {
            let events = cluster.api.list("Event");
            if let Some(event) = events.iter().find(|event| event["reason"] == "AllocationFailed") {
                return event.clone();
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(raised.await["involvedObject"]["name"], "web");
    assert!(allocator.end().await.success());
}

#[tokio::test]
async fn a_taken_port_has_an_exit_code_of_its_own() {
    let cluster = Cluster::new("port").await;
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut allocator = Allocator::start(&cluster, port);
    let line = allocator.line("cannot serve metrics and probes").await;
    assert_eq!(line["level"], "ERROR");
    let status = in_time("its end", allocator.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(3));
}

#[tokio::test]
async fn a_pool_that_overlaps_a_node_or_its_pods_is_warned_of() {
    let cluster = Cluster::new("overlap").await;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
        "spec": { "podCIDRs": ["198.51.100.128/25"] },
    }));
    let status = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.245" }] },
    });
    cluster.api.apply_status("test", status).expect("a sound status");
    let mut allocator = Allocator::start(&cluster, free_port());
    let line = allocator.line("192.0.2.240-192.0.2.250 holds 192.0.2.245").await;
    assert_eq!((&line["level"], &line["group"]), (&json!("WARN"), &json!("default")));
    let line = allocator.line("overlaps the cluster's pod range 198.51.100.128/25").await;
    assert_eq!((&line["level"], &line["group"]), (&json!("WARN"), &json!("routed")));
    assert!(allocator.end().await.success());
}
