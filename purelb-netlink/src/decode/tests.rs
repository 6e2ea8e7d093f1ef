use super::*;

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
};
use proptest::prelude::*;
use purelb_core::host::OUR_MARK;

/// Reads what `netlink-packet-route` writes.
fn decoded(message: RouteNetlinkMessage, flags: u16) -> Message {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let raw = wire::messages(&bytes).next().unwrap().unwrap();
    Message::decode(&raw).unwrap()
}

fn raw(kind: u16, body: &[u8]) -> Result<Message, Malformed> {
    Message::decode(&RawMessage { kind, flags: 0, sequence: 0, body })
}

fn eth0() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 4;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Broadcast;
    let mut conf = InetDevConf::default();
    conf.arp_announce = 2;
    conf.arp_ignore = 1;
    conf.promote_secondaries = 3;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
        LinkAttribute::IfAlias("uplink".to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConf(conf)])]),
    ];
    message
}

#[test]
fn a_link_is_read_with_its_sysctls() {
    let expected = Link {
        index: LinkIndex(4),
        name: "eth0".to_owned(),
        mac: Some([2, 0, 0, 0, 0, 7]),
        kind: LinkKind::Dummy,
        up: true,
        carrier: true,
        loopback: false,
        alias: "uplink".to_owned(),
        conf: LinkConf { arp_ignore: 1, arp_announce: 2, promote_secondaries: 3 },
    };
    let message = RouteNetlinkMessage::NewLink(eth0());
    assert_eq!(decoded(message, 0), Message::LinkIs(expected));
    let message = RouteNetlinkMessage::DelLink(eth0());
    assert_eq!(decoded(message, 0), Message::LinkGone(LinkIndex(4)));
}

#[test]
fn a_port_that_leaves_a_bridge_is_not_a_link_that_goes() {
    let mut message = eth0();
    message.header.interface_family = netlink_packet_route::AddressFamily::Bridge;
    message.attributes.truncate(2);
    for message in
        [RouteNetlinkMessage::DelLink(message.clone()), RouteNetlinkMessage::NewLink(message)]
    {
        assert_eq!(decoded(message, 0), Message::Other);
    }
}

#[test]
fn a_link_message_without_a_name_is_a_drivers_event() {
    let mut message = eth0();
    message.attributes.clear();
    assert_eq!(decoded(RouteNetlinkMessage::NewLink(message), 0), Message::Other);
}

#[test]
fn only_an_ethernet_address_is_one() {
    for (kind, address) in
        [(LinkLayerType::Loopback, vec![0; 6]), (LinkLayerType::Ether, vec![1; 20])]
    {
        let mut message = eth0();
        message.header.link_layer_type = kind;
        message.attributes[1] = LinkAttribute::Address(address);
        let Message::LinkIs(link) = decoded(RouteNetlinkMessage::NewLink(message), 0) else {
            panic!("a link")
        };
        assert_eq!(link.mac, None);
    }
}

/// An attribute that a later kernel might send, or a driver might get wrong.
#[test]
fn an_attribute_that_is_not_ours_to_read_cannot_hide_a_link() {
    let mut body = vec![0; LINK_HEADER];
    body.extend([9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]);
    body.extend([5, 0, 7, 0, 1, 0, 0, 0]); // IFLA_STATS of one byte
    body.extend([8, 0, 200, 0, 1, 2, 3, 4]);
    assert!(matches!(raw(libc::RTM_NEWLINK, &body), Ok(Message::LinkIs(_))));
}

#[rustfmt::skip]
#[cfg(target_endian = "little")]
#[test]
fn an_address_is_read_as_the_kernel_sends_it() {
    // What a notification for 192.0.2.7/24, secondary, valid for 30 s, looks like.
    let body = [
        2, 24, 0x01, 0, 3, 0, 0, 0,
        20, 0, 6, 0, 29, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 1, 0, 192, 0, 2, 7,
        8, 0, 2, 0, 192, 0, 2, 7,
        8, 0, 4, 0, 192, 0, 2, 255,
        9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0,
        5, 0, 11, 0, 0xb7, 0, 0, 0,
        8, 0, 8, 0, 0x01, 0x02, 0, 0,
    ];
    let address = Address {
        link: LinkIndex(3),
        net: "192.0.2.7/24".parse().unwrap(),
        broadcast: Some("192.0.2.255".parse().unwrap()),
        flags: AddressFlags { secondary: true, no_prefix_route: true, ..AddressFlags::default() },
        scope: Scope::Global,
        mark: OUR_MARK,
        valid: Some(30),
    };
    let key = AddressKey { link: LinkIndex(3), net: address.net };
    assert_eq!(raw(libc::RTM_NEWADDR, &body), Ok(Message::AddressIs(address, None)));
    assert_eq!(raw(libc::RTM_DELADDR, &body), Ok(Message::AddressGone(key, None)));
}

#[rustfmt::skip]
#[cfg(target_endian = "little")]
#[test]
fn the_peer_of_a_point_to_point_address_is_told_apart() {
    let body = [
        2, 32, 0x80, 253, 3, 0, 0, 0,
        8, 0, 1, 0, 192, 0, 2, 8,
        8, 0, 2, 0, 192, 0, 2, 7,
    ];
    let Ok(Message::AddressIs(address, peer)) = raw(libc::RTM_NEWADDR, &body) else {
        panic!("an address")
    };
    assert_eq!(address.net.to_string(), "192.0.2.7/32");
    assert_eq!((address.scope, address.valid, address.mark), (Scope::Link, None, 0));
    assert_eq!(peer, Some("192.0.2.8".parse().unwrap()));
}

#[rustfmt::skip]
#[test]
fn an_ipv6_address_may_come_in_either_attribute_and_is_never_secondary() {
    let ip: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
    for attribute in [libc::IFA_ADDRESS, libc::IFA_LOCAL] {
        let mut body = vec![10, 64, 0x41, 0, 3, 0, 0, 0, 20, 0, attribute as u8, 0];
        body.extend(ip.octets());
        let Ok(Message::AddressIs(address, None)) = raw(libc::RTM_NEWADDR, &body) else {
            panic!("an address")
        };
        assert_eq!(address.net.to_string(), "2001:db8::7/64");
        assert_eq!(address.flags, AddressFlags { tentative: true, ..AddressFlags::default() });
    }
}

fn route(destination: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let destination: IpNet = destination.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header = RouteHeader::default();
    message.header.address_family = match destination {
        IpNet::V4(_) => netlink_packet_route::AddressFamily::Inet,
        IpNet::V6(_) => netlink_packet_route::AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = libc::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = attributes;
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    message
}

fn inserted(message: RouteMessage) -> Option<(Destination, Entry)> {
    let message = decoded(RouteNetlinkMessage::NewRoute(message), 0);
    if let Message::RouteIs(to, entry, _) = message {
        return Some((to, entry));
    }
    assert_eq!(message, Message::Other);
    None
}

fn v4(ip: [u8; 4]) -> RouteAddress {
    RouteAddress::Inet(ip.into())
}

#[test]
fn a_default_route_has_no_destination_attribute() {
    let attributes = vec![
        RouteAttribute::Oif(4),
        RouteAttribute::Gateway(v4([192, 0, 2, 1])),
        RouteAttribute::Priority(100),
        RouteAttribute::PrefSource(v4([192, 0, 2, 7])),
    ];
    let (to, entry) = inserted(route("0.0.0.0/0", attributes)).unwrap();
    assert_eq!(to, Destination { net: Family::V4.everything(), tos: 0, metric: 100 });
    assert_eq!(entry.source, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((entry.kind, entry.protocol), (libc::RTN_UNICAST, 4));
    let gateway = Some("192.0.2.1".parse().unwrap());
    assert_eq!(entry.hops, [Hop { link: LinkIndex(4), gateway, dead: false }]);
}

#[test]
fn the_flags_of_a_notification_say_where_the_route_went() {
    let message = || RouteNetlinkMessage::NewRoute(route("10.9.0.0/16", vec![]));
    for (flags, expected) in [
        (NLM_F_APPEND, Insertion { append: true, ..Insertion::default() }),
        (NLM_F_EXCL, Insertion { exclusive: true, ..Insertion::default() }),
        (NLM_F_REPLACE, Insertion { replace: true, ..Insertion::default() }),
    ] {
        let Message::RouteIs(_, _, how) = decoded(message(), flags) else { panic!("a route") };
        assert_eq!(how, expected);
    }
}

#[test]
fn only_the_main_table_counts_and_the_attribute_wins_over_the_header() {
    let mut other = route("0.0.0.0/0", vec![RouteAttribute::Oif(4)]);
    other.header.table = 100;
    assert_eq!(inserted(other), None);
    // Tables above 255 have 252 in the header.
    let mut far = route("0.0.0.0/0", vec![RouteAttribute::Table(1000)]);
    far.header.table = 252;
    assert_eq!(inserted(far), None);
    let far = route("0.0.0.0/0", vec![RouteAttribute::Table(1000)]);
    assert_eq!(inserted(far), None);
    let mut main = route("0.0.0.0/0", vec![RouteAttribute::Table(254)]);
    main.header.table = 0;
    assert!(inserted(main).is_some());
}

#[test]
fn cloned_and_source_specific_routes_do_not_count() {
    let mut cloned = route("0.0.0.0/0", vec![]);
    cloned.header.flags = netlink_packet_route::route::RouteFlags::Cloned;
    assert_eq!(inserted(cloned), None);
    let mut specific = route("::/0", vec![]);
    specific.header.source_prefix_length = 48;
    assert_eq!(inserted(specific), None);
}

#[test]
fn each_next_hop_of_a_multipath_route_is_read() {
    let hop = |index, gateway: Option<[u8; 4]>| {
        let mut hop = RouteNextHop::default();
        hop.interface_index = index;
        hop.attributes = gateway.map(|ip| RouteAttribute::Gateway(v4(ip))).into_iter().collect();
        hop
    };
    let mut dead = hop(6, None);
    dead.flags = netlink_packet_route::route::RouteNextHopFlags::Dead;
    let hops = vec![hop(4, Some([192, 0, 2, 1])), dead];
    let (_, entry) = inserted(route("0.0.0.0/0", vec![RouteAttribute::MultiPath(hops)])).unwrap();
    let gateway = Some("192.0.2.1".parse().unwrap());
    assert_eq!(
        entry.hops,
        [
            Hop { link: LinkIndex(4), gateway, dead: false },
            Hop { link: LinkIndex(6), gateway: None, dead: true },
        ]
    );
}

#[test]
fn an_ipv4_route_may_go_by_an_ipv6_router() {
    let ip: IpAddr = "fe80::1".parse().unwrap();
    let attributes = vec![RouteAttribute::Oif(4), RouteAttribute::Via(ip.into())];
    let (_, entry) = inserted(route("0.0.0.0/0", attributes)).unwrap();
    assert_eq!(entry.hops[0].gateway, Some(ip));
}

#[test]
fn routes_that_differ_in_metrics_alone_differ() {
    let plain = inserted(route("10.9.0.0/16", vec![RouteAttribute::Oif(4)])).unwrap().1;
    let metrics = vec![netlink_packet_route::route::RouteMetric::Mtu(1400)];
    let attributes = vec![RouteAttribute::Oif(4), RouteAttribute::Metrics(metrics)];
    let with_mtu = inserted(route("10.9.0.0/16", attributes)).unwrap().1;
    assert_ne!(plain.extras, with_mtu.extras);
    assert_eq!(plain, inserted(route("10.9.0.0/16", vec![RouteAttribute::Oif(4)])).unwrap().1);
}

#[test]
fn nexthop_objects_are_told_by_their_number() {
    let mut body = vec![0; 8];
    body.extend([8, 0, 1, 0]);
    body.extend(7_u32.to_ne_bytes());
    assert_eq!(raw(RTM_NEWNEXTHOP, &body), Ok(Message::NexthopChanged(7)));
    assert_eq!(raw(RTM_DELNEXTHOP, &body), Ok(Message::NexthopGone(7)));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange_to_decode(
        kind in prop_oneof![16..27_u16, 104..106_u16],
        body in proptest::collection::vec(prop_oneof![0..30_u8, any::<u8>()], 0..200),
    ) {
        let _ = raw(kind, &body);
    }

    #[test]
    fn no_datagram_is_too_strange_to_split(datagram: Vec<u8>) {
        for message in wire::messages(&datagram).flatten() {
            let _ = Message::decode(&message);
        }
    }
}
