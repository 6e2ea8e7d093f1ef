//! `purelb top`: a live view of a cluster in a terminal.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use purelb_k8s::error::chain;
use ratatui::crossterm::terminal;

use super::cluster::{Cluster, complain};
use super::replay;
use crate::recording::Recording;
use crate::top::draw::{Setting, Theme};
use crate::top::screen::{self, ScreenError};
use crate::top::source::Source;
use crate::top::source::cluster::Watched;
use crate::top::source::recording::Recorded;
use crate::top::source::simulator::Simulator;

/// How wide a frame is that is printed where there is no terminal, in columns.
const WIDTH: u16 = 120;

/// Shows the cluster live in the terminal: nodes and their leases, addresses and their holders, moves
/// as they happen, pools
///
/// Keys: q quits, tab goes from panel to panel, ? explains the others. Colours are left out if NO_COLOR
/// is set.
///
/// Exit status: 0 after q or a signal, 2 for a wrong command line or a file that is no recording, 3 if the
/// cluster cannot be looked at or there is no terminal.
#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    cluster: Cluster,
    /// Shows a simulated cluster on a virtual clock instead, with what goes wrong in the history of this
    /// seed
    #[arg(long, value_name = "SEED", group = "past")]
    simulate: Option<u64>,
    /// Shows instead what agents were told, by recordings that `purelb record` wrote
    #[arg(long, value_name = "FILE", num_args = 1.., group = "past")]
    recording: Vec<PathBuf>,
    /// Begins so many seconds into the simulation or the recordings
    #[arg(long, value_name = "SECONDS", requires = "past", default_value_t = 0)]
    at: u32,
    /// Prints one frame with all rows as text, and ends
    #[arg(long)]
    once: bool,
}

/// Runs `purelb top`.
pub fn run(args: &Top) -> ExitCode {
    let mut source = match source(args) {
        Ok(source) => source,
        Err(why) => {
            eprintln!("purelb top: {why}");
            return ExitCode::from(2);
        }
    };
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let setting = Setting {
        title: source.title(),
        theme: if is_plain { Theme::Plain } else { Theme::Coloured },
        has_own_time: source.own_time().is_some(),
    };
    let from = Duration::from_secs(args.at.into());
    let shown = if args.once {
        print(source.as_mut(), from, &setting)
    } else {
        screen::show(source.as_mut(), from, &setting)
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn source(args: &Top) -> Result<Box<dyn Source>, String> {
    if let Some(seed) = args.simulate {
        return Ok(Box::new(Simulator::new(seed)));
    }
    if args.recording.is_empty() {
        return Ok(Box::new(Watched::new(&args.cluster)));
    }
    let recordings: Vec<Recording> =
        replay::read(&args.recording)?.into_iter().map(|(_, recording)| recording).collect();
    let recorded = Recorded::new(&recordings).map_err(|error| chain(&error))?;
    Ok(Box::new(recorded))
}

fn print(source: &mut dyn Source, from: Duration, setting: &Setting) -> Result<(), ScreenError> {
    let is_terminal = io::stdout().is_terminal();
    let size = if is_terminal { terminal::size().ok() } else { None };
    let width = size.map_or(WIDTH, |(columns, _)| columns);
    let frame = screen::once(source, from, width, setting)?;
    match io::Write::write_all(&mut io::stdout().lock(), frame.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
