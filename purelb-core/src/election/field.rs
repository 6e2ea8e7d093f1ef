//! Who stands for election, found by address at a cost that does not grow with the number of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::host::Family;
use crate::lease::LeaseContent;
use crate::name::NodeName;

/// The candidates for an address, in the order of their names.
pub(super) type Candidates = Arc<[NodeName]>;

/// All candidates there are, by what they serve. It answers what [`electorate`](super::electorate)
/// answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    /// Who serves a subnet, or one that it is part of.
    serving: BTreeMap<IpNet, Candidates>,
    /// Who lists an address beyond others.
    listing: BTreeMap<IpAddr, Candidates>,
    /// The prefix lengths of the subnets.
    lengths: BTreeMap<Family, BTreeSet<u8>>,
}

impl Field {
    /// The field of these leases. Candidates that are the same as in `before` stay the same set.
    pub(super) fn of<'a>(
        live: impl IntoIterator<Item = (&'a NodeName, &'a LeaseContent)>,
        before: &Self,
    ) -> Self {
        let mut by_subnet: BTreeMap<IpNet, Vec<&NodeName>> = BTreeMap::new();
        let mut by_listing: BTreeMap<IpAddr, Vec<&NodeName>> = BTreeMap::new();
        for (node, content) in live {
            for net in &content.subnets {
                by_subnet.entry(net.trunc()).or_default().push(node);
            }
            for ip in &content.lists {
                if content.subnets.iter().any(|net| net.contains(ip)) {
                    by_listing.entry(*ip).or_default().push(node);
                }
            }
        }
        let mut field = Self::default();
        for net in by_subnet.keys() {
            field.lengths.entry(Family::of(net.addr())).or_default().insert(net.prefix_len());
        }
        for (net, nodes) in &by_subnet {
            let wider = field.subnets_of(net.addr()).filter(|wider| wider.contains(net));
            let wider =
                wider.filter(|wider| wider != net).filter_map(|wider| by_subnet.get(&wider));
            let all = wider.flatten().chain(nodes).copied().collect();
            field.serving.insert(*net, same_or_new(before.serving.get(net), all));
        }
        let listing = by_listing.into_iter();
        field.listing =
            listing.map(|(ip, nodes)| (ip, same_or_new(before.listing.get(&ip), nodes))).collect();
        field
    }

    /// The nodes among which `ip` is elected, if any, and whether they are those that list it.
    pub(super) fn electorate(&self, ip: IpAddr, narrowed: bool) -> Option<(&Candidates, bool)> {
        if let Some(listing) = self.listing.get(&ip) {
            return Some((listing, true));
        }
        if narrowed {
            return None;
        }
        let serving = self.subnets_of(ip).find_map(|net| self.serving.get(&net))?;
        Some((serving, false))
    }

    /// The networks around `ip` of every length that a subnet has, the narrowest first.
    fn subnets_of(&self, ip: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths.get(&Family::of(ip)).into_iter().flatten().rev();
        lengths.filter_map(move |length| Some(IpNet::new(ip, *length).ok()?.trunc()))
    }
}

fn same_or_new(before: Option<&Candidates>, mut nodes: Vec<&NodeName>) -> Candidates {
    nodes.sort_unstable();
    nodes.dedup();
    match before.filter(|before| before.iter().eq(nodes.iter().copied())) {
        Some(before) => Arc::clone(before),
        None => nodes.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::election::electorate;

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..16_u8).prop_map(|n| IpAddr::from([192, 0, 2, n])),
            (0..16_u16).prop_map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])),
        ]
    }

    fn subnet() -> impl Strategy<Value = IpNet> {
        (ip(), 0..8_u8).prop_map(|(ip, wider)| {
            let longest = IpNet::from(ip).prefix_len();
            IpNet::new(ip, longest - wider).unwrap()
        })
    }

    fn content() -> impl Strategy<Value = LeaseContent> {
        (btree_set(subnet(), 0..4), btree_set(ip(), 0..4))
            .prop_map(|(subnets, lists)| LeaseContent { subnets, lists, ..LeaseContent::default() })
    }

    proptest! {
        /// Whatever subnets lie within each other, and with two leases of one node.
        #[test]
        fn it_names_the_candidates_that_a_look_at_every_lease_finds(
            leases in vec((0..6_u8, content()), 0..8),
            others in vec((0..6_u8, content()), 0..8),
            asked in vec((ip(), any::<bool>()), 1..20),
        ) {
            let name = |n: u8| NodeName::from(format!("node-{n}"));
            let mut field = Field::default();
            for leases in [leases, others] {
                let leases: Vec<_> = leases.into_iter().map(|(n, said)| (name(n), said)).collect();
                let live = || leases.iter().map(|(node, content)| (node, content));
                field = Field::of(live(), &field);
                for (ip, narrowed) in &asked {
                    let (expected, by_listing) = electorate(*ip, *narrowed, live());
                    let expected: BTreeSet<&NodeName> = expected.into_iter().collect();
                    match field.electorate(*ip, *narrowed) {
                        None => prop_assert!(expected.is_empty()),
                        Some((found, listed)) => {
                            prop_assert_eq!(listed, by_listing);
                            prop_assert!(found.iter().eq(expected));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn candidates_that_stay_are_the_same_set() {
        let node = NodeName::from("a");
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let lease = |nets: &[IpNet]| LeaseContent {
            subnets: nets.iter().copied().collect(),
            ..LeaseContent::default()
        };
        let first = Field::of([(&node, &lease(&[net("192.0.2.0/24")]))], &Field::default());
        let both = lease(&[net("192.0.2.0/24"), net("198.51.100.0/24")]);
        let second = Field::of([(&node, &both)], &first);
        let ip = IpAddr::from([192, 0, 2, 1]);
        let found = |field: &Field| Arc::as_ptr(field.electorate(ip, false).unwrap().0);
        assert_eq!(found(&first), found(&second));
    }
}
