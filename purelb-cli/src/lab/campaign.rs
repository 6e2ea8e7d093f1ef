//! Failures by the hundred: agents are killed, frozen, cut off from the API, stopped and started
//! again, and a [witness](super::witness) on the wire counts every moment in which two nodes answer
//! for one address, and every outage.
//!
//! Several labs run beside each other, as their time goes by with waiting. Each trial is written to a
//! file when it is over; a campaign that was ended goes on from there.

mod record;
mod table;
mod trial;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use thiserror::Error;

use super::background::Background;
use super::state::Directory;
use super::stop::Stop;
use record::Records;
use trial::{Scene, SceneError};

pub use record::{DoubleSeen, Fault, OutageSeen, Setup, Trial};
pub use table::table;

/// How many labs are tried in one place before that is given up.
const ATTEMPTS: usize = 20;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many calm trials of each fault there shall be in the file.
    pub trials: usize,
    /// How many labs run beside each other.
    pub labs: usize,
    /// On what.
    pub setup: Setup,
    /// The file of the trials.
    pub records: PathBuf,
    /// The directory for the programs' logs, one directory in it for each lab.
    pub logs: PathBuf,
}

/// How a campaign ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every trial was made, and all went as they should.
    Good,
    /// Something was seen that must not be, or not seen that must be.
    Bad,
    /// It was ended before all trials were made.
    Interrupted,
}

/// Why a campaign could not go on.
#[derive(Debug, Error)]
#[error("{}: {source}", path.display())]
pub struct RecordError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the trials that are missing in the file, and prints the table of all.
pub fn campaign(directory: &Directory, plan: &Plan) -> Result<Verdict, RecordError> {
    let failed = |source| RecordError { path: plan.records.clone(), source };
    let stop = Stop::default();
    let background = Background::start().map_err(failed)?;
    background.stop_on_signals(stop.clone()).map_err(failed)?;
    let records = Records::open(&plan.records).map_err(failed)?;
    let desk = Desk::new(plan, records);
    thread::scope(|scope| {
        for lab in 1..=plan.labs {
            let (desk, stop) = (&desk, &stop);
            scope.spawn(move || work(lab, directory, desk, stop));
        }
    });
    let records = desk.shared.into_inner().unwrap_or_else(PoisonError::into_inner).records;
    let trials: Vec<&Trial> = records.of(&plan.setup).collect();
    say(&format!("\n{}", table(&plan.setup, &trials)));
    if stop.is_requested() {
        return Ok(Verdict::Interrupted);
    }
    let missing = Fault::ALL
        .iter()
        .any(|fault| trials.iter().filter(|trial| trial.fault == *fault).count() < plan.trials);
    let is_good = !missing && trials.iter().all(|trial| is_as_it_should_be(trial));
    Ok(if is_good { Verdict::Good } else { Verdict::Bad })
}

/// Whether a trial showed what it has to: no double, and an end. Where the fence is off, an agent
/// that is killed or frozen must have led to doubles, or the node that takes over must have heard the
/// other and yielded, so that nothing settled; else the witness is blind.
fn is_as_it_should_be(trial: &Trial) -> bool {
    let is_unfenced = match trial.fault {
        Fault::Kill | Fault::Freeze => trial.setup.fence_off,
        Fault::Partition | Fault::Return | Fault::Stop => false,
    };
    let may_double = trial.setup.fence_off;
    let has_doubles = !trial.doubles.is_empty();
    if is_unfenced {
        return has_doubles || trial.settled_ms.is_none();
    }
    (may_double || !has_doubles) && (trial.settled_ms.is_some() || !trial.is_calm())
}

/// Where the labs get their work and leave their results.
struct Desk<'a> {
    plan: &'a Plan,
    shared: Mutex<Shared>,
}

struct Shared {
    records: Records,
    /// How many calm trials of each fault were made, and how many begun.
    begun: BTreeMap<Fault, usize>,
}

impl<'a> Desk<'a> {
    fn new(plan: &'a Plan, records: Records) -> Self {
        let mut begun: BTreeMap<Fault, usize> = Fault::ALL.map(|fault| (fault, 0)).into();
        for trial in records.of(&plan.setup).filter(|trial| trial.is_calm()) {
            *begun.entry(trial.fault).or_default() += 1;
        }
        Self { plan, shared: Mutex::new(Shared { records, begun }) }
    }

    /// What is to be done next; a return only ever follows something else.
    fn next(&self) -> Option<Fault> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.plan.trials;
        let lacking = |fault: &Fault| shared.begun[fault] < wanted;
        let others = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Return);
        let next = others.filter(lacking).min_by_key(|fault| shared.begun[fault]);
        // Nothing else is missing: stop one more, so that it can return.
        let next = next.or_else(|| lacking(&Fault::Return).then_some(Fault::Stop))?;
        *shared.begun.entry(next).or_default() += 1;
        if next.ends_the_agent() {
            *shared.begun.entry(Fault::Return).or_default() += 1;
        }
        Some(next)
    }

    /// A trial that was begun will not be finished, or was not calm.
    fn give_back(&self, fault: Fault) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = shared.begun.get_mut(&fault) {
            *begun = begun.saturating_sub(1);
        }
    }

    fn put(&self, lab: usize, trial: Trial) -> io::Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let worst = trial.outages.iter().map(|outage| outage.ms).max().unwrap_or_default();
        let settled =
            trial.settled_ms.map_or_else(|| "never".to_owned(), |ms| format!("after {ms} ms"));
        let detail =
            if trial.detail.is_empty() { String::new() } else { format!(" ({})", trial.detail) };
        say(&format!(
            "lab {lab}: {:9} {}{detail}: {} doubles, {} outages of at most {worst} ms, {} moves, settled {settled}",
            trial.fault,
            trial.node,
            trial.doubles.len(),
            trial.outages.len(),
            trial.moves,
        ));
        shared.records.add(trial)
    }
}

/// Makes trials in one lab until none is left. A lab in which something went wrong is left for a new
/// one.
fn work(lab: usize, directory: &Directory, desk: &Desk<'_>, stop: &Stop) {
    let mut attempts = 0;
    // A machine on which nothing works does not get better by trying.
    while attempts < ATTEMPTS && !stop.is_requested() {
        attempts += 1;
        let logs = desk.plan.logs.join(format!("lab{lab}-{attempts}"));
        let scene = directory
            .room(&format!("lab{lab}-{attempts}"))
            .map_err(SceneError::Program)
            .and_then(|room| Scene::set(room, logs.clone(), desk.plan.setup.clone(), stop.clone()));
        let ended = scene.and_then(|mut scene| {
            let ended = trials(lab, &mut scene, desk, stop);
            for problem in scene.strike() {
                say(&format!("lab {lab}: {problem}"));
            }
            ended
        });
        match ended {
            Ok(Ended::Done) => return,
            Ok(Ended::Unsettled) => {
                say(&format!("lab {lab}: did not settle; its logs are in {}", logs.display()));
            }
            Err(error) if stop.is_requested() => drop(error),
            Err(error) => say(&format!("lab {lab}: {error}; its logs are in {}", logs.display())),
        }
    }
}

enum Ended {
    Done,
    Unsettled,
}

fn trials(
    lab: usize,
    scene: &mut Scene,
    desk: &Desk<'_>,
    stop: &Stop,
) -> Result<Ended, SceneError> {
    while !stop.is_requested() {
        let Some(fault) = desk.next() else { break };
        let node = fastrand::usize(..usize::from(super::cluster::NODES));
        let mut faults = vec![fault];
        faults.extend(fault.ends_the_agent().then_some(Fault::Return));
        let mut faults = faults.into_iter();
        while let Some(fault) = faults.next() {
            let trial = match scene.make(fault, node) {
                Ok(trial) => trial,
                Err(error) => {
                    desk.give_back(fault);
                    faults.for_each(|fault| desk.give_back(fault));
                    return Err(error);
                }
            };
            let is_settled = trial.settled_ms.is_some();
            if !trial.is_calm() {
                desk.give_back(fault);
            }
            desk.put(lab, trial).map_err(SceneError::Program)?;
            if !is_settled {
                faults.for_each(|fault| desk.give_back(fault));
                return Ok(Ended::Unsettled);
            }
        }
    }
    Ok(Ended::Done)
}

fn say(text: &str) {
    // Without a reader the file is as good.
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::record::tests::{setup, trial};
    use super::*;

    fn seen(fault: Fault, fence_off: bool, doubles: usize) -> bool {
        let double = DoubleSeen {
            address: "192.0.2.240".parse().unwrap(),
            nodes: vec![],
            after_ms: 0,
            ms: 0,
            questions: 1,
        };
        let setup = Setup { fence_off, ..setup() };
        is_as_it_should_be(&Trial { setup, doubles: vec![double; doubles], ..trial(fault) })
    }

    #[test]
    fn a_double_is_a_failure_with_the_fence_and_its_absence_one_without() {
        for fault in Fault::ALL {
            assert!(seen(fault, false, 0) && !seen(fault, false, 1), "{fault}");
            assert!(seen(fault, true, 1), "{fault}");
        }
        assert!(!seen(Fault::Kill, true, 0) && !seen(Fault::Freeze, true, 0));
        assert!(!is_as_it_should_be(&Trial { settled_ms: None, ..trial(Fault::Kill) }));
    }
}
