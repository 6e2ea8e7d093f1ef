//! What tells the neighbours where an address is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{ALL_NODES, ArpOperation, BROADCAST, Frame, Packet};

/// An address to tell of, and what has to be known for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The address.
    pub ip: IpAddr,
    /// The Ethernet address of the link that it is on.
    pub mac: [u8; 6],
    /// The link-local address of that link; IPv6 prefers it as the source.
    pub link_local: Option<Ipv6Addr>,
    /// The router to tell in particular.
    pub gateway: Option<Gateway>,
}

/// A router on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address, if it is known.
    pub mac: Option<[u8; 6]>,
}

impl Announcement {
    /// The frames to send, in order.
    ///
    /// IPv4: gratuitous ARP in both forms (RFC 5227 §3; RFC 5944 §4.6), since some stations heed one
    /// only, then a request from the address to the gateway: routers that ignore gratuitous ARP
    /// learn from that. IPv6: an unsolicited advertisement (RFC 4861 §7.2.6), then a solicitation
    /// from the address to the gateway, which learns from that too (§7.2.3).
    pub fn frames(&self) -> Vec<Frame> {
        match self.ip {
            IpAddr::V4(ip) => self.v4(ip),
            IpAddr::V6(ip) => self.v6(ip),
        }
    }

    fn v4(&self, ip: Ipv4Addr) -> Vec<Frame> {
        let arp = |to, operation, target_mac, target| Frame {
            to,
            from: self.mac,
            packet: Packet::Arp { operation, sender_mac: self.mac, sender: ip, target_mac, target },
        };
        let mut frames = vec![
            arp(BROADCAST, ArpOperation::Request, [0; 6], ip),
            arp(BROADCAST, ArpOperation::Reply, self.mac, ip),
        ];
        if let Some(Gateway { ip: IpAddr::V4(gateway), mac }) = self.gateway {
            frames.push(arp(mac.unwrap_or(BROADCAST), ArpOperation::Request, [0; 6], gateway));
        }
        frames
    }

    fn v6(&self, ip: Ipv6Addr) -> Vec<Frame> {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let mut frames = vec![Frame {
            to: ALL_NODES,
            from: self.mac,
            packet: Packet::Advertisement {
                source: self.link_local.unwrap_or(ip),
                destination: all_nodes,
                target: ip,
                router: false,
                solicited: false,
                overrides: true,
                mac: Some(self.mac),
            },
        }];
        if let Some(Gateway { ip: IpAddr::V6(gateway), mac }) = self.gateway {
            let (group, group_mac) = solicited_node(gateway);
            frames.push(Frame {
                to: mac.unwrap_or(group_mac),
                from: self.mac,
                packet: Packet::Solicitation {
                    source: ip,
                    destination: if mac.is_some() { gateway } else { group },
                    target: gateway,
                    mac: Some(self.mac),
                },
            });
        }
        frames
    }
}

/// What asks whether another station has an address, sent from the link with this Ethernet address.
///
/// It says nothing of the sender's own address, so that nobody learns from it: an ARP probe (RFC 5227
/// §2.1.1), or a solicitation from the unspecified address (RFC 4862 §5.4.2), which is answered to
/// all nodes.
pub fn probe(ip: IpAddr, mac: [u8; 6]) -> Frame {
    match ip {
        IpAddr::V4(ip) => Frame {
            to: BROADCAST,
            from: mac,
            packet: Packet::Arp {
                operation: ArpOperation::Request,
                sender_mac: mac,
                sender: Ipv4Addr::UNSPECIFIED,
                target_mac: [0; 6],
                target: ip,
            },
        },
        IpAddr::V6(ip) => {
            let (group, group_mac) = solicited_node(ip);
            Frame {
                to: group_mac,
                from: mac,
                packet: Packet::Solicitation {
                    source: Ipv6Addr::UNSPECIFIED,
                    destination: group,
                    target: ip,
                    mac: None,
                },
            }
        }
    }
}

/// Where a node listens for questions about its address (RFC 4291 §2.7.1), and the Ethernet address
/// of that group (RFC 2464 §7).
fn solicited_node(ip: Ipv6Addr) -> (Ipv6Addr, [u8; 6]) {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        u16::from_be_bytes([0xff, a]),
        u16::from_be_bytes([b, c]),
    );
    (group, [0x33, 0x33, 0xff, a, b, c])
}

#[cfg(test)]
mod tests;
