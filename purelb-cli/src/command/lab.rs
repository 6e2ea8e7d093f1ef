//! `purelb lab`.
use std::process::ExitCode;

/// A small cluster of network namespaces on this machine, to try PureLB without Kubernetes
#[derive(Debug, clap::Args)]
pub struct Lab {}

/// Runs `purelb lab`.
pub fn run(_lab: Lab) -> ExitCode {
    ExitCode::SUCCESS
}
