//! Moments as plain numbers, so that they can be stored, compared, printed and replayed.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A moment, in nanoseconds since the machine was started.
///
/// Events and actions carry ticks, never an [`Instant`], so that a recording means the same when it
/// is replayed. Ticks may be negative: before the start. Arithmetic saturates (after 292 years).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(i64);

impl Tick {
    /// The start of the machine.
    pub const START: Self = Self(0);

    /// A moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.3}s", self.0 as f64 / 1e9)
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// The moment a machine was started: the bridge between the host's [`Instant`] and [`Tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(Instant);

impl Origin {
    /// Ticks count from `start`.
    pub const fn new(start: Instant) -> Self {
        Self(start)
    }

    /// `now` as a tick; a moment before the start is the start.
    pub fn tick(self, now: Instant) -> Tick {
        Tick::START + now.saturating_duration_since(self.0)
    }

    /// The host's moment for `tick`.
    pub fn instant(self, tick: Tick) -> Instant {
        self.0 + tick.since(Tick::START)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_saturate_and_never_go_below_zero_spans() {
        let late = Tick::START + Duration::MAX;
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Tick::START.since(late), Duration::ZERO);
        assert_eq!((Tick::START + Duration::from_millis(1500)).to_string(), "+1.500s");
    }

    #[test]
    fn an_instant_before_the_origin_is_the_origin() {
        let base = Instant::now_for_test();
        let origin = Origin::new(base + Duration::from_secs(1));
        assert_eq!(origin.tick(base), Tick::START);
        assert_eq!(
            origin.instant(Tick::START - Duration::from_secs(3)),
            origin.instant(Tick::START)
        );
    }

    trait NowForTest {
        fn now_for_test() -> Instant;
    }

    impl NowForTest for Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        fn now_for_test() -> Instant {
            Self::now()
        }
    }
}
