//! The allocator's and the agents' writes.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, Patch as KubePatch, PatchParams, PostParams,
};
use purelb_core::allocator::{Marks, Patch, Release, StatusWrite, Ticket, Written};
use purelb_core::group::Announce;
use purelb_core::name::ServiceKey;
use purelb_core::usage::GroupStatus;
use purelb_k8s::apply::{Outcome, Writer};
use serde_json::{Value, json};

use crate::cluster::{Cluster, look};

const TICKET: Ticket = Ticket(7);

fn writer(cluster: &Cluster) -> Writer {
    Writer::new(cluster.client.clone(), &cluster.namespace)
}

fn became(outcome: Outcome) -> Written {
    assert_eq!(outcome.ticket, TICKET);
    assert_eq!(outcome.error.is_none(), outcome.written == Written::Accepted, "{outcome:?}");
    outcome.written
}

/// What gives a Service two addresses.
fn answer(cluster: &Cluster, service: &Service) -> Patch {
    let metadata = &service.metadata;
    Patch {
        ticket: TICKET,
        service: ServiceKey::new(cluster.namespace.as_str(), metadata.name.as_deref().unwrap()),
        uid: metadata.uid.as_deref().unwrap().into(),
        version: metadata.resource_version.as_deref().unwrap().into(),
        ingress: vec!["192.0.2.100".parse().unwrap(), "2001:db8::100".parse().unwrap()],
        marks: Some(Marks {
            allocated_from: Some("default".into()),
            pool_type: Some(Announce::Local),
            skip_ipv6_dad: false,
        }),
        remove: vec![],
    }
}

async fn get(cluster: &Cluster, name: &str) -> (Service, Value) {
    let api: Api<Service> = cluster.api();
    let service = api.get(name).await.expect("a Service");
    let shown = look(&service);
    (service, shown)
}

/// A server may show none at all, or an empty map.
fn has_no_annotations(shown: &Value) -> bool {
    shown["metadata"]["annotations"].as_object().is_none_or(serde_json::Map::is_empty)
}

/// The same of the ingress list.
fn has_no_ingress(shown: &Value) -> bool {
    shown["status"]["loadBalancer"]["ingress"].as_array().is_none_or(Vec::is_empty)
}

#[tokio::test]
async fn an_answer_is_ingress_and_annotations_in_one_write() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    let patch = answer(&cluster, &service);
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert_eq!(
        shown["status"]["loadBalancer"]["ingress"],
        json!([
            { "ip": "192.0.2.100", "ipMode": "VIP" },
            { "ip": "2001:db8::100", "ipMode": "VIP" },
        ])
    );
    assert_eq!(
        shown["metadata"]["annotations"],
        json!({
            "purelb.io/allocated-by": "PureLB",
            "purelb.io/allocated-from": "default",
            "purelb.io/pool-type": "local",
        })
    );
}

#[tokio::test]
async fn an_answer_to_an_older_service_does_not_land() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    let api: Api<Service> = cluster.api();
    let touched = KubePatch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    api.patch("web", &PatchParams::default(), &touched).await.expect("patched");
    let patch = answer(&cluster, &service);
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Conflict);
    let (_, shown) = get(&cluster, "web").await;
    assert_eq!(shown["status"]["loadBalancer"], json!({}));
}

#[tokio::test]
async fn an_answer_to_a_deleted_service_is_gone() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    let api: Api<Service> = cluster.api();
    api.delete("web", &kube::api::DeleteParams::default()).await.expect("deleted");
    let patch = answer(&cluster, &service);
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Gone);
}

#[tokio::test]
async fn what_an_answer_leaves_out_goes() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    writer(&cluster).patch(answer(&cluster, &service)).await;
    let (service, _) = get(&cluster, "web").await;
    let patch = Patch { ingress: vec![], marks: None, ..answer(&cluster, &service) };
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert!(has_no_annotations(&shown), "{shown}");
    assert!(has_no_ingress(&shown), "{shown}");
}

#[tokio::test]
async fn what_somebody_else_set_goes_too_where_it_must() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    writer(&cluster).patch(answer(&cluster, &service)).await;
    let api: Api<Service> = cluster.api();
    let theirs = KubePatch::Merge(json!({ "metadata": { "annotations": {
        "purelb.io/allocated-by": "PureLB", "purelb.io/skip-ipv6-dad": "true", "mine": "stays",
    } } }));
    let params = PatchParams { field_manager: Some("allocator".into()), ..PatchParams::default() };
    api.patch("web", &params, &theirs).await.expect("patched");
    let (service, _) = get(&cluster, "web").await;
    let remove = vec!["purelb.io/allocated-by", "purelb.io/skip-ipv6-dad"];
    let patch = Patch { marks: None, ingress: vec![], remove, ..answer(&cluster, &service) };
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert_eq!(shown["metadata"]["annotations"], json!({ "mine": "stays" }));
}

#[tokio::test]
async fn an_answer_that_somebody_else_gave_becomes_ours() {
    let Some(cluster) = Cluster::any().await else { return };
    cluster.load_balancer("web").await;
    let api: Api<Service> = cluster.api();
    let theirs = KubePatch::Merge(json!({
        "metadata": { "annotations": { "purelb.io/allocated-from": "other" } },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }] } },
    }));
    let params = PatchParams { field_manager: Some("allocator".into()), ..PatchParams::default() };
    api.patch_status("web", &params, &theirs).await.expect("patched");
    let (service, _) = get(&cluster, "web").await;
    let patch = answer(&cluster, &service);
    assert_eq!(became(writer(&cluster).patch(patch).await), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert_eq!(shown["metadata"]["annotations"]["purelb.io/allocated-from"], "default");
    assert_eq!(shown["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.100");
}

#[tokio::test]
async fn an_answer_is_taken_back_from_a_service_of_another_type() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    let patch = answer(&cluster, &service);
    writer(&cluster).patch(patch.clone()).await;
    let api: Api<Service> = cluster.api();
    let plain = KubePatch::Merge(json!({ "spec": { "type": "ClusterIP" } }));
    api.patch("web", &PatchParams::default(), &plain).await.expect("patched");
    let release = Release {
        ticket: TICKET,
        service: patch.service.clone(),
        uid: patch.uid.clone(),
        remove: vec!["purelb.io/allocated-by", "purelb.io/allocated-from", "purelb.io/pool-type"],
    };
    assert_eq!(became(writer(&cluster).release(release.clone()).await), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert!(has_no_annotations(&shown), "{shown}");
    assert!(has_no_ingress(&shown), "{shown}");
    let other = Release { uid: "00000000-0000-0000-0000-000000000009".into(), ..release.clone() };
    assert_eq!(became(writer(&cluster).release(other).await), Written::Gone);
    api.delete("web", &kube::api::DeleteParams::default()).await.expect("deleted");
    assert_eq!(became(writer(&cluster).release(release).await), Written::Gone);
}

#[tokio::test]
async fn the_users_wish_is_taken_note_of() {
    let Some(cluster) = Cluster::any().await else { return };
    let service = cluster.load_balancer("web").await;
    let api: Api<Service> = cluster.api();
    let wish = KubePatch::Merge(json!({ "metadata": { "annotations": {
        "purelb.io/re-evaluate": "true", "mine": "stays",
    } } }));
    api.patch("web", &PatchParams::default(), &wish).await.expect("patched");
    let Patch { service: key, uid, .. } = answer(&cluster, &service);
    let result = writer(&cluster).re_evaluated(TICKET, &key, &uid).await;
    assert_eq!(became(result), Written::Accepted);
    let (_, shown) = get(&cluster, "web").await;
    assert_eq!(shown["metadata"]["annotations"], json!({ "mine": "stays" }));
    let other = "00000000-0000-0000-0000-000000000009".into();
    let result = writer(&cluster).re_evaluated(TICKET, &key, &other).await;
    assert_eq!(became(result), Written::Gone);
}

#[tokio::test]
async fn a_status_replaces_the_one_before() {
    let Some(cluster) = Cluster::any().await else { return };
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("purelb.io", "v2", "ServiceGroup"));
    let groups: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind);
    let group = json!({
        "apiVersion": "purelb.io/v2", "kind": "ServiceGroup", "metadata": { "name": "default" },
        "spec": { "local": { "v4pool": { "pool": "192.0.2.0/24", "subnet": "192.0.2.0/24" } } },
    });
    let group: DynamicObject = serde_json::from_value(group).unwrap();
    let group = groups.create(&PostParams::default(), &group).await.expect("a group");
    let status = GroupStatus {
        announce: "Local".into(),
        ipam: "Cluster".into(),
        addresses: vec!["192.0.2.0/24".into()],
        allocated_v4: 3,
        allocated_v6: 0,
        available_v4: Some(253),
        available_v6: Some(i64::MAX),
        bound_namespaces: vec!["a".into(), "b".into()],
    };
    let write = StatusWrite {
        ticket: TICKET,
        group: "default".into(),
        uid: group.metadata.uid.as_deref().unwrap().into(),
        status: status.clone(),
    };
    assert_eq!(became(writer(&cluster).status(&write).await), Written::Accepted);
    let shown = groups.get("default").await.unwrap().data;
    assert_eq!(
        shown["status"],
        json!({
            "announce": "Local", "ipam": "Cluster", "addresses": ["192.0.2.0/24"],
            "allocatedIPv4": 3, "allocatedIPv6": 0, "availableIPv4": 253,
            "availableIPv6": i64::MAX, "boundNamespaces": ["a", "b"],
        })
    );
    let fewer = GroupStatus { available_v6: None, bound_namespaces: vec![], ..status };
    let write = StatusWrite { status: fewer, ..write };
    assert_eq!(became(writer(&cluster).status(&write).await), Written::Accepted);
    let shown = groups.get("default").await.unwrap().data;
    assert_eq!(shown["status"]["availableIPv6"], Value::Null);
    assert_eq!(shown["status"]["boundNamespaces"], Value::Null);
}
