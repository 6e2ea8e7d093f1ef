//! The decisions of PureLB, a service load balancer for Kubernetes, without any I/O.

pub mod config;
pub mod group;
pub mod host;
pub mod kernel;
pub mod lease;
pub mod machine;
pub mod name;
pub mod range;
pub mod service;
pub mod store;
pub mod time;
