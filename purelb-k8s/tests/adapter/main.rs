//! The adapter against the in-memory API over HTTP. What needs no API that fails is tested on a real
//! API server too, in `api_server`.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    reason = "a test says by panicking what is wrong, and JSON reads best where it is used"
)]

#[path = "../memory_api/cluster.rs"]
#[allow(dead_code, reason = "shared with the tests of the in-memory API")]
mod cluster;

/// Whether [`cluster::Cluster::any`] is a real one.
const REAL: bool = false;

mod events;
mod leases;
mod watches;
mod writes;
