//! One process per network namespace.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// A name that one process at a time holds in the network namespace it was taken in.
///
/// It is an abstract unix socket (`unix(7)`), so the kernel gives it back however the process ends,
/// and nothing is left on any disk.
#[derive(Debug)]
pub struct NamespaceLock {
    _socket: UnixListener,
}

/// Why the name was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process on this host holds the name {name}")]
    Held {
        /// The name.
        name: String,
    },
    /// The socket failed.
    #[error("could not take the name {name}")]
    Io {
        /// The name.
        name: String,
        /// What happened.
        source: io::Error,
    },
}

impl NamespaceLock {
    /// Takes `name`, of at most 107 bytes, in the calling thread's network namespace; it is held
    /// until the value is dropped.
    ///
    /// # Errors
    ///
    /// If it is held already, by this process too.
    pub fn take(name: &str) -> Result<Self, LockError> {
        let socket = SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixListener::bind_addr(&address));
        match socket {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(LockError::Held { name: name.to_owned() })
            }
            Err(source) => Err(LockError::Io { name: name.to_owned(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_by_one_until_it_lets_go() {
        let name = format!("purelb-test-{}", std::process::id());
        let held = NamespaceLock::take(&name).unwrap();
        assert!(matches!(NamespaceLock::take(&name), Err(LockError::Held { .. })));
        drop(held);
        NamespaceLock::take(&name).unwrap();
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error() {
        assert!(matches!(NamespaceLock::take(&"x".repeat(200)), Err(LockError::Io { .. })));
    }
}
