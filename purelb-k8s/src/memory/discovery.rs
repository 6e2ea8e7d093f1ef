//! What the API says about itself: version, groups, kinds, and as much OpenAPI as `kubectl` needs
//! to know that the server validates what it is sent.

use serde_json::{Map, Value, json};

use super::kind::{KINDS, Kind, Subresource};

/// The Kubernetes version whose behaviour is followed.
const MINOR: &str = "33";

/// `/version`
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+purelb-memory"),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux",
    })
}

/// `/api`
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// The groups with their versions, core group first.
fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = KINDS.iter().map(|kind| (kind.group, kind.version)).collect();
    groups.dedup();
    groups
}

fn kinds_of(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.group == group && kind.version == version)
}

/// `/apis`
pub(super) fn group_list() -> Value {
    let named = groups().into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = named.filter_map(|(group, _)| self::group(group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`
pub(super) fn group(name: &str) -> Option<Value> {
    let (group, version) = groups().into_iter().find(|(group, _)| *group == name)?;
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    Some(json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": group,
        "versions": [version],
        "preferredVersion": version,
    }))
}

const VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

fn categories(kind: &Kind) -> &'static [&'static str] {
    if kind.in_all { &["all"] } else { &[] }
}

/// `/api/v1` and `/apis/{group}/{version}`
pub(super) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        resources.push(json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": VERBS,
            "shortNames": kind.short,
            "categories": categories(kind),
        }));
        if kind.status != Subresource::None {
            resources.push(json!({
                "name": format!("{}/status", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.name,
                "verbs": STATUS_VERBS,
            }));
        }
        for (name, verbs) in kind.connections {
            resources.push(json!({
                "name": format!("{}/{name}", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.name,
                "verbs": verbs,
            }));
        }
    }
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

/// The media type of aggregated discovery, as `kubectl` asks for it.
pub(super) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api` or `/apis` with everything below them in one answer.
pub(super) fn aggregated(core: bool) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, version)| {
            let resources: Vec<Value> = kinds_of(group, version).map(aggregated_resource).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({
                "metadata": metadata,
                "versions": [
                    {"version": version, "resources": resources, "freshness": "Current"},
                ],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let response = json!({"group": kind.group, "version": kind.version, "kind": kind.name});
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": VERBS,
        "shortNames": kind.short,
        "categories": categories(kind),
    });
    let status = (kind.status != Subresource::None).then_some(("status", &STATUS_VERBS[..]));
    let below: Vec<Value> = status
        .into_iter()
        .chain(kind.connections.iter().copied())
        .map(|(name, verbs)| json!({"subresource": name, "responseKind": response, "verbs": verbs}))
        .collect();
    if !below.is_empty() {
        resource["subresources"] = json!(below);
    }
    resource
}

/// The media type of `/openapi/v2`, which is an empty document here. `kubectl` asks for it to check the
/// objects of a List, and leaves to the server what it has no schema for.
pub(super) const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v3`
pub(super) fn openapi_index() -> Value {
    let mut paths = Map::new();
    for (group, version) in groups() {
        let path = base(group, version);
        paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}));
    }
    json!({"paths": paths})
}

fn base(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/{group}/{version}`: which parameters a PATCH of each
/// kind takes, and no schemas.
pub(super) fn openapi(group: &str, version: &str) -> Option<Value> {
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
        .into();
    let mut paths = Map::new();
    for kind in kinds_of(group, version) {
        let scope = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("/{}/{scope}{}/{{name}}", base(group, version), kind.plural);
        let operation = json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind":
                {"group": group, "version": version, "kind": kind.name},
        });
        paths.insert(path, json!({"patch": operation}));
    }
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "PureLB's in-memory Kubernetes API", "version": format!("v1.{MINOR}")},
            "paths": paths,
            "components": {"schemas": {}},
        })
    })
}
