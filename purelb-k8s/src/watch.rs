//! Watches of the API as changes for the core.
//!
//! Each function returns a stream that lists, watches, and begins again wherever that breaks off, for
//! ever; while it does, the last state stands. What is not needed any more is stopped by dropping the
//! stream. Nothing runs but what the stream's reader polls.

use futures::StreamExt;
use futures::stream::BoxStream;
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1 as core, discovery::v1 as discovery, networking::v1 as networking,
};
use kube::Client;
use kube::api::{DynamicObject, ListParams};
use purelb_core::config::{LbNodeAgent, Node};
use purelb_core::group::ServiceGroup;
use purelb_core::name::{GroupName, NodeName, ServiceKey};
use purelb_core::service::{Endpoints, Service};
use purelb_core::store::{Change, Object};
use serde::de::DeserializeOwned;

use crate::api;
use crate::convert::endpoints::Slices;
use crate::convert::{endpoints, lb_node_agent, node, service, service_group};
use crate::error::chain;
use crate::list_watch::{Metadata, Pace, Source, Step, list_watch};

/// Services of type LoadBalancer, in all namespaces; where the server cannot select by type, all
/// Services.
pub fn services(client: Client) -> BoxStream<'static, Change<Service>> {
    let source = Source {
        fields: Some("spec.type=LoadBalancer".into()),
        ..source("services", "/api/v1/services")
    };
    changes(
        client,
        source,
        |object: core::Service| service::service(&object),
        |metadata| ServiceKey::new(metadata.namespace, metadata.name),
    )
}

/// ServiceGroups of the install namespace. One that cannot be read is among them, as malformed.
pub fn service_groups(client: Client, namespace: &str) -> BoxStream<'static, Change<ServiceGroup>> {
    let source = source("servicegroups", &custom(namespace, "servicegroups"));
    changes(
        client,
        source,
        |object: DynamicObject| service_group::service_group(&object),
        |metadata| GroupName::from(metadata.name),
    )
}

/// LBNodeAgents of the install namespace. One that cannot be read is among them, as invalid.
pub fn lb_node_agents(client: Client, namespace: &str) -> BoxStream<'static, Change<LbNodeAgent>> {
    let source = source("lbnodeagents", &custom(namespace, "lbnodeagents"));
    changes(
        client,
        source,
        |object: DynamicObject| lb_node_agent::lb_node_agent(&object),
        |metadata| (metadata.namespace.into(), metadata.name),
    )
}

/// One Node.
pub fn node(client: Client, name: &NodeName) -> BoxStream<'static, Change<Node>> {
    let source =
        Source { fields: Some(format!("metadata.name={name}")), ..source("node", "/api/v1/nodes") };
    changes(
        client,
        source,
        |object: core::Node| node::node(&object),
        |metadata| NodeName::from(metadata.name),
    )
}

/// Every Node.
pub fn nodes(client: Client) -> BoxStream<'static, Change<Node>> {
    changes(
        client,
        source("nodes", "/api/v1/nodes"),
        |object: core::Node| node::node(&object),
        |metadata| NodeName::from(metadata.name),
    )
}

/// What all Nodes say of addresses.
pub fn node_nets(client: Client) -> BoxStream<'static, Change<node::NodeNet>> {
    changes(
        client,
        source("nodes", "/api/v1/nodes"),
        |object: core::Node| node::net(&object),
        |metadata| NodeName::from(metadata.name),
    )
}

/// The ranges that cluster addresses of Services are from, as the API tells them now; none where it
/// does not (before Kubernetes 1.33, or without the right to ask).
pub async fn service_ranges(client: Client) -> Vec<IpNet> {
    let api = kube::Api::<networking::ServiceCIDR>::all(client);
    let listed = match api.list(&ListParams::default()).await {
        Ok(listed) => listed.items,
        Err(error) => {
            tracing::debug!(error = chain(&error), "the API does not tell the range of Services");
            Vec::new()
        }
    };
    let texts = listed.into_iter().filter_map(|object| object.spec).flat_map(|spec| spec.cidrs);
    texts.flatten().filter_map(|text| text.parse().ok()).collect()
}

/// The nodes with endpoints, of every Service in all namespaces. That is much in a large cluster: to
/// be polled only while some Service needs it.
pub fn endpoints(client: Client) -> BoxStream<'static, Change<Endpoints>> {
    let source = source("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices");
    let mut slices = Slices::default();
    changes(
        client,
        source,
        |object: discovery::EndpointSlice| endpoints::slice(&object),
        |metadata| (metadata.namespace, metadata.name),
    )
    .flat_map(move |change| futures::stream::iter(slices.apply(change)))
    .boxed()
}

fn source(name: &'static str, path: &str) -> Source {
    Source { name, path: path.to_owned(), labels: None, fields: None, pace: Pace::default() }
}

fn custom(namespace: &str, plural: &str) -> String {
    format!("/apis/{}/{}/namespaces/{namespace}/{plural}", api::GROUP, api::VERSION)
}

fn changes<O, T, F, K>(
    client: Client,
    source: Source,
    convert: F,
    key: K,
) -> BoxStream<'static, Change<T>>
where
    O: DeserializeOwned + 'static,
    T: Object<Key: Send> + Send + 'static,
    F: Fn(O) -> T + Send + Sync + 'static,
    K: Fn(Metadata) -> T::Key + Send + 'static,
{
    list_watch(client, source, move |object| Some(convert(object)))
        .filter_map(move |step| {
            std::future::ready(match step {
                Step::Bookmark(_) => None,
                Step::Deleted(metadata) => Some(Change::Deleted(key(metadata))),
                Step::Listed { objects, version: _ } => Some(Change::Listed(objects)),
                Step::Updated(object) => Some(Change::Updated(object)),
            })
        })
        .boxed()
}
