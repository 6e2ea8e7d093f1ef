//! What the daemons tell of themselves: logs on standard output, metrics and probes over HTTP.
//!
//! * [`log`]: one line per change, as text or JSON, without timestamps.
//! * [`metrics`]: what the two programs have in common; [`allocator`] and [`agent`]: their own.
//! * [`health`]: whether the program is alive and ready.
//! * [`server`]: `/metrics`, `/healthz` and `/readyz` on port 7472.

pub mod agent;
pub mod allocator;
pub mod announced;
pub mod desk;
pub mod health;
pub mod log;
pub mod metrics;
pub mod server;
