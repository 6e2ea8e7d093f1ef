//! Nodes.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as k8s;
use purelb_core::config::Node;
use purelb_core::name::{NodeName, Uid};
use purelb_core::store::Object;

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

/// What a Node says of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNet {
    /// Its name.
    pub name: NodeName,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The ranges that its pods are addressed from.
    pub pod_ranges: Vec<IpNet>,
}

impl Object for NodeNet {
    type Key = NodeName;

    fn key(&self) -> NodeName {
        self.name.clone()
    }
}

/// What a Node says of addresses. What is no address, such as a host name, is left out.
pub fn net(object: &k8s::Node) -> NodeNet {
    let addresses = object.status.as_ref().and_then(|status| status.addresses.as_ref());
    let spec = object.spec.as_ref();
    let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref());
    let range = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let mut pod_ranges: Vec<IpNet> = ranges
        .into_iter()
        .flatten()
        .chain(range)
        .filter_map(|text| text.parse::<IpNet>().ok())
        .map(|net| net.trunc())
        .collect();
    pod_ranges.sort();
    pod_ranges.dedup();
    NodeNet {
        name: NodeName::from(object.metadata.name.as_deref().unwrap_or_default()),
        addresses: addresses
            .into_iter()
            .flatten()
            .filter_map(|address| address.address.parse().ok())
            .collect(),
        pod_ranges,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_name_is_no_address_and_a_range_said_twice_is_one() {
        let object = json!({
            "metadata": {"name": "n1"},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "192.0.2.11"},
            ]},
        });
        let net = net(&serde_json::from_value(object).unwrap());
        assert_eq!(net.addresses, ["192.0.2.11".parse::<IpAddr>().unwrap()]);
        let ranges: Vec<String> = net.pod_ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.244.1.0/24", "fd00:1::/64"]);
    }
}
