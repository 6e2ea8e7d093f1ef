//! What the kernel tells, as facts.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use purelb_core::host::LinkIndex;
use tokio::io::unix::AsyncFd;

use crate::decode::Message;
use crate::encode;
use crate::mirror::{HostChange, Kind, ListAgain, Listing, Mirror};
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

/// How often everything is listed because it changed meanwhile.
const LIST_ATTEMPTS: usize = 8;

/// Why the kernel can be watched no longer.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The socket for notifications failed.
    #[error("the socket for notifications of the kernel failed")]
    Io(#[from] io::Error),
    /// A listing failed.
    #[error(transparent)]
    List(#[from] ListError),
    /// Each time that everything was listed, it changed too fast to be followed meanwhile.
    #[error("the kernel's state changed too fast to be listed")]
    Unsteady,
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
            match queued(self.socket.get_ref(), &mut self.buffer)? {
                Queued::Datagram(datagram) => {
                    if apply(&mut self.mirror, datagram, &mut self.ready).is_err() {
                        self.list()?;
                    }
                }
                Queued::Lost => self.list()?,
                Queued::Nothing => readiness.clear_ready(),
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

    /// Looks at one link again: the kernel does not tell of a new alias or sysctl of a link that is
    /// down (`netdev_state_change`).
    ///
    /// # Errors
    ///
    /// If facts can no longer be had.
    pub(crate) fn look_again(&mut self, link: LinkIndex) -> Result<(), WatchError> {
        // What is queued is older, so it comes first.
        loop {
            let applied = match queued(self.socket.get_ref(), &mut self.buffer)? {
                Queued::Datagram(datagram) => apply(&mut self.mirror, datagram, &mut self.ready),
                Queued::Lost => Err(ListAgain),
                Queued::Nothing => break,
            };
            applied.or_else(|ListAgain| self.list())?;
        }
        if let Some(message) = self.requests.link(link) {
            apply_one(&mut self.mirror, message, &mut self.ready)
                .or_else(|ListAgain| self.list())?;
        }
        Ok(())
    }

    /// Lists everything and takes in what was told meanwhile.
    fn list(&mut self) -> Result<(), WatchError> {
        let mut attempts_left = LIST_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let listing = self.listing()?;
            let mut facts = VecDeque::from(self.mirror.list(listing));
            match self.catch_up(&mut facts)? {
                // Links and addresses can be taken in twice without harm. The order of routes cannot,
                // so it is tried to hear of none while they are listed.
                Meanwhile::Routes | Meanwhile::Unknown if attempts_left > 0 => continue,
                Meanwhile::Quiet | Meanwhile::Routes => {}
                Meanwhile::Unknown => return Err(WatchError::Unsteady),
            }
            self.ready.extend(facts);
            self.listings += 1;
            let (listings, dumps) = (self.listings, self.dumps());
            tracing::debug!(listings, dumps, "listed the kernel's state");
            return Ok(());
        }
    }

    fn listing(&mut self) -> Result<Listing, WatchError> {
        // A change that was told of, and is among what is thrown away below, may not be complete.
        let _ = self.requests.request(vec![encode::barrier()]);
        // After an overrun the kernel sends nothing before the queue has been emptied.
        while !matches!(queued(self.socket.get_ref(), &mut self.buffer)?, Queued::Nothing) {}
        Ok(list(&mut self.requests)?)
    }

    /// Takes in what is queued.
    fn catch_up(&mut self, facts: &mut VecDeque<HostChange>) -> Result<Meanwhile, WatchError> {
        let mut meanwhile = Meanwhile::Quiet;
        loop {
            match queued(self.socket.get_ref(), &mut self.buffer)? {
                Queued::Datagram(datagram) => {
                    if meanwhile == Meanwhile::Quiet && tells_of_routes(datagram) {
                        meanwhile = Meanwhile::Routes;
                    }
                    if apply(&mut self.mirror, datagram, facts).is_err() {
                        meanwhile = Meanwhile::Unknown;
                    }
                }
                Queued::Lost => meanwhile = Meanwhile::Unknown,
                Queued::Nothing => return Ok(meanwhile),
            }
        }
    }
}

/// What happened while everything was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    /// Nothing that needs care.
    Quiet,
    /// Routes changed.
    Routes,
    /// Notifications were lost, or do not tell.
    Unknown,
}

/// What waits to be received.
enum Queued<'a> {
    Datagram(&'a [u8]),
    /// Some notifications did not fit into the queue.
    Lost,
    Nothing,
}

fn queued<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<Queued<'a>> {
    match socket::receive(socket, buffer) {
        Ok(Some(length)) => Ok(Queued::Datagram(&buffer[..length])),
        Ok(None) => Ok(Queued::Nothing),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            tracing::debug!("notifications of the kernel were lost");
            Ok(Queued::Lost)
        }
        Err(error) => Err(error),
    }
}

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
    for kind in Kind::ALL {
        requests.dump(kind, &mut listing)?;
    }
    Ok(listing)
}

fn apply(
    mirror: &mut Mirror,
    datagram: &[u8],
    facts: &mut VecDeque<HostChange>,
) -> Result<(), ListAgain> {
    for raw in wire::messages(datagram) {
        let message = raw.and_then(|raw| Message::decode(&raw)).map_err(|error| {
            tracing::warn!(%error, "a notification of the kernel is not understood");
            ListAgain
        })?;
        apply_one(mirror, message, facts)?;
    }
    Ok(())
}

fn apply_one(
    mirror: &mut Mirror,
    message: Message,
    facts: &mut VecDeque<HostChange>,
) -> Result<(), ListAgain> {
    let changes = mirror.apply(message)?;
    for change in &changes {
        tracing::debug!(?change, "the kernel told");
    }
    facts.extend(changes);
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
