//! PureLB's Kubernetes adapter: API objects as facts and actions of `purelb-core`.

pub mod annotation;
pub mod announce;
pub mod api;
pub mod apply;
pub mod client;
pub mod convert;
pub mod error;
pub mod go_duration;
pub mod leases;
mod list_watch;
#[cfg(feature = "memory")]
pub mod memory;
pub mod notice;
pub mod watch;

pub use kube::Client;
pub use list_watch::Pace;
