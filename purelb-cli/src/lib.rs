//! PureLB's programs: the `allocator`, the `lbnodeagent` and the `purelb` command.
//!
//! * [`program`]: what the two daemons run.
//! * [`command`]: the subcommands of `purelb`.
//! * [`driver`]: the one loop that both daemons run.
//! * [`ipam`]: the sidecars of external groups.
//! * [`lab`]: a small cluster of network namespaces on one machine.
//! * [`recording`]: what a program was told and decided, to be kept and replayed.
//! * [`replay`]: what recordings tell.
//! * [`report`]: what one look at a cluster tells.
//! * [`telemetry`]: logs, metrics and probes of both daemons.
//! * [`top`]: the live view.

pub mod command;
pub mod driver;
pub mod history;
pub mod ipam;
pub mod lab;
pub mod program;
pub mod recording;
pub mod replay;
pub mod report;
pub mod telemetry;
pub mod top;
