//! What the allocator is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::allocator::ipam::IpamReply;
use crate::group::ServiceGroup;
use crate::name::NodeName;
use crate::service::Service;
use crate::store::Change;

/// A fact for the [`Allocator`](super::Allocator).
///
/// Nothing is decided before each of `ActiveSubnets`, `Groups`, `Services` and `Settings` has come
/// once (for the two kinds of objects: as [`Change::Listed`]).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The subnets that live node Leases list now. All of them, each time one changes.
    ActiveSubnets(BTreeSet<IpNet>),
    /// ServiceGroups of the install namespace.
    Groups(Change<ServiceGroup>),
    /// A sidecar answered, or could not be asked. Every [`IpamRequest`](super::IpamRequest) gets
    /// exactly one reply; a call that ran out of time is an error too.
    Ipam(IpamReply),
    /// Services of all namespaces. The watch may be filtered by `spec.type=LoadBalancer`: then one
    /// whose type changes counts as deleted.
    Services(Change<Service>),
    /// How the cluster is made and the allocator is meant to behave.
    Settings(Settings),
    /// What became of a write. Every action that carries a [`Ticket`] and is no IPAM request gets
    /// exactly one.
    Written {
        /// The action's.
        ticket: Ticket,
        /// What became of it.
        result: Written,
    },
}

/// Tells one request from another; its answer bears the same.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What became of a write.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the API.
    Accepted,
    /// Nothing was written: the object is no longer the version that the write was computed from
    /// (HTTP 409). The watch will bring what it is now.
    Conflict,
    /// No answer, or an error: it may have been written or not.
    Failed {
        /// What went wrong, for the log.
        error: String,
    },
    /// Nothing was written: there is no such object, or one of that name with another uid.
    Gone,
}

/// How the cluster is made and the allocator is meant to behave.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether Services without a class are ours (`DEFAULT_ANNOUNCER=PureLB`).
    pub default_announcer: bool,
    /// Ranges that the cluster uses for itself, as far as they are known.
    pub cluster_ranges: BTreeMap<IpNet, ClusterRange>,
    /// The addresses of the nodes, as far as they are known.
    pub node_addresses: BTreeMap<IpAddr, NodeName>,
}

/// What the cluster uses a range for.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterRange {
    /// Addresses of pods.
    Pods,
    /// Cluster addresses of Services.
    Services,
}

impl fmt::Display for ClusterRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pods => "pod",
            Self::Services => "service",
        })
    }
}
