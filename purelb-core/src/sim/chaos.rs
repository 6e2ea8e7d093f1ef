//! Random histories: a seed draws a cluster and what befalls it.

use std::time::Duration;

use super::clock::{MILLIS, NEVER, Nanos, SECONDS};
use super::dice::Dice;
use super::fault::{Fault, FaultKind};
use super::report::{Report, Violation};
use super::setup::{Layout, NodeSetup, ServiceKind, Setup};
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
    /// Whether a story is written.
    pub is_told: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 10_000, mutation: None, is_told: false }
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
    let mut dice = Dice::new(seed ^ 0x5EED);
    let setup = draw_setup(seed, options, &mut dice);
    let mut sim = Simulation::new(&setup);
    sim.run_for(Duration::from_secs(2));
    while sim.violation.is_none() {
        // An allocator whose writes have failed again and again waits longer from one to the next, and
        // what it then gives moves something: the calm begins after it.
        while sim.violation.is_none()
            && let Some(wait) = sim.allocator_waits()
        {
            sim.run_for(wait);
        }
        sim.run_for(calm(&sim, &setup));
        if sim.violation.is_none() {
            sim.check_places();
        }
        if sim.violation.is_none() {
            sim.check_quiet();
        }
        if sim.report.steps >= options.steps {
            break;
        }
        round(&mut sim, &setup, &mut dice);
    }
    Outcome { report: sim.report, violation: sim.violation, story: sim.story }
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
    setup.is_told = options.is_told;
    setup.is_calm = false;
    setup
}

/// One round of faults, all of them over at its end, but for a node that may stay down.
fn round(sim: &mut Simulation, setup: &Setup, dice: &mut Dice) {
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
    sim.run_for(Duration::from_nanos(length));
    sim.horizon = NEVER;
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
