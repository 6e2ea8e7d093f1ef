//! EndpointSlices are much in a large cluster: an agent asks for them only while some Service needs them,
//! and reads them as the API means them.
//!
//! Needs iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use purelb_cli::lab::require;
use serde_json::{Value, json};

use common::node::{NAME, Node};
use common::until;

const LOCAL: &str = "192.0.2.240";
const REMOTE: &str = "198.51.100.7";

/// How many requests there were for objects of a kind.
fn asked(node: &Node, kind: &str) -> usize {
    let seen = node.proxy.seen();
    seen.iter().filter(|seen| seen.uri.path().ends_with(&format!("/{kind}"))).count()
}

/// Has the Service `web` one endpoint on that node, in this condition.
fn endpoint(node: &Node, on: &str, conditions: &Value) {
    let mut endpoint = json!({ "addresses": ["10.0.0.1"], "nodeName": on });
    if !conditions.is_null() {
        endpoint["conditions"] = conditions.clone();
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4", "endpoints": [endpoint], "ports": [{ "port": 80 }],
    });
    node.api.apply("test", slice).expect("a sound slice");
}

/// Has every watch begin anew, and waits until these have: each looks where the server is, and watches on.
/// How many requests for EndpointSlices there were before.
async fn begin_anew(node: &Node, kinds: &[&str]) -> usize {
    let before: Vec<_> = kinds.iter().map(|kind| (*kind, asked(node, kind))).collect();
    let slices = asked(node, "endpointslices");
    node.proxy.break_off();
    let has_begun = |(kind, before): &(&str, usize)| asked(node, kind) >= before + 2;
    until("watches begin anew", || before.iter().all(has_begun)).await;
    slices
}

/// Sees that EndpointSlices are not watched, while all else is.
async fn are_left_alone(node: &Node, why: &str) {
    let others = ["services", "servicegroups", "lbnodeagents", "nodes", "leases"];
    let before = begin_anew(node, &others).await;
    assert_eq!(asked(node, "endpointslices"), before, "{why}");
}

async fn on_demand() {
    let node = Node::start(|_, _| {}).await;
    node.service("plain", "default", LOCAL);
    node.is_at("no policy", LOCAL, Some("eth0")).await;
    assert_eq!(asked(&node, "endpointslices"), 0, "nobody needs them");

    let policy = json!({ "externalTrafficPolicy": "Local" });
    node.service_with("web", "routed", REMOTE, &policy);
    until("they are asked for", || asked(&node, "endpointslices") >= 2).await;
    for (on, conditions, link) in [
        // As the API has it, what does not say whether it is ready is ready.
        (NAME, json!(null), Some("kube-lb0")),
        (NAME, json!({ "ready": false }), None),
        (NAME, json!({}), Some("kube-lb0")),
        ("n2", json!({}), None),
        (NAME, json!({ "serving": true }), Some("kube-lb0")),
        (NAME, json!({ "ready": false, "serving": false, "terminating": true }), None),
        (NAME, json!({ "ready": false, "serving": true, "terminating": true }), Some("kube-lb0")),
    ] {
        endpoint(&node, on, &conditions);
        node.is_at(&format!("{on} {conditions}"), REMOTE, link).await;
    }
    begin_anew(&node, &["endpointslices"]).await;

    let policy = json!({ "externalTrafficPolicy": "Cluster" });
    endpoint(&node, "n2", &json!({}));
    node.is_at("an endpoint elsewhere", REMOTE, None).await;
    node.service_with("web", "routed", REMOTE, &policy);
    node.is_at("no policy any more", REMOTE, Some("kube-lb0")).await;
    are_left_alone(&node, "nobody needs them any more").await;

    // And again, from the beginning.
    let policy = json!({ "externalTrafficPolicy": "Local" });
    node.service_with("web", "routed", REMOTE, &policy);
    node.is_at("the policy is back", REMOTE, None).await;
    endpoint(&node, NAME, &json!({}));
    node.is_at("an endpoint here", REMOTE, Some("kube-lb0")).await;
    node.api.delete("Service", "default", "web").unwrap();
    node.is_at("no Service", REMOTE, None).await;
    are_left_alone(&node, "it is gone").await;
    assert_eq!(node.place(LOCAL).as_deref(), Some("eth0"));
}

#[test]
fn endpoint_slices_are_watched_only_while_a_service_needs_them_and_unset_means_ready() {
    require::privileged(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(on_demand());
    });
}
