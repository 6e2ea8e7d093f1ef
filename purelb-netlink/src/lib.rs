//! Linux for PureLB: the kernel's links, addresses and routes as facts of `purelb-core`, and its
//! actions as requests to the kernel, by raw netlink and packet sockets.
//!
//! * [`Kernel`] is what a driver loop holds: facts by [`Kernel::next`], actions by [`Kernel::apply`].
//! * [`Watch`] is its listening half alone; [`snapshot`] lists once.
//! * [`Capture`] hears what the neighbours say; [`Port`] also asks them.
//! * [`NamespaceLock`] keeps a second process out.
//!
//! Pure, so that they can be tested and fuzzed without a kernel: [`decode`] (bytes to messages),
//! [`mirror`] (messages to changes), [`advertise`] and [`frame`] (announcements to bytes and back).

#![cfg(target_os = "linux")]

pub mod advertise;
mod capture;
mod clock;
pub mod decode;
mod ears;
mod encode;
pub mod frame;
mod kernel;
mod lock;
pub mod mirror;
mod packet;
mod port;
pub mod route;
mod socket;
mod sys;
mod watch;
pub mod wire;

pub use capture::Capture;
pub use kernel::Kernel;
pub use lock::{LockError, NamespaceLock};
pub use mirror::HostChange;
pub use port::Port;
pub use socket::ListError;
pub use watch::{Watch, WatchError, snapshot};
