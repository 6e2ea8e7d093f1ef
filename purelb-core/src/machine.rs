//! How every state machine of this crate is driven.

use std::time::Instant;

/// A state machine without I/O: facts go in, actions come out, time is an argument.
///
/// The host calls the four methods in one loop and nothing else:
///
/// 1. drain [`poll_action`](Self::poll_action) and carry each action out;
/// 2. wait for a fact, or until [`poll_timeout`](Self::poll_timeout);
/// 3. pass it to [`handle_event`](Self::handle_event) or [`handle_timeout`](Self::handle_timeout).
///
/// The rules a host must keep: events are handed over in the order in which their source delivered
/// them, and what is asked of the kernel is carried out before the next call, however long it takes.
/// Everything else heals, because actions are the difference between what is wanted
/// and what was observed, not a memory of what was asked for.
pub trait Machine {
    /// A fact.
    type Event;
    /// Something the host is to do.
    type Action;

    /// Takes in a fact. `now` must not go backwards; if it does, the last value counts.
    fn handle_event(&mut self, event: Self::Event, now: Instant);

    /// Takes in that time has passed. Early and spurious calls change nothing.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing to do, or `None` when all is said. A drain always ends: a failed action is
    /// armed again through a deadline only.
    #[must_use]
    fn poll_action(&mut self) -> Option<Self::Action>;

    /// When [`handle_timeout`](Self::handle_timeout) is next due, or `None` while nothing is.
    #[must_use]
    fn poll_timeout(&self) -> Option<Deadline>;
}

/// The next moment at which a machine wants to be called, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// What for, in a word or two, so that a busy loop can be explained from one log line.
    pub why: &'static str,
}
