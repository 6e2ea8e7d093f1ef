//! Packet sockets: Ethernet frames out of and into a link.

use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use purelb_core::host::LinkIndex;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use crate::frame::Frame;
use crate::sys::{self, Instruction};

/// A packet socket (`packet(7)`). Needs CAP_NET_RAW.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket that receives nothing until [`Self::listen`].
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?))
    }

    /// Sends a frame out of a link, or fails at once if its queue is full.
    pub(crate) fn send(&self, link: LinkIndex, frame: &Frame) -> io::Result<()> {
        let to = sys::LinkAddress { link, ethertype: frame.ethertype(), mac: frame.to };
        sendto(&self.0, &frame.to_bytes(), SendFlags::empty(), &to)?;
        Ok(())
    }

    /// Starts to receive the ARP and neighbour discovery frames that come in by a link.
    pub(crate) fn listen(&self, link: LinkIndex) -> io::Result<()> {
        self.listen_to(link, Ipv4Addr::UNSPECIFIED..=Ipv4Addr::BROADCAST)
    }

    /// Like [`Self::listen`], but of ARP only what one of these senders says.
    pub(crate) fn listen_to(
        &self,
        link: LinkIndex,
        senders: RangeInclusive<Ipv4Addr>,
    ) -> io::Result<()> {
        self.heed_senders(&senders)?;
        let ethertype = libc::ETH_P_ALL as u16;
        bind(&self.0, &sys::LinkAddress { link, ethertype, mac: [0; 6] })?;
        Ok(())
    }

    /// Has the kernel keep more of what was not received yet, as far as it allows.
    pub(crate) fn enlarge_buffer(&self, bytes: usize) -> io::Result<()> {
        // Beyond the system's limit only with CAP_NET_ADMIN in the first user namespace.
        set_socket_recv_buffer_size_force(&self.0, bytes)
            .or_else(|_| set_socket_recv_buffer_size(&self.0, bytes))?;
        Ok(())
    }

    /// Has ARP from other senders than these dropped.
    pub(crate) fn heed_senders(&self, senders: &RangeInclusive<Ipv4Addr>) -> io::Result<()> {
        sys::attach_filter(self.0.as_fd(), &neighbour_frames(senders))
    }

    /// Receives the bytes of one frame, as many as fit.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(length)
    }

    /// The number of the link with this name.
    pub(crate) fn link(&self, name: &str) -> io::Result<LinkIndex> {
        Ok(LinkIndex(rustix::net::netdevice::name_to_index(&self.0, name)?))
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Lets pass what comes in and is ARP from one of these senders, or ICMPv6 of type 135 or 136 without
/// extension headers.
fn neighbour_frames(senders: &RangeInclusive<Ipv4Addr>) -> [Instruction; 15] {
    [
        (LOAD_BYTE, 0, 0, PACKET_TYPE),
        (JUMP_EQUAL, 12, 0, libc::PACKET_OUTGOING as u32),
        (LOAD_HALF, 0, 0, 12),
        (JUMP_EQUAL, 6, 0, crate::frame::ETHERTYPE_ARP as u32),
        (JUMP_EQUAL, 0, 9, crate::frame::ETHERTYPE_IPV6 as u32),
        (LOAD_BYTE, 0, 0, 14 + 6),
        (JUMP_EQUAL, 0, 7, libc::IPPROTO_ICMPV6 as u32),
        (LOAD_BYTE, 0, 0, 14 + 40),
        (JUMP_GREATER, 5, 0, 136),
        (JUMP_GREATER, 3, 4, 134),
        (LOAD_WORD, 0, 0, 14 + 14),
        (JUMP_NOT_BELOW, 0, 2, senders.start().to_bits()),
        (JUMP_GREATER, 1, 0, senders.end().to_bits()),
        (RETURN, 0, 0, u32::MAX),
        (RETURN, 0, 0, 0),
    ]
}

const LOAD_WORD: u16 = 0x20;
const JUMP_NOT_BELOW: u16 = 0x35;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`
const PACKET_TYPE: u32 = (-0x1000_i32 + 4) as u32;
