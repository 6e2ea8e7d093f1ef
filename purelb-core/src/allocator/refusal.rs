//! Why a Service gets no address, in words that say what to change.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::allocator::ipam::IpamError;
use crate::allocator::reserved::Reserved;
use crate::group::GroupError;
use crate::host::Family;
use crate::name::{GroupName, Namespace, ServiceKey};
use crate::range::AddressRange;
use crate::service::Port;

/// Why a Service gets no address, or not all that it asks for.
///
/// The text names who and what, and no number that changes by itself, so that Events aggregate.
/// What a Service already has stays its own whatever is refused.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Several groups list the namespace, none of them or more than one as its default, and at
    /// least one fences it.
    #[error(
        "namespace {namespace} is listed by {} and has no single default among them: set namespaceDefault on one, or name one in purelb.io/service-group",
        Names(groups)
    )]
    AmbiguousDefault {
        /// The Service's namespace.
        namespace: Namespace,
        /// The groups that list it.
        groups: Vec<GroupName>,
    },
    /// All addresses of a family are taken.
    #[error(
        "group {group} has no free {family} address: every address of {ranges} that can be given out is in use"
    )]
    Exhausted {
        /// The group.
        group: GroupName,
        /// The family.
        family: Family,
        /// Its ranges of that family.
        ranges: Ranges,
    },
    /// The group cannot be used because its specification is wrong.
    #[error("group {group} cannot be used: {why}")]
    GroupRefused {
        /// The group.
        group: GroupName,
        /// What is wrong with it.
        why: GroupRefusal,
    },
    /// The Service has no cluster address.
    #[error("the Service is headless: a load balancer needs a cluster address")]
    Headless,
    /// A sidecar gave an address that somebody else has.
    #[error("the sidecar of group {group} gave {ip}, which {holder} has")]
    IpamConflict {
        /// The group.
        group: GroupName,
        /// The address.
        ip: IpAddr,
        /// Who has it.
        holder: ServiceKey,
    },
    /// A sidecar did not answer, or with an error.
    #[error("the sidecar of group {group} gave no address: {error}")]
    IpamFailed {
        /// The group.
        group: GroupName,
        /// Why not.
        error: IpamError,
    },
    /// A sidecar answered without an address for a family that is needed.
    #[error("the sidecar of group {group} gave no {family} address")]
    IpamIncomplete {
        /// The group.
        group: GroupName,
        /// The family.
        family: Family,
    },
    /// A sidecar answered with more addresses than any Service can use.
    #[error("the sidecar of group {group} gave more than 16 addresses")]
    IpamTooMany {
        /// The group.
        group: GroupName,
    },
    /// `multiPool` and `balancePools` at once.
    #[error(
        "multi-pool allocation and balancePools of group {group} are mutually exclusive: set purelb.io/multi-pool to \"false\", or remove balancePools"
    )]
    MultiPoolBalanced {
        /// The group.
        group: GroupName,
    },
    /// `multiPool` from a sidecar.
    #[error(
        "group {group} is external and cannot give one address per range: remove purelb.io/multi-pool"
    )]
    MultiPoolExternal {
        /// The group.
        group: GroupName,
    },
    /// No range to grow into can be named, because the addresses held are not from one group.
    #[error(
        "no further address per range: those held are from {}, and multi-pool needs all from one group",
        Names(groups)
    )]
    MultiPoolMismatch {
        /// The groups they are from.
        groups: Vec<GroupName>,
    },
    /// `multiPool` and sharing at once.
    #[error(
        "one address per range and a shared address are mutually exclusive: remove purelb.io/allow-shared-ip or multi-pool"
    )]
    MultiPoolSharing,
    /// The group is fenced off from this namespace.
    #[error("{}", denial(namespace, group, fence))]
    NamespaceDenied {
        /// The Service's namespace.
        namespace: Namespace,
        /// The group it may not use.
        group: GroupName,
        /// Which fence is in the way.
        fence: Fence,
    },
    /// No node is in any of the subnets that a local multi-pool group has ranges in.
    #[error(
        "no live node is in a subnet of group {group}: an address there could not be announced"
    )]
    NoActiveSubnet {
        /// The group.
        group: GroupName,
    },
    /// The group has no range of a family that the Service needs.
    #[error("group {group} has no {family} range: add one, or make the Service PreferDualStack")]
    NoRange {
        /// The group.
        group: GroupName,
        /// The family.
        family: Family,
    },
    /// A port on the shared address belongs to somebody else.
    #[error("port {port} on {ip} already in use by {holder}, which shares that address")]
    PortConflict {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: Port,
        /// Whose it is.
        holder: ServiceKey,
    },
    /// The address asked for is held by somebody who does not share it with this Service.
    #[error(
        "{ip} is held by {holder}: choose another, or give both the same purelb.io/allow-shared-ip and different ports"
    )]
    RequestHeld {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        holder: ServiceKey,
    },
    /// The same address is asked for twice.
    #[error("{ip} is asked for twice")]
    RequestedTwice {
        /// The address.
        ip: IpAddr,
    },
    /// An address of a family that the Service does not have.
    #[error("{ip} is {family}, which is not among the Service's ipFamilies")]
    RequestFamily {
        /// The address.
        ip: IpAddr,
        /// Its family.
        family: Family,
    },
    /// Addresses are asked for, but none of a family that is required.
    #[error(
        "no {family} address is asked for, but the Service is RequireDualStack: add one to purelb.io/addresses"
    )]
    RequestIncomplete {
        /// The family without one.
        family: Family,
    },
    /// The address is in no group.
    #[error("{ip} is in no ServiceGroup that can be used")]
    RequestOutside {
        /// The address.
        ip: IpAddr,
    },
    /// The address has a meaning of its own in its subnet.
    #[error("{ip} is the {role} of {subnet} and cannot be a Service's")]
    RequestReserved {
        /// The address.
        ip: IpAddr,
        /// What it means there.
        role: Reserved,
        /// The subnet.
        subnet: IpNet,
    },
    /// More than one address of a family.
    #[error("more than one {family} address is asked for: a Service has one of each family")]
    RequestTooMany {
        /// The family.
        family: Family,
    },
    /// No address.
    #[error("cannot read {text:?} as an IP address")]
    RequestUnreadable {
        /// As written.
        text: String,
    },
    /// There is no such group.
    #[error("unknown pool \"{group}\": there is no such ServiceGroup")]
    UnknownGroup {
        /// The name.
        group: GroupName,
    },
}

impl Refusal {
    /// The label `reason` of `purelb_address_pool_allocation_rejected_total`.
    pub fn metric_reason(&self) -> &'static str {
        match self {
            Self::AmbiguousDefault { .. } => "ambiguous_namespace_default",
            Self::Exhausted { .. } | Self::IpamFailed { error: IpamError::Exhausted, .. } => {
                "exhausted"
            }
            Self::GroupRefused { .. } => "no_usable_pool",
            Self::Headless => "other",
            Self::IpamConflict { .. }
            | Self::IpamFailed { .. }
            | Self::IpamIncomplete { .. }
            | Self::IpamTooMany { .. } => "ipam",
            Self::MultiPoolBalanced { .. }
            | Self::MultiPoolExternal { .. }
            | Self::MultiPoolSharing => "multipool_refused",
            Self::MultiPoolMismatch { .. } => "multipool_pool_mismatch",
            Self::NamespaceDenied { .. } => "namespace_denied",
            Self::NoActiveSubnet { .. } => "no_active_subnet",
            Self::NoRange { .. } => "family_not_served",
            Self::PortConflict { .. } => "port_conflict",
            Self::RequestHeld { .. } => "sharing_key_conflict",
            Self::RequestFamily { .. }
            | Self::RequestIncomplete { .. }
            | Self::RequestOutside { .. }
            | Self::RequestReserved { .. }
            | Self::RequestTooMany { .. }
            | Self::RequestUnreadable { .. }
            | Self::RequestedTwice { .. } => "invalid_request",
            Self::UnknownGroup { .. } => "unknown_pool",
        }
    }

    /// The group that refuses, if it exists: the label `pool` beside that reason, where `None` is
    /// `<unknown>`. A name that a user made up is never a label.
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            Self::Exhausted { group, .. }
            | Self::GroupRefused { group, .. }
            | Self::IpamConflict { group, .. }
            | Self::IpamFailed { group, .. }
            | Self::IpamIncomplete { group, .. }
            | Self::IpamTooMany { group }
            | Self::MultiPoolBalanced { group }
            | Self::MultiPoolExternal { group }
            | Self::NamespaceDenied { group, .. }
            | Self::NoActiveSubnet { group }
            | Self::NoRange { group, .. } => Some(group),
            Self::AmbiguousDefault { .. }
            | Self::Headless
            | Self::MultiPoolMismatch { .. }
            | Self::MultiPoolSharing
            | Self::PortConflict { .. }
            | Self::RequestFamily { .. }
            | Self::RequestHeld { .. }
            | Self::RequestIncomplete { .. }
            | Self::RequestOutside { .. }
            | Self::RequestReserved { .. }
            | Self::RequestTooMany { .. }
            | Self::RequestUnreadable { .. }
            | Self::RequestedTwice { .. }
            | Self::UnknownGroup { .. } => None,
        }
    }
}

/// Why a ServiceGroup cannot be used.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefusal {
    /// It shares addresses with a group that sorts before it.
    #[error("{range} overlaps {other_range} of group {other}: addresses can be in one group only")]
    Overlap {
        /// The range as written.
        range: String,
        /// The other group.
        other: GroupName,
        /// Its range as written.
        other_range: String,
    },
    /// Its specification makes no sense.
    #[error(transparent)]
    Spec(#[from] GroupError),
}

/// Which fence keeps a Service out of a group.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fence {
    /// The Service's namespace is confined to the groups that list it: these.
    Confined(Vec<GroupName>),
    /// The group belongs to namespaces that are confined, and this is none of those it lists.
    Excluded,
}

fn denial(namespace: &Namespace, group: &GroupName, fence: &Fence) -> String {
    match fence {
        Fence::Confined(allowed) => format!(
            "namespace {namespace} may only use {}, and group {group} does not list it",
            Names(allowed)
        ),
        Fence::Excluded => format!(
            "group {group} is kept for the namespaces it lists, and {namespace} is not among them"
        ),
    }
}

/// Ranges of a group as written, for people.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(pub Vec<AddressRange>);

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.0)
    }
}

struct Names<'a>(&'a [GroupName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.0)
    }
}

fn join(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (n, item) in items.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}
