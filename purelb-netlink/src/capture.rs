//! Listening to what the neighbours say.

use std::io;

use tokio::io::unix::AsyncFd;

use crate::frame::Frame;
use crate::packet::PacketSocket;
use crate::sys;

/// The ARP and neighbour discovery frames that come in by one link. Needs CAP_NET_RAW.
///
/// Frames that this host sends by that link are not among them. Each packet that comes in costs the
/// kernel a look at it, so do not keep one open for nothing.
#[derive(Debug)]
pub struct Capture {
    socket: AsyncFd<PacketSocket>,
    buffer: Vec<u8>,
}

impl Capture {
    /// Starts to listen on the link with this name in the calling thread's network namespace.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// # Errors
    ///
    /// If there is no such link, or the capability is missing.
    pub fn open(name: &str) -> io::Result<Self> {
        let socket = PacketSocket::open()?;
        socket.listen(socket.link(name)?)?;
        Ok(Self { socket: sys::readable(socket)?, buffer: vec![0; 2048] })
    }

    /// Waits for the next well-formed frame. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// If the socket fails, as with `ENETDOWN` when the link goes down; listening goes on when it
    /// comes back.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let mut readiness = self.socket.readable().await?;
            match self.socket.get_ref().receive(&mut self.buffer) {
                Ok(length) => {
                    if let Some(frame) = Frame::parse(&self.buffer[..length]) {
                        return Ok(frame);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
