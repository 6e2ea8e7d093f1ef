//! Writing an answer until it shows: one request at a time, again only after a pause.

use std::time::Duration;

use crate::allocator::event::{Ticket, Written};
use crate::name::ResourceVersion;
use crate::time::Tick;

/// From one write of an answer to the next write of the same, at first; doubled each time.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// An answer that stood this long beyond its pause starts again with the first.
const FORGIVEN: Duration = Duration::from_secs(60);

/// The state of writing one object's answer.
///
/// An answer that was written and does not show, whether because the write failed, the watch lags, or
/// somebody undid it, is written again after a pause that grows. A different answer is written at
/// once. While a request is out, nothing is written.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub(crate) struct Attempt<A> {
    /// The request that the last answer was sent with, while it is out.
    outstanding: Option<Ticket>,
    last: Option<Last<A>>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
struct Last<A> {
    answer: A,
    at: Tick,
    tries: u32,
    /// The version that the write was refused for.
    conflict: Option<ResourceVersion>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Write.
    Send,
    /// Nothing before this moment.
    Wait(Tick),
}

impl<A> Default for Attempt<A> {
    fn default() -> Self {
        Self { outstanding: None, last: None }
    }
}

impl<A: PartialEq + Clone> Attempt<A> {
    /// Whether a request is out.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_untouched(&self) -> bool {
        self.last.is_none()
    }

    /// What to do about `wanted`, which `shows` or not. `version` is what the write would be
    /// conditional on; `gap` is the least time between two writes, whatever they say.
    pub(crate) fn step(
        &self,
        wanted: &A,
        shows: bool,
        version: &ResourceVersion,
        gap: Duration,
        now: Tick,
    ) -> Step {
        if shows || self.outstanding.is_some() {
            return Step::Rest;
        }
        let Some(last) = &self.last else { return Step::Send };
        let is_newer = last.conflict.as_ref().is_some_and(|refused| refused != version);
        let pause = if is_newer {
            Duration::ZERO
        } else if last.answer == *wanted {
            pause(last.tries).max(gap)
        } else {
            gap
        };
        let due = last.at + pause;
        if now >= due { Step::Send } else { Step::Wait(due) }
    }

    /// Notes that `answer` was sent.
    pub(crate) fn sent(&mut self, ticket: Ticket, answer: A, now: Tick) {
        let tries = match &self.last {
            Some(last) if last.answer == answer && now < last.at + pause(last.tries) + FORGIVEN => {
                last.tries.saturating_add(1)
            }
            Some(_) | None => 0,
        };
        self.last = Some(Last { answer, at: now, tries, conflict: None });
        self.outstanding = Some(ticket);
    }

    /// Takes in the outcome; returns the answer if it is in the API now.
    pub(crate) fn finished(
        &mut self,
        ticket: Ticket,
        result: &Written,
        version: &ResourceVersion,
        now: Tick,
    ) -> Option<A> {
        self.outstanding.take_if(|out| *out == ticket)?;
        let last = self.last.as_mut()?;
        last.at = now;
        last.conflict = match result {
            Written::Conflict => Some(version.clone()),
            Written::Accepted | Written::Failed { .. } | Written::Gone => None,
        };
        match result {
            Written::Accepted => Some(last.answer.clone()),
            Written::Conflict | Written::Failed { .. } | Written::Gone => None,
        }
    }
}

/// The pause after the write that came after `tries` of the same.
pub(crate) fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    fn now() -> Tick {
        Tick::START
    }

    #[test]
    fn while_a_request_is_out_nothing_is_written_not_even_another_answer() {
        let (now, version) = (now(), ResourceVersion::from("1"));
        let mut attempt = Attempt::default();
        let step = |attempt: &Attempt<u8>, wanted| {
            attempt.step(&wanted, false, &version, Duration::ZERO, now + Duration::from_secs(600))
        };
        assert_eq!(step(&attempt, 1), Step::Send);
        attempt.sent(Ticket(1), 1, now);
        assert_eq!((step(&attempt, 1), step(&attempt, 2)), (Step::Rest, Step::Rest));
        assert_eq!(attempt.finished(Ticket(2), &Written::Accepted, &version, now), None);
        assert_eq!(attempt.finished(Ticket(1), &Written::Accepted, &version, now), Some(1));
        assert_eq!(step(&attempt, 2), Step::Send);
    }

    #[test]
    fn after_a_conflict_only_a_newer_object_is_written_at_once() {
        let (now, old) = (now(), ResourceVersion::from("1"));
        let mut attempt = Attempt::default();
        attempt.sent(Ticket(1), 1, now);
        attempt.finished(Ticket(1), &Written::Conflict, &old, now);
        let step = |version: &str| attempt.step(&1, false, &version.into(), Duration::ZERO, now);
        assert_eq!(step("1"), Step::Wait(now + FIRST_PAUSE));
        assert_eq!(step("2"), Step::Send);
    }
}
