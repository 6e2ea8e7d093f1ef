//! The built `allocator` and the sample sidecar: external groups, end to end over a Unix socket.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::program::Program;
use common::until;
use purelb_cli::ipam::wire;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::process::{Child, Command};

/// An in-memory cluster with one local group, and a directory for sockets.
struct Cluster {
    api: MemoryApi,
    directory: TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let api = MemoryApi::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = api.clone();
        tokio::spawn(async move { served.serve(listener).await });
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeconfig"), MemoryApi::kubeconfig(&url)).unwrap();
        let cluster = Self { api, directory };
        cluster.apply(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "purelb"},
        }));
        // Where there is no lease, a starter waits for the right of whoever may have had it.
        cluster.apply(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "purelb-allocator", "namespace": "purelb"},
        }));
        cluster.apply(json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": "default", "namespace": "purelb"},
            "spec": {"local": {"v4pool": {"subnet": "192.0.2.0/24", "pool": "192.0.2.9/32"}}},
        }));
        cluster
    }

    fn apply(&self, object: Value) {
        self.api.apply("test", object).expect("a sound object");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A group that a sidecar on the socket `name.sock` gives addresses for.
    fn external(&self, name: &str) {
        self.apply(json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": name, "namespace": "purelb"},
            "spec": {"external": {
                "provider": "sample", "announce": "remote",
                "socket": self.path(&format!("{name}.sock")),
            }},
        }));
    }

    fn service(&self, name: &str, group: &str, sharing: Option<&str>, port: u16) {
        let mut annotations = json!({"purelb.io/service-group": group});
        if let Some(key) = sharing {
            annotations["purelb.io/allow-shared-ip"] = key.into();
        }
        self.apply(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {
                "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack",
                "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": port}],
            },
        }));
    }

    fn addresses(&self, service: &str) -> Vec<IpAddr> {
        let object = self.api.get("Service", "default", service);
        let ingress = object.map(|object| object["status"]["loadBalancer"]["ingress"].clone());
        let ingress = ingress.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        ingress.iter().map(|entry| entry["ip"].as_str().unwrap().parse().unwrap()).collect()
    }

    async fn has(&self, service: &str, wanted: &[&str]) {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        until(service, || self.addresses(service) == wanted).await;
    }

    fn allocator(&self) -> Program {
        Program::start(
            env!("CARGO_BIN_EXE_allocator"),
            &self.path("kubeconfig"),
            &["--namespace", "purelb", "--log-format", "json"],
            &[("DEFAULT_ANNOUNCER", "PureLB")],
        )
    }

    /// The sample sidecar on the socket of the group `name`.
    async fn sidecar(&self, name: &str) -> Child {
        let socket = self.path(&format!("{name}.sock"));
        let child = Command::new(sample().await)
            .args([&socket, &self.path("book")])
            .args(["10.20.30.0/29", "fd00:20::/125"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("the sidecar's socket", || socket.exists()).await;
        child
    }
}

/// The built sample. A build of the whole workspace has made it; else it is made now.
async fn sample() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples/ipam_sidecar");
    if !built.exists() {
        let cargo = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "purelb-examples", "--example", "ipam_sidecar"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .status();
        assert!(cargo.await.unwrap().success(), "the sample sidecar is built");
    }
    built
}

#[tokio::test]
async fn a_sidecar_gives_keeps_and_takes_back() {
    let cluster = Cluster::new().await;
    cluster.external("ipam");
    let sidecar = cluster.sidecar("ipam").await;
    let allocator = cluster.allocator();
    cluster.service("web", "ipam", None, 80);
    cluster.has("web", &["10.20.30.1", "fd00:20::1"]).await;
    let group = || cluster.api.get("ServiceGroup", "purelb", "ipam").unwrap();
    until("the group's status", || {
        let status = &group()["status"];
        status["allocatedIPv4"] == 1 && status["availableIPv4"] == 6 && status["ipam"] == "sample"
    })
    .await;
    assert_eq!(
        group()["status"]["addresses"],
        json!(["10.20.30.0-10.20.30.7", "fd00:20::-fd00:20::7"])
    );

    // The sidecar's book and the Services outlive both processes.
    drop(sidecar);
    assert!(allocator.end().await.success());
    let _sidecar = cluster.sidecar("ipam").await;
    let allocator = cluster.allocator();
    cluster.service("mail", "ipam", Some("k"), 25);
    cluster.has("mail", &["10.20.30.2", "fd00:20::2"]).await;
    cluster.service("imap", "ipam", Some("k"), 143);
    cluster.has("imap", &["10.20.30.2", "fd00:20::2"]).await;
    assert_eq!(cluster.addresses("web").len(), 2);

    cluster.api.delete("Service", "default", "web").expect("it is there");
    until("the address to be free", || group()["status"]["allocatedIPv4"] == 1).await;
    cluster.service("next", "ipam", None, 80);
    cluster.has("next", &["10.20.30.1", "fd00:20::1"]).await;
    let metrics = allocator.ask("GET", "/metrics").await;
    let counted = format!("method=\"{}\",code=\"OK\"", wire::Method::Allocate.path());
    assert!(metrics.contains(&counted), "{metrics}");
    assert!(allocator.end().await.success());
}

#[tokio::test]
async fn a_sidecar_that_never_answers_delays_nobody_else() {
    let cluster = Cluster::new().await;
    cluster.external("hung");
    cluster.external("absent");
    cluster.external("ipam");
    // Takes connections and says nothing, as a process that is stopped does.
    let _black_hole = UnixListener::bind(cluster.path("hung.sock")).unwrap();
    let _sidecar = cluster.sidecar("ipam").await;
    for n in 0..50 {
        cluster.service(&format!("hung-{n}"), "hung", None, 80);
        cluster.service(&format!("absent-{n}"), "absent", None, 80);
    }
    let allocator = cluster.allocator();
    cluster.service("external", "ipam", None, 80);
    cluster.apply(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "local", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }));
    cluster.has("external", &["10.20.30.1", "fd00:20::1"]).await;
    cluster.has("local", &["192.0.2.9"]).await;
    // The calls of the hung one still wait: nobody waited for them.
    assert!(!allocator.has_said(&["did not do what it was asked", "hung.sock"]));
    until("the absent one to be named", || {
        allocator.has_said(&["did not do what it was asked", "absent.sock"])
    })
    .await;
    allocator.kill().await;
}

#[tokio::test]
async fn a_full_sidecar_is_a_refusal_that_says_so_and_is_asked_again() {
    let cluster = Cluster::new().await;
    cluster.external("ipam");
    let _sidecar = cluster.sidecar("ipam").await;
    let allocator = cluster.allocator();
    for n in 0..8 {
        cluster.service(&format!("web-{n}"), "ipam", None, 80);
    }
    until("seven with addresses", || {
        (0..8).filter(|n| cluster.addresses(&format!("web-{n}")).len() == 2).count() == 7
    })
    .await;
    allocator.says("the sidecar of group ipam gave no address: it has no free address").await;
    let has_none = |n: &usize| cluster.addresses(&format!("web-{n}")).is_empty();
    let last = (0..8).find(has_none).unwrap();
    let first = (0..8).find(|n| !has_none(n)).unwrap();
    cluster.api.delete("Service", "default", &format!("web-{first}")).expect("it is there");
    until("the last one", || cluster.addresses(&format!("web-{last}")).len() == 2).await;
    assert!(allocator.end().await.success());
}
