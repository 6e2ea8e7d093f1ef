//! Listening for other stations that say they have one of certain addresses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::task::{Context, Poll};

use purelb_core::host::{LinkIndex, Mac, Sighting};
use tokio::io::unix::AsyncFd;

use crate::frame::Frame;
use crate::packet::PacketSocket;
use crate::sys;

/// Which addresses are listened for, on which links.
///
/// A link has one socket while something is listened for on it. The kernel drops what is not about
/// neighbours, and of ARP what the lowest and the highest of the addresses do not enclose: the
/// chatter of a network wakes nobody.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    by_link: BTreeMap<LinkIndex, Ear>,
    /// Heard, and not handed out yet.
    heard: VecDeque<Sighting>,
}

#[derive(Debug)]
struct Ear {
    socket: AsyncFd<PacketSocket>,
    addresses: BTreeSet<IpAddr>,
    /// The senders of ARP that the kernel lets through.
    senders: RangeInclusive<Ipv4Addr>,
}

impl Ears {
    /// Begins to listen for an address; [`Self::attune`] must follow.
    pub(crate) fn heed(&mut self, ip: IpAddr, link: LinkIndex) -> io::Result<()> {
        let ear = match self.by_link.entry(link) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Ear::open(link)?),
        };
        ear.addresses.insert(ip);
        Ok(())
    }

    /// No longer listens for an address.
    pub(crate) fn unheed(&mut self, ip: IpAddr, link: LinkIndex) {
        let Some(ear) = self.by_link.get_mut(&link) else { return };
        ear.addresses.remove(&ip);
        if ear.addresses.is_empty() {
            self.by_link.remove(&link);
        }
        self.heard.retain(|heard| (heard.ip, heard.link) != (ip, link));
    }

    /// Has the kernel let through what is listened for now.
    pub(crate) fn attune(&mut self) -> io::Result<()> {
        for ear in self.by_link.values_mut() {
            ear.attune()?;
        }
        Ok(())
    }

    /// Takes in what has come by now, so that it is not taken for an answer to anything later.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0; BUFFER];
        for (link, ear) in &self.by_link {
            while let Ok(length) = ear.socket.get_ref().receive(&mut buffer) {
                self.heard.extend(ear.sighting(*link, &buffer[..length]));
            }
        }
    }

    /// Waits until a station says that it has one of the addresses. Nothing is lost if the future is
    /// dropped.
    pub(crate) async fn next(&mut self) -> Sighting {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Sighting> {
        if let Some(sighting) = self.heard.pop_front() {
            return Poll::Ready(sighting);
        }
        let mut buffer = [0; BUFFER];
        for (link, ear) in &self.by_link {
            while let Poll::Ready(Ok(mut readiness)) = ear.socket.poll_read_ready(context) {
                match ear.socket.get_ref().receive(&mut buffer) {
                    Ok(length) => {
                        if let Some(sighting) = ear.sighting(*link, &buffer[..length]) {
                            return Poll::Ready(sighting);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        readiness.clear_ready();
                    }
                    // As when the link went down: told once, and listening goes on.
                    Err(error) => tracing::debug!(%link, %error, "listening was interrupted"),
                }
            }
        }
        Poll::Pending
    }
}

/// The longest frame that matters is far shorter.
const BUFFER: usize = 512;

/// Lets no ARP through.
const NOBODY: RangeInclusive<Ipv4Addr> = Ipv4Addr::BROADCAST..=Ipv4Addr::UNSPECIFIED;

impl Ear {
    fn open(link: LinkIndex) -> io::Result<Self> {
        let socket = PacketSocket::open()?;
        socket.listen_to(link, NOBODY)?;
        let socket = sys::readable(socket)?;
        Ok(Self { socket, addresses: BTreeSet::new(), senders: NOBODY })
    }

    fn attune(&mut self) -> io::Result<()> {
        let end_of_v4 = IpAddr::V4(Ipv4Addr::BROADCAST);
        let mut v4 = self.addresses.range(..=end_of_v4).filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let senders = match (v4.next(), v4.next_back()) {
            (Some(first), last) => first..=last.unwrap_or(first),
            (None, _) => NOBODY,
        };
        if senders != self.senders {
            self.socket.get_ref().heed_senders(&senders)?;
            self.senders = senders;
        }
        Ok(())
    }

    fn sighting(&self, link: LinkIndex, bytes: &[u8]) -> Option<Sighting> {
        let (ip, mac) = Frame::parse(bytes)?.packet.claim()?;
        self.addresses.contains(&ip).then_some(Sighting { ip, link, mac: Mac(mac) })
    }
}
