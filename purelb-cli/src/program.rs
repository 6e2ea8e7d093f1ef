//! The two daemons. Each has one entry point, so that its own binary and the multi-call `purelb`
//! run the same code.

pub mod allocator;
mod daemon;
mod footprint;
pub mod lbnodeagent;
