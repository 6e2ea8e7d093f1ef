//! Everything that PureLB rests on in a cluster, listed once: for commands that look and go.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, Resource};
use purelb_core::config::{LbNodeAgent, Node};
use purelb_core::group::ServiceGroup;
use purelb_core::lease::Lease;
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::service::{Endpoints, Service};
use purelb_core::store::{Change, Object};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api;
use crate::convert::endpoints::{Slice, Slices};
use crate::convert::{endpoints, lb_node_agent, lease, node, service, service_group};
use crate::error::chain;

/// The label by which PureLB's pods tell which program they run.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// The objects of one moment, or nearly: each kind is listed on its own.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Services of type LoadBalancer in all namespaces.
    pub services: Vec<Service>,
    /// Ready endpoints, by Service.
    pub endpoints: Vec<Endpoints>,
    /// ServiceGroups of the install namespace.
    pub groups: Vec<ServiceGroup>,
    /// LBNodeAgents of the install namespace.
    pub agents: Vec<LbNodeAgent>,
    /// ServiceGroups and LBNodeAgents of other namespaces, which nobody heeds; `None` if those may not be
    /// seen.
    pub elsewhere: Option<Vec<Elsewhere>>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// The agents' leases.
    pub leases: Vec<LeaseSight>,
    /// PureLB's own pods.
    pub pods: Vec<Pod>,
    /// A pod of the install namespace has the Go PureLB's BGP daemon beside its agent.
    pub has_bgp_sidecar: bool,
    /// Services without a class count as ours, whatever the allocator's pod says.
    pub default_announcer: bool,
    /// When it was made, by this machine's clock.
    pub taken: Timestamp,
}

/// A lease, with what can be told of its age by comparing clocks: good enough to look at, and nothing
/// that any agent relies on.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSight {
    /// What it says.
    pub lease: Lease,
    /// When it was last renewed, by the clock of the node that did.
    pub renewed: Option<Timestamp>,
}

impl LeaseSight {
    /// Seconds from `now` until it runs out, negative once it has.
    pub fn seconds_left(&self, now: Timestamp) -> Option<f64> {
        let age = now.duration_since(self.renewed?).as_secs_f64();
        Some(self.lease.content.duration.as_secs_f64() - age)
    }

    /// Whether it has not run out, if both clocks are right.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.seconds_left(now).is_some_and(|left| left > 0.0)
    }
}

/// An object of ours in a namespace where it counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    /// `ServiceGroup` or `LBNodeAgent`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A pod of PureLB's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Which program it runs: `allocator` or `lbnodeagent`.
    pub component: String,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// Whether its containers are ready.
    pub is_ready: bool,
    /// The image of its first container.
    pub image: String,
    /// The name of its first container.
    pub container: String,
    /// It is told to serve Services without a class.
    pub is_default_announcer: bool,
}

/// Why a snapshot could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot list {kind}: {text}")]
pub struct SnapshotError {
    /// What, in the API's plural.
    pub kind: &'static str,
    /// Why not.
    pub text: String,
}

impl Snapshot {
    /// Lists everything.
    ///
    /// # Errors
    ///
    /// If a kind cannot be listed: missing rights, missing resource definitions, no connection.
    pub async fn take(client: &Client, namespace: &str) -> Result<Self, SnapshotError> {
        let load_balancers = ListParams::default().fields("spec.type=LoadBalancer");
        let all = ListParams::default();
        let (services, slices, nodes, leases, pods, custom) = futures::try_join!(
            list(Api::<core::Service>::all(client.clone()), "services", &load_balancers),
            list(Api::<discovery::EndpointSlice>::all(client.clone()), "endpointslices", &all),
            list(Api::<core::Node>::all(client.clone()), "nodes", &all),
            list(Api::<coordination::Lease>::namespaced(client.clone(), namespace), "leases", &all),
            list(Api::<core::Pod>::namespaced(client.clone(), namespace), "pods", &all),
            try_join_all(CUSTOM.map(|(plural, kind)| list_custom(client, namespace, plural, kind))),
        )?;
        let [groups, agents] = <[Vec<DynamicObject>; 2]>::try_from(custom).unwrap_or_default();
        Ok(Self {
            services: services
                .iter()
                .map(service::service)
                .filter(|s| s.is_load_balancer)
                .collect(),
            endpoints: joined(slices.iter().map(endpoints::slice).collect()),
            groups: groups.iter().map(service_group::service_group).collect(),
            agents: agents.iter().map(lb_node_agent::lb_node_agent).collect(),
            elsewhere: elsewhere(client, namespace).await,
            nodes: nodes.iter().map(node::node).collect(),
            leases: leases.iter().filter_map(sight).collect(),
            pods: pods.iter().filter_map(pod).collect(),
            has_bgp_sidecar: pods.iter().any(has_bgp_sidecar),
            default_announcer: false,
            taken: Timestamp::now(),
        })
    }

    /// One of nothing, made at this moment.
    pub fn at(taken: Timestamp) -> Self {
        Self { taken, ..Self::default() }
    }

    /// Takes in objects as a manifest has them, each in the place of the one with its kind and name.
    ///
    /// # Errors
    ///
    /// If one is of a kind that nothing here rests on, or is not written as its kind is.
    pub fn overlay(&mut self, objects: Vec<Value>) -> Result<(), OverlayError> {
        let mut slices = Vec::new();
        for object in objects {
            let word = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let (version, kind) = (word("apiVersion"), word("kind"));
            match (version.as_str(), kind.as_str()) {
                ("v1", "Service") => place(&mut self.services, service::service(&read(object)?)),
                ("v1", "Node") => place(&mut self.nodes, node::node(&read(object)?)),
                ("v1", "Pod") => {
                    if let Some(pod) = pod(&read(object)?) {
                        self.pods.retain(|other| other.name != pod.name);
                        self.pods.push(pod);
                    }
                }
                ("coordination.k8s.io/v1", "Lease") => {
                    if let Some(sight) = sight(&read(object)?) {
                        self.leases.retain(|other| other.lease.node != sight.lease.node);
                        self.leases.push(sight);
                    }
                }
                ("discovery.k8s.io/v1", "EndpointSlice") => {
                    slices.push(endpoints::slice(&read(object)?));
                }
                ("purelb.io/v2", "ServiceGroup") => {
                    place(&mut self.groups, service_group::service_group(&read(object)?));
                }
                ("purelb.io/v2", "LBNodeAgent") => {
                    place(&mut self.agents, lb_node_agent::lb_node_agent(&read(object)?));
                }
                _ => return Err(OverlayError::Unknown { version, kind }),
            }
        }
        if !slices.is_empty() {
            self.endpoints = joined(slices);
        }
        Ok(())
    }

    /// The nodes with a ready endpoint of a Service.
    pub fn endpoint_nodes(&self, service: &ServiceKey) -> BTreeSet<NodeName> {
        let ends = self.endpoints.iter().find(|ends| ends.service == *service);
        ends.map(|ends| ends.nodes.clone()).unwrap_or_default()
    }

    /// The leases that have not run out.
    pub fn live_leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().filter(|sight| sight.is_live(self.taken)).map(|sight| &sight.lease)
    }

    /// Whether the allocator serves Services without a class, as its pod is configured.
    pub fn is_default_announcer(&self) -> bool {
        self.default_announcer || self.pods.iter().any(|pod| pod.is_default_announcer)
    }

    /// The pod of a node's agent.
    pub fn agent_of(&self, node: &NodeName) -> Option<&Pod> {
        self.pods
            .iter()
            .find(|pod| pod.component == "lbnodeagent" && pod.node.as_ref() == Some(node))
    }
}

/// Why objects of a manifest cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// One is not written as its kind is.
    #[error("{object} cannot be read: {text}")]
    Broken {
        /// Its kind and name.
        object: String,
        /// What is wrong.
        text: String,
    },
    /// One is of a kind that nothing here rests on.
    #[error("apiVersion {version:?}, kind {kind:?} is nothing that PureLB goes by")]
    Unknown {
        /// Its `apiVersion`.
        version: String,
        /// Its kind.
        kind: String,
    },
}

fn read<T: DeserializeOwned>(object: Value) -> Result<T, OverlayError> {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let name = format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"]));
    let read = serde_json::from_value(object);
    read.map_err(|error| OverlayError::Broken { object: name, text: error.to_string() })
}

/// Puts an object in the place of the one with its key.
fn place<T: Object>(objects: &mut Vec<T>, object: T) {
    let key = object.key();
    objects.retain(|other| other.key() != key);
    objects.push(object);
}

fn joined(slices: Vec<Slice>) -> Vec<Endpoints> {
    let changes = Slices::default().apply(Change::Listed(slices)).into_iter();
    changes
        .flat_map(|change| match change {
            Change::Listed(all) => all,
            Change::Updated(one) => vec![one],
            Change::Deleted(_) => Vec::new(),
        })
        .collect()
}

fn sight(object: &coordination::Lease) -> Option<LeaseSight> {
    let renewed = object.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    Some(LeaseSight { lease: lease::lease(object)?, renewed: renewed.map(|time| time.0) })
}

async fn list<K>(
    api: Api<K>,
    kind: &'static str,
    params: &ListParams,
) -> Result<Vec<K>, SnapshotError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + Resource,
{
    let listed = api.list(params).await;
    listed.map(|list| list.items).map_err(|error| SnapshotError { kind, text: chain(&error) })
}

/// Our resources: plural and kind.
const CUSTOM: [(&str, &str); 2] =
    [("servicegroups", "ServiceGroup"), ("lbnodeagents", "LBNodeAgent")];

fn resource(plural: &str, kind: &str) -> ApiResource {
    ApiResource {
        group: api::GROUP.to_owned(),
        version: api::VERSION.to_owned(),
        api_version: format!("{}/{}", api::GROUP, api::VERSION),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// What of ours is in other namespaces; nothing is known of that without the right to look there.
async fn elsewhere(client: &Client, namespace: &str) -> Option<Vec<Elsewhere>> {
    let mut found = Vec::new();
    for (plural, kind) in CUSTOM {
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource(plural, kind));
        for object in api.list(&ListParams::default()).await.ok()?.items {
            let other = object.metadata.namespace.unwrap_or_default();
            if other != namespace {
                let name = object.metadata.name.unwrap_or_default();
                found.push(Elsewhere { kind, namespace: other, name });
            }
        }
    }
    found.sort();
    Some(found)
}

async fn list_custom(
    client: &Client,
    namespace: &str,
    plural: &'static str,
    kind: &str,
) -> Result<Vec<DynamicObject>, SnapshotError> {
    let resource = resource(plural, kind);
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let listed = api.list(&ListParams::default()).await;
    listed
        .map(|list| list.items)
        .map_err(|error| SnapshotError { kind: plural, text: chain(&error) })
}

/// Whether a container of the Go PureLB's BGP daemon is in the pod.
fn has_bgp_sidecar(pod: &core::Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.any(|container| container.name == "k8gobgp")
}

fn pod(object: &core::Pod) -> Option<Pod> {
    let labels = object.metadata.labels.as_ref()?;
    if labels.get("app.kubernetes.io/name").is_none_or(|name| name != "purelb") {
        return None;
    }
    let spec = object.spec.as_ref()?;
    let container = spec.containers.first()?;
    let statuses = object.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    Some(Pod {
        name: object.metadata.name.clone()?,
        component: labels.get(COMPONENT_LABEL)?.clone(),
        node: spec.node_name.as_deref().map(NodeName::from),
        is_ready: statuses.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one.ready)),
        image: container.image.clone().unwrap_or_default(),
        container: container.name.clone(),
        is_default_announcer: container.env.iter().flatten().any(|variable| {
            variable.name == "DEFAULT_ANNOUNCER" && variable.value.as_deref() == Some("PureLB")
        }),
    })
}
