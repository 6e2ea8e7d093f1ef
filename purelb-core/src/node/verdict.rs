//! What an agent decided about an address, with its reason.

use std::fmt;

use ipnet::IpNet;

use crate::config::{LbNodeAgent, LocalSpec, Node, Selection};
use crate::host::{LinkIndex, Mac};
use crate::membership::NotYet;
use crate::name::NodeName;
use crate::place::{Nowhere, Virtual};
use crate::time::Tick;

/// What this node does with an address of a Service.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Puts it on a local interface, having won it.
    Local {
        /// The interface.
        link: LinkIndex,
        /// The address with its prefix length.
        net: IpNet,
        /// The end of the right to hold it, unless prolonged.
        until: Tick,
    },
    /// Puts it on the virtual interface.
    Virtual {
        /// The address with its prefix length.
        net: IpNet,
        /// Why there.
        why: Virtual,
    },
    /// Does not have it.
    Withheld(Withheld),
}

impl Verdict {
    /// Whether another verdict says the same to a person: a prolonged right is no news.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Local { link, net, until: _ },
                Self::Local { link: other_link, net: other_net, until: _ },
            ) => (link, net) == (other_link, other_net),
            (Self::Local { .. } | Self::Virtual { .. } | Self::Withheld(_), other) => self == other,
        }
    }
}

/// Why this node does not have an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Won, but a station that is not ours says that it has it.
    Conflict {
        /// The interface that it was heard on.
        link: LinkIndex,
        /// The station.
        mac: Mac,
    },
    /// This node is not to take load balancer traffic.
    Excluded(Exclusion),
    /// Another node won it.
    LostTo(NodeName),
    /// No node serves a subnet that holds it.
    NoCandidate,
    /// It is for nodes with a ready endpoint of the Service, and this one has none.
    NoEndpoint,
    /// No LBNodeAgent tells this node to announce.
    NotConfigured(NotConfigured),
    /// Won, but not to be held yet or any more.
    NotYet(NotYet),
    /// It belongs nowhere on this node.
    Nowhere(Nowhere),
    /// The agent is stopping.
    Stopping,
}

/// Why a node takes no load balancer traffic.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exclusion {
    /// The label `node.kubernetes.io/exclude-from-external-load-balancers`.
    Label,
    /// The taint `node.kubernetes.io/out-of-service`.
    OutOfService,
}

/// Why a node is not configured to announce.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConfigured {
    /// There are LBNodeAgents, but none selects this node.
    Deselected,
    /// The LBNodeAgent that governs it makes no sense.
    Invalid {
        /// What is wrong with it.
        error: String,
    },
    /// No LBNodeAgent with `spec.local` exists.
    Missing,
}

impl Exclusion {
    /// What keeps load balancer traffic away from a node, if anything does.
    pub fn of(node: &Node) -> Option<Self> {
        match (node.is_out_of_service, node.is_excluded()) {
            (true, _) => Some(Self::OutOfService),
            (false, true) => Some(Self::Label),
            (false, false) => None,
        }
    }
}

impl<'a> Selection<'a> {
    /// The LBNodeAgent that governs the node, if one does.
    pub fn agent(&self) -> Option<&'a LbNodeAgent> {
        match self {
            Self::Configured(agent, _) | Self::Invalid(agent, _) => Some(agent),
            Self::Default | Self::Deselected => None,
        }
    }

    /// What the node is to announce by.
    ///
    /// # Errors
    ///
    /// With the reason why it is not to announce anything.
    pub fn spec(&self) -> Result<&'a LocalSpec, NotConfigured> {
        match self {
            Self::Configured(_, spec) => Ok(spec),
            Self::Default => Err(NotConfigured::Missing),
            Self::Deselected => Err(NotConfigured::Deselected),
            Self::Invalid(_, error) => Err(NotConfigured::Invalid { error: (*error).to_owned() }),
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { link: _, mac } => {
                write!(f, "another station on the network has it, at {mac}")
            }
            Self::Excluded(Exclusion::Label) => f.write_str(
                "the node is labelled node.kubernetes.io/exclude-from-external-load-balancers",
            ),
            Self::Excluded(Exclusion::OutOfService) => {
                f.write_str("the node is tainted node.kubernetes.io/out-of-service")
            }
            Self::LostTo(node) => write!(f, "{node} won it"),
            Self::NoCandidate => f.write_str("no node serves a subnet that holds it"),
            Self::NoEndpoint => f.write_str("no ready endpoint of the Service on this node"),
            Self::NotConfigured(why) => why.fmt(f),
            Self::NotYet(NotYet::Fenced) => {
                f.write_str("won, but this node's lease has run out or is not there yet")
            }
            Self::NotYet(NotYet::Joining { unconfirmed }) if unconfirmed.is_empty() => {
                f.write_str("won; this node is joining")
            }
            Self::NotYet(NotYet::Joining { unconfirmed }) => {
                let nodes: Vec<&str> = unconfirmed.iter().map(NodeName::as_str).collect();
                write!(f, "won; this node is joining and waits for {}", nodes.join(", "))
            }
            Self::NotYet(NotYet::NotServed) => {
                f.write_str("won, but the interface does not serve its subnet now")
            }
            Self::Nowhere(why) => why.fmt(f),
            Self::Stopping => f.write_str("the agent is stopping"),
        }
    }
}

impl fmt::Display for NotConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deselected => f.write_str("no LBNodeAgent selects this node"),
            Self::Invalid { error } => {
                write!(f, "the LBNodeAgent of this node is invalid: {error}")
            }
            Self::Missing => f.write_str("there is no LBNodeAgent with spec.local"),
        }
    }
}
