//! Server-side apply: who owns which field, and what follows from it.

use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use purelb_k8s::api::ServiceGroup;
use serde_json::{Value, json};

use crate::cluster::{Cluster, code, look, service};

async fn apply(services: &Api<Service>, who: &str, body: Value) -> kube::Result<Service> {
    services.patch("web", &PatchParams::apply(who), &configured(body)).await
}

async fn force(services: &Api<Service>, who: &str, body: Value) -> Value {
    let params = PatchParams::apply(who).force();
    look(&services.patch("web", &params, &configured(body)).await.expect("applied"))
}

fn configured(mut body: Value) -> Patch<Value> {
    body["apiVersion"] = json!("v1");
    body["kind"] = json!("Service");
    body["metadata"]["name"] = json!("web");
    Patch::Apply(body)
}

fn spec_with_ports(ports: &Value) -> Value {
    json!({"spec": {"type": "LoadBalancer", "ports": ports}})
}

#[tokio::test]
async fn a_field_that_is_no_longer_applied_goes() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let mut first = spec_with_ports(&json!([{"port": 80}]));
    first["metadata"] = json!({"annotations": {"a": "1", "b": "2"}, "labels": {"l": "m"}});
    apply(&services, "tool", first).await.expect("created");
    let mut second = spec_with_ports(&json!([{"port": 80}]));
    second["metadata"] = json!({"annotations": {"b": "2"}});
    let after = look(&apply(&services, "tool", second).await.expect("applied"));
    assert_eq!(after["metadata"]["annotations"], json!({"b": "2"}));
    assert!(after["metadata"].get("labels").is_none());
    assert!(after["spec"]["ports"][0]["nodePort"].is_i64(), "what the API filled in stays");
}

#[tokio::test]
async fn what_others_wrote_stays() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let mut first = spec_with_ports(&json!([{"port": 80}]));
    first["metadata"] = json!({"annotations": {"mine": "1"}});
    apply(&services, "tool", first).await.expect("created");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"theirs": "2"}}}));
    services.patch("web", &PatchParams::default(), &patch).await.expect("patched");
    let after = apply(&services, "tool", spec_with_ports(&json!([{"port": 80}]))).await;
    let after = look(&after.expect("applied"));
    assert_eq!(after["metadata"]["annotations"], json!({"theirs": "2"}));
}

#[tokio::test]
async fn another_value_for_an_owned_field_conflicts_unless_forced() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let with = |value: &str| {
        let mut body = spec_with_ports(&json!([{"port": 80}]));
        body["metadata"] = json!({"annotations": {"a": value}});
        body
    };
    apply(&services, "one", with("1")).await.expect("created");
    apply(&services, "two", with("1")).await.expect("the same value is shared");
    let Err(kube::Error::Api(status)) = apply(&services, "two", with("2")).await else {
        panic!("no conflict");
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = status.details.expect("details").causes;
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].field, ".metadata.annotations.a");
    assert!(causes[0].message.contains("\"one\""), "{causes:?}");

    let after = force(&services, "two", with("2")).await;
    assert_eq!(after["metadata"]["annotations"]["a"], "2");
    let after = force(&services, "one", spec_with_ports(&json!([{"port": 80}]))).await;
    assert_eq!(after["metadata"]["annotations"]["a"], "2", "it is no longer its to remove");
}

#[tokio::test]
async fn a_shared_field_stays_until_its_last_owner_leaves() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let mut with = spec_with_ports(&json!([{"port": 80}]));
    with["metadata"] = json!({"annotations": {"a": "1"}});
    let without = spec_with_ports(&json!([{"port": 80}]));
    force(&services, "one", with.clone()).await;
    force(&services, "two", with).await;
    let after = force(&services, "one", without.clone()).await;
    assert_eq!(after["metadata"]["annotations"]["a"], "1");
    let after = force(&services, "two", without).await;
    assert!(after["metadata"].get("annotations").is_none(), "{after}");
}

#[tokio::test]
async fn ports_are_merged_by_number_and_protocol() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    force(&services, "one", spec_with_ports(&json!([{"port": 53, "name": "tcp"}]))).await;
    let udp = json!([{"port": 53, "protocol": "UDP", "name": "udp"}]);
    let both = force(&services, "two", json!({"spec": {"ports": udp}})).await;
    let mut names: Vec<_> = both["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|p| p["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["tcp", "udp"]);
    let after =
        force(&services, "one", spec_with_ports(&json!([{"port": 54, "name": "tcp"}]))).await;
    let ports = after["spec"]["ports"].as_array().expect("ports");
    assert_eq!(ports.len(), 2, "the port of one moved, that of two stayed: {ports:?}");
    assert!(ports.iter().any(|p| p["port"] == 54) && ports.iter().any(|p| p["name"] == "udp"));
}

#[tokio::test]
async fn ingress_and_annotations_are_one_answer_in_the_status() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let params = PatchParams::apply("purelb-allocator").force();
    let answer = configured(json!({
        "metadata": {"annotations": {"purelb.io/allocated-by": "PureLB"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }));
    let given = services.patch_status("web", &params, &answer).await.expect("applied");
    let version = given.resource_version();
    let given = look(&given);
    assert_eq!(given["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(given["metadata"]["annotations"]["purelb.io/allocated-by"], "PureLB");
    let entries = given["metadata"]["managedFields"].as_array().expect("managers");
    let mine = entries.iter().find(|e| e["manager"] == "purelb-allocator").expect("an entry");
    assert_eq!((&mine["operation"], &mine["subresource"]), (&json!("Apply"), &json!("status")));
    assert_eq!(mine["fieldsV1"]["f:status"], json!({"f:loadBalancer": {"f:ingress": {}}}));

    let again = services.patch_status("web", &params, &answer).await.expect("applied");
    assert_eq!(again.resource_version(), version, "applied again, nothing changes");
    let taken = services.patch_status("web", &params, &configured(json!({}))).await;
    let taken = look(&taken.expect("applied"));
    assert_eq!(taken["status"], json!({"loadBalancer": {}}));
    assert!(taken["metadata"].get("annotations").is_none());
}

#[tokio::test]
async fn applying_may_be_for_one_version_only() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let made = cluster.load_balancer("web").await;
    let body = |version: &str, uid: &str| json!({"metadata": {"resourceVersion": version, "uid": uid, "annotations": {"a": version}}});
    let (version, uid) = (made.resource_version().expect("one"), made.uid().expect("one"));
    apply(&services, "tool", body(&version, &uid)).await.expect("the version is right");
    let refused = code(apply(&services, "tool", body(&version, &uid)).await);
    assert_eq!(refused, (409, "Conflict".to_owned()));
    let missing = configured(body(&version, &uid));
    let refused = services.patch("other", &PatchParams::apply("tool"), &missing).await;
    assert!(matches!(code(refused).0, 400 | 409), "the name or the uid does not fit");
}

#[tokio::test]
async fn a_group_changes_its_source_without_remains_of_the_old_one() {
    let Some(cluster) = Cluster::any().await else { return };
    let groups: Api<ServiceGroup> = cluster.api();
    let body = |source: &str| {
        Patch::Apply(json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup", "metadata": {"name": "group"},
            "spec": {source: {"v4pool": {"pool": "192.0.2.0/24", "subnet": "192.0.2.0/24"}}},
        }))
    };
    let params = PatchParams::apply("tool");
    groups.patch("group", &params, &body("local")).await.expect("created");
    let moved = look(&groups.patch("group", &params, &body("remote")).await.expect("applied"));
    assert!(moved["spec"].get("local").is_none(), "{}", moved["spec"]);
    assert_eq!(moved["spec"]["remote"]["v4pool"]["pool"], "192.0.2.0/24");
}

#[tokio::test]
async fn applying_needs_a_manager_and_known_fields() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let web = service(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}));
    services.create(&PostParams::default(), &web).await.expect("created");
    let path = format!("/api/v1/namespaces/{}/services/web", cluster.namespace);
    let send = async |query: &str, body: Value| {
        let request = http::Request::patch(format!("{path}{query}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(body.to_string().into_bytes())
            .expect("a request");
        code(cluster.client.request::<Value>(request).await).0
    };
    let fine = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
    assert!(matches!(send("", fine).await, 400 | 422), "no manager");
    let unknown = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"unknown": 1},
    });
    assert!(matches!(send("?fieldManager=a", unknown).await, 400 | 500), "an unknown field");
}

#[tokio::test]
async fn applying_creates_nothing_under_a_name_that_is_none() {
    let Some(cluster) = Cluster::any().await else { return };
    let path = format!("/api/v1/namespaces/{}/services/Web?fieldManager=a", cluster.namespace);
    let body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "Web"}, "spec": {"ports": [{"port": 80}]},
    });
    let request = http::Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(body.to_string().into_bytes())
        .expect("a request");
    assert_eq!(code(cluster.client.request::<Value>(request).await).0, 422);

    let (_cluster, api) = Cluster::memory().await;
    let nameless = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"generateName": "a-"}});
    assert_eq!(api.apply("a", nameless).expect_err("refused").code, 422);
}

#[tokio::test]
async fn what_has_no_namespace_is_applied_to_none() {
    let (_cluster, api) = Cluster::memory().await;
    let metadata = json!({"name": "a", "namespace": "default"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
    api.apply("a", node).expect("applied");
    let node = api.get("Node", "", "a").expect("a Node");
    assert!(node["metadata"].get("namespace").is_none(), "{node}");
}
