//! Placement: where on this node an address belongs, before any node is elected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::group::{Announce, Group};
use crate::host::{Family, LinkIndex};
use crate::link::Unidentified;

/// Where on this node an address belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On a local interface, of the one node that is elected.
    Local {
        /// The interface.
        link: LinkIndex,
        /// The address with the prefix length of its subnet.
        net: IpNet,
    },
    /// Nowhere on this node.
    Nowhere(Nowhere),
    /// On the virtual interface.
    Virtual {
        /// The address with its prefix length there.
        net: IpNet,
        /// Why there.
        why: Virtual,
    },
}

/// Why an address goes to the virtual interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Virtual {
    /// Its group is remote: routing software advertises it from every node.
    Remote,
    /// This node's local interface cannot be identified.
    Unidentified,
}

/// Why an address belongs nowhere on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// No local interface of this node is in a subnet that holds it.
    NoSubnet,
    /// The local interface could not be identified, and not for having too many default routes.
    Unidentified(Unidentified),
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSubnet => f.write_str("in no subnet of a local interface of this node"),
            Self::Unidentified(why) => write!(f, "the local interface is not identified: {why}"),
        }
    }
}

/// The local interfaces of a node for one family, in order of preference, with their subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNet {
    /// The interfaces, the preferred one first.
    pub links: Vec<(LinkIndex, BTreeSet<IpNet>)>,
    /// Why the local interface could not be identified, if so.
    pub unidentified: Option<Unidentified>,
}

impl LocalNet {
    /// Every subnet of every interface.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.links.iter().flat_map(|(_, subnets)| subnets.iter().copied())
    }

    /// The first interface with a subnet that holds `ip`, with the smallest such subnet.
    pub fn find(&self, ip: IpAddr) -> Option<(LinkIndex, IpNet)> {
        self.links.iter().find_map(|(link, subnets)| {
            let holding = subnets.iter().filter(|subnet| subnet.contains(&ip));
            holding.max_by_key(|subnet| subnet.prefix_len()).map(|subnet| (*link, *subnet))
        })
    }
}

/// Finds where on this node `ip` belongs. The first that applies:
///
/// 1. inside a subnet of a local interface: there, with that subnet's prefix length;
/// 2. remote: on the virtual interface, with the prefix length that its pool's aggregation says;
/// 3. the local interface has too many default routes to be identified: on the virtual interface,
///    with a host prefix (the subnet's prefix there would shadow the interface's own route);
/// 4. nowhere.
pub fn placement(ip: IpAddr, origin: Option<PoolFacts>, local: &LocalNet) -> Placement {
    let bits = Family::of(ip).bits();
    let with_prefix = |len: u8| IpNet::new_assert(ip, len.min(bits));
    if let Some((link, subnet)) = local.find(ip) {
        return Placement::Local { link, net: with_prefix(subnet.prefix_len()) };
    }
    if let Some(PoolFacts { announce: Announce::Remote, prefix_len }) = origin {
        return Placement::Virtual { net: with_prefix(prefix_len), why: Virtual::Remote };
    }
    match &local.unidentified {
        None => Placement::Nowhere(Nowhere::NoSubnet),
        Some(why) if why.is_ambiguous() => {
            Placement::Virtual { net: with_prefix(bits), why: Virtual::Unidentified }
        }
        Some(why) => Placement::Nowhere(Nowhere::Unidentified(why.clone())),
    }
}

/// What the pool that an address came from says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolFacts {
    /// How it reaches the world.
    pub announce: Announce,
    /// Its prefix length on the virtual interface.
    pub prefix_len: u8,
}

/// All pools of all groups, for finding the one that an address came from.
#[derive(Clone, Debug, Default)]
pub struct PoolIndex {
    /// By first address; no two overlap.
    ranges: BTreeMap<IpAddr, (IpAddr, PoolFacts)>,
}

impl PoolIndex {
    /// Indexes the pools of `groups`. Where two overlap, the one of the group that sorts first
    /// counts, as it does for the allocator.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Self {
        let mut index = Self::default();
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        for group in groups {
            for pool in group.pools() {
                let (first, last) = (pool.range.first(), pool.range.last());
                let before = index.ranges.range(..=last).next_back();
                if before.is_some_and(|(_, (end, _))| *end >= first) {
                    continue;
                }
                let facts = PoolFacts { announce: group.announce, prefix_len: pool.prefix_len() };
                index.ranges.insert(first, (last, facts));
            }
        }
        index
    }

    /// What the pool that holds `ip` says of it.
    pub fn find(&self, ip: IpAddr) -> Option<PoolFacts> {
        let (_, (last, facts)) = self.ranges.range(..=ip).next_back()?;
        (ip <= *last).then_some(*facts)
    }
}
