//! What the Go PureLB 0.17 wrote into a real cluster is read as it was meant.
//!
//! `fixtures/*.yaml` are objects as that cluster's API server gave them out.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::{coordination::v1 as coordination, core::v1 as core};
use kube::api::DynamicObject;
use purelb_core::config::{Local, LocalInterface, LocalSpec, Selector};
use purelb_core::group::{Aggregation, Announce, Group};
use purelb_core::host::Family;
use purelb_core::lease::Version;
use purelb_core::service::{FamilyPolicy, Port, Protocol, Service, TrafficPolicy};
use purelb_k8s::convert;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn items<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut list: Value = serde_saphyr::from_str(&text).unwrap();
    serde_json::from_value(list["items"].take()).unwrap()
}

fn services() -> BTreeMap<String, Service> {
    let all: Vec<core::Service> = items("services.yaml");
    let services = all.iter().map(convert::service::service);
    services.map(|service| (service.key.name.to_string(), service)).collect()
}

fn texts(service: &Service) -> Vec<String> {
    service.ingress.iter().map(ToString::to_string).collect()
}

#[test]
fn services_keep_their_addresses_and_say_whose_they_are() {
    let services = services();
    let branded: Vec<_> = services
        .values()
        .filter(|service| service.is_branded())
        .map(|service| service.key.name.as_str())
        .collect();
    assert_eq!(
        branded,
        [
            "affinity",
            "dual",
            "etp-local",
            "legacy",
            "local-etp",
            "plain",
            "remote",
            "shared-a",
            "shared-b",
            "wanted",
        ]
    );
    for (name, service) in &services {
        assert_eq!(service.is_load_balancer, name != "kubernetes", "{name}");
        assert_eq!(service.is_ours(true), name != "kubernetes", "{name}");
        assert!(!service.is_ours(false), "{name} has no class");
        assert!(service.has_cluster_ip && !service.is_deleting, "{name}");
        assert!(!service.uid.as_str().is_empty() && !service.version.as_str().is_empty(), "{name}");
    }
    assert_eq!(texts(&services["plain"]), ["192.0.2.100"]);
    assert_eq!(texts(&services["dual"]), ["192.0.2.101", "2001:db8:1::100"]);
    assert_eq!(texts(&services["remote"]), ["198.51.100.10", "2001:db8:2::"]);
    assert!(services["refused"].ingress.is_empty());
}

#[test]
fn what_services_ask_for_is_understood() {
    let services = services();
    let dual = &services["dual"];
    assert_eq!(dual.families, [Family::V4, Family::V6]);
    assert_eq!(dual.family_policy, FamilyPolicy::RequireDualStack);
    assert_eq!(services["remote"].family_policy, FamilyPolicy::PreferDualStack);
    assert_eq!(services["plain"].family_policy, FamilyPolicy::SingleStack);
    assert_eq!(dual.ports, [Port { protocol: Protocol::Tcp, number: 80 }].into());
    assert_eq!(services["etp-local"].traffic_policy, TrafficPolicy::Local);
    assert_eq!(services["local-etp"].traffic_policy, TrafficPolicy::Cluster);
    assert_eq!(services["legacy"].load_balancer_ip.as_deref(), Some("192.0.2.119"));
    assert_eq!(services["refused"].annotations.addresses.as_deref(), Some("203.0.113.9"));
    assert_eq!(services["shared-a"].annotations.sharing, Some("k1".into()));
    assert_eq!(services["remote"].annotations.service_group, Some("routed".into()));
    assert!(services["affinity"].annotations.endpoint_affinity);
    assert_eq!(dual.annotations.announcing_v6.as_deref(), Some("kn1,eth0,2001:db8:1::100"));
}

fn resources(kind: &str) -> Vec<DynamicObject> {
    let all: Vec<DynamicObject> = items("purelb-resources.yaml");
    let of_kind =
        |object: &DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == kind);
    all.into_iter().filter(of_kind).collect()
}

#[test]
fn groups_are_groups_here_too() {
    let groups: Vec<_> =
        resources("ServiceGroup").iter().map(convert::service_group::service_group).collect();
    let parsed: Vec<_> = groups.iter().map(|group| Group::parse(group).unwrap()).collect();
    assert_eq!(parsed[0].announce, Announce::Local);
    assert_eq!(parsed[1].announce, Announce::Remote);
    assert_eq!(parsed[1].pools()[0].aggregation, Aggregation::Subnet);
    assert_eq!(parsed[1].pools()[1].aggregation, Aggregation::Prefix(128));
    let status = groups[0].status.as_ref().unwrap();
    assert_eq!((status.allocated_v4, status.available_v6), (7, Some(255)));
    assert_eq!(status.addresses.len(), 2);
    let again = serde_json::to_value(convert::service_group::status(status)).unwrap();
    assert_eq!(again, resources("ServiceGroup")[0].data["status"]);
}

#[test]
fn the_agents_configuration_is_the_default_one() {
    let [object] = &resources("LBNodeAgent")[..] else { panic!() };
    let agent = convert::lb_node_agent::lb_node_agent(object);
    assert_eq!(agent.name.1, "default");
    assert_eq!(agent.selector, Selector::Labels(vec![]));
    assert_eq!(agent.local, Local::Given(Box::default()));
    assert_eq!(LocalSpec::default().local_interface, LocalInterface::DefaultRoute);
}

#[test]
fn leases_of_go_agents_are_leases_without_what_they_do_not_know() {
    let all: Vec<coordination::Lease> = items("leases.yaml");
    let leases: Vec<_> = all.iter().filter_map(convert::lease::lease).collect();
    let [first, second] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!((first.node.as_str(), second.node.as_str()), ("kn1", "kn2"));
    assert_eq!((first.version, second.version), (Version(351), Version(350)));
    assert_eq!(first.uid.as_str(), "a8e7087b-850e-440a-ba07-a7925077d719");
    let content = &first.content;
    assert_eq!(content.duration, Duration::from_secs(5));
    assert_eq!(content.instance, "uid-kn1");
    let subnets: Vec<_> = content.subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["192.0.2.0/24", "2001:db8:1::/64"]);
    assert_eq!((content.join, content.seen, &content.boot_id), (None, None, &None));
    assert!(!content.keep && content.lists.is_empty());
    assert_eq!(items::<coordination::Lease>("leases-after-stop-of-kn1.yaml").len(), 1);
}
