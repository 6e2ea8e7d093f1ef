//! One node: a node agent on a host of its own, behind a proxy, and the in-memory API.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use purelb_cli::lab::ip::ip_batch;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::places;
use purelb_k8s::client;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::program::Program;
use super::proxy::Proxy;
use super::until;

/// A token that nothing else is like.
pub(crate) const TOKEN: &str = "tell-nobody-4f1c9a7e";

/// What the node is called.
pub(crate) const NAME: &str = "n1";

/// How long its lease lasts, in seconds.
pub(crate) const LEASE: u64 = 5;

/// A host with one card on a LAN where nobody else is, and an agent with debug logs.
pub(crate) struct Node {
    pub(crate) agent: Program,
    pub(crate) api: MemoryApi,
    pub(crate) proxy: Proxy,
    host: Namespace,
    _lan: Namespace,
    _directory: tempfile::TempDir,
}

impl Node {
    /// Starts it, after something was done to the API and the proxy.
    pub(crate) async fn start(prepare: impl FnOnce(&MemoryApi, &Proxy)) -> Self {
        let api = MemoryApi::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = api.clone();
        tokio::spawn(async move { served.serve(listener).await });
        for object in objects() {
            api.apply("test", object).expect("a sound object");
        }
        let (host, lan) = (Namespace::new(NAME).unwrap(), Namespace::new("lan").unwrap());
        let card = format!(
            "link set dev lo up\n\
             link add eth0 type veth peer name port netns {}\n\
             addr add 192.0.2.11/24 brd + dev eth0\n\
             link set dev eth0 up\n",
            lan.path()
        );
        ip_batch(&host, &card).unwrap();
        ip_batch(&lan, "link set dev port up\n").unwrap();
        ip_batch(&host, "route add default via 192.0.2.1\n").unwrap();

        let directory = tempfile::tempdir().unwrap();
        let upstream = directory.path().join("upstream");
        std::fs::write(&upstream, MemoryApi::kubeconfig(&url)).unwrap();
        let upstream = client::connect(upstream.to_str(), "proxy").await.unwrap();
        let inside = host.run(|| std::net::TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        inside.set_nonblocking(true).unwrap();
        let proxy = Proxy::serve(TcpListener::from_std(inside).unwrap(), upstream);
        prepare(&api, &proxy);
        let kubeconfig = directory.path().join("kubeconfig");
        let mut config: Value =
            serde_saphyr::from_str(&MemoryApi::kubeconfig(&proxy.url())).unwrap();
        config["users"][0]["user"] = json!({ "token": TOKEN });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", host.path()))
            .args([env!("CARGO_BIN_EXE_lbnodeagent"), "--node-name", NAME, "--log-format=json"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("KUBECONFIG", &kubeconfig)
            .env("PURELB_NAMESPACE", "purelb")
            .env("PURELB_LOG_LEVEL", "debug")
            .env("PURELB_LEASE_DURATION", format!("{LEASE}s"));
        let agent = Program::run(command);
        Self { agent, api, proxy, host, _lan: lan, _directory: directory }
    }

    /// A Service with this address out of a group, as the allocator leaves it.
    pub(crate) fn service(&self, name: &str, group: &str, address: &str) {
        self.service_with(name, group, address, &json!({}));
    }

    /// The same with more in its `spec`.
    pub(crate) fn service_with(&self, name: &str, group: &str, address: &str, more: &Value) {
        let mut spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let metadata = json!({
            "name": name, "namespace": "default",
            "annotations": {
                "purelb.io/allocated-by": "PureLB", "purelb.io/allocated-from": group,
                "purelb.io/pool-type": if group == "routed" { "remote" } else { "local" },
            },
        });
        let service =
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec });
        self.api.apply("test", service).expect("a sound Service");
        let status = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "default" },
            "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
        });
        self.api.apply_status("test", status).expect("a sound status");
    }

    /// Its host, to do something to by hand.
    pub(crate) fn host(&self) -> &Namespace {
        &self.host
    }

    /// The name of the interface that has the address.
    pub(crate) fn place(&self, address: &str) -> Option<String> {
        let address: IpAddr = address.parse().unwrap();
        Some(places(&self.host, address).unwrap().into_iter().next()?.link)
    }

    /// Waits until the address is on that interface, or on none.
    pub(crate) async fn is_at(&self, what: &str, address: &str, link: Option<&str>) {
        let what = format!("{what}: {address} at {link:?}");
        until(&what, || self.place(address).as_deref() == link).await;
    }

    /// Its metrics.
    pub(crate) fn metrics(&self) -> String {
        self.ask("GET", "/metrics")
    }

    /// What the agent answers to a request at its own port.
    pub(crate) fn ask(&self, method: &str, path: &str) -> String {
        let port = self.agent.port;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let ask = move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(request.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        self.host.run(ask).unwrap().expect("it serves")
    }
}

fn objects() -> [Value; 5] {
    let group = |name: &str, kind: &str, net: &str| {
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": { "name": name, "namespace": "purelb" },
            "spec": { kind: { "v4pools": [{ "pool": net, "subnet": net, "aggregation": "/32" }] } },
        })
    };
    let mut near = group("default", "local", "192.0.2.0/24");
    near["spec"]["local"]["v4pools"][0]["aggregation"] = "default".into();
    [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "purelb" } }),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NAME } }),
        json!({
            "apiVersion": "purelb.io/v2", "kind": "LBNodeAgent",
            "metadata": { "name": "default", "namespace": "purelb" }, "spec": { "local": {} },
        }),
        near,
        group("routed", "remote", "198.51.100.0/24"),
    ]
}
