//! The adapter against an API over HTTP: the in-memory one, or with `PURELB_TEST_KUBECONFIG` the
//! cluster that it names. Tests that need the API to fail run on the in-memory one alone.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    reason = "a test says by panicking what is wrong, and JSON reads best where it is used"
)]

#[path = "../memory_api/cluster.rs"]
#[allow(dead_code, reason = "shared with the tests of the in-memory API")]
mod cluster;

mod events;
mod leases;
mod watches;
mod writes;
