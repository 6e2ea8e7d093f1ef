//! Talking to the neighbours by hand: frames out of and into one link, without waiting.

use std::io;

use purelb_core::host::LinkIndex;

use crate::frame::Frame;
use crate::packet::PacketSocket;

/// How much the kernel keeps between two looks, in bytes.
const BUFFER: usize = 8 << 20;

/// Sends ARP and neighbour discovery frames out of one link and takes in those that came by it.
/// Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct Port {
    socket: PacketSocket,
    link: LinkIndex,
    buffer: Vec<u8>,
}

impl Port {
    /// Opens the link with this name in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If there is no such link, or the capability is missing.
    pub fn open(name: &str) -> io::Result<Self> {
        let socket = PacketSocket::open()?;
        socket.enlarge_buffer(BUFFER)?;
        let link = socket.link(name)?;
        socket.listen(link)?;
        Ok(Self { socket, link, buffer: vec![0; 2048] })
    }

    /// Sends one frame.
    ///
    /// # Errors
    ///
    /// If the link is down or its queue is full.
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        self.socket.send(self.link, frame)
    }

    /// The next well-formed frame that came in since the last call, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// If the socket fails, as with `ENETDOWN` once after the link went down.
    pub fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(length) => {
                    if let Some(frame) = Frame::parse(&self.buffer[..length]) {
                        return Ok(Some(frame));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
