//! Tapes into decisions.

use std::io;
use std::time::{Duration, Instant};

use super::format::{Actions, Hash};
use super::log::decompress;
use super::program::Recordable;
use super::read::{Input, ReadError, Tape, Turn, What};

/// The most that a machine takes, in bytes.
const MOST: u64 = 1 << 30;

/// A tape that is run through the machine, turn by turn: an iterator of [`Step`]s.
///
/// Between two steps [`machine`](Self::machine) is what it was then.
#[derive(Debug)]
pub struct Replay<'a, M: Recordable> {
    turns: std::slice::Iter<'a, Turn<M::Event>>,
    start: Instant,
    machine: M,
    inputs: u64,
    hash: Hash,
    now: Duration,
}

/// What came of one turn.
#[derive(Debug)]
pub struct Step<'a, M: Recordable> {
    /// The number of its first input, from 1 at the start of the machine.
    pub first: u64,
    /// What the machine was told.
    pub inputs: &'a [Input<M::Event>],
    /// When it was told the last of it, since the zero of the recording.
    pub at: Duration,
    /// What it asked for.
    pub actions: Vec<M::Action>,
    /// What is recorded of that, if it is.
    recorded: Option<Actions>,
    now: Actions,
}

impl<M: Recordable> Step<'_, M> {
    /// Whether the machine asked for the very same as when it was recorded, now and ever before.
    pub fn is_as_recorded(&self) -> bool {
        self.recorded.is_none_or(|recorded| recorded == self.now)
    }
}

impl<M: Recordable> Tape<M> {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// If it begins with a machine that cannot be made.
    pub fn replay(&self) -> Result<Replay<'_, M>, ReadError> {
        // Any moment does: nothing but the time that passes since then is told.
        let start = Instant::now();
        let machine = match &self.checkpoint {
            None => M::make(&self.settings, start),
            Some(checkpoint) => {
                let made = machine(&checkpoint.state.0, start);
                made.map_err(|source| ReadError::Checkpoint {
                    program: M::PROGRAM,
                    version: self.header.version.clone(),
                    source,
                })?
            }
        };
        let hash = self.checkpoint.as_ref().map(|checkpoint| checkpoint.hash).unwrap_or_default();
        Ok(Replay {
            turns: self.turns.iter(),
            start,
            machine,
            inputs: self.inputs_before(),
            hash,
            now: self.span().unwrap_or_default().0,
        })
    }
}

fn machine<M: Recordable>(state: &[u8], start: Instant) -> io::Result<M> {
    let state = decompress(state, MOST)?;
    let mut machine: M = postcard::from_bytes(&state).map_err(io::Error::other)?;
    machine.complete(start);
    Ok(machine)
}

impl<'a, M: Recordable> Replay<'a, M> {
    /// The next step, if it begins before `at`; without one there is none.
    pub fn next_before(&mut self, at: Option<Duration>) -> Option<Step<'a, M>> {
        self.next_at().filter(|next| at.is_some_and(|at| *next < at))?;
        self.next()
    }

    /// The next step, unless it begins after `until`.
    pub fn next_until(&mut self, until: Option<Duration>) -> Option<Step<'a, M>> {
        self.next_at().filter(|next| until.is_none_or(|until| *next <= until))?;
        self.next()
    }

    /// The machine as it is after the last step.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The moment of the last step, since the zero of the recording.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The moment of the first input of the next step; `None` at the end.
    pub fn next_at(&self) -> Option<Duration> {
        let turn = self.turns.as_slice().first()?;
        Some(turn.inputs.first().map_or(self.now, |input| input.at))
    }

    /// The zero of the recording, as far as the machine knows: deadlines count from it.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The machine as it is after the last step, to go on with otherwise.
    pub fn into_machine(self) -> M {
        self.machine
    }
}

impl<'a, M: Recordable> Iterator for Replay<'a, M> {
    type Item = Step<'a, M>;

    fn next(&mut self) -> Option<Step<'a, M>> {
        let turn = self.turns.next()?;
        let first = self.inputs + 1;
        for Input { at, what } in &turn.inputs {
            self.inputs += 1;
            self.now = *at;
            let now = self.start + *at;
            match what {
                What::Event(event) => self.machine.handle_event(event.clone(), now),
                What::Timeout => self.machine.handle_timeout(now),
            }
        }
        let actions: Vec<_> = std::iter::from_fn(|| self.machine.poll_action()).collect();
        actions.iter().for_each(|action| self.hash.add(action));
        let now = Actions { count: actions.len() as u64, hash: self.hash };
        let (inputs, recorded) = (&turn.inputs[..], turn.actions);
        Some(Step { first, inputs, at: self.now, actions, recorded, now })
    }
}

#[cfg(test)]
mod tests {
    use purelb_core::allocator::{Allocator, Event, Settings};
    use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
    use purelb_core::machine::Machine;
    use purelb_core::name::ServiceKey;
    use purelb_core::service::Service;
    use purelb_core::store::Change;

    use super::*;
    use crate::recording::{Bytes, Recorded, Recording};

    fn events() -> impl Iterator<Item = Event> {
        let v4 = vec![PoolSpec {
            field: "v4pool".into(),
            pool: "192.0.2.0/24".into(),
            subnet: "192.0.2.0/24".into(),
            aggregation: None,
        }];
        let pools = PoolsSpec { v4, ..PoolsSpec::default() };
        let group = GroupSpec::Local { pools, skip_ipv6_dad: false };
        let settings = Settings { default_announcer: true, ..Settings::default() };
        let service = |n: u32| {
            Service::new(ServiceKey::new("shop", format!("s{n}")), format!("u{n}").as_str())
        };
        [
            Event::Settings(settings),
            Event::ActiveSubnets(Default::default()),
            Event::Groups(Change::Listed(vec![ServiceGroup::new("default", "g", group)])),
            Event::Services(Change::Listed(Vec::new())),
        ]
        .into_iter()
        .chain((0..600).map(move |n| Event::Services(Change::Updated(service(n)))))
    }

    #[test]
    fn a_recording_replays_to_the_same_decisions_from_the_start_and_from_a_checkpoint() {
        for (size, has_checkpoint) in [(64 << 20, false), (4 << 10, true)] {
            let start = Instant::now();
            let mut machine = Recorded::<Allocator>::new((), "test", Bytes(size), start);
            let mut asked = 0;
            for (event, n) in events().zip(0..) {
                machine.handle_event(event, start + Duration::from_millis(n));
                asked += std::iter::from_fn(|| machine.poll_action()).count();
            }
            let file = machine.file(start).unwrap();
            let Recording::Allocator(mut tape) = Recording::read(&file).unwrap() else { panic!() };
            assert_eq!(tape.checkpoint.is_some(), has_checkpoint);
            let (mut replay, mut again) = (tape.replay().unwrap(), 0);
            for step in &mut replay {
                assert!(step.is_as_recorded(), "input {}", step.first);
                again += step.actions.len();
            }
            assert!(again > 0 && (has_checkpoint || again == asked));
            assert!(Recording::read(&file[..file.len() - 20]).is_err());
            // Without an input that mattered the difference is noticed.
            let lost = tape.turns.len() / 2;
            tape.turns[lost].inputs.clear();
            assert!(tape.replay().unwrap().any(|step| !step.is_as_recorded()));
        }
    }
}
