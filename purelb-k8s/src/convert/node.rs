//! Nodes.

use k8s_openapi::api::core::v1 as k8s;
use purelb_core::config::Node;
use purelb_core::name::{NodeName, Uid};

/// The taint of a node that somebody has declared dead.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A Node as the core sees it.
pub fn node(object: &k8s::Node) -> Node {
    let metadata = &object.metadata;
    let taints = object.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    Node {
        name: NodeName::from(metadata.name.as_deref().unwrap_or_default()),
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        labels: metadata.labels.clone().unwrap_or_default(),
        is_out_of_service: taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE),
    }
}
