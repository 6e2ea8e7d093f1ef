//! Ranges of addresses, as pools write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::host::Family;

/// All addresses from one to another of the same family, both included.
///
/// Written as CIDR (`192.0.2.0/24`, `2001:db8::/64`) or as from–to (`192.0.2.10-192.0.2.20`, blanks
/// around the dash are fine). As in the Go PureLB a CIDR begins at the address **as written**:
/// `192.0.2.77/24` is .77 to .255.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// The range from `first` to `last`.
    ///
    /// # Errors
    ///
    /// If the families differ or `first` is above `last`.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        let family = Family::of(first);
        if family != Family::of(last) {
            return Err(RangeError::MixedFamilies { first, last });
        }
        if first > last {
            return Err(RangeError::Reversed { first, last });
        }
        Ok(Self { family, first: bits(first), last: bits(last) })
    }

    /// The same, of addresses as somebody wrote them: IPv4 ones in the garb of IPv6 on both sides are
    /// IPv4 ones.
    fn of_written(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V6(_), _) | (_, IpAddr::V6(_)) if Family::of(first) == Family::of(last) => {
                Self::new(first, last)
            }
            (first, last) => Self::new(first, last),
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        address(self.family, self.first)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        address(self.family, self.last)
    }

    /// How many addresses it holds; exact up to 2¹²⁸ − 1, where it saturates (`::/0` holds one more).
    pub fn size(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.offset(ip).is_some()
    }

    /// Whether any address is in both, containment included.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// Where in the range `ip` stands, counted from 0.
    pub fn offset(&self, ip: IpAddr) -> Option<u128> {
        let bits = bits(ip);
        let inside = Family::of(ip) == self.family && self.first <= bits && bits <= self.last;
        inside.then(|| bits - self.first)
    }

    /// The address whose number is `bits`, if it is one of them.
    pub(crate) fn at(&self, bits: u128) -> Option<IpAddr> {
        (self.first <= bits && bits <= self.last).then(|| address(self.family, bits))
    }

    /// The address that stands at `offset`, counted from 0.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let bits = self.first.checked_add(offset)?;
        (bits <= self.last).then(|| address(self.family, bits))
    }
}

impl From<IpNet> for AddressRange {
    /// Every address of the network, from its network address on.
    fn from(net: IpNet) -> Self {
        Self {
            family: Family::of(net.addr()),
            first: bits(net.network()),
            last: bits(net.broadcast()),
        }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let unreadable = || RangeError::Unreadable { text: text.to_owned() };
        if let Some((first, last)) = text.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| unreadable())?;
            let last: IpAddr = last.trim().parse().map_err(|_| unreadable())?;
            return Self::of_written(first, last);
        }
        let net: IpNet = text.trim().parse().map_err(|_| unreadable())?;
        Self::of_written(net.addr(), net.broadcast())
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

/// Why a text or a pair of addresses is no range.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One end is IPv4, the other IPv6.
    #[error("the range mixes families: {first} and {last}")]
    MixedFamilies {
        /// The lower end as given.
        first: IpAddr,
        /// The upper end as given.
        last: IpAddr,
    },
    /// The ends are the wrong way round.
    #[error("the range is reversed: {first} is above {last}")]
    Reversed {
        /// The lower end as given.
        first: IpAddr,
        /// The upper end as given.
        last: IpAddr,
    },
    /// The text is neither CIDR nor from–to.
    #[error(
        "cannot read {text:?} as a range: write a CIDR such as 192.0.2.0/24 or two addresses such as 192.0.2.10-192.0.2.20"
    )]
    Unreadable {
        /// The text as given.
        text: String,
    },
}

/// The address as a number.
pub(crate) fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The number as an address; the upper bits of an IPv4 one are zero by construction.
fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn cidr_begins_at_the_address_as_written() {
        let range = range("192.168.1.77/24");
        assert_eq!(range.size(), 179);
        assert_eq!(range.to_string(), "192.168.1.77-192.168.1.255");
        assert_eq!("2001:db8::1/112".parse::<AddressRange>().unwrap().size(), 65535);
    }

    #[test]
    fn sizes_are_exact_and_saturate_only_at_the_very_end() {
        assert_eq!(range("10.0.0.0/8").size(), 1 << 24);
        assert_eq!(range("2001:db8::/64").size(), 1 << 64);
        assert_eq!(range("0.0.0.0/0").size(), 1 << 32);
        assert_eq!(range("::/0").size(), u128::MAX);
    }

    #[test]
    fn from_to_may_have_blanks() {
        assert_eq!(range(" 1.1.1.1 - 1.1.1.1 ").size(), 1);
    }

    #[test]
    fn ipv4_in_the_garb_of_ipv6_is_ipv4_if_it_is_on_both_sides() {
        for text in ["::ffff:192.0.2.0/124", "::ffff:192.0.2.0-192.0.2.15"] {
            assert_eq!(range(text), range("192.0.2.0/28"), "{text}");
        }
        let wide = range("::/80");
        assert_eq!((wide.family(), wide.size()), (Family::V6, 1 << 48));
        assert_eq!(range(&wide.to_string()), wide);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in
            ["", "1.1.1.1", "1.1.X.1", "1.1.1.1/33", "100.200.300.400/24", "1.1.1.foo-1.1.1.2", "-"]
        {
            let error = text.parse::<AddressRange>().unwrap_err();
            assert!(matches!(error, RangeError::Unreadable { .. }), "{text}: {error}");
        }
        let error = "1.1.1.9-1.1.1.2".parse::<AddressRange>().unwrap_err();
        assert!(matches!(error, RangeError::Reversed { .. }));
        let error = "1.1.1.9-2001:db8::1".parse::<AddressRange>().unwrap_err();
        assert!(matches!(error, RangeError::MixedFamilies { .. }));
    }

    #[test]
    fn overlap_is_symmetric_and_sees_containment() {
        let (outer, inner) = (range("192.168.1.0/24"), range("192.168.1.100-192.168.1.110"));
        assert!(outer.overlaps(&inner) && inner.overlaps(&outer));
        assert!(!range("1.1.1.0/32").overlaps(&range("1.1.1.1/32")));
        assert!(range("1.1.1.0/31").overlaps(&range("1.1.1.1/32")));
        assert!(!range("0.0.0.0/0").overlaps(&range("::/0")));
    }

    #[test]
    fn nth_and_offset_are_inverse() {
        let range = range("192.0.2.250-192.0.3.5");
        for n in 0..range.size() {
            let ip = range.nth(n).unwrap();
            assert_eq!(range.offset(ip), Some(n));
        }
        assert_eq!(range.nth(range.size()), None);
        assert!(!range.contains("192.0.2.249".parse().unwrap()));
    }
}
