//! The sidecars of external groups: gRPC over a Unix socket, as `docs/ipam.proto` has it.
//!
//! * [`wire`]: the messages.
//! * [`client`]: what the allocator asks by.
//! * [`server`]: what a sidecar written in Rust answers by.

pub mod client;
pub mod server;
pub mod wire;
