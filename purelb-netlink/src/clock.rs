//! The clocks that deadlines are kept by.

use std::time::{Duration, Instant};

use purelb_core::kernel::Lifetime;
use purelb_core::time::{Origin, Tick};
use rustix::time::{ClockId, clock_gettime};

/// Less than this between two readings of two clocks is not a suspension.
const TOLERANCE: Duration = Duration::from_millis(50);

/// The monotonic clock as ticks, and how long the machine slept: CLOCK_MONOTONIC, by which
/// [`Instant`] goes, stands still while it is suspended; CLOCK_BOOTTIME does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Origin,
    ahead: Duration,
}

/// What is left of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It does not end.
    Forever,
    /// Less than one whole second.
    Nothing,
    /// This many whole seconds, at least one.
    Seconds(u32),
}

impl Clock {
    pub(crate) fn start(origin: Origin) -> Self {
        Self { origin, ahead: boottime_ahead() }
    }

    /// This moment. Time that the machine slept since the start, or the last [`Self::forgive`],
    /// counts as passed.
    pub(crate) fn now(&self) -> Tick {
        self.origin.tick(Instant::now()) + self.suspended()
    }

    /// How long the machine slept since the start or the last [`Self::forgive`].
    pub(crate) fn suspended(&self) -> Duration {
        let slept = boottime_ahead().saturating_sub(self.ahead);
        if slept < TOLERANCE { Duration::ZERO } else { slept }
    }

    /// Deadlines set from now on know of the sleep so far.
    pub(crate) fn forgive(&mut self) {
        self.ahead = boottime_ahead();
    }
}

/// Reads both clocks. If this is interrupted between the two the result is too small rather than
/// too large: a sleep is seen one reading later then.
fn boottime_ahead() -> Duration {
    let [boot, monotonic] = [ClockId::Boottime, ClockId::Monotonic].map(|clock| {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
    });
    boot.saturating_sub(monotonic)
}

/// What is left of `lifetime` at `now`, in whole seconds, rounded down.
pub(crate) fn left(lifetime: Lifetime, now: Tick) -> Left {
    let seconds = match lifetime {
        Lifetime::Forever => return Left::Forever,
        Lifetime::Seconds(seconds) => seconds,
        // One second below what the kernel takes for "for ever".
        Lifetime::Until(until) => {
            u32::try_from(until.since(now).as_secs()).unwrap_or(u32::MAX).min(u32::MAX - 1)
        }
    };
    if seconds == 0 { Left::Nothing } else { Left::Seconds(seconds) }
}

/// Whether an address that was given `seconds` at some moment up to `now` may outlive `until`.
pub(crate) fn outlives(seconds: u32, now: Tick, until: Tick) -> bool {
    now + Duration::from_secs(seconds.into()) > until
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn seconds_left_are_rounded_down_and_below_one_is_nothing() {
        let until = Lifetime::Until(Tick::from_nanos(5 * SECOND));
        for (now, expected) in [
            (0, Left::Seconds(5)),
            (1, Left::Seconds(4)),
            (4 * SECOND, Left::Seconds(1)),
            (4 * SECOND + 1, Left::Nothing),
            (6 * SECOND, Left::Nothing),
        ] {
            assert_eq!(left(until, Tick::from_nanos(now)), expected, "at {now}");
        }
    }

    #[test]
    fn other_lifetimes_do_not_depend_on_the_clock() {
        let late = Tick::from_nanos(i64::MAX);
        assert_eq!(left(Lifetime::Forever, late), Left::Forever);
        assert_eq!(left(Lifetime::Seconds(7), late), Left::Seconds(7));
        assert_eq!(left(Lifetime::Seconds(0), late), Left::Nothing);
    }

    #[test]
    fn a_far_deadline_is_not_for_ever() {
        let until = Lifetime::Until(Tick::from_nanos(i64::MAX));
        assert_eq!(left(until, Tick::from_nanos(i64::MIN)), Left::Seconds(u32::MAX - 1));
    }

    #[test]
    fn a_late_answer_makes_the_lifetime_too_long() {
        let until = Tick::from_nanos(5 * SECOND);
        assert!(!outlives(3, Tick::from_nanos(2 * SECOND), until));
        assert!(outlives(3, Tick::from_nanos(2 * SECOND + 1), until));
    }

    #[test]
    fn the_clock_runs() {
        let clock = Clock::start(Origin::new(Instant::now()));
        let earlier = clock.now();
        assert!(clock.now() >= earlier);
        assert_eq!(clock.suspended(), Duration::ZERO);
    }
}
