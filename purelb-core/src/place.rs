//! Placement: where on this node an address belongs, before any node is elected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::group::{Announce, Group};
use crate::host::{Family, LinkIndex};
use crate::link::Unidentified;

/// Where on this node an address belongs.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Virtual {
    /// Its group is remote: routing software advertises it from every node.
    Remote,
    /// This node's local interface cannot be identified.
    Unidentified,
}

/// Why an address belongs nowhere on this node.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
///
/// Those that packets can leave by come before those without carrier, whatever was configured.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolFacts {
    /// How it reaches the world.
    pub announce: Announce,
    /// Its prefix length on the virtual interface.
    pub prefix_len: u8,
}

/// All pools of all groups, for finding the one that an address came from.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};

    const REMOTE: Option<PoolFacts> =
        Some(PoolFacts { announce: Announce::Remote, prefix_len: 24 });
    const LOCAL: Option<PoolFacts> = Some(PoolFacts { announce: Announce::Local, prefix_len: 24 });

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn serving(links: &[(u32, &[&str])]) -> LocalNet {
        let links = links.iter().map(|(link, subnets)| {
            (LinkIndex(*link), subnets.iter().map(|text| net(text)).collect())
        });
        LocalNet { links: links.collect(), unidentified: None }
    }

    fn ambiguous() -> LocalNet {
        let why = Unidentified::ManyDefaultRoutes { family: Family::V4, routes: vec![] };
        LocalNet { links: vec![], unidentified: Some(why) }
    }

    #[test]
    fn an_address_of_a_local_subnet_is_local_whatever_its_group_is() {
        let local = serving(&[(2, &["192.0.2.0/24"])]);
        let wanted = Placement::Local { link: LinkIndex(2), net: net("192.0.2.9/24") };
        for origin in [REMOTE, LOCAL, None] {
            assert_eq!(placement(ip("192.0.2.9"), origin, &local), wanted);
        }
    }

    #[test]
    fn the_preferred_link_wins_then_the_smallest_subnet() {
        let local = serving(&[(3, &["192.0.2.0/24", "192.0.2.0/28"]), (2, &["192.0.2.0/30"])]);
        let wanted = Placement::Local { link: LinkIndex(3), net: net("192.0.2.1/28") };
        assert_eq!(placement(ip("192.0.2.1"), LOCAL, &local), wanted);
    }

    #[test]
    fn a_remote_address_is_virtual_with_its_aggregation() {
        let local = serving(&[(2, &["192.0.2.0/24"])]);
        for local in [local, ambiguous(), LocalNet::default()] {
            let wanted = Placement::Virtual { net: net("198.51.100.7/24"), why: Virtual::Remote };
            assert_eq!(placement(ip("198.51.100.7"), REMOTE, &local), wanted);
        }
    }

    #[test]
    fn too_many_default_routes_put_it_on_the_virtual_interface_with_a_host_prefix() {
        let wanted = Placement::Virtual { net: net("192.0.2.9/32"), why: Virtual::Unidentified };
        assert_eq!(placement(ip("192.0.2.9"), LOCAL, &ambiguous()), wanted);
        let wanted = Placement::Virtual { net: net("2001:db8::9/128"), why: Virtual::Unidentified };
        assert_eq!(placement(ip("2001:db8::9"), None, &ambiguous()), wanted);
    }

    #[test]
    fn no_default_route_at_all_withholds_it_with_the_reason() {
        let why = Unidentified::NoDefaultRoute { family: Family::V4 };
        let local = LocalNet { links: vec![], unidentified: Some(why.clone()) };
        let wanted = Placement::Nowhere(Nowhere::Unidentified(why));
        assert_eq!(placement(ip("192.0.2.9"), LOCAL, &local), wanted);
        let elsewhere = serving(&[(2, &["198.51.100.0/24"])]);
        let wanted = Placement::Nowhere(Nowhere::NoSubnet);
        assert_eq!(placement(ip("192.0.2.9"), LOCAL, &elsewhere), wanted);
    }

    #[test]
    fn the_index_finds_the_pool_of_the_group_that_sorts_first() {
        let group = |name: &str, pool: &str, aggregation: Option<&str>| {
            let spec = PoolSpec {
                field: "v4pool".into(),
                pool: pool.into(),
                subnet: "10.0.0.0/8".into(),
                aggregation: aggregation.map(str::to_owned),
            };
            let pools = PoolsSpec { v4: vec![spec], ..PoolsSpec::default() };
            Group::parse(&ServiceGroup::new(name, name, GroupSpec::Remote { pools })).unwrap()
        };
        let groups = [
            group("b", "10.1.0.0/16", Some("/32")),
            group("a", "10.1.2.0/24", None),
            group("c", "10.9.0.0-10.9.0.5", Some("/24")),
        ];
        let index = PoolIndex::new(&groups);
        assert_eq!(index.find(ip("10.1.2.3")).map(|facts| facts.prefix_len), Some(8));
        assert_eq!(index.find(ip("10.1.3.3")), None, "b overlaps a and is refused");
        assert_eq!(index.find(ip("10.9.0.5")).map(|facts| facts.prefix_len), Some(24));
        assert_eq!(index.find(ip("10.9.0.6")), None);
        assert_eq!(index.find(ip("2001:db8::1")), None);
    }
}
