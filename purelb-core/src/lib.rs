//! The decisions of PureLB, a service load balancer for Kubernetes, without any I/O.

pub mod allocator;
pub mod announcement;
pub mod config;
pub mod diff;
pub mod election;
pub mod group;
pub mod host;
pub mod kernel;
pub mod lease;
pub mod link;
pub mod machine;
pub mod membership;
pub mod name;
pub mod node;
pub mod notice;
pub mod place;
pub mod range;
pub mod service;
pub mod store;
pub mod time;
pub mod usage;
