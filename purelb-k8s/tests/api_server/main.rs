//! On a real API server and etcd: the tests of the adapter and of the in-memory API that are about
//! Kubernetes, and what the server makes of our definitions.
//!
//! `PURELB_TEST_KUBECONFIG` names another cluster for those that would otherwise share one that is
//! started here. It should have no controllers, and our definitions.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    reason = "a test says by panicking what is wrong, and JSON reads best where it is used"
)]

/// Whether [`cluster::Cluster::any`] is a real one.
const REAL: bool = true;

#[path = "../memory_api/cluster.rs"]
mod cluster;

#[path = "../memory_api/applying.rs"]
mod applying;
#[path = "../memory_api/kubectl.rs"]
mod kubectl;
#[path = "../memory_api/objects.rs"]
mod objects;
#[path = "../memory_api/watches.rs"]
mod watches;

mod adapter;
mod server;
