//! `purelb simulate`: whole clusters on a virtual clock, to try to break the rules.

mod timeline;

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use purelb_core::mutation::Mutation;
use purelb_core::sim::{Campaign, Invariant, Options, Outcome, run_seed, run_seeds};

use self::timeline::Timeline;
use super::output::verdict;

/// How often the progress bar is drawn.
const REDRAWN: Duration = Duration::from_millis(200);

/// Runs clusters of real agents and a real allocator on a virtual clock, with everything that can go
/// wrong, and checks that no address is ever on two nodes
///
/// With --seed, replays one history and tells its story. With --seeds, runs many and prints what was
/// counted. With --mutation a rule is switched off: then the double must be found.
///
/// Exit status: 0 if no invariant was broken, or, with --mutation, if a double was found; 1 otherwise;
/// 2 for a wrong command line.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Replays the history of this seed, and prints what happened
    #[arg(long, value_name = "N", required_unless_present = "seeds", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Prints only what concerns this address, as a timeline
    #[arg(long, value_name = "IP", requires = "seed")]
    address: Option<IpAddr>,
    /// Prints renewals as well
    #[arg(long, requires = "seed")]
    all: bool,
    /// Runs the histories of these seeds, such as 0..1000 (the last is not among them)
    #[arg(long, value_name = "FROM..TO", value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// The least number of steps in one history
    #[arg(long, value_name = "N", default_value_t = Options::default().steps)]
    steps: u64,
    /// How many threads to use; as many as there are processors unless given
    #[arg(long, value_name = "N", requires = "seeds")]
    threads: Option<usize>,
    /// Begins no seed after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "seeds")]
    time_limit: Option<u64>,
    /// Switches a rule off, and looks for the first seed in which two nodes hold one address
    #[arg(long, value_name = "NAME", value_parser = mutations())]
    mutation: Option<Mutation>,
}

fn mutations() -> impl TypedValueParser<Value = Mutation> {
    PossibleValuesParser::new(Mutation::ALL.map(Mutation::name)).map(|name| {
        let found = Mutation::ALL.into_iter().find(|mutation| mutation.name() == name);
        // The parser has let only names of mutations through.
        found.unwrap_or(Mutation::NoEcho)
    })
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is no range of seeds such as 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let from: u64 = from.parse().map_err(|_| wrong())?;
    let to: u64 = to.parse().map_err(|_| wrong())?;
    if from < to { Ok(from..to) } else { Err(format!("there is no seed in {text}")) }
}

/// Runs `purelb simulate`.
pub fn run(args: &Simulate) -> ExitCode {
    let options = Options {
        steps: args.steps,
        mutation: args.mutation,
        is_told: args.seed.is_some(),
        ..Options::default()
    };
    let is_good = match (&args.seeds, args.seed) {
        (Some(seeds), _) => many(args, seeds.clone(), options),
        (None, seed) => one(args, seed.unwrap_or_default(), options),
    };
    verdict(is_good)
}

/// Replays one seed; returns whether all was as it should be.
fn one(args: &Simulate, seed: u64, options: Options) -> bool {
    let outcome = run_seed(seed, options);
    // A reader that has gone is no error.
    let _ = tell(args, &outcome, &mut io::stdout().lock());
    match (&outcome.violation, args.mutation) {
        (None, None) => true,
        (Some(violation), Some(_)) => violation.invariant == Invariant::SingleHolder,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn tell(args: &Simulate, outcome: &Outcome, to: &mut dyn Write) -> io::Result<()> {
    if let Some(story) = &outcome.story {
        write!(to, "{}", Timeline::new(story, args.address, args.all))?;
    }
    let report = &outcome.report;
    writeln!(
        to,
        "\n{} steps in {:.1} s of virtual time, {} faults, {} moves",
        report.steps,
        report.time as f64 / 1e9,
        report.fault_count(),
        report.moves,
    )?;
    match &outcome.violation {
        Some(violation) => writeln!(to, "broken {violation}"),
        None => writeln!(to, "no invariant was broken"),
    }
}

/// Runs many seeds; returns whether all was as it should be.
fn many(args: &Simulate, seeds: Range<u64>, options: Options) -> bool {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(processors);
    let start = Instant::now();
    let limit = args.time_limit.map(Duration::from_secs);
    let count = seeds.end - seeds.start;
    let bar = Mutex::new(start);
    let is_terminal = io::stderr().is_terminal();
    let campaign = run_seeds(seeds, threads, options, args.mutation.is_some(), |done, steps| {
        if is_terminal
            && let Ok(mut drawn) = bar.lock()
            && drawn.elapsed() >= REDRAWN
        {
            *drawn = Instant::now();
            draw(done, count, steps, start.elapsed());
        }
        limit.is_none_or(|limit| start.elapsed() < limit)
    });
    if is_terminal {
        eprint!("\r\x1b[K");
    }
    let _ = print(&campaign, start.elapsed(), threads, &mut io::stdout().lock());
    match args.mutation {
        None => campaign.failures.is_empty(),
        Some(mutation) => caught(mutation, &campaign),
    }
}

fn draw(done: u64, count: u64, steps: u64, elapsed: Duration) {
    const WIDTH: u64 = 30;
    let filled = (done * WIDTH / count.max(1)) as usize;
    let rate = steps as f64 / elapsed.as_secs_f64().max(1e-3);
    eprint!(
        "\r\x1b[K[{:<30}] {done}/{count} seeds, {} M steps, {rate:.0} steps/s",
        "#".repeat(filled),
        steps / 1_000_000,
    );
}

fn print(
    campaign: &Campaign,
    elapsed: Duration,
    threads: usize,
    to: &mut dyn Write,
) -> io::Result<()> {
    let report = &campaign.report;
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let seeds = campaign.seeds.max(1);
    writeln!(to, "seeds               {}", campaign.seeds)?;
    writeln!(to, "steps               {}", report.steps)?;
    writeln!(to, "steps per second    {:.0} on {threads} threads", report.steps as f64 / seconds)?;
    writeln!(to, "virtual time        {:.0} h", report.time as f64 / 3.6e12)?;
    let share = campaign.overlapping * 100 / seeds;
    writeln!(to, "overlapping faults  in {share} % of the seeds, {} in all", report.overlapping)?;
    writeln!(to, "calms checked       {}", report.calms)?;
    writeln!(to, "hand-overs          {} of {} appearances", report.moves, report.appearances)?;
    writeln!(to, "faults              {}", report.fault_count())?;
    for (kind, count) in &report.faults {
        writeln!(to, "  {count:>8}  {kind}")?;
    }
    for (seed, violation) in campaign.failures.iter().take(20) {
        writeln!(to, "seed {seed}, {violation}")?;
    }
    writeln!(to, "failures            {}", campaign.failures.len())
}

/// Says which seed found the double that a mutation leads to.
fn caught(mutation: Mutation, campaign: &Campaign) -> bool {
    let is_double = |invariant| invariant == Invariant::SingleHolder;
    let first = campaign.failures.iter().find(|(_, violation)| is_double(violation.invariant));
    match first {
        Some((seed, _)) => println!("{mutation}: two nodes held one address in seed {seed}"),
        None => println!("{mutation}: no double in {} seeds", campaign.seeds),
    }
    first.is_some()
}
