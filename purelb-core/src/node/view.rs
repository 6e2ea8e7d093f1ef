//! What an agent knows and has decided, as plain data to show.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{LocalSpec, Node};
use crate::host::{Address, Family, Link, LinkIndex, Route};
use crate::lease::LeaseContent;
use crate::link::Unidentified;
use crate::membership::Liveness;
use crate::name::{NodeName, ServiceKey};

use super::notice::AgentRef;
use super::verdict::{Exclusion, NotConfigured, Verdict};
use super::{NodeAgent, Want};

/// All that an agent knows and has decided: the facts, and beside each address the verdict.
///
/// It is read out of the machine that decides, so what it tells is why something is so, not a second
/// opinion. [`NodeAgent::view`] makes one.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The node.
    pub node: NodeName,
    /// Whether everything has been listed once, so that decisions are made.
    pub is_ready: bool,
    /// How the node is configured to announce; `None` before decisions are made.
    pub config: Option<ConfigView>,
    /// The local interfaces of each family, IPv4 first.
    pub local: Vec<LocalView>,
    /// How long the right to hold local addresses still runs, if it does.
    pub right: Option<Duration>,
    /// The leases of all nodes by name, this one's last.
    pub leases: Vec<LeaseView>,
    /// Every address that Services ask for.
    pub addresses: Vec<AddressView>,
    /// What the kernel shows.
    pub host: HostFacts,
}

/// How a node is configured to announce.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigView {
    /// The LBNodeAgent that governs it, as `namespace/name`.
    pub agent: Option<String>,
    /// What that says, or why it says nothing.
    pub spec: Result<LocalSpec, NotConfigured>,
    /// Why the node takes no load balancer traffic, if so.
    pub exclusion: Option<Exclusion>,
}

/// The local interfaces of one family.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalView {
    /// The family.
    pub family: Family,
    /// The interfaces, the preferred one first, each with the subnets that it can serve.
    pub links: Vec<(LinkIndex, BTreeSet<IpNet>)>,
    /// Why the local interface could not be identified, if so.
    pub unidentified: Option<Unidentified>,
}

/// A node's lease as this agent sees it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The node.
    pub node: NodeName,
    /// What its lease says.
    pub content: LeaseContent,
    /// Whether it counts.
    pub liveness: Liveness,
}

/// An address that Services ask for.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The address.
    pub ip: IpAddr,
    /// The Services.
    pub services: BTreeSet<ServiceKey>,
    /// What was decided, and why; `None` before decisions are made.
    pub verdict: Option<Verdict>,
    /// Whether only nodes with a ready endpoint may hold it on a local interface.
    pub is_narrowed: bool,
    /// Whether this node has a ready endpoint of one of the Services; meaningful while it matters.
    pub has_endpoint: bool,
    /// The nodes that could hold it on a local interface, by live lease, the winner first.
    pub candidates: Vec<NodeName>,
    /// Where the kernel shows it.
    pub shown: Vec<Address>,
}

/// What a kernel shows of its host, as far as decisions rest on it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Links, by number.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Default routes, and routes to directly connected prefixes.
    pub routes: Vec<Route>,
}

impl HostFacts {
    /// The name of a link, or its number if it is gone.
    pub fn link_name(&self, index: LinkIndex) -> String {
        self.links
            .iter()
            .find(|link| link.index == index)
            .map_or_else(|| index.to_string(), |link| link.name.clone())
    }
}

impl NodeAgent {
    /// All that this agent knows and has decided. Costs as much as there is to tell: not for every
    /// pass.
    pub fn view(&self) -> View {
        View {
            node: self.me.clone(),
            is_ready: self.is_ready(),
            config: self.config.as_ref().map(|config| ConfigView {
                agent: config
                    .agent
                    .as_ref()
                    .map(|AgentRef { name, .. }| format!("{}/{}", name.0, name.1)),
                spec: config.spec.clone(),
                exclusion: config.exclusion,
            }),
            local: self
                .local
                .iter()
                .map(|(family, election)| LocalView {
                    family: *family,
                    links: election.net().links.clone(),
                    unidentified: election.net().unidentified.clone(),
                })
                .collect(),
            right: self.right().map(|end| end.since(self.now)),
            leases: self
                .membership
                .leases()
                .map(|(node, content, liveness)| LeaseView {
                    node: node.clone(),
                    content: content.clone(),
                    liveness,
                })
                .collect(),
            addresses: self.wants.iter().map(|(ip, want)| self.address_view(*ip, want)).collect(),
            host: HostFacts {
                links: self.links.iter().cloned().collect(),
                addresses: self.addresses.iter().cloned().collect(),
                routes: self.routes.iter().cloned().collect(),
            },
        }
    }

    /// What this agent knows and has decided about one address, if a Service asks for it.
    pub fn view_of(&self, ip: IpAddr) -> Option<AddressView> {
        self.wants.get(&ip).map(|want| self.address_view(ip, want))
    }

    /// This node's own Node object, if it was told of it.
    pub fn node(&self) -> Option<&Node> {
        self.node.get(&self.me)
    }

    /// The links of this host that it was told of.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter()
    }

    /// The addresses of ours on this host, as last observed; `None` before they were listed.
    pub fn own_addresses(&self) -> Option<impl Iterator<Item = &Address>> {
        let own = self.addresses.iter().filter(|address| address.is_ours());
        self.addresses.is_listed().then_some(own)
    }

    fn address_view(&self, ip: IpAddr, want: &Want) -> AddressView {
        let is_narrowed = self.is_narrowed(want);
        AddressView {
            ip,
            services: want.services.iter().cloned().collect(),
            verdict: want.verdict.clone(),
            is_narrowed,
            has_endpoint: self.has_endpoint(want),
            candidates: self.membership.ranking(ip, is_narrowed).into_iter().cloned().collect(),
            shown: self.addresses.of(ip).cloned().collect(),
        }
    }
}
