//! `purelb record`: what a program was told last, as a file for `purelb replay`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::agents::{self, Pod};
use super::cluster::Cluster;
use super::loopback;
use super::output::verdict;
use crate::recording::log::decompress;
use crate::telemetry::server::PORT;

/// The most text that a recording is unpacked to, in bytes.
const MOST: u64 = 1 << 30;

/// Writes down what an agent or the allocator was told last, for `purelb replay`
///
/// Without --node, --allocator or --all it asks the program on this host, or in this pod, and writes to
/// standard output. A recording holds the names, addresses, labels and annotations of the objects that
/// PureLB watches, and no Secret or token.
///
/// Exit status: 1 if a program does not answer or a file cannot be written, 2 for a wrong command line,
/// 3 if the pods cannot be listed.
#[derive(Debug, Args)]
pub struct Record {
    #[command(flatten)]
    cluster: Cluster,
    /// The agent of this node, asked in its pod
    #[arg(long, value_name = "NAME", conflicts_with_all = ["allocator", "all"])]
    node: Option<String>,
    /// The allocator that leads, asked in its pod
    #[arg(long, conflicts_with = "all")]
    allocator: bool,
    /// Every agent and the allocator; --output is the directory, and the files are NODE.rec and
    /// allocator.rec
    #[arg(long, requires = "output")]
    all: bool,
    /// Where to write, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// JSON lines instead of a compressed file
    #[arg(long)]
    plain: bool,
    /// The program's port on this host
    #[arg(long, value_name = "NUMBER", default_value_t = PORT)]
    port: u16,
}

/// Runs `purelb record`.
pub fn record(args: &Record) -> ExitCode {
    let is_remote = args.all || args.allocator || args.node.is_some();
    if !is_remote {
        let asked = loopback::get(args.port, "/recording").map_err(|error| {
            format!("no program answers at port {} of this host: {error}", args.port)
        });
        return finish(asked.and_then(|file| write(args, args.output.as_deref(), &file)));
    }
    let pods = match agents::programs(&args.cluster) {
        Ok(pods) => pods,
        Err(why) => {
            eprintln!("purelb record: {why}");
            return ExitCode::from(3);
        }
    };
    if args.all {
        return verdict(record_all(args, &pods));
    }
    let wanted = pods.iter().filter(|pod| match &args.node {
        Some(node) => pod.is_agent && pod.node.as_str() == node,
        None => !pod.is_agent,
    });
    finish(ask_first(args, wanted).and_then(|file| write(args, args.output.as_deref(), &file)))
}

fn finish(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("purelb record: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a file for each program; returns whether all of it went well.
fn record_all(args: &Record, pods: &[Pod]) -> bool {
    let directory = args.output.as_deref().unwrap_or_else(|| Path::new("."));
    let each = |name: &str, pods: &[&Pod]| {
        let path = directory.join(format!("{name}.rec"));
        let done =
            ask_first(args, pods.iter().copied()).and_then(|file| write(args, Some(&path), &file));
        match &done {
            Ok(()) => println!("{}", path.display()),
            Err(why) => eprintln!("purelb record: {name}: {why}"),
        }
        done.is_ok()
    };
    let (agents, allocators): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| pod.is_agent);
    let mut is_fine = each("allocator", &allocators);
    for agent in agents {
        is_fine &= each(agent.node.as_str(), &[agent]);
    }
    is_fine
}

/// The recording of the first of these that gives one out: of two allocators only one leads.
fn ask_first<'a>(args: &Record, pods: impl Iterator<Item = &'a Pod>) -> Result<Vec<u8>, String> {
    let mut why = "there is no such pod".to_owned();
    for pod in pods {
        match agents::exec_bytes(&args.cluster, pod, &["purelb", "record"]) {
            Ok(file) => return Ok(file),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn write(args: &Record, path: Option<&Path>, file: &[u8]) -> Result<(), String> {
    let text;
    let file = if args.plain {
        text = decompress(file, MOST)
            .map_err(|error| format!("it answers something else: {error}"))?;
        &text
    } else {
        file
    };
    match path {
        Some(path) => fs::write(path, file)
            .map_err(|error| format!("cannot write {}: {error}", path.display())),
        None if !args.plain && io::stdout().is_terminal() => {
            Err("this is no text for a terminal: name a file with --output, or ask for --plain"
                .into())
        }
        None => match io::stdout().lock().write_all(file) {
            // A reader that has gone is no error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        },
    }
}
