//! The definitions in `deploy/crds` are what the types say. `UPDATE_FIXTURES=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::path::Path;

use purelb_k8s::api;
use serde_json::Value;

#[test]
fn the_files_in_deploy_are_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for (name, definition) in api::definitions() {
        let path = folder.join(name);
        let wanted = api::to_yaml(&definition).unwrap();
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{} is out of date: run with UPDATE_FIXTURES=1", path.display());
    }
}

/// The schema of one field of a kind's spec, by path.
fn field(kind: usize, path: &[&str]) -> Value {
    let (_, definition) = &api::definitions()[kind];
    let mut schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
    schema = schema["openAPIV3Schema"]["properties"]["spec"].take();
    for name in path {
        schema = match *name {
            "[]" => schema["items"].take(),
            name => schema["properties"][name].take(),
        };
    }
    schema
}

const AGENT: usize = 0;
const GROUP: usize = 1;

#[test]
fn defaults_are_those_of_the_go_definitions() {
    for (kind, path, default) in [
        (GROUP, &["enforceNamespaces"][..], Value::from(false)),
        (GROUP, &["namespaceDefault"], Value::from(false)),
        (GROUP, &["local", "skipIPv6DAD"], Value::from(false)),
        (GROUP, &["local", "multiPool"], Value::from(false)),
        (GROUP, &["remote", "balancePools"], Value::from(false)),
        (GROUP, &["external", "socket"], Value::from("/var/run/purelb/ipam.sock")),
        (AGENT, &["local", "localInterface"], Value::from("default")),
        (AGENT, &["local", "dummyInterface"], Value::from("kube-lb0")),
        (AGENT, &["local", "garpConfig", "enabled"], Value::from(true)),
        (AGENT, &["local", "garpConfig", "initialDelay"], Value::from("100ms")),
        (AGENT, &["local", "garpConfig", "count"], Value::from(3)),
        (AGENT, &["local", "garpConfig", "interval"], Value::from("500ms")),
        (AGENT, &["local", "garpConfig", "verifyBeforeSend"], Value::from(true)),
        (AGENT, &["local", "multipleDefaultRoutes"], Value::from("VirtualInterface")),
        (AGENT, &["local", "apiOutage"], Value::from("Withdraw")),
        (AGENT, &["local", "onStop"], Value::from("Release")),
    ] {
        assert_eq!(field(kind, path)["default"], default, "{path:?}");
    }
}

#[test]
fn what_must_be_there_must_be_there() {
    for (path, required) in [
        (&["external"][..], &["announce", "provider"][..]),
        (&["local", "v4pool"], &["pool", "subnet"]),
        (&["remote", "v6pools", "[]"], &["pool", "subnet"]),
    ] {
        let mut found: Vec<String> =
            serde_json::from_value(field(GROUP, path)["required"].take()).unwrap();
        found.sort();
        assert_eq!(found, required, "{path:?}");
    }
    for path in [&["local"][..], &["remote"], &[]] {
        assert_eq!(field(GROUP, path)["required"], Value::Null, "{path:?}");
        assert_eq!(field(AGENT, path)["required"], Value::Null, "{path:?}");
    }
}

#[test]
fn no_number_has_a_format_that_api_servers_warn_about() {
    for (name, definition) in api::definitions() {
        let text = api::to_yaml(&definition).unwrap();
        assert!(!text.contains("uint"), "{name}");
        assert!(!text.contains("format: double"), "{name}");
    }
}

#[test]
fn the_groups_status_is_a_subresource_and_the_agents_is_not() {
    let [(_, agents), (_, groups)] = api::definitions();
    assert!(agents.spec.versions[0].subresources.is_none());
    assert!(groups.spec.versions[0].subresources.as_ref().unwrap().status.is_some());
    assert_eq!(agents.spec.names.short_names.unwrap(), ["lbna", "lbnas"]);
    assert_eq!(groups.spec.names.short_names.unwrap(), ["sg", "sgs"]);
    let columns: Vec<_> = groups.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| (column.name.as_str(), column.priority.unwrap_or(0)))
        .collect();
    assert_eq!(
        columns,
        [
            ("Announce", 0),
            ("IPAM", 0),
            ("Allocated-V4", 0),
            ("Allocated-V6", 0),
            ("Addresses", 1),
            ("Available-V4", 1),
            ("Available-V6", 1),
            ("Namespaces", 1),
            ("Enforced", 1),
            ("Bound", 1),
            ("Age", 0)
        ]
    );
}
