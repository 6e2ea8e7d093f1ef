//! Watches of objects as changes.

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use purelb_core::config::{Local, LocalInterface};
use purelb_core::group::{Group, GroupSpec};
use purelb_core::name::ServiceKey;
use purelb_core::store::{Change, Object, Store};
use purelb_k8s::watch;
use serde_json::{Value, json};

use crate::cluster::{Cluster, in_time, service};

type Changes<T> = BoxStream<'static, Change<T>>;

async fn next<T: Object>(changes: &mut Changes<T>) -> Change<T> {
    in_time("a change", changes.next()).await.expect("a watch never ends")
}

/// Takes in changes until a fact holds.
async fn until<T: Object>(
    changes: &mut Changes<T>,
    store: &mut Store<T>,
    holds: impl Fn(&Store<T>) -> bool,
) {
    in_time("a fact", async {
        while !holds(store) {
            store.apply(changes.next().await.expect("a watch never ends"));
        }
    })
    .await;
}

fn ours(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("purelb.io", "v2", kind));
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind)
}

fn object(kind: &str, name: &str, spec: Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "purelb.io/v2", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn only_load_balancers_are_services_here() {
    let Some(cluster) = Cluster::any().await else { return };
    let api: Api<core::Service> = cluster.api();
    let plain = json!({ "metadata": { "name": "plain" }, "spec": { "ports": [{ "port": 80 }] } });
    api.create(&PostParams::default(), &service(plain)).await.expect("a Service");
    cluster.load_balancer("web").await;
    let mut changes = watch::services(cluster.client.clone());
    let mut store = Store::default();
    let key = |name: &str| ServiceKey::new(cluster.namespace.as_str(), name);
    until(&mut changes, &mut store, Store::is_listed).await;
    let web = store.get(&key("web")).expect("listed");
    assert!(web.is_load_balancer && web.has_cluster_ip && !web.uid.as_str().is_empty());
    assert!(!web.version.as_str().is_empty());
    assert!(store.get(&key("plain")).is_none());

    let patch = Patch::Merge(json!({ "spec": { "type": "LoadBalancer" } }));
    api.patch("plain", &PatchParams::default(), &patch).await.expect("patched");
    until(&mut changes, &mut store, |store| store.get(&key("plain")).is_some()).await;
    let patch = Patch::Merge(json!({ "spec": { "type": "ClusterIP" } }));
    api.patch("plain", &PatchParams::default(), &patch).await.expect("patched");
    until(&mut changes, &mut store, |store| store.get(&key("plain")).is_none()).await;
    api.delete("web", &DeleteParams::default()).await.expect("deleted");
    until(&mut changes, &mut store, |store| store.get(&key("web")).is_none()).await;
}

#[tokio::test]
async fn groups_of_the_install_namespace_are_seen_with_their_status() {
    let Some(cluster) = Cluster::any().await else { return };
    let groups = ours(&cluster, "ServiceGroup");
    let spec = json!({ "local": {
        "v4pools": [{ "pool": "192.0.2.10-192.0.2.20", "subnet": "192.0.2.0/24" }],
        "v6pool": { "pool": "2001:db8::/120", "subnet": "2001:db8::/64", "aggregation": "/128" },
    } });
    groups.create(&PostParams::default(), &object("ServiceGroup", "default", spec)).await.unwrap();
    let mut changes = watch::service_groups(cluster.client.clone(), &cluster.namespace);
    let Change::Listed(listed) = next(&mut changes).await else { panic!() };
    let [group] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((group.name.as_str(), group.generation), ("default", 1));
    assert_eq!(group.status, None);
    let GroupSpec::Local { pools, .. } = &group.kind else { panic!("{group:?}") };
    assert_eq!(pools.v4[0].field, "v4pools[0]");
    assert_eq!(pools.v6[0].field, "v6pool");
    assert_eq!(Group::parse(group).unwrap().pools().len(), 2);
}

#[tokio::test]
async fn agents_of_the_install_namespace_are_seen() {
    let Some(cluster) = Cluster::any().await else { return };
    let agents = ours(&cluster, "LBNodeAgent");
    let spec = json!({ "local": { "localInterface": "^eth[01]$" } });
    agents.create(&PostParams::default(), &object("LBNodeAgent", "a", spec)).await.unwrap();
    let spec = json!({ "local": { "localInterface": "(" } });
    agents.create(&PostParams::default(), &object("LBNodeAgent", "b", spec)).await.unwrap();
    let mut changes = watch::lb_node_agents(cluster.client.clone(), &cluster.namespace);
    let Change::Listed(listed) = next(&mut changes).await else { panic!() };
    let Local::Given(local) = &listed[0].local else { panic!("{listed:?}") };
    let LocalInterface::Matching(pattern) = &local.local_interface else { panic!("{local:?}") };
    assert!(pattern.matches("eth1") && !pattern.matches("veth1"));
    let Local::Invalid { error } = &listed[1].local else { panic!("{listed:?}") };
    assert!(error.contains("localInterface"), "{error}");
}

#[tokio::test]
async fn one_node_is_seen_and_no_other() {
    let Some(cluster) = Cluster::any().await else { return };
    let nodes: Api<core::Node> = Api::all(cluster.client.clone());
    let name = |n: u8| format!("{}-n{n}", cluster.namespace);
    for n in [1, 2] {
        let node = json!({ "metadata": { "name": name(n), "labels": { "rack": n.to_string() } } });
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    }
    let mut changes = watch::node(cluster.client.clone(), &name(2).into());
    let Change::Listed(listed) = next(&mut changes).await else { panic!() };
    let [node] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(node.labels["rack"], "2");
    assert!(!node.is_out_of_service);
    let taint = json!({ "spec": { "taints": [
        { "key": "node.kubernetes.io/out-of-service", "value": "x", "effect": "NoExecute" },
    ] } });
    nodes.patch(&name(2), &PatchParams::default(), &Patch::Merge(taint)).await.unwrap();
    let Change::Updated(node) = next(&mut changes).await else { panic!() };
    assert!(node.is_out_of_service);
    for n in [1, 2] {
        nodes.delete(&name(n), &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn endpoints_are_joined_over_slices() {
    let Some(cluster) = Cluster::any().await else { return };
    let api: Api<EndpointSlice> = cluster.api();
    let slice = |name: &str, node: &str, ready: Value| -> EndpointSlice {
        let slice = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.0.0.1"], "nodeName": node, "conditions": { "ready": ready } },
            ],
        });
        serde_json::from_value(slice).unwrap()
    };
    api.create(&PostParams::default(), &slice("web-1", "n1", json!(null))).await.unwrap();
    api.create(&PostParams::default(), &slice("web-2", "n2", json!(false))).await.unwrap();
    let mut changes = watch::endpoints(cluster.client.clone());
    let mut store = Store::default();
    until(&mut changes, &mut store, Store::is_listed).await;
    let key = ServiceKey::new(cluster.namespace.as_str(), "web");
    assert_eq!(store.get(&key).unwrap().nodes, ["n1".into()].into());
    let ready = Patch::Merge(slice("web-2", "n2", json!(true)));
    api.patch("web-2", &PatchParams::default(), &ready).await.unwrap();
    until(&mut changes, &mut store, |store| store.get(&key).unwrap().nodes.len() == 2).await;
    for name in ["web-1", "web-2"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until(&mut changes, &mut store, |store| store.get(&key).is_none()).await;
}
