//! What an agent tells people.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::LbNodeAgent;
use crate::host::{Family, Mac};
use crate::kernel::{KernelAction, KernelError};
use crate::name::{Namespace, NodeName, ServiceKey, Uid};
use crate::notice::{Level, Notice, Regarding};
use crate::place::Virtual;

use super::unserved::Unserved;
use super::verdict::{NotConfigured, Withheld};

/// Something that an agent tells people, once per change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNotice {
    /// An address of a Service is on an interface now.
    Announced {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// This node.
        node: NodeName,
        /// The interface's name.
        interface: String,
        /// `None` on a local interface, else why it is on the virtual one.
        why: Option<Virtual>,
    },
    /// An address that was to be on an interface is there now, and how long that took. For histograms;
    /// no Event.
    Arrived {
        /// The address.
        ip: IpAddr,
        /// The interface's name.
        interface: String,
        /// What the time is counted from.
        since: Since,
        /// The time.
        took: Duration,
    },
    /// Which LBNodeAgent governs this node.
    Configured {
        /// The governing one, if any.
        agent: Option<AgentRef>,
        /// Why nothing is announced, if so.
        problem: Option<NotConfigured>,
        /// This node.
        node: NodeName,
    },
    /// Another station on the network says that it has an address that this node won: withdrawn.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The interface that it was heard on.
        interface: String,
        /// The station.
        mac: Mac,
    },
    /// The station is silent now, or this node no longer minds.
    ConflictOver {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The interface that it was heard on.
        interface: String,
        /// The station.
        mac: Mac,
    },
    /// This node's lease is confirmed again.
    Confirmed {
        /// This node.
        node: NodeName,
    },
    /// Another host keeps writing this node's lease.
    Contested {
        /// This node.
        node: NodeName,
    },
    /// The API has not confirmed this node's lease in time: its local addresses are off.
    Fenced {
        /// This node.
        node: NodeName,
    },
    /// An address that we did not add equals one of a Service.
    Foreign {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The interface that it is on.
        interface: String,
    },
    /// An address that we did not add is no longer there, or no longer equals one of a Service.
    ForeignGone {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The interface that it was on.
        interface: String,
    },
    /// This node could not take an address for long: it leaves the subnet to others.
    GaveUp {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The subnet.
        subnet: IpNet,
        /// The interface that it is on.
        interface: String,
        /// For how long.
        pause: Duration,
    },
    /// The API has not confirmed this node's lease in time, and `apiOutage: Hold` keeps its
    /// addresses where they are.
    HoldingOn {
        /// This node.
        node: NodeName,
    },
    /// The local interface of a family is known.
    Identified {
        /// The family.
        family: Family,
        /// The interfaces' names, the preferred one first.
        interfaces: Vec<String>,
    },
    /// The kernel did not do what was asked.
    KernelFailed {
        /// What was asked.
        action: KernelAction,
        /// Why not.
        error: KernelError,
        /// The Service concerned, if one is.
        service: Option<ServiceRef>,
    },
    /// Something else took an address off its interface: it is put back.
    Restored {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// The interface that it was on.
        interface: String,
        /// Whether this keeps happening.
        how: Restoring,
    },
    /// A node has an address again that this one has told of as unserved.
    ServedAgain {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
    },
    /// The local interface of a family could not be identified.
    Unidentified {
        /// The family.
        family: Family,
        /// Why not, with every route in the way.
        why: String,
        /// There are too many default routes: addresses go to the virtual interface.
        is_ambiguous: bool,
        /// The virtual interface's name.
        virtual_interface: String,
        /// The governing LBNodeAgent.
        agent: Option<AgentRef>,
    },
    /// No node has had an address of a Service for two lease durations. One node tells.
    Unserved {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// Why.
        why: Unserved,
    },
    /// An address of a Service is not, or no longer, for this node.
    Withheld {
        /// The address.
        ip: IpAddr,
        /// The Service.
        service: ServiceRef,
        /// Why.
        why: Withheld,
    },
}

/// Since when an address is awaited on an interface.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Since {
    /// The kernel told that it is gone, and nobody here had asked for that.
    Lost,
    /// This node won it, and another had won it or announced it before.
    WonFromPeer,
    /// This node won it, and nobody was known to have won or announced it.
    WonNew,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "it was taken off",
            Self::WonFromPeer => "this node won it from another",
            Self::WonNew => "this node won it",
        })
    }
}

/// How an address that something else removes is put back.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Restoring {
    /// At once.
    AtOnce,
    /// After growing pauses, since something keeps removing it.
    WithPauses,
}

/// A Service to tell about.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Namespace and name.
    pub key: ServiceKey,
    /// One for its whole life.
    pub uid: Uid,
}

/// An LBNodeAgent to tell about.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRef {
    /// Namespace and name.
    pub name: (Namespace, String),
    /// One for its whole life.
    pub uid: Uid,
}

impl From<&LbNodeAgent> for AgentRef {
    fn from(agent: &LbNodeAgent) -> Self {
        Self { name: agent.name.clone(), uid: agent.uid.clone() }
    }
}

impl NodeNotice {
    /// The address that it is about, if it is about one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Announced { ip, .. }
            | Self::Arrived { ip, .. }
            | Self::Conflict { ip, .. }
            | Self::ConflictOver { ip, .. }
            | Self::Foreign { ip, .. }
            | Self::ForeignGone { ip, .. }
            | Self::GaveUp { ip, .. }
            | Self::Restored { ip, .. }
            | Self::ServedAgain { ip, .. }
            | Self::Unserved { ip, .. }
            | Self::Withheld { ip, .. } => Some(*ip),
            Self::KernelFailed { action, .. } => action.ip(),
            Self::Configured { .. }
            | Self::Confirmed { .. }
            | Self::Contested { .. }
            | Self::Fenced { .. }
            | Self::HoldingOn { .. }
            | Self::Identified { .. }
            | Self::Unidentified { .. } => None,
        }
    }
}

impl Notice for NodeNotice {
    fn level(&self) -> Level {
        match self {
            Self::Announced { .. }
            | Self::ConflictOver { .. }
            | Self::Confirmed { .. }
            | Self::ForeignGone { .. }
            | Self::Identified { .. }
            | Self::ServedAgain { .. } => Level::Info,
            Self::Arrived { .. } => Level::Debug,
            Self::Configured { problem, .. } => match problem {
                None => Level::Info,
                Some(NotConfigured::Deselected | NotConfigured::Missing) => Level::Warning,
                Some(NotConfigured::Invalid { .. }) => Level::Error,
            },
            Self::Conflict { .. }
            | Self::Contested { .. }
            | Self::Fenced { .. }
            | Self::GaveUp { .. }
            | Self::KernelFailed { .. } => Level::Error,
            Self::Foreign { .. }
            | Self::HoldingOn { .. }
            | Self::Restored { .. }
            | Self::Unserved { .. } => Level::Warning,
            Self::Unidentified { is_ambiguous: true, .. } => Level::Error,
            Self::Unidentified { is_ambiguous: false, .. } => Level::Info,
            Self::Withheld { why, .. } => match why {
                Withheld::LostTo(_) | Withheld::NotYet(_) | Withheld::Stopping => Level::Debug,
                Withheld::Conflict { .. }
                | Withheld::Excluded(_)
                | Withheld::NoCandidate
                | Withheld::NoEndpoint
                | Withheld::NotConfigured(_)
                | Withheld::Nowhere(_) => Level::Info,
            },
        }
    }

    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Announced { why: None, .. } => Some("AnnouncingLocal"),
            Self::Announced { why: Some(_), .. } => Some("AnnouncingNonLocal"),
            Self::Configured { problem: Some(NotConfigured::Invalid { .. }), .. } => {
                Some("ConfigError")
            }
            Self::Contested { .. } => Some("DuplicateNode"),
            Self::Conflict { .. } | Self::Foreign { .. } => Some("AddressConflict"),
            Self::Fenced { .. } => Some("LeaseLost"),
            Self::GaveUp { .. } | Self::KernelFailed { service: Some(_), .. } => {
                Some("AnnouncementFailed")
            }
            Self::HoldingOn { .. } => Some("LeaseUnconfirmed"),
            Self::Restored { .. } => Some("AddressRestored"),
            Self::Unidentified { is_ambiguous: true, .. } => Some("InterfaceUnidentified"),
            Self::Unserved { .. } => Some("NotAnnounced"),
            Self::Arrived { .. }
            | Self::Configured { .. }
            | Self::ConflictOver { .. }
            | Self::Confirmed { .. }
            | Self::ForeignGone { .. }
            | Self::Identified { .. }
            | Self::KernelFailed { service: None, .. }
            | Self::ServedAgain { .. }
            | Self::Unidentified { is_ambiguous: false, .. }
            | Self::Withheld { .. } => None,
        }
    }

    fn regarding(&self) -> Regarding {
        let about_agent = |agent: &Option<AgentRef>| match agent {
            None => Regarding::Node,
            Some(agent) => Regarding::Agent {
                namespace: agent.name.0.clone(),
                name: agent.name.1.clone(),
                uid: agent.uid.clone(),
            },
        };
        let about_service = |service: &ServiceRef| Regarding::Service {
            key: service.key.clone(),
            uid: service.uid.clone(),
        };
        match self {
            Self::Announced { service, .. }
            | Self::Conflict { service, .. }
            | Self::ConflictOver { service, .. }
            | Self::Foreign { service, .. }
            | Self::GaveUp { service, .. }
            | Self::ForeignGone { service, .. }
            | Self::Restored { service, .. }
            | Self::KernelFailed { service: Some(service), .. }
            | Self::ServedAgain { service, .. }
            | Self::Unserved { service, .. }
            | Self::Withheld { service, .. } => about_service(service),
            Self::Configured { agent, .. } | Self::Unidentified { agent, .. } => about_agent(agent),
            Self::Arrived { .. }
            | Self::Confirmed { .. }
            | Self::Contested { .. }
            | Self::Fenced { .. }
            | Self::HoldingOn { .. }
            | Self::Identified { .. }
            | Self::KernelFailed { service: None, .. } => Regarding::Node,
        }
    }
}

impl fmt::Display for NodeNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced { ip, service: _, node, interface, why } => match why {
                None => write!(f, "{node} announces {ip} on {interface}"),
                Some(Virtual::Remote) => write!(f, "{node} has {ip} on {interface} for routing"),
                Some(Virtual::Unidentified) => write!(
                    f,
                    "{node} has {ip} on {interface}: its local interface cannot be identified"
                ),
            },
            Self::Arrived { ip, interface, since, took } => {
                write!(f, "{ip} is on {interface} {took:?} after {since}")
            }
            Self::Configured { agent, problem, node } => match (agent, problem) {
                (_, Some(problem)) => write!(f, "{node} is announcing nothing: {problem}"),
                (Some(agent), None) => {
                    write!(
                        f,
                        "{node} is configured by LBNodeAgent {}/{}",
                        agent.name.0, agent.name.1
                    )
                }
                (None, None) => write!(f, "{node} is not configured"),
            },
            Self::Conflict { ip, service: _, interface, mac } => write!(
                f,
                "another station on the network of {interface} has {ip}, at {mac}: it is withdrawn until that one is silent"
            ),
            Self::ConflictOver { ip, service: _, interface, mac } => {
                write!(f, "the conflict with {mac} on {interface} over {ip} is over")
            }
            Self::Confirmed { node } => write!(f, "the API confirms the lease of {node} again"),
            Self::Contested { node } => write!(
                f,
                "another host keeps writing the lease of {node}: two hosts have this name, and this one announces nothing"
            ),
            Self::Fenced { node } => write!(
                f,
                "the lease of {node} was not confirmed in time, or is another's: its local addresses are withdrawn, for others to take"
            ),
            Self::Foreign { ip, service: _, interface } => write!(
                f,
                "{ip} is on {interface} already and was not put there by PureLB: it is left alone"
            ),
            Self::ForeignGone { ip, service: _, interface } => write!(
                f,
                "{ip} on {interface}, which was not put there by PureLB, is no longer in the way"
            ),
            Self::GaveUp { ip, service: _, subnet, interface, pause } => write!(
                f,
                "{ip} cannot be put on {interface}: {subnet} is left to other nodes for {} s",
                pause.as_secs()
            ),
            Self::HoldingOn { node } => write!(
                f,
                "the API has not confirmed the lease of {node} in time: it keeps its addresses (apiOutage: Hold), and another node may have them too"
            ),
            Self::Identified { family, interfaces } => {
                write!(f, "{family} addresses go to {}", interfaces.join(", "))
            }
            Self::KernelFailed { action, error, service: _ } => {
                write!(f, "cannot {}: {error}", describe(action))
            }
            Self::Restored { ip, service: _, interface, how } => match how {
                Restoring::AtOnce => write!(
                    f,
                    "{ip} was taken off {interface} by something other than PureLB: it is put back"
                ),
                Restoring::WithPauses => write!(
                    f,
                    "something other than PureLB keeps taking {ip} off {interface}: it is put back with growing pauses"
                ),
            },
            Self::Unidentified { family, why, is_ambiguous, virtual_interface, agent: _ } => {
                if *is_ambiguous {
                    write!(
                        f,
                        "the local interface for {family} cannot be identified, its addresses go to {virtual_interface}: {why}"
                    )
                } else {
                    write!(f, "no local interface for {family}: {why}")
                }
            }
            Self::ServedAgain { ip, service: _ } => {
                write!(f, "{ip} can be had by a node again, or is no longer asked for")
            }
            Self::Unserved { ip, service: _, why } => write!(f, "no node has {ip}: {why}"),
            Self::Withheld { ip, service: _, why } => write!(f, "{ip} is not here: {why}"),
        }
    }
}

fn describe(action: &KernelAction) -> String {
    match action {
        KernelAction::AddAddress(new) => format!("add {} to {}", new.net, new.link),
        KernelAction::Advertise { ip, link, .. } => format!("advertise {ip} on {link}"),
        KernelAction::CreateVirtual { name, .. } => format!("create the virtual interface {name}"),
        KernelAction::DeleteVirtual { link } => format!("delete the virtual interface, {link}"),
        KernelAction::Heed { ip, link } => format!("listen for {ip} on {link}"),
        KernelAction::Probe { ip, link } => format!("ask for {ip} on {link}"),
        KernelAction::RemoveAddress(key) => format!("remove {key}"),
        KernelAction::SetAlias { link, .. } => format!("set the alias of {link}"),
        KernelAction::SetConf { link, .. } => format!("change the ARP settings of {link}"),
        KernelAction::Unheed { ip, link } => format!("stop listening for {ip} on {link}"),
    }
}
