//! Actions as requests to the kernel. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use purelb_core::host::{AddressKey, Family, LinkIndex, OUR_MARK};
use purelb_core::kernel::{ConfKey, NewAddress};

use crate::mirror::Kind;
use crate::socket::Request;

/// Adds an address, or replaces the lifetimes of the one that is there. `seconds` is how long it is
/// valid; `None` is for ever.
pub(crate) fn add_address(new: &NewAddress, seconds: Option<u32>) -> Request {
    let mut message = address(new.link, new.net);
    message.header.scope = AddressScope::Universe;
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, new.no_prefix_route);
    // The election has already made the address ours.
    flags.set(AddressFlags::Nodad, new.net.addr().is_ipv6());
    let valid = seconds.unwrap_or(u32::MAX);
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    lifetimes.ifa_preferred = if new.deprecated { 0 } else { valid };
    if let IpNet::V4(net) = new.net
        && net.prefix_len() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
    }
    message.attributes.extend([
        AddressAttribute::CacheInfo(lifetimes),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(OUR_MARK.into()),
    ]);
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// Removes an address.
pub(crate) fn remove_address(key: &AddressKey) -> Request {
    Request { message: RouteNetlinkMessage::DelAddress(address(key.link, key.net)), flags: 0 }
}

fn address(link: LinkIndex, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(Family::of(net.addr()));
    message.header.prefix_len = net.prefix_len();
    message.header.index = link.0;
    message.attributes =
        vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    message
}

/// Creates the virtual interface as a `dummy` link, up; `EEXIST` if there is a link of that name.
pub(crate) fn create_dummy(name: &str) -> Request {
    create(name, InfoKind::Dummy, LinkFlags::Up)
}

/// Creates the virtual interface as a bridge, up, that nobody asks by ARP; `EEXIST` as above.
pub(crate) fn create_bridge(name: &str) -> Request {
    create(name, InfoKind::Bridge, LinkFlags::Up | LinkFlags::Noarp)
}

fn create(name: &str, kind: InfoKind, flags: LinkFlags) -> Request {
    let mut message = LinkMessage::default();
    message.header.flags = flags;
    message.header.change_mask = flags;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
    ];
    Request { message: RouteNetlinkMessage::NewLink(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// Deletes a link.
pub(crate) fn delete_link(link: LinkIndex) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.0;
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}

/// Sets the alias of the link of this name.
pub(crate) fn set_alias_by_name(name: &str, alias: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::IfAlias(alias.to_owned())];
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// Sets the alias of a link.
pub(crate) fn set_alias(link: LinkIndex, alias: &str) -> Request {
    set_link(link, LinkAttribute::IfAlias(alias.to_owned()))
}

/// Sets per-link IPv4 sysctls.
pub(crate) fn set_conf(link: LinkIndex, settings: &[(ConfKey, i32)]) -> Request {
    /// `IFLA_INET_CONF`; in a request each value is an attribute of the kind `IPV4_DEVCONF_*`.
    const IFLA_INET_CONF: u16 = 1;
    let mut values = Vec::with_capacity(settings.len() * 8);
    for (key, value) in settings {
        let kind: u16 = match key {
            ConfKey::ArpAnnounce => 18,
            ConfKey::ArpIgnore => 19,
            ConfKey::PromoteSecondaries => 20,
        };
        values.extend(8_u16.to_ne_bytes());
        values.extend(kind.to_ne_bytes());
        values.extend(value.to_ne_bytes());
    }
    let conf = DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, values);
    let inet = AfSpecUnspec::Inet(vec![AfSpecInet::Other(conf)]);
    set_link(link, LinkAttribute::AfSpecUnspec(vec![inet]))
}

fn set_link(link: LinkIndex, attribute: LinkAttribute) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.0;
    message.attributes = vec![attribute];
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// Changes nothing (there is no link of this number), but only after the kernel has finished the
/// change that it is in the midst of: the request takes the lock that all changes take.
pub(crate) fn barrier() -> Request {
    set_link(LinkIndex(i32::MAX.unsigned_abs()), LinkAttribute::IfAlias(String::new()))
}

/// Asks for all objects of a kind.
pub(crate) fn list(kind: Kind) -> Request {
    let message = match kind {
        Kind::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        Kind::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
        Kind::Routes(of) => {
            let mut message = RouteMessage::default();
            message.header.address_family = family(of);
            message.header.table = libc::RT_TABLE_MAIN;
            RouteNetlinkMessage::GetRoute(message)
        }
    };
    Request { message, flags: 0 }
}

/// Asks for one link.
pub(crate) fn find_link(link: LinkIndex) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.0;
    Request { message: RouteNetlinkMessage::GetLink(message), flags: 0 }
}

/// Asks for what is known of a neighbour.
pub(crate) fn find_neighbour(link: LinkIndex, ip: IpAddr) -> Request {
    use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
    let mut message = NeighbourMessage::default();
    message.header.family = family(Family::of(ip));
    message.header.ifindex = link.0;
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    Request { message: RouteNetlinkMessage::GetNeighbour(message), flags: 0 }
}

fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests;
