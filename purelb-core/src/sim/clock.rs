//! Virtual time, and the clocks of nodes, which run a little fast or slow.

use std::time::{Duration, Instant};

/// Nanoseconds since the simulation began, by a clock that is right.
pub type Nanos = u64;

pub(super) const MILLIS: Nanos = 1_000_000;
pub(super) const SECONDS: Nanos = 1_000 * MILLIS;

/// "Not at all": later than anything.
pub(super) const NEVER: Nanos = Nanos::MAX;

const MILLION: u64 = 1_000_000;

/// The clock of one node, of its kernel and its processes alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeClock {
    epoch: Instant,
    /// What it counts in a million true nanoseconds.
    rate: u64,
}

impl NodeClock {
    /// One that runs `drift` millionths fast, or slow if that is negative.
    pub(super) fn new(epoch: Instant, drift: i32) -> Self {
        Self { epoch, rate: MILLION.saturating_add_signed(drift.into()) }
    }

    /// What it shows at a true moment.
    pub(super) fn shows(&self, at: Nanos) -> Nanos {
        at * self.rate / MILLION
    }

    /// The same for a machine of the core.
    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.epoch + Duration::from_nanos(self.shows(at))
    }

    /// The first true moment at which it shows `instant`.
    pub(super) fn when(&self, instant: Instant) -> Nanos {
        self.lasts(nanos(instant.saturating_duration_since(self.epoch)))
    }

    /// How long a span by this clock truly lasts, rounded up.
    pub(super) fn lasts(&self, span: Nanos) -> Nanos {
        (span * MILLION).div_ceil(self.rate)
    }

    /// Millionths fast.
    pub(super) fn drift(&self) -> i64 {
        self.rate as i64 - MILLION as i64
    }
}

/// A span as nanoseconds.
pub(super) fn nanos(span: Duration) -> Nanos {
    span.as_nanos() as Nanos
}

/// Some moment to count from. Nothing depends on which.
#[allow(clippy::disallowed_methods, reason = "instants can be had in no other way")]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_when_its_own_clock_says_so_and_not_before() {
        for drift in [-10_000, -1, 0, 3, 10_000] {
            let clock = NodeClock::new(epoch(), drift);
            for at in [1, 999, 5 * SECONDS + 7, 4000 * SECONDS + 1] {
                let due = clock.when(clock.epoch + Duration::from_nanos(at));
                assert!(clock.shows(due) >= at, "{drift} {at}");
                assert!(due == 0 || clock.shows(due - 1) < at, "{drift} {at}");
            }
        }
    }
}
