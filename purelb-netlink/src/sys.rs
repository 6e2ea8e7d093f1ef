//! All `unsafe` code of this crate: what no crate offers without.
#![allow(unsafe_code, reason = "link-layer addresses, socket filters, readiness of descriptors")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_sys::Socket;
use purelb_core::host::LinkIndex;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::packet::PacketSocket;

/// A `sockaddr_ll` (`packet(7)`).
pub(crate) struct LinkAddress {
    pub(crate) link: LinkIndex,
    pub(crate) ethertype: u16,
    pub(crate) mac: [u8; 6],
}

// SAFETY: `call` gets a pointer to an initialised `sockaddr_ll` that lives until `call` returns, and
// its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let mut mac = [0; 8];
        mac[..6].copy_from_slice(&self.mac);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: self.ethertype.to_be(),
            sll_ifindex: self.link.0.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: mac,
        };
        call((&raw const address).cast(), size_of_val(&address) as SocketAddrLen)
    }
}

/// One instruction of a classic BPF program: code, jump if true, jump if false, operand.
pub(crate) type Instruction = (u16, u8, u8, u32);

/// Makes a socket drop what the program returns 0 for (`SO_ATTACH_FILTER`).
pub(crate) fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<_> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the value is an initialised `sock_fprog` of the size given, and what it points to,
    // `len` instructions, lives until the call returns. The kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What keeps one descriptor open for as long as it lives.
///
/// # Safety
///
/// `as_raw_fd` returns the same open descriptor until the value is dropped.
pub(crate) unsafe trait KeepsDescriptor: AsRawFd {}

// SAFETY: it owns its descriptor, closes it when dropped, and never exchanges it.
unsafe impl KeepsDescriptor for PacketSocket {}

// SAFETY: as above. (A clone would close the same descriptor; there are none here.)
unsafe impl KeepsDescriptor for Socket {}

/// Lets tasks wait until something can be received. Panics outside of a tokio runtime.
pub(crate) fn readable<T: KeepsDescriptor>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what is asked for is what `KeepsDescriptor` promises.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}
