//! Single objects: what is created, refused, changed and deleted.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event as NewEvent, EventType, Recorder, Reporter};
use kube::{Api, Resource, ResourceExt};
use purelb_k8s::api::ServiceGroup;
use serde_json::{Value, json};

use crate::cluster::{Cluster, code, look, service};

fn merge(patch: Value) -> (PatchParams, Patch<Value>) {
    (PatchParams::default(), Patch::Merge(patch))
}

fn post() -> PostParams {
    PostParams::default()
}

fn group(spec: &Value) -> ServiceGroup {
    serde_json::from_value(json!({
        "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
        "metadata": {"name": "group"}, "spec": spec,
    }))
    .expect("a ServiceGroup")
}

#[tokio::test]
async fn a_service_gets_what_a_cluster_gives() {
    let Some(cluster) = Cluster::any().await else { return };
    let made = look(&cluster.load_balancer("web").await);
    let spec = &made["spec"];
    assert!(spec["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("10.96.")), "{spec}");
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert_eq!(spec["externalTrafficPolicy"], "Cluster");
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert_eq!(spec["sessionAffinity"], "None");
    assert_eq!(spec["allocateLoadBalancerNodePorts"], true);
    let port = &spec["ports"][0];
    assert_eq!((&port["protocol"], &port["targetPort"]), (&json!("TCP"), &json!(80)));
    assert!(port["nodePort"].as_i64().is_some_and(|p| (30_000..32_768).contains(&p)), "{port}");
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert!(
        made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string()
    );
}

#[tokio::test]
async fn what_only_a_type_has_goes_with_it() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let made = service(json!({
        "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "purelb.io/purelbv2",
            "externalTrafficPolicy": "Local", "ports": [{"port": 80}],
        },
    }));
    let made = look(&services.create(&post(), &made).await.expect("created"));
    assert!(made["spec"]["healthCheckNodePort"].is_i64());
    let (params, patch) =
        merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
    let with = look(&services.patch_status("web", &params, &patch).await.expect("patched"));
    let ingress = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]);
    assert_eq!(with["status"]["loadBalancer"]["ingress"], ingress);

    let (params, patch) = merge(json!({"spec": {"type": "ClusterIP"}}));
    let plain = look(&services.patch("web", &params, &patch).await.expect("patched"));
    assert_eq!(plain["status"], json!({"loadBalancer": {}}));
    assert_eq!(plain["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    for field in [
        "loadBalancerClass",
        "externalTrafficPolicy",
        "allocateLoadBalancerNodePorts",
        "healthCheckNodePort",
    ] {
        assert!(plain["spec"].get(field).is_none(), "{field} stayed");
    }
}

#[tokio::test]
async fn a_dual_stack_service_has_both_families_and_can_go_back() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let dual = service(json!({
        "metadata": {"name": "web"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]},
    }));
    let made = look(&services.create(&post(), &dual).await.expect("created"));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(made["spec"]["clusterIPs"][1].as_str().is_some_and(|ip| ip.starts_with("fd00:96::")));
    let (params, patch) = merge(json!({"spec": {"ipFamilyPolicy": "SingleStack"}}));
    let single = look(&services.patch("web", &params, &patch).await.expect("patched"));
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(single["spec"]["clusterIPs"], json!([made["spec"]["clusterIP"]]));
}

#[tokio::test]
async fn a_service_keeps_the_addresses_that_a_write_leaves_out() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let dual = service(json!({
        "metadata": {"name": "web"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]},
    }));
    let made = look(&services.create(&post(), &dual).await.expect("created"));
    for addresses in [Value::Null, json!([])] {
        let (params, patch) = merge(json!({"spec": {"clusterIPs": addresses}}));
        let kept = look(&services.patch("web", &params, &patch).await.expect("patched"));
        assert_eq!(kept["spec"]["clusterIPs"], made["spec"]["clusterIPs"]);
    }
}

#[tokio::test]
async fn an_external_name_has_no_addresses_of_the_cluster() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    for (field, value, complaint) in [
        ("clusterIP", json!("10.96.0.1"), "spec.clusterIPs"),
        ("ipFamilies", json!(["IPv4"]), "spec.ipFamilies"),
        ("ipFamilyPolicy", json!("SingleStack"), "spec.ipFamilyPolicy"),
    ] {
        let mut spec = json!({"type": "ExternalName", "externalName": "example.org"});
        spec[field] = value;
        let wrong = service(json!({"metadata": {"name": "web"}, "spec": spec}));
        let Err(kube::Error::Api(status)) = services.create(&post(), &wrong).await else {
            panic!("accepted: {spec}");
        };
        let causes = status.details.expect("details").causes;
        assert!(causes.iter().any(|c| c.field == complaint), "{causes:?}");
    }
}

#[tokio::test]
async fn a_service_that_makes_no_sense_is_invalid() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    for (spec, field) in [
        (json!({"type": "LoadBalancer"}), "spec.ports"),
        (json!({"type": "Balancer", "ports": [{"port": 80}]}), "spec.type"),
        (json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[0].name"),
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port"),
        (json!({"loadBalancerClass": "a/b", "ports": [{"port": 80}]}), "spec.loadBalancerClass"),
        (json!({"clusterIPs": ["10.96.0.77"], "ports": [{"port": 80}]}), "spec.clusterIPs"),
        (
            json!({"type": "LoadBalancer", "clusterIP": "None", "ports": [{"port": 80}]}),
            "spec.clusterIPs[0]",
        ),
    ] {
        let wrong = service(json!({"metadata": {"name": "web"}, "spec": spec}));
        let Err(kube::Error::Api(status)) = services.create(&post(), &wrong).await else {
            panic!("accepted: {spec}");
        };
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
        let causes = status.details.expect("details").causes;
        assert!(causes.iter().any(|c| c.field == field), "{causes:?}");
    }
}

#[tokio::test]
async fn fields_that_cannot_change_do_not() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    for spec in [
        json!({"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}),
        json!({"clusterIPs": ["10.96.0.77"]}),
        json!({"loadBalancerClass": "purelb.io/purelbv2"}),
    ] {
        let (params, patch) = merge(json!({"spec": spec}));
        assert_eq!(code(services.patch("web", &params, &patch).await).0, 422);
    }
}

#[tokio::test]
async fn a_name_is_used_once_or_made_up() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let again = service(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}));
    let refused = code(services.create(&post(), &again).await);
    assert_eq!(refused, (409, "AlreadyExists".to_owned()));
    let made_up =
        service(json!({"metadata": {"generateName": "web-"}, "spec": {"ports": [{"port": 80}]}}));
    let made = services.create(&post(), &made_up).await.expect("created");
    assert!(made.name_any().starts_with("web-") && made.name_any().len() > 4);
    let upper = service(json!({"metadata": {"name": "Web"}, "spec": {"ports": [{"port": 80}]}}));
    assert_eq!(code(services.create(&post(), &upper).await).0, 422);
    let missing: Api<Service> = Api::namespaced(cluster.client.clone(), "no-such-namespace");
    assert_eq!(code(missing.create(&post(), &again).await), (404, "NotFound".to_owned()));
    assert_eq!(code(services.get("none").await), (404, "NotFound".to_owned()));
}

#[tokio::test]
async fn a_write_for_another_version_or_uid_conflicts() {
    let Some(cluster) = Cluster::any().await else { return };
    let leases: Api<Lease> = cluster.api();
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "node"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 5},
    }))
    .expect("a Lease");
    let first = leases.create(&post(), &lease).await.expect("created");
    let (version, uid) = (first.resource_version(), first.uid());
    let (params, patch) = merge(json!({
        "metadata": {"resourceVersion": version, "uid": uid}, "spec": {"holderIdentity": "b"},
    }));
    let second = leases.patch("node", &params, &patch).await.expect("the version is right");
    assert_ne!(second.resource_version(), version);
    let refused = code(leases.patch("node", &params, &patch).await);
    assert_eq!(refused, (409, "Conflict".to_owned()));
    let (params, patch) = merge(json!({"metadata": {"uid": "another"}}));
    assert_eq!(code(leases.patch("node", &params, &patch).await).0, 422, "a uid does not change");
    let mut other = second.clone();
    other.metadata.uid = Some("another".to_owned());
    assert_eq!(code(leases.replace("node", &post(), &other).await).0, 409);
    let mut old = first.clone();
    old.spec.get_or_insert_default().holder_identity = Some("c".to_owned());
    assert_eq!(code(leases.replace("node", &post(), &old).await).0, 409);
    old.metadata.resource_version = second.resource_version();
    leases.replace("node", &post(), &old).await.expect("the version is right");
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let made = cluster.load_balancer("web").await;
    let (params, patch) = merge(json!({"spec": {"type": "LoadBalancer"}}));
    let same = services.patch("web", &params, &patch).await.expect("patched");
    assert_eq!(same.resource_version(), made.resource_version());
    let same = services.replace("web", &post(), &made).await.expect("replaced");
    assert_eq!(same.resource_version(), made.resource_version());
}

#[tokio::test]
async fn a_dry_run_leaves_everything_as_it_is() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let web = service(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}));
    services.create(&dry, &web).await.expect("it would work");
    assert_eq!(code(services.get("web").await).0, 404);
}

#[tokio::test]
async fn every_kind_of_patch_does_what_it_is_for() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let params = PatchParams::default();

    let strategic: Patch<Value> = Patch::Strategic(
        json!({"spec": {"ports": [{"port": 81, "name": "b"}, {"port": 80, "name": "a"}]}}),
    );
    let two = look(&services.patch("web", &params, &strategic).await.expect("patched"));
    assert_eq!(two["spec"]["ports"].as_array().map(Vec::len), Some(2), "the other port stays");

    let directive: Patch<Value> = Patch::Strategic(json!({
        "spec": {"ports": [{"port": 80, "$patch": "delete"}], "$setElementOrder/ports": [{"port": 81}]},
    }));
    let one = look(&services.patch("web", &params, &directive).await.expect("patched"));
    assert_eq!(one["spec"]["ports"][0]["port"], 81);
    assert_eq!(one["spec"]["ports"].as_array().map(Vec::len), Some(1));

    let (_, patch) = merge(json!({"metadata": {"labels": {"a": "1", "b": "2"}}}));
    services.patch("web", &params, &patch).await.expect("patched");
    let (_, patch) = merge(json!({"metadata": {"labels": {"a": null}}}));
    let merged = look(&services.patch("web", &params, &patch).await.expect("patched"));
    assert_eq!(merged["metadata"]["labels"], json!({"b": "2"}));

    let json_patch = serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/labels/b", "value": "2"},
        {"op": "replace", "path": "/metadata/labels/b", "value": "3"},
    ]))
    .expect("a JSON patch");
    let json_patch: Patch<Value> = Patch::Json(json_patch);
    let patched = services.patch("web", &params, &json_patch).await.expect("patched");
    assert_eq!(patched.labels()["b"], "3");
    assert_eq!(code(services.patch("web", &params, &json_patch).await).0, 422, "the test fails");
    let remove = json!([{"op": "remove", "path": "/metadata/labels/none"}]);
    let remove: Patch<Value> = Patch::Json(serde_json::from_value(remove).expect("a JSON patch"));
    assert_eq!(code(services.patch("web", &params, &remove).await).0, 422, "nothing to remove");
}

#[tokio::test]
async fn the_status_is_written_by_itself() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let body = json!({
        "metadata": {"annotations": {"purelb.io/allocated-by": "PureLB"}},
        "spec": {"externalTrafficPolicy": "Local"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let (params, patch) = merge(body);
    let after = look(&services.patch_status("web", &params, &patch).await.expect("patched"));
    assert_eq!(after["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(after["metadata"]["annotations"]["purelb.io/allocated-by"], "PureLB");
    assert_eq!(after["spec"]["externalTrafficPolicy"], "Cluster");
    let (params, patch) = merge(json!({"status": {"loadBalancer": {"ingress": []}}}));
    let after = look(&services.patch("web", &params, &patch).await.expect("patched"));
    assert_eq!(after["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
}

#[tokio::test]
async fn a_service_group_is_held_to_its_definition() {
    let Some(cluster) = Cluster::any().await else { return };
    let groups: Api<ServiceGroup> = cluster.api();
    let pool = json!([{"pool": "192.0.2.0/24", "subnet": "192.0.2.0/24"}]);
    for spec in [
        json!({}),
        json!({"local": {"v4pools": pool}, "remote": {"v4pools": pool}}),
        json!({"local": {"v4pools": pool}, "enforceNamespaces": true}),
        json!({"local": {"v6pools": pool}}),
    ] {
        let refused = code(groups.create(&post(), &group(&spec)).await);
        assert_eq!(refused, (422, "Invalid".to_owned()), "{spec}");
    }
    let raw = json!({
        "apiVersion": "purelb.io/v2", "kind": "ServiceGroup", "metadata": {"name": "group"},
        "spec": {"local": {"v4pools": pool, "unknown": 1}},
    });
    let path = format!("/apis/purelb.io/v2/namespaces/{}/servicegroups", cluster.namespace);
    let request = http::Request::post(&path)
        .header("content-type", "application/json")
        .body(raw.to_string().into_bytes())
        .expect("a request");
    let made: Value = cluster.client.request(request).await.expect("created");
    assert_eq!(made["spec"]["local"]["balancePools"], false, "defaults are filled in");
    assert_eq!(made["spec"]["enforceNamespaces"], false);
    assert!(made["spec"]["local"].get("unknown").is_none(), "unknown fields are pruned");
    assert_eq!(made["metadata"]["generation"], 1);

    let status = json!({
        "metadata": {"labels": {"a": "b"}},
        "status": {"allocatedIPv4": 1, "allocatedIPv6": 0},
    });
    let (params, patch) = merge(status);
    let after = groups.patch_status("group", &params, &patch).await.expect("patched");
    assert_eq!(after.metadata.generation, Some(1));
    assert!(after.metadata.labels.is_none(), "the status alone is written");
    let (params, patch) = merge(json!({"spec": {"namespaces": ["a"]}}));
    let after = groups.patch("group", &params, &patch).await.expect("patched");
    assert_eq!(after.metadata.generation, Some(2));
    assert!(after.status.is_some());
}

#[tokio::test]
async fn a_deletion_may_have_conditions_and_finalizers_hold_it() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let other = DeleteParams::default()
        .preconditions(Preconditions { uid: Some("other".to_owned()), resource_version: None });
    assert_eq!(code(services.delete("web", &other).await).0, 409);
    let (params, patch) = merge(json!({"metadata": {"finalizers": ["purelb.io/test"]}}));
    services.patch("web", &params, &patch).await.expect("patched");
    services.delete("web", &DeleteParams::default()).await.expect("begun");
    let waiting = services.get("web").await.expect("it waits");
    assert!(waiting.metadata.deletion_timestamp.is_some());
    let (params, patch) = merge(json!({"metadata": {"finalizers": null}}));
    services.patch("web", &params, &patch).await.expect("patched");
    assert_eq!(code(services.get("web").await).0, 404);
    assert_eq!(code(services.delete("web", &DeleteParams::default()).await).0, 404);
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let (cluster, api) = Cluster::memory().await;
    cluster.load_balancer("web").await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete(&cluster.namespace, &DeleteParams::default()).await.expect("deleted");
    assert_eq!(api.get("Service", &cluster.namespace, "web"), None);
    assert_eq!(code(namespaces.get(&cluster.namespace).await).0, 404);
}

#[tokio::test]
async fn lists_are_selected_by_labels_and_fields() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    for (name, kind, tier) in
        [("a", "ClusterIP", "1"), ("b", "LoadBalancer", "1"), ("c", "LoadBalancer", "2")]
    {
        let new = service(json!({
            "metadata": {"name": name, "labels": {"tier": tier, "app": name}},
            "spec": {"type": kind, "ports": [{"port": 80}]},
        }));
        services.create(&post(), &new).await.expect("created");
    }
    let names = async |labels: &str, fields: &str| {
        let list = services.list(&ListParams::default().labels(labels).fields(fields)).await?;
        Ok(list.iter().map(|s| s.name_any()).collect::<Vec<_>>().join(""))
    };
    for (labels, fields, expected) in [
        ("", "", "abc"),
        ("tier=1", "", "ab"),
        ("tier!=1", "", "c"),
        ("tier in (1,3),app", "", "ab"),
        ("app notin (a)", "", "bc"),
        ("!tier", "", ""),
        ("", "spec.type=LoadBalancer", "bc"),
        ("tier=1", "spec.type=LoadBalancer", "b"),
        ("", "metadata.name!=a", "bc"),
    ] {
        let found: Result<_, kube::Error> = names(labels, fields).await;
        assert_eq!(found.expect("a list"), expected, "{labels:?} {fields:?}");
    }
    assert_eq!(code(names("", "spec.sessionAffinity=None").await).0, 400);
    assert_eq!(code(names("a b", "").await).0, 400);
}

#[tokio::test]
async fn events_are_read_in_both_forms() {
    let Some(cluster) = Cluster::any().await else { return };
    let web = cluster.load_balancer("web").await;
    let reporter = Reporter { controller: "purelb.io/test".into(), instance: Some("node".into()) };
    let recorder = Recorder::new(cluster.client.clone(), reporter);
    let event = NewEvent {
        type_: EventType::Warning,
        reason: "AllocationFailed".to_owned(),
        note: Some("no address".to_owned()),
        action: "Allocate".to_owned(),
        secondary: None,
    };
    let about = web.object_ref(&());
    recorder.publish(&event, &about).await.expect("published");
    recorder.publish(&event, &about).await.expect("published again, as a series");
    let events: Api<Event> = cluster.api();
    let fields = "involvedObject.kind=Service,involvedObject.name=web";
    let list = events.list(&ListParams::default().fields(fields)).await.expect("a list");
    let [found] = list.items.as_slice() else { panic!("one event: {list:?}") };
    assert_eq!(found.message.as_deref(), Some("no address"));
    assert_eq!(found.series.as_ref().and_then(|s| s.count), Some(2));
    let new: Api<k8s_openapi::api::events::v1::Event> = cluster.api();
    let list = new.list(&ListParams::default().fields("reason=AllocationFailed")).await;
    let list = list.expect("a list");
    assert_eq!(list.items[0].note.as_deref(), Some("no address"));
    assert_eq!(list.items[0].regarding.as_ref().and_then(|r| r.name.as_deref()), Some("web"));
}

#[tokio::test]
async fn unknown_paths_bodies_and_answers_are_refused_as_they_should_be() {
    let Some(cluster) = Cluster::any().await else { return };
    let path = format!("/api/v1/namespaces/{}/services", cluster.namespace);
    let send = async |request: http::Result<http::Request<Vec<u8>>>| {
        let request = request.expect("a request");
        code(cluster.client.request::<Value>(request).await).0
    };
    let get = http::Request::get("/apis/purelb.io/v1/servicegroups").body(Vec::new());
    assert_eq!(send(get).await, 404);
    let protobuf = "application/vnd.kubernetes.protobuf";
    let unacceptable = http::Request::get(&path).header("accept", "text/csv").body(Vec::new());
    assert_eq!(send(unacceptable).await, 406);
    let body = http::Request::post(&path).header("content-type", "text/csv").body(b"a".to_vec());
    assert_eq!(send(body).await, 415);
    let broken =
        http::Request::post(&path).header("content-type", "application/json").body(b"{".to_vec());
    assert_eq!(send(broken).await, 400);
    let either = format!("{protobuf}, application/json");
    let get = http::Request::get(&path).header("accept", either).body(Vec::new());
    if !crate::REAL {
        let list: Value = cluster.client.request(get.expect("a request")).await.expect("JSON");
        assert_eq!(list["kind"], "ServiceList");
    }
    let strict = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "prot": 1}]}});
    let strict = http::Request::post(format!("{path}?fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(strict.to_string().into_bytes());
    assert_eq!(send(strict).await, 400);
}

#[tokio::test]
async fn nonsense_is_refused_and_breaks_nothing() {
    let (cluster, _api) = Cluster::memory().await;
    cluster.load_balancer("web").await;
    let path = format!("/api/v1/namespaces/{}/services", cluster.namespace);
    let web = format!("{path}/web?fieldManager=test");
    let (merge, strategic) =
        ("application/merge-patch+json", "application/strategic-merge-patch+json");
    let (patch, apply) = ("application/json-patch+json", "application/apply-patch+yaml");
    let head = r#""apiVersion":"v1","kind":"Service""#;
    let bodies = [
        (patch, r#"[{"op":"replace","path":"","value":"text"}]"#.to_owned()),
        (patch, r#"[{"op":"replace","path":"/metadata/none","value":1}]"#.to_owned()),
        (patch, r#"[{"op":"replace","path":"/spec/ports","value":{}}]"#.to_owned()),
        // What was done before the second operation fails cannot be undone.
        (
            patch,
            r#"[{"op":"move","from":"/spec/type","path":"/spec"},{"op":"remove","path":"/none"}]"#
                .to_owned(),
        ),
        (merge, r#"{"metadata":[1]}"#.to_owned()),
        (merge, r#"{"spec":"text"}"#.to_owned()),
        (merge, r#"{"spec":{"ports":[1]}}"#.to_owned()),
        (merge, r#"{"kind":"Node"}"#.to_owned()),
        (merge, r#"{"metadata":{"name":"other"}}"#.to_owned()),
        (strategic, r#"{"spec":{"ports":[1]}}"#.to_owned()),
        (strategic, r#"{"spec":{"ports":[{"name":"a"}]}}"#.to_owned()),
        (apply, format!(r#"{{{head},"metadata":"text","spec":{{"ports":7}}}}"#)),
        (apply, format!(r#"{{{head},"spec":{{"ports":[{{"port":"x"}}]}}}}"#)),
        (apply, r#"{"metadata":{"name":"web"}}"#.to_owned()),
    ];
    for (content_type, body) in bodies {
        let request = http::Request::patch(&web)
            .header("content-type", content_type)
            .body(body.clone().into_bytes())
            .expect("a request");
        let answer = cluster.client.request::<Value>(request).await;
        assert!(answer.is_err(), "accepted: {body}");
        let code = code(answer).0;
        assert!((400..=500).contains(&code), "{code} for {body}");
    }
    for body in ["[]", "1", "{}", r#"{"metadata":{"name":["a"]}}"#, r#"{"kind":"Node"}"#] {
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .body(body.as_bytes().to_vec())
            .expect("a request");
        let code = code(cluster.client.request::<Value>(request).await).0;
        assert!((400..500).contains(&code), "{code} for {body}");
    }
    cluster.api::<Service>().get("web").await.expect("it is still there");
}
