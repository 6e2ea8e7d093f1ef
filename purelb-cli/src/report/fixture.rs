//! A small cluster for tests: two nodes of which one is alive, a local and a remote group.

use purelb_k8s::snapshot::Snapshot;
use serde_json::{Value, json};

/// The objects, all of them well formed and in agreement.
pub(crate) fn objects() -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": "default", "namespace": "purelb", "uid": "g1", "generation": 1},
            "spec": {"local": {"v4pool": {"subnet": "192.0.2.0/24", "pool": "192.0.2.240-192.0.2.241"}}},
        }),
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": "routed", "namespace": "purelb", "uid": "g2", "generation": 1},
            "spec": {"remote": {"v4pool": {
                "subnet": "198.51.100.0/24", "pool": "198.51.100.0/24", "aggregation": "/32",
            }}},
        }),
        json!({
            "apiVersion": "purelb.io/v2", "kind": "LBNodeAgent",
            "metadata": {"name": "default", "namespace": "purelb", "uid": "a1"},
            "spec": {"local": {}},
        }),
        node("n1"),
        node("n2"),
        lease("n1", "2026-11-25T12:00:00Z"),
        lease("n2", "2026-11-25T11:00:00Z"),
        pod("allocator-1", "allocator", "n1"),
        pod("lbnodeagent-1", "lbnodeagent", "n1"),
        pod("lbnodeagent-2", "lbnodeagent", "n2"),
        service("web", Some("192.0.2.240"), "default", "local", Some("n1,eth0,192.0.2.240")),
        service("api", Some("198.51.100.1"), "routed", "remote", None),
    ]
}

/// What [`objects`] make, looked at two seconds after the lease of n1 was renewed.
pub(crate) fn snapshot(objects: Vec<Value>) -> Snapshot {
    let mut snapshot = Snapshot::at("2026-11-25T12:00:02Z".parse().unwrap());
    snapshot.overlay(objects).unwrap();
    snapshot
}

pub(crate) fn service(
    name: &str,
    ip: Option<&str>,
    group: &str,
    kind: &str,
    announcing: Option<&str>,
) -> Value {
    let mut annotations = json!({"purelb.io/service-group": group});
    if ip.is_some() {
        annotations["purelb.io/allocated-by"] = json!("PureLB");
        annotations["purelb.io/allocated-from"] = json!(group);
        annotations["purelb.io/pool-type"] = json!(kind);
    }
    if let Some(text) = announcing {
        annotations["purelb.io/announcing-IPv4"] = json!(text);
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "annotations": annotations},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{"port": 80}],
        },
        "status": {"loadBalancer": {"ingress":
            ip.map(|ip| vec![json!({"ip": ip})]).unwrap_or_default()
        }},
    })
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}})
}

pub(crate) fn lease(node: &str, renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": format!("purelb-node-{node}"), "namespace": "purelb", "uid": node,
            "resourceVersion": "5", "annotations": {"purelb.io/subnets": "192.0.2.0/24"},
        },
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 5, "renewTime": renewed},
    })
}

fn pod(name: &str, component: &str, node: &str) -> Value {
    let env = json!([{"name": "DEFAULT_ANNOUNCER", "value": "PureLB"}]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "purelb", "labels": {
            "app.kubernetes.io/name": "purelb", "app.kubernetes.io/component": component,
        }},
        "spec": {"nodeName": node, "containers": [
            {"name": component, "image": "purelb:0.1.0", "env": env},
        ]},
        "status": {"containerStatuses": [{
            "name": component, "ready": true, "restartCount": 0, "image": "", "imageID": "",
        }]},
    })
}
