//! The `purelb` command line.
//!
//! One executable answers to several names, as the lab needs only itself to start a cluster: run as
//! `allocator` or `lbnodeagent` it is that program; run as `kubectl-purelb`, or anything else, it is
//! `purelb`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
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
pub mod loopback;
pub mod output;
pub mod plan;
pub mod record;
pub mod replay;
pub mod simulate;
pub mod top;
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
    /// Writes the manual pages of all programs into a directory
    Man {
        /// Where to; it must exist
        directory: PathBuf,
    },
    Plan(plan::Plan),
    Pools(look::Pools),
    Record(record::Record),
    Replay(replay::Replay),
    Services(look::Services),
    Simulate(simulate::Simulate),
    Status(look::Status),
    Top(top::Top),
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
            Command::Man { directory } => write_manual(&directory),
            Command::Plan(args) => plan::run(&args),
            Command::Pools(args) => look::pools(&args),
            Command::Record(args) => record::record(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Services(args) => look::services(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Status(args) => look::whole(&args),
            Command::Top(args) => top::run(&args),
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

/// The command lines of all programs, for manual pages and the reference.
pub fn programs() -> [clap::Command; 3] {
    [program::allocator::command(), program::lbnodeagent::command(), Purelb::command()]
}

/// A page for each program, and for each subcommand.
fn write_manual(directory: &Path) -> ExitCode {
    let mut programs = programs().into_iter();
    match programs.try_for_each(|program| clap_mangen::generate_to(program, directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purelb man: cannot write into {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Purelb::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(write_manual(directory.path()), ExitCode::SUCCESS);
        for command in Purelb::command().get_subcommands() {
            let page = directory.path().join(format!("purelb-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap();
            let about = command.get_about().unwrap().to_string();
            let word = about.split(' ').next().unwrap().to_owned();
            assert!(text.contains(&word), "{} does not say what it is", page.display());
        }
        for program in ["allocator.1", "lbnodeagent.1", "purelb.1"] {
            assert!(directory.path().join(program).is_file(), "{program}");
        }
        assert_eq!(write_manual(Path::new("/nonexistent")), ExitCode::FAILURE);
    }
}
