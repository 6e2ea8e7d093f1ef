//! The tests of the adapter.

#[path = "../adapter/events.rs"]
mod events;
#[path = "../adapter/leases.rs"]
mod leases;
#[path = "../adapter/watches.rs"]
mod watches;
#[path = "../adapter/writes.rs"]
mod writes;
