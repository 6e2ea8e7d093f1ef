//! Random histories: a seed draws a cluster and what befalls it.

use std::time::Duration;

use super::clock::{MILLIS, NEVER, Nanos, SECONDS, nanos};
use super::dice::Dice;
use super::expect::Quiet;
use super::fault::{Fault, FaultKind};
use super::report::{Report, Violation};
use super::setup::{Layout, NodeSetup, Passage, ServiceKind, Setup};
use super::story::Story;
use super::world::Simulation;
use crate::config::OnStop;
use crate::mutation::Mutation;

/// How a random history is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// It goes on for at least so many steps, and then to the end of its round.
    pub steps: u64,
    /// A rule that is switched off.
    pub mutation: Option<Mutation>,
    /// What machines go through on the way, if they do.
    pub passage: Option<Passage>,
    /// Whether a story is written.
    pub is_told: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 10_000, mutation: None, passage: None, is_told: false }
    }
}

/// What came of a random history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was counted.
    pub report: Report,
    /// The first invariant that was broken.
    pub violation: Option<Violation>,
    /// What happened, if it was asked for.
    pub story: Option<Story>,
}

/// Runs the history of one seed: rounds of faults, each followed by a calm in which everything must
/// come to its place and then to rest. The same seed and options lead to the same outcome.
pub fn run_seed(seed: u64, options: Options) -> Outcome {
    let mut history = History::new(seed, options);
    history.run_until(NEVER);
    let sim = history.sim;
    Outcome { report: sim.report, violation: sim.violation, story: sim.story }
}

/// The history of one seed as far as it has been run. However it is cut into pieces, the same happens
/// as in [`run_seed`].
#[derive(Debug)]
pub struct History {
    sim: Simulation,
    setup: Setup,
    options: Options,
    dice: Dice,
    phase: Phase,
    /// When the phase is over.
    ends: Nanos,
}

/// What a history is at.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing goes wrong, and everything comes to its place.
    Calm,
    /// Something may go wrong at any moment.
    Faults,
    /// Nothing more happens.
    Over,
    /// Nothing is to happen but renewals.
    Quiet(Quiet),
    /// An allocator whose writes have failed again and again waits longer from one to the next, and
    /// what it then gives moves something: the calm begins after it.
    Waiting,
}

impl History {
    /// The history of `seed` before anything has happened.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed ^ 0x5EED);
        let setup = draw_setup(seed, options, &mut dice);
        let sim = Simulation::new(&setup);
        Self { sim, setup, options, dice, phase: Phase::Waiting, ends: 2 * SECONDS }
    }

    /// Lets time pass until everything up to `end` has happened, or the history is over.
    pub fn run_until(&mut self, end: Nanos) {
        while !matches!(self.phase, Phase::Over) {
            self.sim.run_until(end.min(self.ends));
            if self.sim.violation.is_some() {
                self.phase = Phase::Over;
            } else if self.sim.now >= self.ends {
                self.begin_next_phase();
            }
            if self.sim.now >= end {
                break;
            }
        }
    }

    /// The cluster at this moment.
    pub fn simulation(&self) -> &Simulation {
        &self.sim
    }

    fn begin_next_phase(&mut self) {
        match self.phase {
            Phase::Faults | Phase::Waiting => {
                self.sim.horizon = NEVER;
                match self.sim.allocator_waits() {
                    Some(wait) => self.begin(Phase::Waiting, nanos(wait)),
                    None => self.begin(Phase::Calm, nanos(calm(&self.sim, &self.setup))),
                }
            }
            Phase::Calm => {
                self.sim.check_places();
                if self.sim.violation.is_some() {
                    self.phase = Phase::Over;
                } else {
                    let quiet = self.sim.begin_quiet();
                    self.begin(Phase::Quiet(quiet), nanos(quiet.span));
                }
            }
            Phase::Quiet(quiet) => {
                self.sim.end_quiet(quiet);
                if self.sim.violation.is_some() || self.sim.report.steps >= self.options.steps {
                    self.phase = Phase::Over;
                } else {
                    let length = begin_round(&mut self.sim, &self.setup, &mut self.dice);
                    self.begin(Phase::Faults, length);
                }
            }
            Phase::Over => {}
        }
    }

    fn begin(&mut self, phase: Phase, length: Nanos) {
        self.phase = phase;
        self.ends = self.sim.now + length;
    }
}

/// How long the cluster has to come to its places. After a stop with Keep, others have been told of
/// half a minute and wait for that.
fn calm(sim: &Simulation, setup: &Setup) -> Duration {
    let patience = sim.patience();
    match setup.on_stop {
        OnStop::Keep => patience.max(Duration::from_millis(31_500)),
        OnStop::Release => patience,
    }
}

fn draw_setup(seed: u64, options: Options, dice: &mut Dice) -> Setup {
    let mut setup = Setup::new(seed, 0);
    let count = 2 + dice.index(4);
    for _ in 0..count {
        let seconds = [5, 5, 5, 6, 10][dice.index(5)];
        let drift = match dice.below(3) {
            0 => 0,
            1 => [-10_000, 10_000][dice.index(2)],
            _ => dice.below(20_001) as i32 - 10_000,
        };
        let has_half_subnet = dice.once_in(8);
        let duration = Duration::from_secs(seconds);
        setup.nodes.push(NodeSetup { duration, drift, has_half_subnet });
    }
    for _ in 0..2 + dice.below(7) {
        setup.services.push(match dice.below(10) {
            0 | 1 => ServiceKind::DualStack,
            2 => ServiceKind::LocalTraffic,
            3 => ServiceKind::Remote,
            4 => ServiceKind::Shared,
            _ => ServiceKind::Plain,
        });
    }
    setup.layout = Layout::Small;
    setup.on_stop = if dice.once_in(4) { OnStop::Keep } else { OnStop::Release };
    setup.mutation = options.mutation;
    setup.passage = options.passage;
    setup.is_told = options.is_told;
    setup.is_calm = false;
    setup
}

/// Begins a round of faults, all of them over at its end, but for a node that may stay down; returns how
/// long it lasts.
fn begin_round(sim: &mut Simulation, setup: &Setup, dice: &mut Dice) -> Nanos {
    let length = dice.between(8 * SECONDS, 25 * SECONDS);
    let count = 2 + dice.below(12);
    for _ in 0..count {
        let node = dice.index(setup.nodes.len());
        let kind = draw_kind(dice);
        let at = dice.below(length - 3 * SECONDS);
        let lasts = draw_length(kind, dice).min(latest_end(kind, length).saturating_sub(at));
        sim.fault_after(
            Duration::from_nanos(at),
            Fault { kind, node, lasts: Duration::from_nanos(lasts) },
        );
    }
    sim.horizon = sim.now + length;
    length
}

fn draw_kind(dice: &mut Dice) -> FaultKind {
    // The ones that the rules are about come more often.
    const OFTEN: [FaultKind; 11] = [
        FaultKind::Frozen,
        FaultKind::FrozenBeforeCall,
        FaultKind::FrozenBeforeCall,
        FaultKind::Killed,
        FaultKind::LeaseDeleted,
        FaultKind::LinkDown,
        FaultKind::Partitioned,
        FaultKind::RequestsLost,
        FaultKind::SlowApi,
        FaultKind::Stopped,
        FaultKind::WatchStalled,
    ];
    if dice.once_in(2) {
        OFTEN[dice.index(OFTEN.len())]
    } else {
        FaultKind::ALL[dice.index(FaultKind::ALL.len())]
    }
}

fn draw_length(kind: FaultKind, dice: &mut Dice) -> Nanos {
    match kind {
        FaultKind::AddressDeleted
        | FaultKind::EndpointsMoved
        | FaultKind::LeaseDeleted
        | FaultKind::ServiceReplaced => MILLIS,
        FaultKind::KernelRefuses => dice.below(400 * MILLIS),
        FaultKind::NetlinkOverrun => dice.below(500 * MILLIS),
        FaultKind::AllocatorFrozen
        | FaultKind::AllocatorKilled
        | FaultKind::ApiDown
        | FaultKind::ApiThrottled
        | FaultKind::Excluded
        | FaultKind::Frozen
        | FaultKind::FrozenBeforeCall
        | FaultKind::Killed
        | FaultKind::KernelKeeps
        | FaultKind::LinkDown
        | FaultKind::Namesake
        | FaultKind::Partitioned
        | FaultKind::Rebooted
        | FaultKind::RequestsLost
        | FaultKind::RouteLost
        | FaultKind::SecondRoute
        | FaultKind::SegmentLossy
        | FaultKind::SlowApi
        | FaultKind::Stopped
        | FaultKind::WatchStalled => match dice.below(3) {
            0 => dice.between(10 * MILLIS, 1_000 * MILLIS),
            1 => dice.between(SECONDS, 6 * SECONDS),
            _ => dice.between(4 * SECONDS, 12 * SECONDS),
        },
    }
}

/// When a fault must be over so that what follows from it is over at the end of the round: a broken
/// watch is begun anew within a third of the lease duration, a slow request has to come back.
fn latest_end(kind: FaultKind, length: Nanos) -> Nanos {
    match kind {
        FaultKind::ApiDown | FaultKind::Partitioned => length - 1_700 * MILLIS,
        FaultKind::RequestsLost | FaultKind::SlowApi | FaultKind::WatchStalled => {
            length - 2_000 * MILLIS
        }
        FaultKind::AddressDeleted
        | FaultKind::AllocatorFrozen
        | FaultKind::AllocatorKilled
        | FaultKind::ApiThrottled
        | FaultKind::EndpointsMoved
        | FaultKind::Excluded
        | FaultKind::Frozen
        | FaultKind::FrozenBeforeCall
        | FaultKind::Killed
        | FaultKind::KernelKeeps
        | FaultKind::KernelRefuses
        | FaultKind::LeaseDeleted
        | FaultKind::LinkDown
        | FaultKind::Namesake
        | FaultKind::NetlinkOverrun
        | FaultKind::Rebooted
        | FaultKind::RouteLost
        | FaultKind::SecondRoute
        | FaultKind::SegmentLossy
        | FaultKind::ServiceReplaced
        | FaultKind::Stopped => length,
    }
}
