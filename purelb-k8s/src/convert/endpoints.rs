//! EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1 as k8s;
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::service::Endpoints;
use purelb_core::store::{Change, Object};

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One EndpointSlice: the endpoints of a Service may be spread over several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name of the slice.
    pub key: (String, String),
    /// Whose endpoints they are; none for a slice that belongs to no Service.
    pub service: Option<ServiceKey>,
    /// The nodes with at least one endpoint that takes traffic.
    pub nodes: BTreeSet<NodeName>,
}

impl Object for Slice {
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        self.key.clone()
    }
}

/// A slice as far as a decision needs it. An endpoint takes traffic if it is ready, or serving while
/// it terminates; as the API has it, an unset `ready` means ready.
pub fn slice(object: &k8s::EndpointSlice) -> Slice {
    let metadata = &object.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let service = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let nodes = object.endpoints.iter().filter(|endpoint| takes_traffic(endpoint));
    Slice {
        service: service.map(|name| ServiceKey::new(namespace.as_str(), name.as_str())),
        nodes: nodes.filter_map(|endpoint| endpoint.node_name.as_deref()).map(Into::into).collect(),
        key: (namespace, metadata.name.clone().unwrap_or_default()),
    }
}

fn takes_traffic(endpoint: &k8s::Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    ready || serving
}

/// Joins the slices of each Service.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    services: BTreeMap<ServiceKey, BTreeMap<(String, String), BTreeSet<NodeName>>>,
    owners: BTreeMap<(String, String), ServiceKey>,
}

impl Slices {
    /// Takes in a change of slices; returns the changes of endpoints that it makes.
    pub fn apply(&mut self, change: Change<Slice>) -> Vec<Change<Endpoints>> {
        match change {
            Change::Deleted(key) => {
                self.remove(&key).into_iter().map(|service| self.joined(service)).collect()
            }
            Change::Listed(slices) => {
                *self = Self::default();
                for slice in slices {
                    self.insert(slice);
                }
                let services = self.services.keys();
                vec![Change::Listed(services.map(|key| self.endpoints(key.clone())).collect())]
            }
            Change::Updated(slice) => {
                let before = self.remove(&slice.key);
                let now = self.insert(slice);
                let left = before.filter(|service| now.as_ref() != Some(service));
                left.into_iter().chain(now).map(|service| self.joined(service)).collect()
            }
        }
    }

    fn insert(&mut self, slice: Slice) -> Option<ServiceKey> {
        let service = slice.service?;
        self.services.entry(service.clone()).or_default().insert(slice.key.clone(), slice.nodes);
        self.owners.insert(slice.key, service.clone());
        Some(service)
    }

    fn remove(&mut self, key: &(String, String)) -> Option<ServiceKey> {
        let service = self.owners.remove(key)?;
        if let Some(slices) = self.services.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.services.remove(&service);
            }
        }
        Some(service)
    }

    fn joined(&self, service: ServiceKey) -> Change<Endpoints> {
        if self.services.contains_key(&service) {
            Change::Updated(self.endpoints(service))
        } else {
            Change::Deleted(service)
        }
    }

    fn endpoints(&self, service: ServiceKey) -> Endpoints {
        let slices = self.services.get(&service);
        let nodes =
            slices.into_iter().flat_map(|slices| slices.values()).flatten().cloned().collect();
        Endpoints { service, nodes }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(endpoints: impl serde::Serialize) -> Slice {
        let object = json!({
            "metadata": { "name": "web-1", "namespace": "shop", "labels": { SERVICE_NAME: "web" } },
            "addressType": "IPv4",
            "endpoints": endpoints,
        });
        slice(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn an_endpoint_counts_unless_it_is_said_to_be_neither_ready_nor_serving() {
        for (conditions, counts) in [
            (json!(null), true),
            (json!({}), true),
            (json!({ "ready": true }), true),
            (json!({ "ready": false }), false),
            (json!({ "ready": false, "serving": true, "terminating": true }), true),
            (json!({ "ready": false, "serving": false, "terminating": true }), false),
        ] {
            let slice = parsed(json!([
                { "addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": conditions },
            ]));
            assert_eq!(slice.nodes.contains(&"n1".into()), counts, "{conditions}");
        }
    }

    #[test]
    fn an_endpoint_without_a_node_is_on_none() {
        assert!(parsed(json!([{ "addresses": ["10.0.0.1"] }])).nodes.is_empty());
        assert!(parsed(json!(null)).nodes.is_empty());
    }

    fn plain(name: &str, service: &str, nodes: &[&str]) -> Slice {
        Slice {
            key: ("shop".into(), name.into()),
            service: Some(ServiceKey::new("shop", service)),
            nodes: nodes.iter().map(|node| NodeName::from(*node)).collect(),
        }
    }

    fn joined(service: &str, nodes: &[&str]) -> Endpoints {
        Endpoints {
            service: ServiceKey::new("shop", service),
            nodes: nodes.iter().map(|node| NodeName::from(*node)).collect(),
        }
    }

    #[test]
    fn slices_of_a_service_are_joined_and_leave_one_by_one() {
        let mut slices = Slices::default();
        let listed = slices
            .apply(Change::Listed(vec![plain("a", "web", &["n1"]), plain("b", "web", &["n2"])]));
        assert_eq!(listed, [Change::Listed(vec![joined("web", &["n1", "n2"])])]);
        let updated = slices.apply(Change::Updated(plain("b", "web", &[])));
        assert_eq!(updated, [Change::Updated(joined("web", &["n1"]))]);
        let deleted = slices.apply(Change::Deleted(("shop".into(), "a".into())));
        assert_eq!(deleted, [Change::Updated(joined("web", &[]))]);
        let deleted = slices.apply(Change::Deleted(("shop".into(), "b".into())));
        assert_eq!(deleted, [Change::Deleted(ServiceKey::new("shop", "web"))]);
        assert!(slices.apply(Change::Deleted(("shop".into(), "b".into()))).is_empty());
    }

    #[test]
    fn a_slice_may_move_to_another_service() {
        let mut slices = Slices::default();
        slices.apply(Change::Updated(plain("a", "web", &["n1"])));
        let moved = slices.apply(Change::Updated(plain("a", "api", &["n1"])));
        assert_eq!(
            moved,
            [
                Change::Deleted(ServiceKey::new("shop", "web")),
                Change::Updated(joined("api", &["n1"]))
            ]
        );
    }
}
