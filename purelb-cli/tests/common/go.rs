//! The Go PureLB: what it left in a cluster, and a stand-in for its node agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use purelb_cli::lab::client::ingress;
use purelb_cli::lab::namespace::Namespace;
use purelb_core::election::winner;
use purelb_core::name::NodeName;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};

/// Puts into `api` what the Go programs wrote into a cluster: their resources, eleven Services, and the
/// Leases of the nodes `kn1` and `kn2`, all in the namespace `purelb-system`. Each of `names` is another
/// name here.
pub(crate) fn leave(api: &MemoryApi, names: &[(&str, &str)]) {
    for file in ["purelb-resources.yaml", "services.yaml", "leases.yaml"] {
        for mut object in fixture(file, names) {
            if object["metadata"]["name"] == "kubernetes" {
                continue;
            }
            let status = object.as_object_mut().unwrap().remove("status");
            let made = api.apply("the-go-purelb", object).unwrap();
            if let Some(status) = status {
                let object = json!({
                    "apiVersion": made["apiVersion"], "kind": made["kind"],
                    "metadata": {
                        "name": made["metadata"]["name"],
                        "namespace": made["metadata"]["namespace"],
                    },
                    "status": status,
                });
                api.apply_status("the-go-purelb", object).unwrap();
            }
        }
    }
}

/// The objects of a fixture, without what a server adds.
fn fixture(file: &str, names: &[(&str, &str)]) -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../purelb-k8s/tests/fixtures").join(file);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (theirs, ours) in names {
        text = text.replace(theirs, ours);
    }
    let list: Value = serde_saphyr::from_str(&text).unwrap();
    let mut objects = list["items"].as_array().unwrap().clone();
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for key in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(key);
        }
    }
    objects
}

/// The addresses of each Service that has one.
pub(crate) fn addresses(api: &MemoryApi) -> BTreeMap<String, Vec<IpAddr>> {
    let of = |service: &Value| {
        let name = service["metadata"]["name"].as_str().unwrap().to_owned();
        Some((name, ingress(service))).filter(|(_, ips)| !ips.is_empty())
    };
    api.list("Service").iter().filter_map(of).collect()
}

/// What the nodes of the fixtures serve.
const SUBNETS: [&str; 2] = ["192.0.2.0/24", "2001:db8:1::/64"];

/// Whether an address is inside the nodes' own network.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    SUBNETS.iter().any(|net| net.parse::<IpNet>().unwrap().contains(&ip))
}

/// From one pass over everything to the next.
const PASS: Duration = Duration::from_millis(200);

/// Does on a node what the Go agent does there: renews its Lease, puts the addresses that it wins on
/// `eth0`, unmarked and for 300 seconds, and the routed ones on `kube-lb0`; leaves as that does, the
/// Lease first.
pub(crate) struct GoAgent {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl GoAgent {
    /// Starts it on a node of which [`leave`] has left a Lease.
    pub(crate) fn start(api: &MemoryApi, host: &Namespace) -> Self {
        let (stop, told) = mpsc::channel();
        let (api, enter, node) = (api.clone(), host.entry().unwrap(), host.name().to_owned());
        let thread = thread::spawn(move || {
            enter().unwrap();
            let mut agent = Work { api, node: node.as_str().into(), has: BTreeSet::new() };
            ip(&["link", "add", "kube-lb0", "type", "bridge"]);
            ip(&["link", "set", "dev", "kube-lb0", "up"]);
            loop {
                agent.pass();
                match told.recv_timeout(PASS) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            agent.leave();
        });
        Self { stop, thread }
    }

    /// Lets it withdraw everything, and waits.
    pub(crate) fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

struct Work {
    api: MemoryApi,
    node: NodeName,
    has: BTreeSet<IpAddr>,
}

impl Work {
    fn pass(&mut self) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": format!("purelb-node-{}", self.node), "namespace": "purelb",
                "annotations": { "purelb.io/subnets": SUBNETS.join(",") },
                "labels": {
                    "app.kubernetes.io/component": "lbnodeagent",
                    "app.kubernetes.io/name": "purelb",
                },
            },
            "spec": {
                "holderIdentity": self.node.as_str(), "leaseDurationSeconds": 5,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        });
        self.api.apply("the-go-purelb", lease).unwrap();
        let wanted = self.wanted();
        for lost in self.has.difference(&wanted) {
            withdraw(*lost);
        }
        for ip in wanted.difference(&self.has) {
            announce(*ip);
        }
        self.has = wanted;
    }

    /// The addresses that this node should have.
    fn wanted(&self) -> BTreeSet<IpAddr> {
        let serving: Vec<NodeName> = self.api.list("Lease").iter().filter_map(serving).collect();
        let mut wanted = BTreeSet::new();
        for service in self.api.list("Service") {
            let annotations = &service["metadata"]["annotations"];
            let narrowed = annotations["purelb.io/node-affinity"] == "service-endpoints";
            let candidates: Vec<&NodeName> = serving
                .iter()
                .filter(|node| !narrowed || has_endpoint(&self.api, &service, node))
                .collect();
            let ours = |ip: &IpAddr| match is_local(*ip) {
                true => winner(*ip, candidates.iter().copied()) == Some(&self.node),
                false => {
                    service["spec"]["externalTrafficPolicy"] != "Local"
                        || has_endpoint(&self.api, &service, &self.node)
                }
            };
            wanted.extend(ingress(&service).into_iter().filter(ours));
        }
        wanted
    }

    fn leave(self) {
        let lease = format!("purelb-node-{}", self.node);
        self.api.delete("Lease", "purelb", &lease).unwrap();
        for ip in self.has {
            withdraw(ip);
        }
        ip(&["link", "del", "kube-lb0"]);
    }
}

/// The node whose Lease this is, if it serves the LAN.
fn serving(lease: &Value) -> Option<NodeName> {
    let node = lease["metadata"]["name"].as_str()?.strip_prefix("purelb-node-")?;
    let subnets = lease["metadata"]["annotations"]["purelb.io/subnets"].as_str()?;
    subnets.contains(SUBNETS[0]).then(|| node.into())
}

fn has_endpoint(api: &MemoryApi, service: &Value, node: &NodeName) -> bool {
    let name = &service["metadata"]["name"];
    let slices = api.list("EndpointSlice");
    let mut of_service = slices
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == *name);
    of_service.any(|slice| {
        let mut endpoints = slice["endpoints"].as_array().into_iter().flatten();
        endpoints.any(|endpoint| endpoint["nodeName"] == node.as_str())
    })
}

fn announce(address: IpAddr) {
    let (length, preferred) = match (is_local(address), address.is_ipv4()) {
        (true, true) => (24, "300"),
        (true, false) => (64, "0"),
        (false, true) => (24, "forever"),
        (false, false) => (128, "forever"),
    };
    let (address, link) = (format!("{address}/{length}"), link(address));
    let mut arguments = vec!["addr", "replace", &address, "dev", link];
    if link == "eth0" {
        arguments.extend(["valid_lft", "300", "preferred_lft", preferred, "noprefixroute"]);
    }
    ip(&arguments);
}

fn withdraw(address: IpAddr) {
    let length = match (is_local(address), address.is_ipv4()) {
        (_, true) => 24,
        (true, false) => 64,
        (false, false) => 128,
    };
    // The kernel may have taken it along with the first of its network.
    run_ip(&["addr", "del", &format!("{address}/{length}"), "dev", link(address)]);
}

fn link(address: IpAddr) -> &'static str {
    if is_local(address) { "eth0" } else { "kube-lb0" }
}

fn ip(arguments: &[&str]) {
    let output = run_ip(arguments);
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn run_ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().unwrap()
}
