//! What can be told of a cluster from one look at its objects: pure functions from a
//! [`Snapshot`] to something to print.
//!
//! Nothing here decides by itself: allocation is the allocator's own machine, fed with the snapshot
//! ([`engine`]); elections are the core's functions.

pub mod election;
pub mod engine;
pub mod place;
pub mod plan;
pub mod pools;
pub mod routes;
pub mod services;
pub mod status;
pub mod story;
pub mod validate;
pub mod version;

#[cfg(test)]
pub(crate) mod fixture;

pub use purelb_k8s::snapshot::Snapshot;
