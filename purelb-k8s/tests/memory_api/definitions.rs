//! Every rule and default of our definitions, as a server applies them.

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;

fn api(cluster: &Cluster, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("purelb.io", "v2", kind));
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind)
}

/// What a server makes of a spec: the object as it is stored, or why it is refused.
async fn made(cluster: &Cluster, kind: &str, spec: &Value) -> Result<Value, String> {
    let object = json!({
        "apiVersion": "purelb.io/v2", "kind": kind,
        "metadata": {"generateName": "made-"}, "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    match api(cluster, kind).create(&PostParams::default(), &object).await {
        Ok(made) => Ok(made.data["spec"].clone()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(status.message),
        Err(error) => panic!("{spec}: {error}"),
    }
}

fn v4() -> Value {
    json!({"pool": "192.0.2.0/24", "subnet": "192.0.2.0/24"})
}

fn v6() -> Value {
    json!({"pool": "2001:db8::/120", "subnet": "2001:db8::/64"})
}

/// `object` with one more field.
fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

#[tokio::test]
async fn each_rule_for_groups_refuses_what_breaks_it_and_nothing_else() {
    let Some(cluster) = Cluster::any().await else { return };
    let mut table = vec![
        (json!({}), "exactly one of local, remote and external must be given"),
        (
            json!({"local": {"v4pool": v4()}, "remote": {"v4pool": v4()}}),
            "exactly one of local, remote and external must be given",
        ),
        (
            json!({"local": {"v4pool": v4()}, "external": {"provider": "x", "announce": "local"}}),
            "exactly one of local, remote and external must be given",
        ),
        (
            json!({"local": {"v4pool": v4()}, "enforceNamespaces": true}),
            "enforceNamespaces needs namespaces",
        ),
        (
            json!({"local": {"v4pool": v4()}, "enforceNamespaces": true, "namespaces": []}),
            "enforceNamespaces needs namespaces",
        ),
        (
            json!({"local": {"v4pool": v4()}, "namespaceDefault": true}),
            "namespaceDefault needs namespaces",
        ),
        (json!({"local": {"v4pool": v4()}, "namespaces": ["Upper"]}), "namespaces[0]"),
        (json!({"external": {"provider": "x"}}), "spec.external.announce"),
        (json!({"external": {"announce": "local"}}), "spec.external.provider"),
        (json!({"external": {"provider": "x", "announce": "Somewhere"}}), "Unsupported value"),
    ];
    for source in ["local", "remote"] {
        for (pools, message) in [
            (
                json!({"v4pool": v4(), "multiPool": true, "balancePools": true}),
                "multiPool and balancePools are mutually exclusive",
            ),
            (json!({"v4pool": v6()}), "v4pool must hold IPv4 addresses"),
            (json!({"v6pool": v4()}), "v6pool must hold IPv6 addresses"),
            (json!({"v4pools": [v4(), v6()]}), "v4pools must hold IPv4 addresses"),
            (json!({"v6pools": [v6(), v4()]}), "v6pools must hold IPv6 addresses"),
            (json!({"v4pool": {"pool": "192.0.2.0/24"}}), "v4pool.subnet"),
            (json!({"v6pools": [{"subnet": "2001:db8::/64"}]}), "v6pools[0].pool"),
            (json!({"v4pool": with(v4(), "aggregation", json!("/7"))}), "v4pool.aggregation"),
            (json!({"v6pools": [with(v6(), "aggregation", json!("/129"))]}), "aggregation"),
        ] {
            table.push((json!({source: pools}), message));
        }
    }
    for (spec, message) in table {
        let refused = made(&cluster, "ServiceGroup", &spec).await.expect_err("it breaks a rule");
        assert!(refused.contains(message), "{spec}: {refused}");
    }
    for source in ["local", "remote"] {
        for pools in [
            json!({"v4pool": v4(), "multiPool": true}),
            json!({"v6pools": [v6()], "balancePools": true}),
            json!({"v4pool": with(v4(), "aggregation", json!("/8")), "v6pool": v6()}),
            json!({"v6pool": with(v6(), "aggregation", json!("/128"))}),
            json!({"v4pools": [with(v4(), "aggregation", json!("default"))]}),
        ] {
            made(&cluster, "ServiceGroup", &json!({source: pools})).await.expect("it is sound");
        }
    }
    let bound = json!({
        "remote": {"v4pool": v4()}, "namespaces": ["a"], "enforceNamespaces": true,
        "namespaceDefault": true,
    });
    made(&cluster, "ServiceGroup", &bound).await.expect("it is sound");
}

#[tokio::test]
async fn a_group_gets_its_defaults() {
    let Some(cluster) = Cluster::any().await else { return };
    for source in ["local", "remote"] {
        let spec = json!({source: {"v4pool": v4()}});
        let made = made(&cluster, "ServiceGroup", &spec).await.expect("it is sound");
        let mut pools = json!({"v4pool": v4(), "multiPool": false, "balancePools": false});
        if source == "local" {
            pools["skipIPv6DAD"] = json!(false);
        }
        let expected =
            json!({source: pools, "enforceNamespaces": false, "namespaceDefault": false});
        assert_eq!(made, expected);
    }
    let spec = json!({"external": {"provider": "x", "announce": "remote"}});
    let made = made(&cluster, "ServiceGroup", &spec).await.expect("it is sound");
    assert_eq!(made["external"]["socket"], "/var/run/purelb/ipam.sock");
}

#[tokio::test]
async fn an_agents_configuration_gets_its_defaults_and_is_held_to_its_ranges() {
    let Some(cluster) = Cluster::any().await else { return };
    let spec = json!({"local": {"garpConfig": {}}});
    let local = made(&cluster, "LBNodeAgent", &spec).await.expect("it is sound")["local"].clone();
    for (field, default) in [
        ("localInterface", json!("default")),
        ("dummyInterface", json!("kube-lb0")),
        ("multipleDefaultRoutes", json!("VirtualInterface")),
        ("apiOutage", json!("Withdraw")),
        ("onStop", json!("Release")),
        (
            "garpConfig",
            json!({
                "enabled": true, "initialDelay": "100ms", "count": 3, "interval": "500ms",
                "verifyBeforeSend": true,
            }),
        ),
    ] {
        assert_eq!(local[field], default, "{field}");
    }
    for (local, field) in [
        (json!({"multipleDefaultRoutes": "Any"}), "multipleDefaultRoutes"),
        (json!({"apiOutage": "Panic"}), "apiOutage"),
        (json!({"onStop": "Maybe"}), "onStop"),
        (json!({"garpConfig": {"count": 0}}), "garpConfig.count"),
        (json!({"garpConfig": {"count": 11}}), "garpConfig.count"),
    ] {
        let spec = json!({"local": local});
        let refused = made(&cluster, "LBNodeAgent", &spec).await.expect_err("out of range");
        assert!(refused.contains(field), "{spec}: {refused}");
    }
}
