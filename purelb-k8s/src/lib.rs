//! PureLB's Kubernetes adapter: API objects as facts and actions of `purelb-core`.

pub mod annotation;
pub mod api;
pub mod convert;
pub mod go_duration;
#[cfg(feature = "memory")]
pub mod memory;
