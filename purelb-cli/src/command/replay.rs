//! `purelb replay`: what a program decided, and why, from its recording.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use purelb_core::node::NodeAgent;
use purelb_k8s::go_duration;
use purelb_k8s::snapshot::Snapshot;

use super::explain::Named;
use super::output::{Output, verdict};
use super::plan;
use crate::history::{self, History};
use crate::recording::{Recording, Tape};
use crate::replay::timeline::Moment;
use crate::replay::what_if::WhatIfError;
use crate::replay::{Narrow, Timeline, WhatIf};

/// Runs recordings through the programs again and tells what was decided, when and why
///
/// The very code that decided decides again: what it asks for is compared with what was recorded. Moments are
/// by the clock of the host where the recording was written.
///
/// Exit status: 1 if the replay decides otherwise than was recorded, 2 if a file is no recording or the command
/// line is wrong.
#[derive(Debug, Args)]
pub struct Replay {
    /// Recordings, written by `purelb record`
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Stop here: a moment such as 2026-01-31T12:00:00Z, or a time after the first input such as 90s
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Only what concerns this address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Only what concerns this Service
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<Named>,
    /// With what the program was told, and the reasons
    #[arg(long)]
    why: bool,
    /// With what comes again and again: lifetimes prolonged, leases renewed, neighbours told
    #[arg(long)]
    all: bool,
    /// What the agent knew and had decided at the end, or at --until, as JSON like that of `purelb view`
    #[arg(long, conflicts_with_all = ["address", "service", "why", "all"])]
    view: bool,
    /// What would have been decided with the objects of this manifest in place of those that were; prints
    /// what differs
    #[arg(long, value_name = "FILE", conflicts_with = "view")]
    with: Vec<PathBuf>,
    /// What would have been decided without this object: `servicegroup/NAME` or `lbnodeagent/NAME`
    #[arg(long, value_name = "KIND/NAME", conflicts_with = "view")]
    without: Vec<String>,
    /// When the change comes, as for --until; else it was so from the start
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Moment>,
    /// Writes a page instead that draws who held which address when, with gaps and reasons: one file, for any
    /// browser
    #[arg(long, value_name = "FILE", conflicts_with_all = ["until", "why", "all", "view", "with", "without", "at"])]
    html: Option<PathBuf>,
    /// The namespace that PureLB is installed in, for manifests that name none
    #[arg(long, value_name = "NAME", env = "PURELB_NAMESPACE", default_value = "purelb")]
    namespace: String,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb replay`.
pub fn run(args: &Replay) -> ExitCode {
    match told(args) {
        Ok(status) => status,
        Err(why) => {
            eprintln!("purelb replay: {why}");
            ExitCode::from(2)
        }
    }
}

fn told(args: &Replay) -> Result<ExitCode, String> {
    let recordings = read(&args.files)?;
    if args.view {
        return view(args, &recordings);
    }
    if let Some(path) = &args.html {
        return html(args, recordings, path);
    }
    let narrow = Narrow {
        until: args.until,
        address: args.address,
        service: args.service.as_ref().map(|named| named.0.clone()),
        why: args.why,
        all: args.all,
    };
    if !args.with.is_empty() || !args.without.is_empty() {
        return what_if(args, &recordings, &narrow);
    }
    if args.at.is_some() {
        return Err("--at says when a change comes: name one by --with or --without".into());
    }
    let mut timeline = Timeline::default();
    for (path, recording) in &recordings {
        match recording {
            Recording::Agent(tape) => timeline.add(tape, &narrow),
            Recording::Allocator(tape) => timeline.add(tape, &narrow),
        }
        .map_err(|error| about(path, &error))?;
    }
    args.output.show(&timeline);
    Ok(verdict(timeline.is_as_recorded()))
}

fn html(
    args: &Replay,
    recordings: Vec<(&Path, Recording)>,
    path: &Path,
) -> Result<ExitCode, String> {
    let recordings: Vec<Recording> =
        recordings.into_iter().map(|(_, recording)| recording).collect();
    let mut history = History::of(&recordings).map_err(|error| purelb_k8s::error::chain(&error))?;
    history.tracks.retain(|track| {
        args.address.is_none_or(|ip| track.ip == ip)
            && args.service.as_ref().is_none_or(|named| track.services.contains(&named.0))
    });
    if history.tracks.is_empty() {
        return Err(
            "no Service has such an address in these recordings: see `purelb replay FILE`".into()
        );
    }
    fs::write(path, history::html::page(&history)).map_err(|error| about(path, &error))?;
    Ok(verdict(history.sources.iter().all(|source| source.is_as_recorded)))
}

fn what_if(
    args: &Replay,
    recordings: &[(&Path, Recording)],
    narrow: &Narrow,
) -> Result<ExitCode, String> {
    let mut objects = Vec::new();
    for path in &args.with {
        let read = plan::read(path).map_err(|why| format!("{}: {why}", path.display()))?;
        objects.extend(read);
    }
    let change =
        |before: &Snapshot| plan::changed(before, objects.clone(), &args.without, &args.namespace);
    let mut answer = WhatIf::default();
    let mut made_no_difference = None;
    let mut is_changed = false;
    for (path, recording) in recordings {
        let added = match recording {
            Recording::Agent(tape) => answer.add(tape, args.at, narrow, change),
            Recording::Allocator(tape) => answer.add(tape, args.at, narrow, change),
        };
        match added {
            Ok(()) => is_changed = true,
            // Not every program is told of every kind of object.
            Err(error @ (WhatIfError::Change(_) | WhatIfError::NoChange)) => {
                made_no_difference.get_or_insert_with(|| about(path, &error));
            }
            Err(error @ WhatIfError::Read(_)) => return Err(about(path, &error)),
        }
    }
    if let (false, Some(why)) = (is_changed, made_no_difference) {
        return Err(why);
    }
    args.output.show(&answer);
    Ok(ExitCode::SUCCESS)
}

/// The recordings in these files.
///
/// # Errors
///
/// With the file that is none, and why.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<(&Path, Recording)>, String> {
    let read = |path: &'_ PathBuf| -> Result<Recording, String> {
        let file = fs::read(path).map_err(|error| about(path, &error))?;
        Recording::read(&file).map_err(|error| about(path, &error))
    };
    files.iter().map(|path| Ok((path.as_path(), read(path)?))).collect()
}

fn about(path: &Path, error: &dyn std::error::Error) -> String {
    format!("{}: {}", path.display(), purelb_k8s::error::chain(error))
}

fn view(args: &Replay, recordings: &[(&Path, Recording)]) -> Result<ExitCode, String> {
    let [(path, Recording::Agent(tape))] = recordings else {
        return Err("--view is of the recording of one agent".into());
    };
    let agent = agent_at(tape, args.until).map_err(|error| about(path, &error))?;
    println!("{}", serde_json::to_string(&agent).map_err(|error| error.to_string())?);
    Ok(ExitCode::SUCCESS)
}

fn agent_at(
    tape: &Tape<NodeAgent>,
    until: Option<Moment>,
) -> Result<purelb_core::node::View, crate::recording::ReadError> {
    let until = until.map(|moment| moment.since_zero(tape));
    let mut replay = tape.replay()?;
    while replay.next_until(until).is_some() {}
    Ok(replay.machine().view())
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at));
    }
    go_duration::parse(text).map(Moment::After).map_err(|_| {
        "write a moment such as 2026-01-31T12:00:00Z, or a time after the first input such as 90s"
            .to_owned()
    })
}
