//! ARP and neighbour discovery as Ethernet frames: to bytes and back. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// To every station.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// To every IPv6 node (`ff02::1`, RFC 2464 §7).
pub const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// A frame that tells or asks who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The Ethernet destination.
    pub to: [u8; 6],
    /// The Ethernet source.
    pub from: [u8; 6],
    /// What it says.
    pub packet: Packet,
}

/// What such a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Neighbour advertisement (RFC 4861 §4.4): "`target` is here".
    Advertisement {
        /// The IPv6 source.
        source: Ipv6Addr,
        /// The IPv6 destination.
        destination: Ipv6Addr,
        /// The address that it is about.
        target: Ipv6Addr,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what is cached.
        overrides: bool,
        /// Where the target is.
        mac: Option<[u8; 6]>,
    },
    /// ARP (RFC 826).
    Arp {
        /// Whether it asks or answers.
        operation: ArpOperation,
        /// The sender's Ethernet address.
        sender_mac: [u8; 6],
        /// The sender's IPv4 address.
        sender: Ipv4Addr,
        /// The target's Ethernet address; means nothing in a request.
        target_mac: [u8; 6],
        /// The target's IPv4 address.
        target: Ipv4Addr,
    },
    /// Neighbour solicitation (RFC 4861 §4.3): "who has `target`?".
    Solicitation {
        /// The IPv6 source; unspecified in a probe for duplicates.
        source: Ipv6Addr,
        /// The IPv6 destination.
        destination: Ipv6Addr,
        /// The address that it is about.
        target: Ipv6Addr,
        /// Where the sender is.
        mac: Option<[u8; 6]>,
    },
}

/// Whether an ARP packet asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// 2
    Reply,
    /// 1
    Request,
}

impl Packet {
    /// The address that the sender says is at its Ethernet address, and that address.
    pub fn claim(&self) -> Option<(IpAddr, [u8; 6])> {
        match *self {
            Self::Advertisement { target, mac, .. } => mac.map(|mac| (target.into(), mac)),
            Self::Arp { sender, sender_mac, .. } if !sender.is_unspecified() => {
                Some((sender.into(), sender_mac))
            }
            Self::Arp { .. } => None,
            Self::Solicitation { source, mac, .. } => mac.map(|mac| (source.into(), mac)),
        }
    }
}

impl Frame {
    /// The EtherType.
    pub(crate) fn ethertype(&self) -> u16 {
        match self.packet {
            Packet::Arp { .. } => ETHERTYPE_ARP,
            Packet::Advertisement { .. } | Packet::Solicitation { .. } => ETHERTYPE_IPV6,
        }
    }

    /// The frame's bytes, without padding and checksum, which the device adds.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(86);
        bytes.extend(self.to);
        bytes.extend(self.from);
        bytes.extend(self.ethertype().to_be_bytes());
        match self.packet {
            Packet::Arp { operation, sender_mac, sender, target_mac, target } => {
                // Ethernet and IPv4, with addresses of 6 and 4 bytes.
                bytes.extend([0, 1, 8, 0, 6, 4]);
                bytes.extend(match operation {
                    ArpOperation::Reply => [0, 2],
                    ArpOperation::Request => [0, 1],
                });
                bytes.extend(sender_mac);
                bytes.extend(sender.octets());
                bytes.extend(target_mac);
                bytes.extend(target.octets());
            }
            Packet::Advertisement {
                source,
                destination,
                target,
                router,
                solicited,
                overrides,
                mac,
            } => {
                let flag = |set, bit| if set { 1_u8 << bit } else { 0 };
                let flags = flag(router, 7) | flag(solicited, 6) | flag(overrides, 5);
                let option = mac.map(|mac| (TARGET_LINK_LAYER, mac));
                bytes.extend(icmpv6(source, destination, ADVERTISEMENT, flags, target, option));
            }
            Packet::Solicitation { source, destination, target, mac } => {
                let option = mac.map(|mac| (SOURCE_LINK_LAYER, mac));
                bytes.extend(icmpv6(source, destination, SOLICITATION, 0, target, option));
            }
        }
        bytes
    }

    /// Reads a frame. `None` if it is about something else, or not as it should be (RFC 4861 §7.1:
    /// hop limit 255, checksum, lengths).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<14>()?;
        let to = header[..6].try_into().ok()?;
        let from = header[6..12].try_into().ok()?;
        let packet = match u16::from_be_bytes([header[12], header[13]]) {
            ETHERTYPE_ARP => parse_arp(rest)?,
            ETHERTYPE_IPV6 => parse_ipv6(rest)?,
            _ => return None,
        };
        Some(Self { to, from, packet })
    }
}

/// An IPv6 packet that holds a solicitation or an advertisement.
fn icmpv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, [u8; 6])>,
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    if let Some((kind, mac)) = option {
        body.extend([kind, 1]);
        body.extend(mac);
    }
    let sum = checksum(source, destination, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    // Version 6, no flow label; length; next header ICMPv6; hop limit 255.
    let mut bytes = vec![0x60, 0, 0, 0, 0, body.len() as u8, 58, 255];
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(body);
    bytes
}

/// RFC 4443 §2.3: over the pseudo-header and the message. Over a message that holds its checksum the
/// result is 0.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let mut sum = words(&source.octets()) + words(&destination.octets());
    sum += body.len() as u32 + 58 + words(body);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn parse_arp(bytes: &[u8]) -> Option<Packet> {
    let bytes = bytes.first_chunk::<28>()?;
    if bytes[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = match bytes[6..8] {
        [0, 1] => ArpOperation::Request,
        [0, 2] => ArpOperation::Reply,
        _ => return None,
    };
    let mac = |at: usize| <[u8; 6]>::try_from(&bytes[at..at + 6]).ok();
    let ip = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).ok().map(Ipv4Addr::from);
    Some(Packet::Arp {
        operation,
        sender_mac: mac(8)?,
        sender: ip(14)?,
        target_mac: mac(18)?,
        target: ip(24)?,
    })
}

fn parse_ipv6(bytes: &[u8]) -> Option<Packet> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != 58 || header[7] != 255 {
        return None;
    }
    let ip = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
    let (source, destination) = (ip(&header[8..24])?, ip(&header[24..40])?);
    let body = rest.get(..length)?;
    let (message, options) = body.split_first_chunk::<24>()?;
    if message[1] != 0 || checksum(source, destination, body) != 0 {
        return None;
    }
    let target = ip(&message[8..24])?;
    match message[0] {
        ADVERTISEMENT => Some(Packet::Advertisement {
            source,
            destination,
            target,
            router: message[4] & 0x80 != 0,
            solicited: message[4] & 0x40 != 0,
            overrides: message[4] & 0x20 != 0,
            mac: link_layer_option(options, TARGET_LINK_LAYER)?,
        }),
        SOLICITATION => Some(Packet::Solicitation {
            source,
            destination,
            target,
            mac: link_layer_option(options, SOURCE_LINK_LAYER)?,
        }),
        _ => None,
    }
}

/// The Ethernet address in the first option of this kind; the outer `None` is a malformed option.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Option<Option<[u8; 6]>> {
    while let [kind, length, ..] = *options {
        let length = usize::from(length) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted && length == 8 {
            return Some(option[2..].try_into().ok());
        }
        options = &options[length..];
    }
    options.is_empty().then_some(None)
}

#[cfg(test)]
mod tests;
