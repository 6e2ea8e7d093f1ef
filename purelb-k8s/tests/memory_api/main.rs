//! The in-memory API as its clients see it: kube-rs over a TCP socket, and `kubectl`.
//!
//! What is about Kubernetes and not about this API alone is tested on a real API server too, in
//! `api_server`, which keeps it honest.

/// Whether [`cluster::Cluster::any`] is a real one.
const REAL: bool = false;

mod applying;
mod cluster;
mod faults;
mod kubectl;
mod objects;
mod pods;
mod watches;
