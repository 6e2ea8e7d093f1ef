//! The adapter against an API over HTTP: the in-memory one, or with `PURELB_TEST_KUBECONFIG` the
//! cluster that it names. Tests that need the API to fail run on the in-memory one alone.

#[path = "../memory_api/cluster.rs"]
#[allow(dead_code, reason = "shared with the tests of the in-memory API")]
mod cluster;

mod events;
mod leases;
mod watches;
mod writes;
