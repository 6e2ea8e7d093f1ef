use super::*;

use proptest::prelude::*;

fn mac() -> impl Strategy<Value = [u8; 6]> {
    any::<[u8; 6]>()
}

fn packet() -> impl Strategy<Value = Packet> {
    let v6 = || any::<Ipv6Addr>();
    prop_oneof![
        (any::<bool>(), mac(), any::<Ipv4Addr>(), mac(), any::<Ipv4Addr>()).prop_map(
            |(reply, sender_mac, sender, target_mac, target)| Packet::Arp {
                operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
                sender_mac,
                sender,
                target_mac,
                target,
            }
        ),
        (v6(), v6(), v6(), any::<[bool; 3]>(), proptest::option::of(mac())).prop_map(
            |(source, destination, target, [router, solicited, overrides], mac)| {
                Packet::Advertisement {
                    source,
                    destination,
                    target,
                    router,
                    solicited,
                    overrides,
                    mac,
                }
            }
        ),
        (v6(), v6(), v6(), proptest::option::of(mac())).prop_map(
            |(source, destination, target, mac)| Packet::Solicitation {
                source,
                destination,
                target,
                mac
            }
        ),
    ]
}

proptest! {
    #[test]
    fn a_frame_reads_back_as_itself((to, from, packet) in (mac(), mac(), packet())) {
        let frame = Frame { to, from, packet };
        prop_assert_eq!(Frame::parse(&frame.to_bytes()), Some(frame));
    }

    #[test]
    fn padding_is_ignored((to, from, packet) in (mac(), mac(), packet())) {
        let frame = Frame { to, from, packet };
        let mut bytes = frame.to_bytes();
        bytes.resize(bytes.len() + 18, 0xaa);
        prop_assert_eq!(Frame::parse(&bytes), Some(frame));
    }

    #[test]
    fn no_bytes_are_too_strange_to_parse(bytes: Vec<u8>) {
        let _ = Frame::parse(&bytes);
    }

    #[test]
    fn a_flipped_bit_of_a_neighbour_discovery_packet_is_noticed(
        (packet, at, bit) in (packet(), 54..78_usize, 0..8_u8),
    ) {
        prop_assume!(!matches!(packet, Packet::Arp { .. }));
        let mut bytes = Frame { to: ALL_NODES, from: [2; 6], packet }.to_bytes();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(Frame::parse(&bytes), None);
    }
}

#[test]
fn an_option_without_length_ends_the_packet() {
    let packet = Packet::Solicitation {
        source: Ipv6Addr::LOCALHOST,
        destination: Ipv6Addr::LOCALHOST,
        target: Ipv6Addr::LOCALHOST,
        mac: Some([2; 6]),
    };
    let mut bytes = Frame { to: ALL_NODES, from: [2; 6], packet }.to_bytes();
    // The length of the option goes from 1 to 0; the checksum goes up by as much.
    bytes[14 + 40 + 24 + 1] = 0;
    let sum = u16::from_be_bytes([bytes[56], bytes[57]]) + 1;
    bytes[56..58].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Frame::parse(&bytes), None);
}

#[test]
fn a_probe_claims_nothing() {
    let probe = Packet::Arp {
        operation: ArpOperation::Request,
        sender_mac: [2; 6],
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: [0; 6],
        target: Ipv4Addr::new(192, 0, 2, 7),
    };
    assert_eq!(probe.claim(), None);
}
