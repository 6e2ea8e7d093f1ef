//! What people are told: one value for the Event, the log line and the metric alike.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::allocator::event::ClusterRange;
use crate::allocator::ipam::IpamError;
use crate::allocator::refusal::{GroupRefusal, Refusal};
use crate::group::Announce;
use crate::name::{GroupName, Namespace, NodeName, ServiceKey, Uid};
use crate::usage::Usage;

/// Something to tell people, once per change and not once per pass.
///
/// Displayed it is the Event's message and the log line's text. Texts carry no number that changes
/// by itself, so that Events aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// About a ServiceGroup.
    Group {
        /// Which.
        group: GroupName,
        /// One for its whole life.
        uid: Uid,
        /// What.
        what: GroupNotice,
    },
    /// About a Service.
    Service {
        /// Which.
        service: ServiceKey,
        /// One for its whole life.
        uid: Uid,
        /// What.
        what: ServiceNotice,
    },
    /// For the gauges `purelb_address_pool_size` and `purelb_address_pool_addresses_in_use` alone;
    /// no Event and no log line.
    Usage {
        /// Which group.
        group: GroupName,
        /// How full it is; `None`: it is gone, and so are its series.
        usage: Option<Usage>,
    },
}

impl Notice {
    /// Reason and type of the Event, or `None` if this is for a metric alone.
    pub fn event(&self) -> Option<(Reason, Severity)> {
        match self {
            Self::Group { what, .. } => Some(what.event()),
            Self::Service { what, .. } => Some(what.event()),
            Self::Usage { .. } => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { what, .. } => what.fmt(f),
            Self::Service { what, .. } => what.fmt(f),
            Self::Usage { group, usage: Some(_) } => write!(f, "usage of group {group}"),
            Self::Usage { group, usage: None } => write!(f, "group {group} is gone"),
        }
    }
}

/// `type` of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

impl Severity {
    /// As an Event has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// `reason` of an Event. Stable: people match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Two Services were found with one address.
    AddressConflict,
    /// A Service has an address, and the API says so.
    AddressAssigned,
    /// A Service no longer has an address.
    AddressReleased,
    /// A Service does not get what it asks for.
    AllocationFailed,
    /// Something works, but is probably not meant.
    ConfigurationWarning,
    /// Something works, but will go away.
    DeprecationWarning,
    /// A group is in use.
    Parsed,
    /// A group cannot be used.
    ParseFailed,
    /// A sidecar could not be told that an address is free.
    ReleaseFailed,
}

impl Reason {
    /// As an Event has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddressAssigned => "AddressAssigned",
            Self::AddressConflict => "AddressConflict",
            Self::AddressReleased => "AddressReleased",
            Self::AllocationFailed => "AllocationFailed",
            Self::ConfigurationWarning => "ConfigurationWarning",
            Self::DeprecationWarning => "DeprecationWarning",
            Self::ParseFailed => "ParseFailed",
            Self::Parsed => "Parsed",
            Self::ReleaseFailed => "ReleaseFailed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// About a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceNotice {
    /// It has these addresses in addition, and the API says so.
    Assigned {
        /// The new ones, each with its group.
        addresses: Vec<(IpAddr, GroupName)>,
        /// How they were chosen.
        how: How,
        /// Since the allocator found that it could give the Service an address that it did not show:
        /// the decision, the sidecar's answer if one is asked, and every attempt to write it. Time in
        /// which the Service was refused does not count.
        took: Duration,
    },
    /// At start it was found with an address that another Service has: it loses it.
    Collision {
        /// The address.
        ip: IpAddr,
        /// Who keeps it.
        keeper: ServiceKey,
    },
    /// It does not get what it asks for. Counts in `purelb_address_pool_allocation_rejected_total`.
    Refused(Refusal),
    /// It no longer has these addresses, and the API says so.
    Released {
        /// Which.
        addresses: Vec<IpAddr>,
        /// Why not.
        cause: Cause,
    },
    /// A sidecar could not be told that the Service is gone; it is tried again.
    ReleaseFailed {
        /// Whose sidecar.
        group: GroupName,
        /// What it said.
        error: IpamError,
    },
    /// Something about how it is written.
    Remark(Remark),
}

impl ServiceNotice {
    fn event(&self) -> (Reason, Severity) {
        match self {
            Self::Assigned { .. } => (Reason::AddressAssigned, Severity::Normal),
            Self::Collision { .. } => (Reason::AddressConflict, Severity::Warning),
            Self::Refused(_) => (Reason::AllocationFailed, Severity::Warning),
            Self::Released { .. } => (Reason::AddressReleased, Severity::Normal),
            Self::ReleaseFailed { .. } => (Reason::ReleaseFailed, Severity::Warning),
            Self::Remark(remark) => remark.event(),
        }
    }
}

impl fmt::Display for ServiceNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { addresses, .. } => {
                f.write_str("assigned ")?;
                let each = |(ip, group): &(IpAddr, GroupName)| format!("{ip} from group {group}");
                f.write_str(&addresses.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            Self::Collision { ip, keeper } => {
                write!(f, "{ip} belongs to {keeper} too, which keeps it: this Service gets another")
            }
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Released { addresses, cause } => {
                write!(f, "released {}: {cause}", list(addresses))
            }
            Self::ReleaseFailed { group, error } => write!(
                f,
                "the sidecar of group {group} was not told of the release: {error}; trying again"
            ),
            Self::Remark(remark) => remark.fmt(f),
        }
    }
}

/// How addresses were chosen.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// From the range with the fewest in use.
    /// Counts in `purelb_address_pool_balance_pools_allocations_total`.
    Balanced,
    /// By a sidecar.
    External,
    /// The lowest free one of the first range that has any.
    InOrder,
    /// One from each range. Counts in `purelb_address_pool_multipool_allocations_total`.
    Multi {
        /// Some range had none. Counts in `purelb_address_pool_multipool_partial_total`.
        partial: bool,
    },
    /// Asked for by address.
    Requested,
}

/// Why a Service no longer has an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Another Service has it too and keeps it.
    Collision,
    /// The Service no longer has that family.
    Family,
    /// The Service asked for another.
    Moved,
    /// It is no longer of type `LoadBalancer`.
    NotLoadBalancer,
    /// One of its ports is now one that somebody else has on that shared address.
    Ports,
    /// It no longer has the sharing key of those it shared the address with.
    SharingKey,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Collision => "another Service has it too",
            Self::Family => "the Service no longer has that family",
            Self::Moved => "the Service asked for another",
            Self::NotLoadBalancer => "the Service is no longer a LoadBalancer",
            Self::Ports => "one of the Service's ports belongs to another on that shared address",
            Self::SharingKey => {
                "the Service no longer has the sharing key of those it shared it with"
            }
        })
    }
}

/// Something about how a Service is written that its owner should know.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remark {
    /// Addresses and a group are both asked for; the addresses count.
    AddressesOverGroup {
        /// The group that does not count.
        group: GroupName,
    },
    /// Several groups list the namespace and none is its one default; `default` was used.
    AmbiguousDefault {
        /// The namespace.
        namespace: Namespace,
        /// The groups that list it.
        groups: Vec<GroupName>,
    },
    /// Its address was given by somebody else and is in no group: left alone.
    Foreign {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Its addresses are from one group while it asks for another: it keeps them.
    KeepsGroup {
        /// Where they are from.
        holds: GroupName,
        /// What it asks for.
        asks: GroupName,
    },
    /// `spec.loadBalancerIP` is used.
    LoadBalancerIp,
}

impl Remark {
    fn event(&self) -> (Reason, Severity) {
        match self {
            Self::AddressesOverGroup { .. } => (Reason::ConfigurationWarning, Severity::Normal),
            Self::AmbiguousDefault { .. } | Self::Foreign { .. } | Self::KeepsGroup { .. } => {
                (Reason::ConfigurationWarning, Severity::Warning)
            }
            Self::LoadBalancerIp => (Reason::DeprecationWarning, Severity::Normal),
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressesOverGroup { group } => write!(
                f,
                "purelb.io/addresses decides; purelb.io/service-group: {group} has no effect"
            ),
            Self::AmbiguousDefault { namespace, groups } => {
                let groups: Vec<_> = groups.iter().map(GroupName::as_str).collect();
                write!(
                    f,
                    "namespace {namespace} is listed by {} without a single default among them: group default is used",
                    groups.join(", ")
                )
            }
            Self::Foreign { addresses } => write!(
                f,
                "{} was not given by PureLB and is in no ServiceGroup: left alone",
                list(addresses)
            ),
            Self::KeepsGroup { holds, asks } => write!(
                f,
                "keeps its address of group {holds} though it asks for {asks}: set purelb.io/re-evaluate to \"true\" to move it"
            ),
            Self::LoadBalancerIp => f.write_str(
                "spec.loadBalancerIP is deprecated: use the annotation purelb.io/addresses",
            ),
        }
    }
}

/// About a ServiceGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupNotice {
    /// One of its ranges holds addresses that the cluster uses itself.
    OverlapsCluster {
        /// The range as written.
        range: String,
        /// What the cluster uses.
        net: IpNet,
        /// For what.
        what: ClusterRange,
    },
    /// One of its ranges holds the address of a node.
    OverlapsNode {
        /// The range as written.
        range: String,
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        node: NodeName,
    },
    /// It cannot be used. Addresses already given out of it stay.
    ParseFailed(GroupRefusal),
    /// It is in use.
    Parsed {
        /// How its addresses reach the world.
        announce: Announce,
    },
}

impl GroupNotice {
    fn event(&self) -> (Reason, Severity) {
        match self {
            Self::OverlapsCluster { .. } | Self::OverlapsNode { .. } => {
                (Reason::ConfigurationWarning, Severity::Warning)
            }
            Self::ParseFailed(_) => (Reason::ParseFailed, Severity::Warning),
            Self::Parsed { .. } => (Reason::Parsed, Severity::Normal),
        }
    }
}

impl fmt::Display for GroupNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverlapsCluster { range, net, what } => {
                write!(f, "{range} overlaps the cluster's {what} range {net}: choose another range")
            }
            Self::OverlapsNode { range, ip, node } => write!(
                f,
                "{range} holds {ip}, an address of node {node}: leave it out of the range"
            ),
            Self::ParseFailed(why) => why.fmt(f),
            Self::Parsed { announce } => write!(f, "in use, announced {announce}"),
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
