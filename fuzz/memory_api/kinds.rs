//! The kinds that the API knows, where their objects are, and what they are called here.

use serde_json::Value;

use crate::changes::at;

/// A kind of object.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) api_version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) name: &'static str,
    pub(crate) is_namespaced: bool,
}

const fn kind(api_version: &'static str, plural: &'static str, name: &'static str) -> Kind {
    Kind { api_version, plural, name, is_namespaced: true }
}

pub(crate) const KINDS: [Kind; 10] = [
    kind("v1", "services", "Service"),
    kind("coordination.k8s.io/v1", "leases", "Lease"),
    kind("purelb.io/v2", "servicegroups", "ServiceGroup"),
    kind("purelb.io/v2", "lbnodeagents", "LBNodeAgent"),
    kind("events.k8s.io/v1", "events", "Event"),
    kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
    kind("v1", "pods", "Pod"),
    Kind { is_namespaced: false, ..kind("v1", "nodes", "Node") },
    Kind { is_namespaced: false, ..kind("v1", "namespaces", "Namespace") },
    kind("v1", "events", "Event"),
];

pub(crate) const ACCEPTS: [&str; 8] = [
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
    "",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "text/html, application/json;as=Table;v=v9, */*",
];

/// What is called by an empty name is to be given one.
const NAMES: [&str; 6] = ["a", "b", "c", "", "a.b", "B"];

const NAMESPACES: [&str; 6] = ["default", "default", "kube-system", "a", "default", "missing"];

pub(crate) fn name_of(number: u8) -> &'static str {
    NAMES[at(number, NAMES.len())]
}

pub(crate) fn namespace_of(number: u8) -> &'static str {
    NAMESPACES[at(number, NAMESPACES.len())]
}

/// Where the objects of an object's kind are, in its namespace or in all.
pub(crate) fn collection_of(object: &Value, is_everywhere: bool) -> String {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = KINDS.iter().find(|kind| object["kind"] == kind.name);
    let kind = kind.unwrap_or_else(|| panic!("a known kind: {object}"));
    let group = if api_version.contains('/') { "apis" } else { "api" };
    match (kind.is_namespaced && !is_everywhere, &object["metadata"]["namespace"]) {
        (true, Value::String(namespace)) => {
            format!("/{group}/{api_version}/namespaces/{namespace}/{}", kind.plural)
        }
        _ => format!("/{group}/{api_version}/{}", kind.plural),
    }
}

/// Where an object is.
pub(crate) fn path_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    format!("{}/{name}", collection_of(object, false))
}
