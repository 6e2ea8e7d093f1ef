//! The `purelb` command line.
//!
//! One executable answers to several names, as the lab needs only itself to start a cluster: run as
//! `allocator` or `lbnodeagent` it is that program; run as `kubectl-purelb`, or anything else, it is
//! `purelb`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::lab::process::end_with_parent;
use crate::program;

pub mod agents;
pub mod cluster;
pub mod explain;
pub mod host;
pub mod ip;
pub mod lab;
pub mod look;
pub mod output;
pub mod plan;
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
    /// Prints a script that completes this command in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    Election(look::Election),
    Explain(explain::Explain),
    Host(host::Host),
    Inspect(explain::Inspect),
    Ip(ip::Ip),
    Lab(lab::Lab),
    Plan(plan::Plan),
    Pools(look::Pools),
    Services(look::Services),
    Simulate(simulate::Simulate),
    Status(look::Status),
    Validate(validate::Validate),
    Version(look::Version),
    View(ip::View),
}

/// Runs what the arguments ask for; the first is the name this program was started by.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    end_with_parent();
    let mut args = args.peekable();
    match args.peek().and_then(|name| Path::new(name).file_name()).and_then(|name| name.to_str()) {
        Some("allocator") => program::allocator::run(args.skip(1)),
        Some("lbnodeagent") => program::lbnodeagent::run(args.skip(1)),
        Some(_) | None => match Purelb::parse_from(args).command {
            Command::Completions { shell } => complete(shell),
            Command::Election(args) => look::election(&args),
            Command::Explain(args) => explain::explain(&args),
            Command::Host(host) => host::run(host),
            Command::Inspect(args) => explain::inspect(&args),
            Command::Ip(args) => ip::ip(&args),
            Command::Lab(lab) => lab::run(lab),
            Command::Plan(args) => plan::run(&args),
            Command::Pools(args) => look::pools(&args),
            Command::Services(args) => look::services(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Status(args) => look::whole(&args),
            Command::Validate(args) => validate::run(&args),
            Command::Version(args) => look::version(&args),
            Command::View(args) => ip::view(&args),
        },
    }
}

fn complete(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Purelb::command(), "purelb", &mut std::io::stdout());
    ExitCode::SUCCESS
}
