//! The agents of a Go PureLB are exchanged for ours, one node after the other, while Services are in use:
//! no Service's address changes, and each address is always one that a node has.
//!
//! Needs iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use common::go::{self, GoAgent, is_local};
use common::lab::{eventually, serves, without_programs};
use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::observe::places;
use purelb_core::election::winner;
use purelb_core::name::NodeName;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};

/// How the fixtures' names are here.
const NAMES: [(&str, &str); 3] = [("kn1", "node1"), ("kn2", "node2"), ("purelb-system", "purelb")];

fn api(cluster: &Cluster) -> &MemoryApi {
    cluster.api().memory().expect("it is in memory")
}

/// Has a Service endpoints on these nodes.
fn endpoints(api: &MemoryApi, service: &str, nodes: &[&str]) {
    let endpoint = |node: &&str| {
        json!({
            "addresses": ["10.0.0.1"], "nodeName": node, "conditions": { "ready": true },
        })
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4", "ports": [{ "port": 80 }],
        "endpoints": nodes.iter().map(endpoint).collect::<Vec<_>>(),
    });
    api.apply("test", slice).unwrap();
}

/// Where an address is, by node and interface.
fn found(cluster: &Cluster, address: IpAddr) -> Vec<(String, String)> {
    let nodes = cluster.topology().nodes().iter();
    let on = |node| places(node, address).unwrap().into_iter().map(|place| place.link);
    nodes.flat_map(|node| on(node).map(|link| (node.name().to_owned(), link))).collect()
}

/// Waits until every address is where it belongs if these nodes serve: a local one on the card of the
/// node that wins it, a routed one on each node's `kube-lb0`; and nowhere else.
fn all_in_place(cluster: &Cluster, serving: &[&str]) {
    let nodes: Vec<NodeName> = serving.iter().map(|name| (*name).into()).collect();
    let at = |node: &NodeName, link: &str| (node.to_string(), link.to_owned());
    for (service, addresses) in go::addresses(api(cluster)) {
        // Its only endpoint is there.
        let only = |node: &&NodeName| service != "affinity" || node.as_str() == "node2";
        for address in addresses {
            let wanted: Vec<_> = if is_local(address) {
                let winner = winner(address, nodes.iter().filter(only)).unwrap();
                vec![at(winner, "eth0")]
            } else {
                nodes.iter().map(|node| at(node, "kube-lb0")).collect()
            };
            eventually(|| match found(cluster, address) {
                found if found == wanted => Ok(()),
                found => Err(format!("{service}: {address} is at {found:?}, not {wanted:?}")),
            });
        }
    }
}

/// Nothing that `purelb validate` looks at would change.
fn is_valid(cluster: &Cluster) {
    let output = Command::new(env!("CARGO_BIN_EXE_purelb"))
        .args(["validate", "-n", "purelb", "--default-announcer", "-o", "json", "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fail"], 0, "{report:#}");
}

#[test]
fn agents_are_exchanged_node_by_node_and_no_address_changes() {
    without_programs(|cluster| {
        go::leave(api(cluster), &NAMES);
        endpoints(api(cluster), "affinity", &["node2"]);
        endpoints(api(cluster), "etp-local", &["node1", "node2"]);
        let mut before: BTreeMap<String, Vec<IpAddr>> = go::addresses(api(cluster));
        assert!(before.len() > 8, "{before:?}");
        let mut theirs: Vec<GoAgent> =
            (0..2).map(|number| GoAgent::start(api(cluster), cluster.node(number))).collect();
        all_in_place(cluster, &["node1", "node2"]);
        is_valid(cluster);

        cluster.start_allocator().unwrap();
        for (number, name) in ["node1", "node2"].into_iter().enumerate() {
            let other = ["node2", "node1"][number];
            theirs.remove(0).stop();
            if number == 0 {
                // The one with the endpoint serves alone.
                all_in_place(cluster, &[other]);
            }
            cluster.start_agent(number).unwrap();
            serves(cluster, cluster.node(number));
            all_in_place(cluster, &["node1", "node2"]);
            is_valid(cluster);
            assert_eq!(go::addresses(api(cluster)), before);

            // What is new in between gets an address that nobody has, and a node.
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": format!("since-{name}"), "namespace": "default" },
                "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
            });
            api(cluster).apply("somebody", service).unwrap();
            let count = before.len();
            eventually(|| {
                let addresses = go::addresses(api(cluster));
                (addresses.len() > count).then_some(()).ok_or_else(|| "no address".to_owned())
            });
            let after = go::addresses(api(cluster));
            let new = &after[&format!("since-{name}")];
            assert!(!before.values().flatten().any(|ip| new.contains(ip)), "{new:?}");
            assert!(before.iter().all(|(name, ips)| after[name] == *ips));
            before = after;
            all_in_place(cluster, &["node1", "node2"]);
        }
        assert_eq!(cluster.fallen(), None);
    });
}
