use super::*;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x07];

fn frames(
    ip: &str,
    gateway: Option<(&str, Option<[u8; 6]>)>,
    link_local: Option<&str>,
) -> Vec<Vec<u8>> {
    let announcement = Announcement {
        ip: ip.parse().unwrap(),
        mac: MAC,
        link_local: link_local.map(|ip| ip.parse().unwrap()),
        gateway: gateway.map(|(ip, mac)| Gateway { ip: ip.parse().unwrap(), mac }),
    };
    announcement.frames().iter().map(Frame::to_bytes).collect()
}

#[rustfmt::skip]
#[test]
fn an_ipv4_address_is_told_in_both_forms_and_to_the_gateway() {
    assert_eq!(frames("192.0.2.7", Some(("192.0.2.1", Some([2, 0, 0, 0, 0, 1]))), None), [
        [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 7, 192, 0, 2, 7,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 7,
        ],
        [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 7, 192, 0, 2, 7,
            2, 0, 0, 0, 0, 7, 192, 0, 2, 7,
        ],
        [
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 7, 192, 0, 2, 7,
            0, 0, 0, 0, 0, 0, 192, 0, 2, 1,
        ],
    ]);
}

#[test]
fn a_gateway_of_unknown_place_is_asked_by_broadcast() {
    let frames = frames("192.0.2.7", Some(("192.0.2.1", None)), None);
    assert_eq!(frames[2][..6], BROADCAST);
}

#[rustfmt::skip]
#[test]
fn an_ipv6_address_is_told_to_all_nodes_from_the_link_local_address() {
    assert_eq!(frames("2001:db8::7", None, Some("fe80::7")), [[
        0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 32, 58, 255,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        136, 0, 0x28, 0x51, 0x20, 0, 0, 0, // checksum, flag: override
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        2, 1, 2, 0, 0, 0, 0, 7,            // target link-layer address
    ]]);
}

#[test]
fn without_a_link_local_address_the_source_is_the_address_itself() {
    let bytes = frames("2001:db8::7", None, None).remove(0);
    assert_eq!(bytes[22..38], "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
}

#[test]
fn an_ipv6_gateway_is_asked_from_the_address() {
    let bytes = frames("2001:db8::7", Some(("fe80::aabb:ccdd", None)), None).remove(1);
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.to, [0x33, 0x33, 0xff, 0xbb, 0xcc, 0xdd]);
    let expected = Packet::Solicitation {
        source: "2001:db8::7".parse().unwrap(),
        destination: "ff02::1:ffbb:ccdd".parse().unwrap(),
        target: "fe80::aabb:ccdd".parse().unwrap(),
        mac: Some(MAC),
    };
    assert_eq!(frame.packet, expected);
}

#[test]
fn a_gateway_of_the_other_family_is_not_asked() {
    assert_eq!(frames("192.0.2.7", Some(("fe80::1", None)), None).len(), 2);
    assert_eq!(frames("2001:db8::7", Some(("192.0.2.1", None)), None).len(), 1);
}
