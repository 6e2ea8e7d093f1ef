//! Requests to the kernel and its answers.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use purelb_core::host::LinkIndex;
use purelb_core::kernel::KernelError;

use crate::decode::Message;
use crate::encode;
use crate::mirror::{Kind, Listing};
use crate::wire::{self, Malformed, RawMessage};

/// How many requests go to the kernel in one system call. Each costs one acknowledgement, which
/// takes below 1 KiB of the socket's receive buffer of 208 KiB by default. Each takes the kernel up
/// to 0.2 ms, so that a lifetime computed for the first is at most 13 ms old for the last.
pub(crate) const BATCH: usize = 64;

/// How often a dump that was interrupted by changes is tried.
const DUMP_ATTEMPTS: usize = 32;

/// Room for one datagram. The kernel fills dumps up to 32 KiB.
pub(crate) const BUFFER: usize = 64 * 1024;

/// Why a dump did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The kernel's answer is not understood.
    #[error("while listing {kind}")]
    Answer {
        /// What was asked for.
        kind: Kind,
        /// What is wrong with it.
        source: Malformed,
    },
    /// It kept changing.
    #[error("could not list {kind}: they changed under {DUMP_ATTEMPTS} attempts")]
    Interrupted {
        /// What was asked for.
        kind: Kind,
    },
    /// The kernel refused, or the socket failed.
    #[error("could not list {kind}")]
    Io {
        /// What was asked for.
        kind: Kind,
        /// What happened.
        source: io::Error,
    },
}

/// A request: what, and the `NLM_F_*` beyond "request" and "acknowledge".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

impl Request {
    /// Appends its bytes to `buffer`.
    pub(crate) fn write(self, flags: u16, sequence: u32, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = self.flags | flags | NLM_F_REQUEST;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(self.message));
        message.finalize();
        let start = buffer.len();
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..]);
    }
}

/// A socket for requests. Never used for notifications: those carry the numbers of others' requests.
///
/// The kernel answers while the request is sent, or, in a dump, while the last part is received.
/// Nothing here ever waits.
#[derive(Debug)]
pub(crate) struct RequestSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    dumps: u64,
}

impl RequestSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Each of these is missing on some old kernel, and each can be done without.
        for (option, result) in [
            ("strict checks", socket.set_netlink_get_strict_chk(true)),
            ("extended acknowledgements", socket.set_ext_ack(true)),
            ("capped acknowledgements", socket.set_cap_ack(true)),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, option, "the kernel lacks a netlink option");
            }
        }
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER], dumps: 0 })
    }

    /// How many dumps were asked for since the socket was opened, repeated ones included.
    pub(crate) fn dumps(&self) -> u64 {
        self.dumps
    }

    /// Sends the requests, at most [`BATCH`], in one system call; returns the kernel's answer to each.
    pub(crate) fn request(&mut self, requests: Vec<Request>) -> Vec<Result<(), KernelError>> {
        debug_assert!(requests.len() <= BATCH, "the caller splits into batches");
        let first = self.sequence.wrapping_add(1);
        let mut answers: Vec<Option<Result<(), KernelError>>> = vec![None; requests.len()];
        let mut bytes = Vec::with_capacity(requests.len() * 128);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            request.write(NLM_F_ACK, self.sequence, &mut bytes);
        }
        let result = self.exchange(&bytes, first, &mut answers);
        let reason = match result {
            Ok(()) => "it was not acknowledged".to_owned(),
            Err(error) => error.to_string(),
        };
        let missing = || Err(KernelError::Transport { text: reason.clone() });
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    fn exchange(
        &mut self,
        bytes: &[u8],
        first: u32,
        answers: &mut [Option<Result<(), KernelError>>],
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.socket.send(bytes, 0)?;
        let mut missing = answers.len();
        while missing > 0 {
            let Some(length) = self.receive()? else { return Ok(()) };
            for message in wire::messages(&self.buffer[..length]) {
                let message = message.map_err(io::Error::other)?;
                let slot = message.sequence.wrapping_sub(first) as usize;
                let Some(slot) = answers.get_mut(slot) else { continue };
                if i32::from(message.kind) == libc::NLMSG_ERROR && slot.is_none() {
                    *slot = Some(verdict(&message));
                    missing -= 1;
                }
            }
        }
        Ok(())
    }

    /// Asks for all objects of a kind; each message of the answer goes to `listing`. A dump that is
    /// interrupted by changes is asked for again.
    pub(crate) fn dump(&mut self, kind: Kind, listing: &mut Listing) -> Result<(), ListError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(messages) = self.dump_once(kind)? {
                messages.into_iter().for_each(|message| listing.take(kind, message));
                return Ok(());
            }
            tracing::debug!(%kind, "a dump was interrupted by changes");
        }
        Err(ListError::Interrupted { kind })
    }

    /// `None` if it was interrupted.
    fn dump_once(&mut self, kind: Kind) -> Result<Option<Vec<Message>>, ListError> {
        let io = |source| ListError::Io { kind, source };
        self.sequence = self.sequence.wrapping_add(1);
        self.dumps += 1;
        let mut bytes = Vec::new();
        encode::list(kind).write(NLM_F_DUMP, self.sequence, &mut bytes);
        self.socket.send(&bytes, 0).map_err(io)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            let Some(length) = self.receive().map_err(io)? else {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            };
            for raw in wire::messages(&self.buffer[..length]) {
                let raw = raw.map_err(|source| ListError::Answer { kind, source })?;
                if raw.sequence != self.sequence {
                    continue;
                }
                interrupted |= raw.flags & NLM_F_DUMP_INTR != 0;
                match i32::from(raw.kind) {
                    libc::NLMSG_NOOP => {}
                    libc::NLMSG_OVERRUN => interrupted = true,
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        return match code(&raw) {
                            0 => Ok((!interrupted).then_some(found)),
                            // A namespace without any route has no table yet, and a kernel without
                            // IPv6 has no such routes.
                            libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT
                                if matches!(kind, Kind::Routes(_)) =>
                            {
                                Ok(Some(Vec::new()))
                            }
                            code => Err(io(io::Error::from_raw_os_error(code))),
                        };
                    }
                    // One object that is not understood must not hide all others.
                    _ => match Message::decode(&raw) {
                        Ok(message) => found.push(message),
                        Err(error) => tracing::warn!(%kind, %error, "left out an object"),
                    },
                }
            }
        }
    }

    /// What the kernel tells of one link now, if it is there.
    pub(crate) fn link(&mut self, link: LinkIndex) -> Option<Message> {
        self.find(encode::find_link(link), |answer| Message::decode(answer).ok())
    }

    /// The Ethernet address of a neighbour, if the kernel knows it.
    pub(crate) fn neighbour(&mut self, link: LinkIndex, ip: IpAddr) -> Option<[u8; 6]> {
        /// `struct ndmsg`
        const HEADER: usize = 12;
        const NDA_LLADDR: u16 = 2;
        self.find(encode::find_neighbour(link, ip), |answer| {
            let mut mac = None;
            wire::for_each_attribute(answer.body.get(HEADER..)?, |kind, value| {
                if kind == NDA_LLADDR {
                    mac = value.try_into().ok();
                }
                Ok(())
            })
            .ok()?;
            mac
        })
    }

    /// Asks for one object; `None` if there is none, or it cannot be had.
    fn find<T>(
        &mut self,
        request: Request,
        read: impl Fn(&RawMessage<'_>) -> Option<T>,
    ) -> Option<T> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        request.write(0, self.sequence, &mut bytes);
        self.socket.send(&bytes, 0).ok()?;
        while let Some(length) = self.receive().ok()? {
            for answer in wire::messages(&self.buffer[..length]).flatten() {
                if answer.sequence == self.sequence {
                    return match i32::from(answer.kind) {
                        libc::NLMSG_ERROR => None,
                        _ => read(&answer),
                    };
                }
            }
        }
        None
    }

    /// Receives one datagram into the buffer, if there is one.
    fn receive(&mut self) -> io::Result<Option<usize>> {
        receive(&self.socket, &mut self.buffer)
    }
}

/// Receives one datagram of the kernel, if there is one.
///
/// # Errors
///
/// Also if it did not fit: `ENOBUFS`, as if it had been lost.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        let room = buffer.len();
        match socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
            Ok((length, _)) if length > room => {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            // Only the kernel has port 0. Nobody else may speak here.
            Ok((_, from)) if from.port_number() != 0 => {}
            Ok((length, _)) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The error number in an acknowledgement or at the end of a dump, positive; 0 is success.
fn code(message: &RawMessage<'_>) -> i32 {
    wire::bytes(message.body).map_or(0, |code| i32::from_ne_bytes(code).saturating_neg())
}

fn verdict(message: &RawMessage<'_>) -> Result<(), KernelError> {
    match code(message) {
        0 => Ok(()),
        errno => Err(KernelError::Refused {
            errno,
            text: extended_text(message).unwrap_or_else(|| errno_text(errno)),
        }),
    }
}

/// The kernel's own words: attributes after the error number (4 bytes) and the copy of the request's
/// header (16 bytes; its length field counts the body too, which follows unless `NLM_F_CAPPED`).
fn extended_text(message: &RawMessage<'_>) -> Option<String> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = match message.flags & NLM_F_CAPPED {
        0 => (wire::number(message.body.get(4..)?).ok()? as usize).next_multiple_of(4),
        _ => 16,
    };
    let mut text = None;
    let _ = wire::for_each_attribute(message.body.get(4 + request..)?, |kind, value| {
        if kind == NLMSGERR_ATTR_MSG {
            text = Some(wire::text(value));
        }
        Ok(())
    });
    text.filter(|text: &String| !text.is_empty())
}

/// The system's words for an error number.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u16, body: &[u8]) -> Result<(), KernelError> {
        verdict(&RawMessage { kind: 2, flags, sequence: 1, body })
    }

    fn refusal(tail: &[u8], length: u32) -> Vec<u8> {
        let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
        body.extend(length.to_ne_bytes());
        body.extend([0; 12]);
        body.extend(tail);
        body
    }

    const WORDS: &[u8] = b"\x0a\0\x01\0wrong\0\0\0";

    #[test]
    fn zero_is_an_acknowledgement() {
        assert_eq!(answer(0x100, &[0; 20]), Ok(()));
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_capped_request() {
        let body = refusal(WORDS, 64);
        let text = "wrong".to_owned();
        assert_eq!(answer(0x300, &body), Err(KernelError::Refused { errno: 22, text }));
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_whole_request() {
        let body = refusal(&[&[0; 8], WORDS].concat(), 24);
        let text = "wrong".to_owned();
        assert_eq!(answer(0x200, &body), Err(KernelError::Refused { errno: 22, text }));
    }

    #[test]
    fn without_words_the_error_number_speaks() {
        let text = "Invalid argument".to_owned();
        let expected = Err(KernelError::Refused { errno: 22, text });
        assert_eq!(answer(0x100, &refusal(&[], 64)), expected);
        // Cut off, and malformed: never worse than no words.
        assert_eq!(answer(0x300, &refusal(&WORDS[..7], 64)), expected);
        assert_eq!(answer(0x200, &refusal(WORDS, u32::MAX)), expected);
    }
}
