//! Where an address belongs in the cluster, by the leases: the agents' own election, told from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use purelb_core::allocator::Catalog;
use purelb_core::config::select;
use purelb_core::election::{electorate, ranking};
use purelb_core::group::Announce;
use purelb_core::lease::Lease;
use purelb_core::name::NodeName;
use purelb_core::node::{Exclusion, NotConfigured, Unserved, Withheld};
use purelb_core::service::Service;
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use crate::command::output::list;

/// Where an address belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "where")]
pub enum Place {
    /// On the local interface of the first of these nodes.
    Elected {
        /// The candidates in the order in which they win.
        candidates: Vec<NodeName>,
        /// They are candidates because their leases list the address: they have ready endpoints.
        by_listing: bool,
    },
    /// On the virtual interface of every node.
    EveryNode,
    /// No node can have it.
    Nobody {
        /// Why not.
        why: Unserved,
    },
}

impl Place {
    /// Finds where `ip`, which these Services have, belongs while these leases live.
    pub fn of(ip: IpAddr, services: &[&Service], catalog: &Catalog, live: &[&Lease]) -> Self {
        let is_served = |lease: &&Lease| lease.content.subnets.iter().any(|net| net.contains(&ip));
        if !live.iter().any(is_served) {
            return if is_remote(ip, services, catalog) {
                Self::EveryNode
            } else {
                Self::Nobody { why: Unserved::NoSubnet }
            };
        }
        let narrowed = services.iter().all(|service| service.is_narrowed());
        let contents = live.iter().map(|lease| (&lease.node, &lease.content));
        let (candidates, by_listing) = electorate(ip, narrowed, contents);
        if candidates.is_empty() {
            return Self::Nobody { why: Unserved::NoEndpoint };
        }
        let candidates = ranking(ip, candidates).into_iter().cloned().collect();
        Self::Elected { candidates, by_listing }
    }

    /// The node that it belongs to, if it belongs to one.
    pub fn winner(&self) -> Option<&NodeName> {
        match self {
            Self::Elected { candidates, .. } => candidates.first(),
            Self::EveryNode | Self::Nobody { .. } => None,
        }
    }
}

fn is_remote(ip: IpAddr, services: &[&Service], catalog: &Catalog) -> bool {
    match catalog.find(ip) {
        Some((group, _)) => group.announce == Announce::Remote,
        None => services.iter().any(|service| {
            service.annotations.pool_type.as_deref() == Some(Announce::Remote.as_str())
        }),
    }
}

/// Why a node is no candidate for an address.
#[derive(Clone, Debug, PartialEq)]
pub enum NoCandidate {
    /// Its LBNodeAgent keeps it from announcing.
    Config(NotConfigured),
    /// A label or a taint of its Node keeps load balancer traffic away.
    Excluded(Exclusion),
    /// Its lease ran out.
    Expired {
        /// So many seconds ago.
        seconds: u64,
    },
    /// Its agent has no lease.
    NoLease,
    /// Others have ready endpoints of the Service, and it has none.
    NotListing,
    /// It serves these subnets, none of which holds the address.
    OtherSubnets(Vec<String>),
}

impl NoCandidate {
    /// Why `node` is none for `ip`; `None` if it is one.
    pub fn of(node: &NodeName, ip: IpAddr, place: &Place, snapshot: &Snapshot) -> Option<Self> {
        if let Place::Elected { candidates, .. } = place
            && candidates.contains(node)
        {
            return None;
        }
        if let Some(why) = kept_away(node, snapshot) {
            return Some(why);
        }
        let Some(sight) = snapshot.leases.iter().find(|sight| sight.lease.node == *node) else {
            return Some(Self::NoLease);
        };
        if !sight.is_live(snapshot.taken) {
            let seconds = -sight.seconds_left(snapshot.taken).unwrap_or_default();
            return Some(Self::Expired { seconds: seconds.max(0.0) as u64 });
        }
        let subnets = &sight.lease.content.subnets;
        if subnets.iter().any(|net| net.contains(&ip)) {
            return Some(Self::NotListing);
        }
        Some(Self::OtherSubnets(subnets.iter().map(ToString::to_string).collect()))
    }
}

/// What in its own objects keeps a node from announcing.
pub fn kept_away(node: &NodeName, snapshot: &Snapshot) -> Option<NoCandidate> {
    let object = snapshot.nodes.iter().find(|object| object.name == *node)?;
    match select(&snapshot.agents, &object.labels).spec() {
        Err(why) => Some(NoCandidate::Config(why)),
        Ok(_) => Exclusion::of(object).map(NoCandidate::Excluded),
    }
}

impl fmt::Display for NoCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => why.fmt(f),
            Self::Excluded(why) => Withheld::Excluded(*why).fmt(f),
            Self::Expired { seconds } => write!(f, "its lease ran out {seconds} s ago"),
            Self::NoLease => f.write_str("its agent has no lease"),
            Self::NotListing => f.write_str("it has no ready endpoint of the Service"),
            Self::OtherSubnets(subnets) if subnets.is_empty() => {
                f.write_str("its lease lists no subnet")
            }
            Self::OtherSubnets(subnets) => write!(f, "it serves {}", list(subnets)),
        }
    }
}

/// The Services that have each address.
pub fn by_address(snapshot: &Snapshot) -> BTreeMap<IpAddr, Vec<&Service>> {
    let mut services: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for service in &snapshot.services {
        for ip in &service.ingress {
            services.entry(*ip).or_default().push(service);
        }
    }
    services
}

/// Every node by name: those of the cluster, and those that have a lease.
pub fn nodes(snapshot: &Snapshot) -> Vec<NodeName> {
    let mut names: Vec<NodeName> = snapshot.nodes.iter().map(|node| node.name.clone()).collect();
    names.extend(snapshot.leases.iter().map(|sight| sight.lease.node.clone()));
    names.sort();
    names.dedup();
    names
}
