//! What is to be done when: found by what and by when, both in O(log n).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeBounds;

use ipnet::IpNet;

use crate::host::{AddressKey, LinkIndex};
use crate::time::Tick;

/// At most one moment for each key.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "K: serde::Deserialize<'de> + Ord")))]
#[derive(Clone, Debug)]
pub(super) struct Agenda<K> {
    at: BTreeMap<K, Tick>,
    due: BTreeSet<(Tick, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), due: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Agenda<K> {
    /// Sets the moment of `key`; returns the one that it had.
    pub(super) fn put(&mut self, key: K, at: Tick) -> Option<Tick> {
        let before = self.remove(&key);
        self.at.insert(key, at);
        self.due.insert((at, key));
        before
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<Tick> {
        let at = self.at.remove(key)?;
        self.due.remove(&(at, *key));
        Some(at)
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.at.contains_key(key)
    }

    /// The earliest moment.
    pub(super) fn first(&self) -> Option<Tick> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A key whose moment has come, earliest first; it is removed.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<K> {
        let (at, key) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.remove(&key);
        Some(key)
    }

    /// All keys, in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.at.keys()
    }

    /// The keys within a range, in their order.
    fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.at.range(range).map(|(key, _)| key)
    }
}

/// Addresses on links, each with a moment, found by address alone too.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Waits(Agenda<(IpAddr, AddressKey)>);

impl Waits {
    /// Sets the moment of `key`; returns the one that it had.
    pub(super) fn put(&mut self, key: AddressKey, at: Tick) -> Option<Tick> {
        self.0.put((key.net.addr(), key), at)
    }

    pub(super) fn remove(&mut self, key: &AddressKey) {
        self.0.remove(&(key.net.addr(), *key));
    }

    pub(super) fn contains(&self, key: &AddressKey) -> bool {
        self.0.contains(&(key.net.addr(), *key))
    }

    /// The earliest moment.
    pub(super) fn first(&self) -> Option<Tick> {
        self.0.first()
    }

    /// One whose moment has come; it is removed.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<AddressKey> {
        self.0.take_due(now).map(|(_, key)| key)
    }

    /// All, by address.
    pub(super) fn keys(&self) -> impl Iterator<Item = &AddressKey> {
        self.0.keys().map(|(_, key)| key)
    }

    /// Those of one address.
    pub(super) fn of(&self, ip: IpAddr) -> impl Iterator<Item = &AddressKey> {
        self.within(ip.into())
    }

    /// Those of the addresses in a network.
    pub(super) fn within(&self, net: IpNet) -> impl Iterator<Item = &AddressKey> {
        let (first, last) = (net.network(), net.broadcast());
        let lowest = AddressKey { link: LinkIndex(0), net: lowest(first) };
        let from = self.0.range((first, lowest)..);
        from.map(|(_, key)| key).take_while(move |key| key.net.addr() <= last)
    }
}

/// What sorts before every other network with this address.
fn lowest(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(ip) => ipnet::Ipv4Net::new_assert(ip, 0).into(),
        IpAddr::V6(ip) => ipnet::Ipv6Net::new_assert(ip, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(link: u32, net: &str) -> AddressKey {
        AddressKey { link: LinkIndex(link), net: net.parse().unwrap() }
    }

    #[test]
    fn a_key_has_one_moment_and_comes_when_it_is_due() {
        let mut agenda = Agenda::default();
        assert_eq!(agenda.put('a', Tick::from_nanos(5)), None);
        agenda.put('b', Tick::from_nanos(3));
        assert_eq!(agenda.put('a', Tick::from_nanos(2)), Some(Tick::from_nanos(5)));
        assert_eq!(agenda.first(), Some(Tick::from_nanos(2)));
        assert_eq!(agenda.take_due(Tick::from_nanos(2)), Some('a'));
        assert_eq!(agenda.take_due(Tick::from_nanos(2)), None);
        assert_eq!(agenda.take_due(Tick::from_nanos(9)), Some('b'));
        assert_eq!(agenda.first(), None);
    }

    #[test]
    fn those_of_one_address_are_found_whatever_their_link_and_prefix_length() {
        let mut waits = Waits::default();
        let all = [key(7, "192.0.2.1/32"), key(1, "192.0.2.2/24"), key(3, "192.0.2.2/0")];
        for key in all {
            waits.put(key, Tick::START);
        }
        waits.put(key(1, "192.0.2.3/24"), Tick::START);
        let found: Vec<_> = waits.of("192.0.2.2".parse().unwrap()).copied().collect();
        assert_eq!(found, [all[1], all[2]]);
        let of_network = |net: &str| waits.within(net.parse().unwrap()).count();
        assert_eq!(of_network("192.0.2.2/31"), 3);
        assert_eq!(of_network("2001:db8::/64"), 0);
    }
}
