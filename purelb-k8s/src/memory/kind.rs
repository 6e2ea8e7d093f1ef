//! The kinds that this API knows: one static table.

use k8s_openapi::api::{coordination, core, discovery, events};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{custom, event};

/// One kind of object, and how this API treats it.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// The kind's own name, `Service`.
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    pub(super) singular: &'static str,
    pub(super) short: &'static [&'static str],
    /// In `kubectl get all`.
    pub(super) in_all: bool,
    pub(super) namespaced: bool,
    pub(super) status: Subresource,
    /// What else there is below an object, with its verbs.
    pub(super) connections: &'static [(&'static str, &'static [&'static str])],
    /// Whether `metadata.generation` counts changes of the spec.
    pub(super) generation: bool,
    /// Where its objects are kept: two kinds may be two views of one shelf.
    pub(super) shelf: usize,
    /// Set on a kind whose objects are kept in another form.
    pub(super) view: Option<View>,
    /// Brings an object into its stored form: unknown fields go, wrong types are errors.
    pub(super) decode: fn(&Self, Value) -> Result<Value, String>,
}

/// What a kind's `/status` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subresource {
    /// There is none; `status` is a field like any other.
    None,
    /// The status and the metadata, as kinds built into a Kubernetes API server do.
    WithMetadata,
    /// The status alone, as custom resources do.
    Alone,
}

/// How a kind shows objects that are kept in another kind's form.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) show: fn(Value) -> Value,
    pub(super) keep: fn(Value) -> Value,
}

impl Kind {
    /// `v1` or `group/version`.
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// How error messages name the resource: `services`, `servicegroups.purelb.io`.
    pub(super) fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether it is one of PureLB's own.
    pub(super) fn is_custom(&self) -> bool {
        self.group == crate::api::GROUP
    }

    /// The kind of an object by its `apiVersion` and `kind`.
    pub(super) fn of(object: &Value) -> Option<&'static Self> {
        let api_version = object["apiVersion"].as_str()?;
        let name = object["kind"].as_str()?;
        KINDS.iter().find(|k| k.name == name && k.api_version() == api_version)
    }

    /// The kind with this name that keeps its objects in its own form.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.name == name && k.view.is_none())
    }

    /// The kind behind a path segment such as `services`.
    pub(super) fn of_path(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }
}

pub(super) const SERVICES: usize = 0;
pub(super) const NODES: usize = 1;
pub(super) const NAMESPACES: usize = 2;
pub(super) const PODS: usize = 3;
pub(super) const EVENTS: usize = 4;
const LEASES: usize = 5;
const ENDPOINT_SLICES: usize = 6;
const SERVICE_GROUPS: usize = 7;
const LB_NODE_AGENTS: usize = 8;
/// How many shelves there are.
pub(super) const SHELVES: usize = 9;

/// What most kinds of the table share.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    name: "",
    plural: "",
    singular: "",
    short: &[],
    in_all: false,
    namespaced: true,
    status: Subresource::None,
    connections: &[],
    generation: false,
    shelf: 0,
    view: None,
    decode: custom::decode,
};

/// Every kind, core group first.
pub(super) static KINDS: [Kind; 10] = [
    Kind {
        name: "Service",
        plural: "services",
        singular: "service",
        short: &["svc"],
        in_all: true,
        status: Subresource::WithMetadata,
        shelf: SERVICES,
        decode: typed::<core::v1::Service>,
        ..PLAIN
    },
    Kind {
        name: "Node",
        plural: "nodes",
        singular: "node",
        short: &["no"],
        namespaced: false,
        status: Subresource::WithMetadata,
        shelf: NODES,
        decode: typed::<core::v1::Node>,
        ..PLAIN
    },
    Kind {
        name: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short: &["ns"],
        namespaced: false,
        status: Subresource::WithMetadata,
        shelf: NAMESPACES,
        decode: typed::<core::v1::Namespace>,
        ..PLAIN
    },
    Kind {
        name: "Pod",
        plural: "pods",
        singular: "pod",
        short: &["po"],
        in_all: true,
        status: Subresource::WithMetadata,
        connections: &[("exec", &["create", "get"]), ("log", &["get"])],
        shelf: PODS,
        decode: typed::<core::v1::Pod>,
        ..PLAIN
    },
    Kind {
        name: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        shelf: EVENTS,
        decode: typed::<core::v1::Event>,
        ..PLAIN
    },
    Kind {
        group: "events.k8s.io",
        name: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        shelf: EVENTS,
        view: Some(View { show: event::show, keep: event::keep }),
        decode: typed::<events::v1::Event>,
        ..PLAIN
    },
    Kind {
        group: "coordination.k8s.io",
        name: "Lease",
        plural: "leases",
        singular: "lease",
        shelf: LEASES,
        decode: typed::<coordination::v1::Lease>,
        ..PLAIN
    },
    Kind {
        group: "discovery.k8s.io",
        name: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        generation: true,
        shelf: ENDPOINT_SLICES,
        decode: typed::<discovery::v1::EndpointSlice>,
        ..PLAIN
    },
    Kind {
        group: "purelb.io",
        version: "v2",
        name: "ServiceGroup",
        plural: "servicegroups",
        singular: "servicegroup",
        short: &["sg", "sgs"],
        status: Subresource::Alone,
        generation: true,
        shelf: SERVICE_GROUPS,
        ..PLAIN
    },
    Kind {
        group: "purelb.io",
        version: "v2",
        name: "LBNodeAgent",
        plural: "lbnodeagents",
        singular: "lbnodeagent",
        short: &["lbna", "lbnas"],
        generation: true,
        shelf: LB_NODE_AGENTS,
        ..PLAIN
    },
];

/// The stored form of a built-in kind is what its Rust type keeps of an object.
fn typed<K: DeserializeOwned + Serialize>(_: &Kind, object: Value) -> Result<Value, String> {
    let object: K = serde_json::from_value(object).map_err(|e| e.to_string())?;
    serde_json::to_value(object).map_err(|e| e.to_string())
}
