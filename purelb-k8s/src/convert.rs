//! Objects of the API as facts of the core, and leases back again.
//!
//! Everything here is a total function without a client: what cannot be understood becomes a value
//! that says so, and never hides another object.

pub mod endpoints;
pub mod lb_node_agent;
pub mod lease;
pub mod node;
pub mod service;
pub mod service_group;
