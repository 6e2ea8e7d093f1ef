//! PureLB's Kubernetes adapter: API objects as facts and actions of `purelb-core`.
//!
//! * in: [`watch`] (objects as changes), [`leases`] (leases with every version), made sense of by
//!   [`convert`];
//! * out: [`apply`] (the allocator's answers), [`announce`] (the agents' annotations),
//!   [`leases::LeaseWriter`], [`leadership`] (the allocators' Lease), [`notice`] (Events);
//! * [`client`]: the connection; [`api`]: our custom resources; [`annotation`]: names.
//!
//! Nothing here runs by itself: streams and futures are polled by their owner, who knows when to stop.
//! Every request has a deadline, is sent once, and is cancelled by dropping its future; whether and
//! when to ask again is the caller's decision, except that a watch begins again for ever.

pub mod annotation;
pub mod announce;
pub mod api;
pub mod apply;
pub mod client;
#[cfg(feature = "control-plane")]
pub mod control_plane;
pub mod convert;
pub mod error;
pub mod go_duration;
pub mod leadership;
pub mod leases;
mod leisure;
mod list_watch;
#[cfg(feature = "memory")]
pub mod memory;
pub mod notice;
pub mod snapshot;
pub mod watch;

pub use kube::Client;
pub use leisure::Leisurely;
pub use list_watch::Pace;
