//! Messages from the kernel as links, addresses and routes. Pure.
//!
//! Only the attributes that decisions rest on are looked at. An attribute of a newer kernel or of
//! an exotic driver, however odd, can therefore never make an interface invisible. The layouts are
//! those of `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h` and `linux/ip.h`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE};
use purelb_core::host::{
    Address, AddressFlags, AddressKey, Family, Link, LinkConf, LinkIndex, LinkKind, Scope,
};
use purelb_core::store::Object;

use crate::route::{Destination, Entry, Hop, Insertion};
use crate::wire::{self, Malformed, RawMessage, bytes, bytes_at, for_each_attribute, number};

const IFA_PROTO: u16 = 11;
const IFLA_INET_CONF: u16 = 1;
const RTA_NH_ID: u16 = 30;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u32 = 1;
const ARPHRD_ETHER: u16 = 1;
const FOREVER: u32 = u32::MAX;

/// Positions in `IFLA_INET_CONF`, one less than `IPV4_DEVCONF_*` of `linux/ip.h`.
mod devconf {
    pub(super) const ARP_ANNOUNCE: usize = 17;
    pub(super) const ARP_IGNORE: usize = 18;
    pub(super) const PROMOTE_SECONDARIES: usize = 19;
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This address is gone. Addresses that differ in their peer alone, the other end of a
    /// point-to-point link, are two to the kernel.
    AddressGone(AddressKey, Option<IpAddr>),
    /// This address, with this peer, is new or has changed.
    AddressIs(Address, Option<IpAddr>),
    /// This link is gone.
    LinkGone(LinkIndex),
    /// This link is new or has changed.
    LinkIs(Link),
    /// The nexthop object of this number is new or has changed.
    NexthopChanged(u32),
    /// The nexthop object of this number is gone.
    NexthopGone(u32),
    /// Nothing that matters here.
    Other,
    /// This route of the main table is gone.
    RouteGone(Destination, Entry),
    /// This route of the main table is new or has changed.
    RouteIs(Destination, Entry, Insertion),
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    ///
    /// If the body does not follow the layout of its type.
    pub fn decode(raw: &RawMessage<'_>) -> Result<Self, Malformed> {
        match raw.kind {
            libc::RTM_NEWLINK => Ok(link(raw.body)?.map_or(Self::Other, Self::LinkIs)),
            libc::RTM_DELLINK => Ok(link_header(raw.body)?.map_or(Self::Other, Self::LinkGone)),
            libc::RTM_NEWADDR => {
                let found = address(raw.body)?;
                Ok(found.map_or(Self::Other, |(address, peer)| Self::AddressIs(address, peer)))
            }
            libc::RTM_DELADDR => {
                let found = address(raw.body)?;
                Ok(found
                    .map_or(Self::Other, |(address, peer)| Self::AddressGone(address.key(), peer)))
            }
            libc::RTM_NEWROUTE => {
                let insertion = Insertion {
                    append: raw.flags & NLM_F_APPEND != 0,
                    exclusive: raw.flags & NLM_F_EXCL != 0,
                    replace: raw.flags & NLM_F_REPLACE != 0,
                };
                let found = route(raw.body)?;
                Ok(found.map_or(Self::Other, |(to, entry)| Self::RouteIs(to, entry, insertion)))
            }
            libc::RTM_DELROUTE => {
                let found = route(raw.body)?;
                Ok(found.map_or(Self::Other, |(to, entry)| Self::RouteGone(to, entry)))
            }
            RTM_NEWNEXTHOP => Ok(nexthop(raw.body)?.map_or(Self::Other, Self::NexthopChanged)),
            RTM_DELNEXTHOP => Ok(nexthop(raw.body)?.map_or(Self::Other, Self::NexthopGone)),
            _ => Ok(Self::Other),
        }
    }
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
const LINK_HEADER: usize = 16;

fn link_header(body: &[u8]) -> Result<Option<LinkIndex>, Malformed> {
    let [family, ..] = bytes::<LINK_HEADER>(body)?;
    // A bridge tells of its ports with the same message types and its own family: a port that
    // leaves the bridge is an RTM_DELLINK of a link that stays.
    if i32::from(family) != libc::AF_UNSPEC {
        return Ok(None);
    }
    Ok(Some(LinkIndex(u32::from_ne_bytes(bytes_at(body, 4)?))))
}

fn link(body: &[u8]) -> Result<Option<Link>, Malformed> {
    let Some(index) = link_header(body)? else { return Ok(None) };
    let device = u16::from_ne_bytes(bytes_at(body, 2)?);
    let flags = u32::from_ne_bytes(bytes_at(body, 8)?);
    let has = |flag: libc::c_int| flags & flag.unsigned_abs() != 0;
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        kind: LinkKind::Other,
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        loopback: has(libc::IFF_LOOPBACK),
        alias: String::new(),
        conf: LinkConf::default(),
    };
    for_each_attribute(&body[LINK_HEADER..], |kind, value| {
        match kind {
            libc::IFLA_ADDRESS if device == ARPHRD_ETHER => link.mac = value.try_into().ok(),
            libc::IFLA_IFNAME => link.name = wire::text(value),
            libc::IFLA_IFALIAS => link.alias = wire::text(value),
            libc::IFLA_LINKINFO => link.kind = link_kind(value)?,
            libc::IFLA_AF_SPEC => link.conf = link_conf(value)?,
            _ => {}
        }
        Ok(())
    })?;
    // Events of wireless drivers come as links without a name and most of the rest.
    Ok((!link.name.is_empty()).then_some(link))
}

fn link_kind(value: &[u8]) -> Result<LinkKind, Malformed> {
    let mut found = LinkKind::Other;
    for_each_attribute(value, |kind, value| {
        if kind == libc::IFLA_INFO_KIND {
            found = match wire::text(value).as_str() {
                "bridge" => LinkKind::Bridge,
                "dummy" => LinkKind::Dummy,
                _ => LinkKind::Other,
            };
        }
        Ok(())
    })?;
    Ok(found)
}

fn link_conf(value: &[u8]) -> Result<LinkConf, Malformed> {
    let mut conf = LinkConf::default();
    for_each_attribute(value, |family, value| {
        if i32::from(family) != libc::AF_INET {
            return Ok(());
        }
        for_each_attribute(value, |kind, value| {
            if kind == IFLA_INET_CONF {
                let at = |position: usize| bytes_at(value, position * 4).map(i32::from_ne_bytes);
                conf.arp_announce = at(devconf::ARP_ANNOUNCE)?;
                conf.arp_ignore = at(devconf::ARP_IGNORE)?;
                conf.promote_secondaries = at(devconf::PROMOTE_SECONDARIES)?;
            }
            Ok(())
        })
    })?;
    Ok(conf)
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index (4).
const ADDRESS_HEADER: usize = 8;

fn address(body: &[u8]) -> Result<Option<(Address, Option<IpAddr>)>, Malformed> {
    let [family, prefix, flags, scope, ..] = bytes::<ADDRESS_HEADER>(body)?;
    let Some(family) = family_of(family) else { return Ok(None) };
    let mut flags = u32::from(flags);
    let (mut local, mut other, mut broadcast) = (None, None, None);
    let (mut mark, mut valid) = (0, FOREVER);
    for_each_attribute(&body[ADDRESS_HEADER..], |kind, value| {
        match kind {
            libc::IFA_ADDRESS => other = Some(ip(family, value)?),
            libc::IFA_LOCAL => local = Some(ip(family, value)?),
            libc::IFA_BROADCAST => broadcast = Some(ip(family, value)?),
            libc::IFA_FLAGS => flags = number(value)?,
            // struct ifa_cacheinfo: preferred, valid, created, updated.
            libc::IFA_CACHEINFO => valid = number(value.get(4..).unwrap_or_default())?,
            IFA_PROTO => [mark] = bytes(value)?,
            _ => {}
        }
        Ok(())
    })?;
    let Some(ip) = local.or(other) else {
        return Err(Malformed::new("an address message holds no address"));
    };
    let net = IpNet::new(ip, prefix).map_err(|_| Malformed::new("a prefix is too long"))?;
    let has = |flag: u32| flags & flag != 0;
    let address = Address {
        link: LinkIndex(u32::from_ne_bytes(bytes_at(body, 4)?)),
        net,
        broadcast,
        flags: AddressFlags {
            dad_failed: has(libc::IFA_F_DADFAILED),
            deprecated: has(libc::IFA_F_DEPRECATED),
            no_dad: has(libc::IFA_F_NODAD),
            no_prefix_route: has(libc::IFA_F_NOPREFIXROUTE),
            // IPv6 uses the same bit for temporary addresses.
            secondary: family == Family::V4 && has(libc::IFA_F_SECONDARY),
            tentative: has(libc::IFA_F_TENTATIVE),
        },
        scope: match scope {
            libc::RT_SCOPE_UNIVERSE => Scope::Global,
            libc::RT_SCOPE_HOST => Scope::Host,
            libc::RT_SCOPE_LINK => Scope::Link,
            other => Scope::Other(other),
        },
        mark,
        valid: (valid != FOREVER).then_some(valid),
    };
    Ok(Some((address, other.filter(|other| *other != ip))))
}

/// `struct rtmsg`: family, destination length, source length, tos, table, protocol, scope, type,
/// flags (4).
const ROUTE_HEADER: usize = 12;

fn route(body: &[u8]) -> Result<Option<(Destination, Entry)>, Malformed> {
    let [family, prefix, from, tos, table, protocol, scope, kind, ..] =
        bytes::<ROUTE_HEADER>(body)?;
    let flags = u32::from_ne_bytes(bytes_at(body, 8)?);
    let Some(family) = family_of(family) else { return Ok(None) };
    // A route for packets from some prefix only says nothing about where the rest goes.
    if flags & RTM_F_CLONED != 0 || from != 0 {
        return Ok(None);
    }
    let (mut destination, mut metric, mut table) = (None, 0, u32::from(table));
    let (mut source, mut nexthop_id, mut hops) = (None, None, Vec::new());
    let (mut link, mut gateway) = (None, None);
    let mut extras = DefaultHasher::new();
    // A message about several next hops of IPv6 gives one's metrics for all.
    let has_extras = family == Family::V4;
    for_each_attribute(&body[ROUTE_HEADER..], |kind, value| {
        match kind {
            libc::RTA_DST => destination = Some(ip(family, value)?),
            libc::RTA_OIF => link = Some(LinkIndex(number(value)?)),
            libc::RTA_GATEWAY => gateway = Some(ip(family, value)?),
            libc::RTA_VIA => gateway = via(value)?,
            libc::RTA_PRIORITY => metric = number(value)?,
            libc::RTA_PREFSRC if family == Family::V4 => source = Some(ip(family, value)?),
            libc::RTA_MULTIPATH => hops = multipath(family, value, &mut extras)?,
            libc::RTA_TABLE => table = number(value)?,
            RTA_NH_ID => nexthop_id = Some(number(value)?),
            libc::RTA_METRICS | libc::RTA_FLOW | libc::RTA_ENCAP if has_extras => {
                (kind, value).hash(&mut extras);
            }
            _ => {}
        }
        Ok(())
    })?;
    if table != u32::from(libc::RT_TABLE_MAIN) {
        return Ok(None);
    }
    if let Some(link) = link {
        hops.insert(0, Hop { link, gateway, dead: flags & RTNH_F_DEAD != 0 });
    }
    let destination = IpNet::new(destination.unwrap_or_else(|| family.everything().addr()), prefix)
        .map_err(|_| Malformed::new("a prefix is too long"))?
        .trunc();
    let extras = if has_extras { extras.finish() } else { 0 };
    let entry = Entry { kind, protocol, scope, source, nexthop_id, extras, hops, together: false };
    Ok(Some((Destination { net: destination, tos, metric }, entry)))
}

/// `struct rtnexthop`: length (2), flags, weight, link (4); attributes; the next one starts at a
/// multiple of four bytes.
fn multipath(
    family: Family,
    value: &[u8],
    extras: &mut DefaultHasher,
) -> Result<Vec<Hop>, Malformed> {
    const HEADER: usize = 8;
    let mut hops = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let [l0, l1, flags, weight, ..] = bytes::<HEADER>(rest)?;
        let link = LinkIndex(u32::from_ne_bytes(bytes_at(rest, 4)?));
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let attributes = rest.get(HEADER..length).ok_or(Malformed::new("a next hop ends early"))?;
        let mut gateway = None;
        for_each_attribute(attributes, |kind, value| {
            match kind {
                libc::RTA_GATEWAY => gateway = Some(ip(family, value)?),
                libc::RTA_VIA => gateway = via(value)?,
                libc::RTA_ENCAP => (kind, value).hash(extras),
                _ => {}
            }
            Ok(())
        })?;
        weight.hash(extras);
        hops.push(Hop { link, gateway, dead: u32::from(flags) & RTNH_F_DEAD != 0 });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

/// `struct rtvia`: the family (2) of an address, then the address: an IPv4 route by an IPv6 router.
fn via(value: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let family = u16::from_ne_bytes(bytes(value)?);
    match u8::try_from(family).ok().and_then(family_of) {
        Some(family) => ip(family, &value[2..]).map(Some),
        None => Ok(None),
    }
}

/// `struct nhmsg` (8), then attributes; the first kind is the object's number.
fn nexthop(body: &[u8]) -> Result<Option<u32>, Malformed> {
    const NHA_ID: u16 = 1;
    let attributes = body.get(8..).ok_or(Malformed::new("a message ends early"))?;
    let mut found = None;
    for_each_attribute(attributes, |kind, value| {
        if kind == NHA_ID {
            found = Some(number(value)?);
        }
        Ok(())
    })?;
    Ok(found)
}

fn family_of(number: u8) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(family: Family, value: &[u8]) -> Result<IpAddr, Malformed> {
    Ok(match family {
        Family::V4 => IpAddr::from(bytes::<4>(value)?),
        Family::V6 => IpAddr::from(bytes::<16>(value)?),
    })
}

#[cfg(test)]
mod tests;
