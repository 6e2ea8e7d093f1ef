//! The whole path of a user's packet, on a real control plane: from a client through an address of
//! PureLB and kube-proxy to a pod, over both families, by TCP and UDP, and through failures.
//!
//! Needs a control plane (`KUBEBUILDER_ASSETS`, or Go), nftables, iproute2, and the right to make
//! network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use purelb_cli::lab::client::{ObjectPath, ingress};
use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::{Glance, places, wait_until};
use purelb_cli::lab::responder::{Transport, ask_here};
use purelb_cli::lab::state::Labs;
use purelb_cli::lab::stop::Stop;
use purelb_cli::lab::topology::Topology;
use purelb_cli::lab::traffic::{Tally, Traffic};
use purelb_cli::lab::{require, samples};
use purelb_k8s::control_plane;

/// How long a fact may take to come true before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often each client asks.
const EVERY: Duration = Duration::from_millis(20);

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// A cluster with a Service of each kind, or nothing and a word why.
fn cluster() -> Option<Cluster> {
    let assets = control_plane::require::assets(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    if Command::new("nft").arg("--version").output().is_err() {
        control_plane::require::skip("kube-proxy needs nftables");
        return None;
    }
    let directory = Labs::of_this_user().and_then(|labs| labs.start()).unwrap();
    let purelb = Some(env!("CARGO_BIN_EXE_purelb").into());
    let blueprint = Blueprint { assets: Some(assets), pods: true, purelb, ..Blueprint::default() };
    let mut cluster = Cluster::build(directory, None, &Stop::default(), blueprint).unwrap();
    let client = cluster.api().client();
    for sample in [samples::NODE_AGENT, samples::LOCAL_GROUP, samples::ROUTED_GROUP] {
        client.apply(sample).unwrap();
    }
    for service in SERVICES {
        client.apply(&service.yaml()).unwrap();
    }
    cluster.start_programs().unwrap();
    Some(cluster)
}

/// A Service of the test.
struct Service {
    name: &'static str,
    group: &'static str,
    policy: &'static str,
    selector: &'static str,
}

const SERVICES: [Service; 5] = [
    Service { name: "local", group: "default", policy: "Cluster", selector: "{app: web}" },
    Service { name: "local-near", group: "default", policy: "Local", selector: "{app: web}" },
    Service {
        name: "local-one",
        group: "default",
        policy: "Local",
        selector: "{app: web, host: node2}",
    },
    Service { name: "remote", group: "routed", policy: "Cluster", selector: "{app: web}" },
    Service { name: "remote-near", group: "routed", policy: "Local", selector: "{app: web}" },
];

impl Service {
    fn yaml(&self) -> String {
        let Self { name, group, policy, selector } = self;
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default, \
             annotations: {{purelb.io/service-group: {group}}}}}, spec: {{type: LoadBalancer, \
             externalTrafficPolicy: {policy}, ipFamilyPolicy: RequireDualStack, \
             ipFamilies: [IPv4, IPv6], selector: {selector}, ports: [\
             {{name: tcp, protocol: TCP, port: 80, targetPort: 8080}}, \
             {{name: udp, protocol: UDP, port: 80, targetPort: 8080}}]}}}}"
        )
    }

    /// Its addresses, once it has them.
    fn addresses(&self, cluster: &Cluster) -> Vec<IpAddr> {
        eventually(|| {
            let service = cluster.api().client().get(&ObjectPath::service(self.name)).unwrap();
            Some(ingress(&service))
                .filter(|found| found.len() == 2)
                .ok_or_else(|| format!("{} has {}", self.name, service["status"]))
        })
    }
}

fn eventually<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    wait_until(DEADLINE, &Stop::default(), || look().map_err(Glance::NotYet)).unwrap()
}

/// The answer to a question, as soon as there is one.
fn answer(from: &Namespace, to: IpAddr, by: Transport) -> String {
    eventually(|| {
        let answer = from.run(|| ask_here(SocketAddr::new(to, 80), by)).unwrap();
        answer.map_err(|error| format!("{by:?} from {} to {to}: {error}", from.name()))
    })
}

/// The number of the node that alone has `address` on its interface.
fn holder(cluster: &Cluster, address: IpAddr) -> usize {
    eventually(|| {
        let nodes = cluster.topology().nodes().iter().enumerate();
        let holds = |node: &Namespace| {
            places(node, address).is_ok_and(|places| places.iter().any(|at| at.link == "eth0"))
        };
        let holders: Vec<_> = nodes.filter(|(_, node)| holds(node)).map(|(n, _)| n).collect();
        match holders[..] {
            [holder] => Ok(holder),
            _ => Err(format!("{address} is held by nodes {holders:?}")),
        }
    })
}

#[test]
fn a_packet_reaches_a_pod_from_everywhere_and_through_failures() {
    require::privileged(|| {
        let Some(mut cluster) = cluster() else { return };
        let addresses = SERVICES.map(|service| service.addresses(&cluster));
        for (service, addresses) in SERVICES.iter().zip(&addresses) {
            for &address in addresses {
                everybody_reaches(&cluster, service, address);
            }
        }
        let [local, _, _, remote, _] = addresses;
        traffic_goes_on(&mut cluster, &Load { local, remote });
        assert_eq!(cluster.end_programs(), [""; 0]);
        nobody_replaced_an_object(&mut cluster);
    });
}

/// What the programs wrote, they wrote by patches and creations: an object that is replaced as a
/// whole (PUT) takes along what others wrote meanwhile.
fn nobody_replaced_an_object(cluster: &mut Cluster) {
    let log = cluster.api_mut().plane().unwrap().audit_log();
    let log = std::fs::read_to_string(log).unwrap();
    for program in ["purelb-allocator", "purelb-lbnodeagent"] {
        let agent = format!("\"userAgent\":\"{program}/");
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&agent)).collect();
        assert!(lines.iter().any(|line| line.contains("\"verb\":\"patch\"")), "{program}");
        let replaced = lines.iter().find(|line| line.contains("\"verb\":\"update\""));
        assert_eq!(replaced, None, "{program}");
    }
}

/// Asks one address of a Service from outside, from a pod and from a node.
fn everybody_reaches(cluster: &Cluster, service: &Service, address: IpAddr) {
    let topology = cluster.topology();
    let (client4, client6) = Topology::client_addresses();
    let client = if address.is_ipv4() { client4 } else { client6 };
    for by in TRANSPORTS {
        let mut pods = BTreeSet::new();
        for from in [topology.client(), &cluster.pods()[0].namespace, cluster.node(2)] {
            let answer = answer(from, address, by);
            let (pod, source) = answer.split_once(' ').unwrap();
            let (name, from) = (service.name, from.name());
            if from == "client" && service.policy == "Local" {
                assert_eq!(source, client.to_string(), "{name} by {by:?}");
            }
            if service.selector.contains("node2") {
                assert_eq!(pod, "pod2", "{name} from {from} by {by:?}");
            }
            pods.insert(pod.to_owned());
        }
        assert!(pods.iter().all(|pod| pod.starts_with("pod")), "{pods:?}");
    }
    if service.selector.contains("node2") {
        assert_eq!(cluster.node(holder(cluster, address)).name(), "node2");
    }
}

/// What clients ask while something is done to the holder of the local addresses.
struct Load {
    local: Vec<IpAddr>,
    remote: Vec<IpAddr>,
}

/// Stops, kills and upgrades the holder of the local addresses while clients ask.
fn traffic_goes_on(cluster: &mut Cluster, load: &Load) {
    let tallies = load.during(cluster, "nothing happens", |_, _| {});
    assert!(tallies.iter().all(|tally| tally.failed * 20 < tally.asked), "{tallies:#?}");

    // An agent that is asked to stop hands its addresses over; its host stays in service.
    let tallies = load.during(cluster, "the holder is stopped", |cluster, node| {
        cluster.stop_agent(node).unwrap();
        load.moves_from(cluster, node);
        cluster.start_agent(node).unwrap();
    });
    load.has_gaps_below(Duration::from_secs(3), &tallies);

    // One that is killed leaves them to their lifetime, and nobody takes them before it is over.
    let tallies = load.during(cluster, "the holder is killed", |cluster, node| {
        cluster.kill_agent(node).unwrap();
        load.moves_from(cluster, node);
        cluster.start_agent(node).unwrap();
    });
    load.has_gaps_below(Duration::from_secs(10), &tallies);

    let tallies = load.during(cluster, "all agents are upgraded", |cluster, _| {
        for node in 0..cluster.topology().nodes().len() {
            cluster.stop_agent(node).unwrap();
            cluster.start_agent(node).unwrap();
            for &address in &load.local {
                holder(cluster, address);
            }
        }
    });
    load.has_gaps_below(Duration::from_secs(3), &tallies);
}

impl Load {
    /// How many answers a client gets before something is done, and after.
    const ANSWERS: u32 = 25;

    /// What clients met with while something was done to the node that holds the first address.
    fn during(
        &self,
        cluster: &mut Cluster,
        what: &str,
        act: impl FnOnce(&mut Cluster, usize),
    ) -> Vec<Tally> {
        let holder = holder(cluster, self.local[0]);
        let traffic = self.start(cluster);
        self.awaits_answers(&traffic);
        act(cluster, holder);
        self.awaits_answers(&traffic);
        let tallies: Vec<_> = traffic.into_iter().map(Traffic::finish).collect();
        for tally in &tallies {
            println!(
                "{what}: {}: {} of {} requests failed, longest gap {:.0?}",
                tally.route, tally.failed, tally.asked, tally.longest_gap
            );
        }
        tallies
    }

    /// Clients outside for every address, and in a pod and on a node for the local ones.
    fn start(&self, cluster: &Cluster) -> Vec<Traffic> {
        let (outside, pod) = (cluster.topology().client(), &cluster.pods()[0].namespace);
        let everything = self.local.iter().chain(&self.remote).map(|to| (outside, to));
        let inside = self.local.iter().flat_map(|to| [(pod, to), (cluster.node(2), to)]);
        let mut traffic = Vec::new();
        for (from, &to) in everything.chain(inside) {
            for by in TRANSPORTS {
                let to = SocketAddr::new(to, 80);
                traffic.push(Traffic::start(from, to, by, EVERY).unwrap());
            }
        }
        traffic
    }

    fn awaits_answers(&self, traffic: &[Traffic]) {
        let wanted: Vec<_> =
            traffic.iter().map(|client| client.answered() + Self::ANSWERS).collect();
        for (client, wanted) in traffic.iter().zip(wanted) {
            eventually(|| match client.answered() {
                answered if answered < wanted => Err(format!("{client:?} has {answered} answers")),
                _ => Ok(()),
            });
        }
    }

    fn moves_from(&self, cluster: &Cluster, node: usize) {
        for &address in &self.local {
            eventually(|| match holder(cluster, address) {
                holder if holder == node => Err(format!("{address} is still on node {node}")),
                _ => Ok(()),
            });
        }
    }

    fn has_gaps_below(&self, limit: Duration, tallies: &[Tally]) {
        let long = tallies.iter().find(|tally| tally.longest_gap >= limit);
        assert!(long.is_none(), "{long:#?}");
    }
}
