//! The `purelb` command line.
//!
//! One executable answers to several names, as the lab needs only itself to start a cluster: run as
//! `allocator` or `lbnodeagent` it is that program; run as `kubectl-purelb`, or anything else, it is
//! `purelb`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::lab::process::end_with_parent;
use crate::program;

pub mod cluster;
pub mod host;
pub mod lab;
pub mod look;
pub mod output;
pub mod simulate;
pub mod validate;

/// PureLB: a service load balancer for Kubernetes that uses plain Linux networking
#[derive(Debug, Parser)]
#[command(name = "purelb", version, propagate_version = true)]
struct Purelb {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Host(host::Host),
    Lab(lab::Lab),
    Pools(look::Pools),
    Services(look::Services),
    Simulate(simulate::Simulate),
    Validate(validate::Validate),
}

/// Runs what the arguments ask for; the first is the name this program was started by.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    end_with_parent();
    let mut args = args.peekable();
    match args.peek().and_then(|name| Path::new(name).file_name()).and_then(|name| name.to_str()) {
        Some("allocator") => program::allocator::run(args.skip(1)),
        Some("lbnodeagent") => program::lbnodeagent::run(args.skip(1)),
        Some(_) | None => match Purelb::parse_from(args).command {
            Command::Host(host) => host::run(host),
            Command::Lab(lab) => lab::run(lab),
            Command::Pools(args) => look::pools(&args),
            Command::Services(args) => look::services(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Validate(args) => validate::run(&args),
        },
    }
}
