use super::*;

use netlink_packet_core::NLM_F_ACK;
use proptest::prelude::*;
use purelb_core::host::{Address, AddressFlags as Flags, Scope};
use purelb_core::kernel::Lifetime;

use crate::decode::Message;
use crate::wire;

fn bytes(request: Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.write(NLM_F_ACK, 7, &mut bytes);
    bytes
}

fn new(net: &str) -> NewAddress {
    NewAddress {
        link: LinkIndex(3),
        net: net.parse().unwrap(),
        lifetime: Lifetime::Forever,
        deprecated: false,
        no_prefix_route: false,
    }
}

/// The bytes here are written for little-endian machines; the kernel's are the host's.
#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn an_ipv4_address_is_added_with_broadcast_lifetimes_flags_and_mark() {
    let new = NewAddress { no_prefix_route: true, ..new("192.0.2.7/24") };
    assert_eq!(bytes(add_address(&new, Some(5))), [
        84, 0, 0, 0, 20, 0, 5, 5, 7, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWADDR, REQUEST|ACK|REPLACE|CREATE
        2, 24, 0, 0, 3, 0, 0, 0,                          // AF_INET, /24, scope global, link 3
        8, 0, 2, 0, 192, 0, 2, 7,                         // IFA_LOCAL
        8, 0, 1, 0, 192, 0, 2, 7,                         // IFA_ADDRESS
        8, 0, 4, 0, 192, 0, 2, 255,                       // IFA_BROADCAST
        20, 0, 6, 0, 5, 0, 0, 0, 5, 0, 0, 0,              // IFA_CACHEINFO: preferred, valid
        0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 8, 0, 0, 2, 0, 0,                           // IFA_FLAGS: NOPREFIXROUTE
        5, 0, 11, 0, 0xb7, 0, 0, 0,                       // IFA_PROTO
    ]);
}

#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn an_ipv6_address_is_added_without_duplicate_detection_and_can_be_deprecated() {
    let new = NewAddress { deprecated: true, ..new("2001:db8::7/64") };
    assert_eq!(bytes(add_address(&new, None)), [
        100, 0, 0, 0, 20, 0, 5, 5, 7, 0, 0, 0, 0, 0, 0, 0,
        10, 64, 0, 0, 3, 0, 0, 0,
        20, 0, 2, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        20, 0, 1, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        20, 0, 6, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 8, 0, 2, 0, 0, 0,                           // IFA_FLAGS: NODAD
        5, 0, 11, 0, 0xb7, 0, 0, 0,
    ]);
}

#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn an_address_is_removed_by_link_address_and_prefix() {
    let key = new("192.0.2.7/32").key();
    assert_eq!(bytes(remove_address(&key)), [
        40, 0, 0, 0, 21, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        2, 32, 0, 0, 3, 0, 0, 0,
        8, 0, 2, 0, 192, 0, 2, 7,
        8, 0, 1, 0, 192, 0, 2, 7,
    ]);
}

#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn the_virtual_interface_is_made_as_a_dummy_or_as_a_bridge_without_arp() {
    assert_eq!(bytes(create_dummy("kube-lb0")), [
        64, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWLINK, REQUEST|ACK|EXCL|CREATE
        0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,   // flags and change: UP
        13, 0, 3, 0, 107, 117, 98, 101, 45, 108, 98, 48, 0, 0, 0, 0,
        16, 0, 18, 0, 10, 0, 1, 0, 100, 117, 109, 109, 121, 0, 0, 0, // IFLA_LINKINFO: "dummy"
    ]);
    let bridge = bytes(create_bridge("kube-lb0"));
    assert_eq!(bridge[24..32], [0x81, 0, 0, 0, 0x81, 0, 0, 0], "UP and NOARP");
    assert!(bridge.ends_with(b"bridge\0\0") || bridge.ends_with(b"bridge\0"));
}

#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn sysctls_are_set_each_by_its_number_zero_too() {
    let settings = [(ConfKey::ArpIgnore, 1), (ConfKey::ArpAnnounce, 0)];
    assert_eq!(bytes(set_conf(LinkIndex(3), &settings)), [
        60, 0, 0, 0, 19, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, // RTM_SETLINK
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        28, 0, 26, 0, 24, 0, 2, 0, 20, 0, 1, 0x80,        // IFLA_AF_SPEC, AF_INET, IFLA_INET_CONF
        8, 0, 19, 0, 1, 0, 0, 0,                          // arp_ignore
        8, 0, 18, 0, 0, 0, 0, 0,                          // arp_announce
    ]);
}

#[cfg(target_endian = "little")]
#[rustfmt::skip]
#[test]
fn an_alias_is_set_by_number_or_by_name() {
    assert_eq!(bytes(set_alias(LinkIndex(3), "vip")), [
        40, 0, 0, 0, 19, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 20, 0, 118, 105, 112, 0,
    ]);
    assert_eq!(bytes(set_alias_by_name("x", "")), [
        48, 0, 0, 0, 19, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        6, 0, 3, 0, 120, 0, 0, 0,
        5, 0, 20, 0, 0, 0, 0, 0,                          // empty: the final zero alone
    ]);
}

#[test]
fn dumps_ask_for_the_main_table_of_one_family() {
    let request = bytes(list(Kind::Routes(Family::V6)));
    assert_eq!(request[16..28], [10, 0, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0]);
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len)),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(ip, len)| IpNet::new(ip.into(), len)),
    ]
    .prop_map(|net| net.expect("the prefix fits the family"))
}

proptest! {
    #[test]
    fn an_address_that_is_asked_for_reads_back_as_itself(
        (link, net) in (any::<u32>(), prefix()),
        seconds in proptest::option::of(1..u32::MAX),
        no_prefix_route: bool,
    ) {
        let link = LinkIndex(link);
        let new = NewAddress {
            link, net, lifetime: Lifetime::Forever, deprecated: false, no_prefix_route,
        };
        let bytes = bytes(add_address(&new, seconds));
        let raw = wire::messages(&bytes).next().expect("one message").expect("well-formed");
        let broadcast = match net {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast().into()),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        let expected = Address {
            link,
            net,
            broadcast,
            flags: Flags { no_dad: net.addr().is_ipv6(), no_prefix_route, ..Flags::default() },
            scope: Scope::Global,
            mark: OUR_MARK,
            valid: seconds,
        };
        prop_assert_eq!(Message::decode(&raw), Ok(Message::AddressIs(expected, None)));
    }
}
