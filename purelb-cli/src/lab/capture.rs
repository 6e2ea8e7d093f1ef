//! Frames on the wire by which a node says that an address is at its hardware address now.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::namespace::Namespace;

/// EtherTypes (IEEE 802 numbers).
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86DD;

/// Listens on every link of a namespace for gratuitous ARP and unsolicited neighbour
/// advertisements. The kernel keeps what arrives between two reads, up to the socket's buffer.
#[derive(Debug)]
pub struct Capture {
    arp: OwnedFd,
    ipv6: OwnedFd,
}

/// A frame that announces an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The address announced.
    pub address: IpAddr,
    /// The hardware address it is said to be at, as `ip` writes it.
    pub mac: String,
    /// Which kind of frame.
    pub form: Form,
}

/// The kinds of announcing frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A gratuitous ARP request (RFC 5227 §3).
    ArpRequest,
    /// A gratuitous ARP reply.
    ArpReply,
    /// An unsolicited neighbour advertisement (RFC 4861 §7.2.6).
    NeighbourAdvertisement,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArpRequest => "gratuitous ARP request",
            Self::ArpReply => "gratuitous ARP reply",
            Self::NeighbourAdvertisement => "unsolicited neighbour advertisement",
        })
    }
}

impl Capture {
    /// Starts to listen in `namespace`.
    pub fn start(namespace: &Namespace) -> io::Result<Self> {
        let (arp, ipv6) = namespace.run(|| (packet_socket(ARP), packet_socket(IPV6)))?;
        Ok(Self { arp: arp?, ipv6: ipv6? })
    }

    /// The announcements since the last call, those of IPv4 first. Never waits.
    pub fn announcements(&self) -> io::Result<Vec<Announcement>> {
        let mut announcements = Vec::new();
        for (socket, parse) in
            [(&self.arp, gratuitous_arp as fn(&[u8]) -> _), (&self.ipv6, unsolicited_advertisement)]
        {
            let mut frame = [0; 256];
            loop {
                match rustix::io::read(socket, &mut frame) {
                    Ok(length) => announcements.extend(parse(&frame[..length])),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(announcements)
    }
}

/// A socket that receives each frame of one EtherType (packet(7)).
fn packet_socket(ether_type: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol = NonZeroU32::new(u32::from(ether_type.to_be())).map(Protocol::from_raw);
    Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)?)
}

/// Reads an ARP frame for Ethernet and IPv4 (RFC 826) whose sender and target address are the same.
fn gratuitous_arp(frame: &[u8]) -> Option<Announcement> {
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let arp = frame.get(14..42)?;
    let (sender, target) = (ipv4(arp, 14)?, ipv4(arp, 24)?);
    if arp[..6] != ETHERNET_IPV4 || sender != target {
        return None;
    }
    let form = match arp[6..8] {
        [0, 1] => Form::ArpRequest,
        [0, 2] => Form::ArpReply,
        _ => return None,
    };
    Some(Announcement { address: sender.into(), mac: mac(&arp[8..14]), form })
}

/// Reads an unsolicited neighbour advertisement (RFC 4861 §4.4) with its target's link-layer
/// address.
fn unsolicited_advertisement(frame: &[u8]) -> Option<Announcement> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    const SOLICITED: u8 = 0x40;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    let (ip, icmp) = frame.get(14..)?.split_at_checked(40)?;
    if ip[6] != ICMPV6 || *icmp.first()? != ADVERTISEMENT || icmp.get(4)? & SOLICITED != 0 {
        return None;
    }
    let target: [u8; 16] = icmp.get(8..24)?.try_into().ok()?;
    let option = icmp.get(24..32)?;
    (option[..2] == TARGET_LINK_LAYER_ADDRESS).then(|| Announcement {
        address: Ipv6Addr::from(target).into(),
        mac: mac(&option[2..]),
        form: Form::NeighbourAdvertisement,
    })
}

fn ipv4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0, 0, 0x5e, 0, 0x53, 0x0c];

    fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = [[0xff; 6], MAC].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend(MAC);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    fn advertisement(flags: u8) -> Vec<u8> {
        let target: Ipv6Addr = "2001:db8:1::200".parse().unwrap();
        let mut frame = [[0x33, 0x33, 0, 0, 0, 1], MAC].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
        frame.extend(target.octets());
        frame.extend("ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([136, 0, 0, 0, flags, 0, 0, 0]);
        frame.extend(target.octets());
        frame.extend([2, 1]);
        frame.extend(MAC);
        frame
    }

    #[test]
    fn both_forms_of_gratuitous_arp_are_announcements() {
        let vip = [192, 0, 2, 200];
        for (operation, form) in [(1, Form::ArpRequest), (2, Form::ArpReply)] {
            let expected = Announcement {
                address: "192.0.2.200".parse().unwrap(),
                mac: "00:00:5e:00:53:0c".into(),
                form,
            };
            assert_eq!(gratuitous_arp(&arp(operation, vip, vip)), Some(expected));
        }
    }

    #[test]
    fn a_question_for_another_address_is_none() {
        assert_eq!(gratuitous_arp(&arp(1, [192, 0, 2, 100], [192, 0, 2, 200])), None);
    }

    #[test]
    fn an_advertisement_is_an_announcement_unless_it_answers_a_question() {
        let seen = unsolicited_advertisement(&advertisement(0x20)).unwrap();
        assert_eq!(seen.address, "2001:db8:1::200".parse::<IpAddr>().unwrap());
        assert_eq!(
            (seen.mac.as_str(), seen.form),
            ("00:00:5e:00:53:0c", Form::NeighbourAdvertisement)
        );
        assert_eq!(unsolicited_advertisement(&advertisement(0x60)), None);
    }

    #[test]
    fn a_frame_cut_short_is_none() {
        let (arp, advertisement) = (arp(1, [192, 0, 2, 1], [192, 0, 2, 1]), advertisement(0));
        for length in 0..arp.len() {
            assert_eq!(gratuitous_arp(&arp[..length]), None);
        }
        for length in 0..advertisement.len() {
            assert_eq!(unsolicited_advertisement(&advertisement[..length]), None);
        }
    }
}
