//! What the kernel tells, as facts.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use purelb_core::host::Family;
use tokio::io::unix::AsyncFd;

use crate::decode::Message;
use crate::encode;
use crate::mirror::{HostChange, ListAgain, Listing, Mirror};
use crate::socket::{self, ListError, RequestSocket};
use crate::{sys, wire};

/// Notifications wanted (`RTNLGRP_*`).
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_NEXTHOP,
];

/// The receive buffer asked for, in bytes; the kernel doubles it. A change of an address is about
/// four notifications of 1 KiB each as the kernel counts, so ten thousand at once fit.
const RECEIVE_BUFFER: usize = 24 << 20;

/// How often all is listed again because routes changed meanwhile, before what is there is taken.
const QUIET_ATTEMPTS: usize = 4;

/// Why the kernel can be watched no longer.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The socket for notifications failed.
    #[error("the socket for notifications of the kernel failed")]
    Io(#[from] io::Error),
    /// A listing failed.
    #[error(transparent)]
    List(#[from] ListError),
}

/// The links, addresses and routes of a network namespace, first all of them, then each change.
///
/// Watching needs no privilege. It costs no dumps as long as notifications keep coming; when some
/// were lost (`ENOBUFS`), or do not tell what happened, everything is listed again.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<Socket>,
    requests: RequestSocket,
    mirror: Mirror,
    ready: VecDeque<HostChange>,
    buffer: Vec<u8>,
    listings: u64,
}

impl Watch {
    /// Starts to watch the calling thread's network namespace, and lists it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// # Errors
    ///
    /// If the sockets cannot be opened or the first listing fails.
    pub fn open() -> Result<Self, WatchError> {
        Self::with_receive_buffer(RECEIVE_BUFFER)
    }

    /// Like [`Self::open`], with another size of the receive buffer in bytes; the kernel doubles it.
    /// A small one makes it easy to see what happens when it overruns.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn with_receive_buffer(bytes: usize) -> Result<Self, WatchError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, bytes)
            .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes))
            .map_err(io::Error::from)?;
        for group in GROUPS {
            match socket.add_membership(group) {
                // Nexthop objects are there since Linux 5.3.
                Err(_) if group == libc::RTNLGRP_NEXTHOP => {}
                joined => joined?,
            }
        }
        let mut watch = Self {
            socket: sys::readable(socket)?,
            requests: RequestSocket::open()?,
            mirror: Mirror::default(),
            ready: VecDeque::new(),
            buffer: vec![0; socket::BUFFER],
            listings: 0,
        };
        watch.list()?;
        Ok(watch)
    }

    /// Waits for the next fact. The first three are all links, all addresses and all routes.
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// If facts can no longer be had. The watch is of no use then.
    pub async fn next(&mut self) -> Result<HostChange, WatchError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let mut readiness = self.socket.readable().await?;
            match socket::receive(self.socket.get_ref(), &mut self.buffer) {
                Ok(Some(length)) => {
                    if self.take(length).is_err() {
                        self.list()?;
                    }
                }
                Ok(None) => readiness.clear_ready(),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::debug!("notifications of the kernel were lost");
                    self.list()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is known now. It may be ahead of the facts handed out.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// How often everything was listed, the first time included.
    pub fn listings(&self) -> u64 {
        self.listings
    }

    /// How many dumps the kernel was asked for: four for a listing that nothing disturbs.
    pub fn dumps(&self) -> u64 {
        self.requests.dumps()
    }

    /// Takes in the notifications in the buffer.
    fn take(&mut self, length: usize) -> Result<(), ListAgain> {
        let mut changes = Vec::new();
        let result = apply(&mut self.mirror, &self.buffer[..length], &mut changes);
        for change in &changes {
            tracing::debug!(?change, "the kernel told");
        }
        self.ready.extend(changes);
        result
    }

    fn list(&mut self) -> Result<(), ListError> {
        let (listing, meanwhile) = self.listing()?;
        self.listings += 1;
        self.ready.extend(self.mirror.list(listing));
        let mut changes = Vec::new();
        for datagram in &meanwhile {
            // It cannot be told what happened, but it happened before the listing or shows in it.
            let _ = apply(&mut self.mirror, datagram, &mut changes);
        }
        self.ready.extend(changes);
        tracing::debug!(
            listings = self.listings,
            dumps = self.dumps(),
            "listed the kernel's state"
        );
        Ok(())
    }

    /// Lists everything; returns that and the notifications that came meanwhile. Those about links and
    /// addresses can be applied once more without harm; the order of routes could suffer, so it is
    /// tried to have none of them.
    fn listing(&mut self) -> Result<(Listing, Vec<Vec<u8>>), ListError> {
        let mut attempt = 1;
        loop {
            // A change that was told of, and is among what is thrown away here, may not be complete.
            let _ = self.requests.request(vec![encode::barrier()]);
            // After an overrun the kernel sends nothing before the queue has been emptied.
            while self.queued()?.is_some() {}
            let listing = list(&mut self.requests)?;
            let (mut meanwhile, mut overrun) = (Vec::new(), false);
            loop {
                match self.queued()? {
                    Some(Ok(datagram)) => meanwhile.push(datagram),
                    Some(Err(Lost)) => overrun = true,
                    None => break,
                }
            }
            let unquiet = meanwhile.iter().any(|datagram| tells_of_routes(datagram));
            if overrun || unquiet && attempt < QUIET_ATTEMPTS {
                attempt += 1;
                continue;
            }
            return Ok((listing, meanwhile));
        }
    }

    /// One datagram that waits to be received.
    fn queued(&mut self) -> Result<Option<Result<Vec<u8>, Lost>>, ListError> {
        match socket::receive(self.socket.get_ref(), &mut self.buffer) {
            Ok(length) => Ok(length.map(|length| Ok(self.buffer[..length].to_vec()))),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(Err(Lost))),
            Err(source) => Err(ListError::Io { what: "notifications", source }),
        }
    }
}

/// Some notifications did not fit into the queue.
struct Lost;

/// All links, addresses and routes of the calling thread's network namespace, once.
///
/// # Errors
///
/// If a socket cannot be opened or a dump fails.
pub fn snapshot() -> Result<Mirror, WatchError> {
    let mut mirror = Mirror::default();
    let _ = mirror.list(list(&mut RequestSocket::open()?)?);
    Ok(mirror)
}

fn list(requests: &mut RequestSocket) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    for (what, request) in [
        ("links", encode::list_links()),
        ("addresses", encode::list_addresses()),
        ("IPv4 routes", encode::list_routes(Family::V4)),
        ("IPv6 routes", encode::list_routes(Family::V6)),
    ] {
        for message in requests.dump(what, &request, Message::decode)? {
            listing.take(message);
        }
    }
    Ok(listing)
}

fn apply(
    mirror: &mut Mirror,
    datagram: &[u8],
    changes: &mut Vec<HostChange>,
) -> Result<(), ListAgain> {
    for raw in wire::messages(datagram) {
        let message = raw.and_then(|raw| Message::decode(&raw)).map_err(|error| {
            tracing::warn!(%error, "a notification of the kernel is not understood");
            ListAgain
        })?;
        mirror.apply(message, changes)?;
    }
    Ok(())
}

fn tells_of_routes(datagram: &[u8]) -> bool {
    let messages = wire::messages(datagram).flatten();
    messages.filter_map(|raw| Message::decode(&raw).ok()).any(|message| match message {
        Message::RouteGone(..)
        | Message::RouteIs(..)
        | Message::NexthopChanged(_)
        | Message::NexthopGone(_) => true,
        Message::AddressGone(..)
        | Message::AddressIs(..)
        | Message::LinkGone(_)
        | Message::LinkIs(_)
        | Message::Other => false,
    })
}
