//! The annotations `purelb.io/announcing-IPv4` and `-IPv6`: who announces which address where.
//!
//! They only report. The text is a list, separated by blanks, of `node,interface,ip`, sorted by
//! address, one entry per address.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::host::Family;
use crate::name::NodeName;
use crate::service::Service;

/// Who announces which address, as one annotation has it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    slots: BTreeMap<IpAddr, Slot>,
}

/// One entry: a node and its interface.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The node that announces.
    pub node: NodeName,
    /// The interface that the address is on.
    pub interface: String,
}

impl Announcing {
    /// Reads an annotation. Entries that make no sense are dropped, as the Go PureLB does.
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<(IpAddr, Slot)> =
            text.split_whitespace().filter_map(parse_entry).collect();
        entries.sort();
        entries.reverse();
        // Later ones replace earlier ones: the lowest entry of an address stays.
        Self { slots: entries.into_iter().collect() }
    }

    /// What a Service's annotation of one family says.
    pub fn of(service: &Service, family: Family) -> Self {
        Self::parse(service.annotations.announcing(family).unwrap_or_default())
    }

    /// Who announces `ip`.
    pub fn slot(&self, ip: IpAddr) -> Option<&Slot> {
        self.slots.get(&ip.to_canonical())
    }

    /// Claims `ip`, and drops every address that is not among `ingress`.
    #[must_use]
    pub fn claimed(&self, ip: IpAddr, slot: Slot, ingress: &[IpAddr]) -> Self {
        let mut slots = self.slots.clone();
        slots.insert(ip.to_canonical(), slot);
        slots.retain(|ip, _| ingress.iter().any(|wanted| wanted.to_canonical() == *ip));
        Self { slots }
    }

    /// Gives up `ip` if `node` has it.
    #[must_use]
    pub fn released(&self, ip: IpAddr, node: &NodeName) -> Self {
        let mut slots = self.slots.clone();
        slots.retain(|held, slot| *held != ip.to_canonical() || slot.node != *node);
        Self { slots }
    }

    /// The entries of `node` for addresses among `ingress`.
    #[must_use]
    pub fn only_of(&self, node: &NodeName, ingress: &[IpAddr]) -> Self {
        let mut slots = self.slots.clone();
        slots.retain(|ip, slot| {
            slot.node == *node && ingress.iter().any(|wanted| wanted.to_canonical() == *ip)
        });
        Self { slots }
    }

    /// With the entries of `other` for addresses that it has none for.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (ip, slot) in &other.slots {
            self.slots.entry(*ip).or_insert_with(|| slot.clone());
        }
        self
    }

    /// Whether nobody announces anything: the annotation is to be removed.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl fmt::Display for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (ip, slot)) in self.slots.iter().enumerate() {
            let blank = if n == 0 { "" } else { " " };
            write!(f, "{blank}{},{},{ip}", slot.node, slot.interface)?;
        }
        Ok(())
    }
}

/// The node ends at the first comma, the address begins after the last; an interface may have some.
fn parse_entry(entry: &str) -> Option<(IpAddr, Slot)> {
    let (node, rest) = entry.split_once(',')?;
    let (interface, ip) = rest.rsplit_once(',')?;
    if node.is_empty() || interface.is_empty() {
        return None;
    }
    let ip = IpAddr::from_str(ip).ok()?.to_canonical();
    Some((ip, Slot { node: node.into(), interface: interface.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_well_formed_annotation_survives_a_round_trip_sorted() {
        let text = "kn2,eth0,192.0.2.101 kn1,bond0,1,192.0.2.9";
        assert_eq!(
            Announcing::parse(text).to_string(),
            "kn1,bond0,1,192.0.2.9 kn2,eth0,192.0.2.101"
        );
    }

    #[test]
    fn entries_that_make_no_sense_are_dropped() {
        for text in [
            "kn1",
            "kn1,eth0",
            ",eth0,192.0.2.1",
            "kn1,,192.0.2.1",
            "kn1,eth0,fe80::1%eth0",
            "a,b,c",
        ] {
            assert!(Announcing::parse(text).is_empty(), "{text}");
        }
        let mapped = Announcing::parse("kn1,eth0,::ffff:192.0.2.1");
        assert_eq!(mapped.to_string(), "kn1,eth0,192.0.2.1");
    }

    #[test]
    fn a_claim_replaces_the_slot_and_sweeps_departed_addresses() {
        let before = Announcing::parse("kn1,eth0,192.0.2.1 kn1,eth0,192.0.2.2");
        let slot = Slot { node: "kn2".into(), interface: "eth1".into() };
        let after = before.claimed(ip("192.0.2.1"), slot, &[ip("192.0.2.1")]);
        assert_eq!(after.to_string(), "kn2,eth1,192.0.2.1");
        assert_eq!(after.released(ip("192.0.2.1"), &"kn1".into()), after);
        assert!(after.released(ip("192.0.2.1"), &"kn2".into()).is_empty());
    }
}
