//! What would have been otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use super::overlay::Overlay;
use super::tale::Kind;
use super::timeline::{Entry, Moment, Narrow, Teller, lines, written};
use super::world::{Imagined, World};
use crate::command::output::Report;
use crate::recording::{ReadError, Tape, What};

/// Two things so far apart are the same thing at another time.
const TOLERANCE: Duration = Duration::from_secs(1);

/// No machine asks for things in so many rounds of questions and answers without time passing.
const MOST_ROUNDS: usize = 10_000;

/// What a recording and the same with other objects differ in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WhatIf {
    /// In the order of time.
    pub differences: Vec<Difference>,
}

/// Something that happened in one of the two only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// In which.
    pub only: Only,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Where something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// As it was recorded, and not with the change.
    Recorded,
    /// With the change.
    WithTheChange,
}

/// Why a change cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// The objects cannot be taken.
    #[error("{0}")]
    Change(String),
    /// The change is not one that the program is told of.
    #[error("the recording has nothing that the change changes")]
    NoChange,
    /// The recording cannot be replayed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl WhatIf {
    /// Adds what a recording would have been with other objects, from `at` on or else from its start.
    /// `change` makes the cluster as it is imagined from what it was.
    ///
    /// # Errors
    ///
    /// If the recording cannot be replayed, or the objects make no sense or no difference.
    pub fn add<M: Imagined>(
        &mut self,
        tape: &Tape<M>,
        at: Option<Moment>,
        narrow: &Narrow,
        change: impl Fn(&Snapshot) -> Result<Snapshot, String>,
    ) -> Result<(), WhatIfError> {
        let at = at.map(|moment| moment.since_zero(tape));
        let until = narrow.until.map(|moment| moment.since_zero(tape));
        let before = known(tape, at)?;
        let after = change(&before).map_err(WhatIfError::Change)?;
        let overlay = Overlay::between(&before, &after);
        if overlay.is_empty() {
            return Err(WhatIfError::NoChange);
        }
        let recorded = told(tape, at, until, narrow)?;
        let imagined = Imagination::new(tape, overlay, at, narrow)?.run(until);
        self.differences.extend(differences(recorded, imagined));
        self.differences.sort_by_key(|difference| difference.entry.at);
        Ok(())
    }
}

/// The cluster as the machine knew it at a moment, or else once it knew everything.
fn known<M: Imagined>(tape: &Tape<M>, at: Option<Duration>) -> Result<Snapshot, ReadError> {
    let mut replay = tape.replay()?;
    while replay.next_before(at).is_some() {}
    while !replay.machine().is_told_all() && replay.next().is_some() {}
    Ok(replay.machine().snapshot(Timestamp::now()))
}

/// What was decided and done as recorded, after `at`.
fn told<M: Imagined>(
    tape: &Tape<M>,
    at: Option<Duration>,
    until: Option<Duration>,
    narrow: &Narrow,
) -> Result<Vec<Entry>, ReadError> {
    let mut replay = tape.replay()?;
    let mut seen = M::Seen::default();
    replay.machine().decided(&mut seen);
    let mut teller = Teller::new(&tape.header, narrow);
    while let Some(step) = replay.next_until(until) {
        let lines = lines(replay.machine(), &[], None, &step.actions, &mut seen);
        if at.is_none_or(|at| step.at >= at) {
            teller.tell(step.at, step.first, &lines);
        }
    }
    Ok(teller.entries)
}

/// A machine in an imagined world.
struct Imagination<'a, M: Imagined> {
    tape: &'a Tape<M>,
    machine: M,
    world: M::World,
    seen: M::Seen,
    start: Instant,
    /// How many turns of the tape are over.
    turns: usize,
    inputs: u64,
    teller: Teller<'a>,
}

impl<'a, M: Imagined> Imagination<'a, M> {
    fn new(
        tape: &'a Tape<M>,
        overlay: Overlay,
        at: Option<Duration>,
        narrow: &'a Narrow,
    ) -> Result<Self, ReadError> {
        let mut replay = tape.replay()?;
        let (start, mut turns, mut inputs) = (replay.start(), 0, tape.inputs_before());
        while let Some(step) = replay.next_before(at) {
            turns += 1;
            inputs += step.inputs.len() as u64;
        }
        let now = at.unwrap_or_else(|| replay.now());
        let machine = replay.into_machine();
        let world = machine.world(overlay, tape, turns);
        let mut seen = M::Seen::default();
        machine.decided(&mut seen);
        let teller = Teller::new(&tape.header, narrow);
        let mut this = Self { tape, machine, world, seen, start, turns, inputs, teller };
        if this.machine.is_told_all() {
            for event in this.world.changes() {
                this.machine.handle_event(event, start + now);
            }
            this.settle(now);
        }
        Ok(this)
    }

    fn run(mut self, until: Option<Duration>) -> Vec<Entry> {
        let tape = self.tape;
        for turn in tape.turns.iter().skip(self.turns) {
            let Some(first) = turn.inputs.first() else { continue };
            if until.is_some_and(|until| first.at > until) {
                break;
            }
            self.pass_time(first.at);
            let mut now = first.at;
            for input in &turn.inputs {
                now = input.at;
                self.inputs += 1;
                if let What::Event(event) = &input.what
                    && let Some(event) = self.world.hear(event.clone())
                {
                    self.machine.handle_event(event, self.start + now);
                }
            }
            self.settle(now);
        }
        self.teller.entries
    }

    /// Calls the machine whenever it wants to be called until `then`.
    fn pass_time(&mut self, then: Duration) {
        for _ in 0..MOST_ROUNDS {
            let Some(due) = self.machine.poll_timeout() else { return };
            let due = due.at.saturating_duration_since(self.start);
            if due > then {
                return;
            }
            self.machine.handle_timeout(self.start + due);
            self.settle(due);
        }
    }

    /// Answers the machine until it asks for nothing more.
    fn settle(&mut self, now: Duration) {
        for _ in 0..MOST_ROUNDS {
            let actions: Vec<_> = std::iter::from_fn(|| self.machine.poll_action()).collect();
            let lines = lines(&self.machine, &[], None, &actions, &mut self.seen);
            self.teller.tell(now, self.inputs, &lines);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                for event in self.world.answer(action, &self.machine, now) {
                    self.machine.handle_event(event, self.start + now);
                }
            }
        }
    }
}

/// What is in one of the two only; what happened in both within [`TOLERANCE`] is left out.
fn differences(recorded: Vec<Entry>, imagined: Vec<Entry>) -> Vec<Difference> {
    let mut unmatched: BTreeMap<(Kind, String), VecDeque<Entry>> = BTreeMap::new();
    for entry in imagined {
        unmatched.entry((entry.kind, entry.text.clone())).or_default().push_back(entry);
    }
    let mut differences = Vec::new();
    for entry in recorded {
        let same = unmatched.entry((entry.kind, entry.text.clone())).or_default();
        let near = same
            .iter()
            .position(|other| other.at.duration_since(entry.at).unsigned_abs() <= TOLERANCE);
        match near {
            Some(position) => drop(same.remove(position)),
            None => differences.push(Difference { only: Only::Recorded, entry }),
        }
    }
    let only = Only::WithTheChange;
    let rest = unmatched.into_values().flatten().map(|entry| Difference { only, entry });
    differences.extend(rest);
    differences
}

impl Report for WhatIf {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.differences.is_empty() {
            return writeln!(to, "the change makes no difference");
        }
        writeln!(to, "- as it was recorded, + with the change")?;
        for Difference { only, entry } in &self.differences {
            let sign = match only {
                Only::Recorded => '-',
                Only::WithTheChange => '+',
            };
            let Entry { at, name, kind, text, .. } = entry;
            writeln!(to, "{sign} {}  {name}  {:7}  {text}", written(*at), kind.as_str())?;
            if let Some(why) = &entry.why {
                writeln!(to, "  {:24}  {name:n$}  {:7}  because: {why}", "", "", n = name.len())?;
            }
        }
        Ok(())
    }
}
