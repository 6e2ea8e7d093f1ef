//! How often a lease is renewed, how long one request may take, and when the holder gives up.

use std::time::Duration;

use crate::time::Tick;

use super::{MIN_DURATION, fence};

/// How an agent keeps its lease: computed from the lease's duration, unless set otherwise.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    duration: Duration,
    /// The right to hold ends at the latest this long after the renewal that it rests on was sent.
    deadline: Duration,
    /// From one renewal to the next.
    period: Duration,
}

impl Pace {
    /// The pace that fits a lease of this duration: renewed every third of it, given up at the fence.
    pub fn of(duration: Duration) -> Self {
        let deadline = fence(Tick::START, duration).since(Tick::START);
        Self { duration, deadline, period: duration / 3 }
    }

    /// The pace that an operator asked for.
    ///
    /// `renew_deadline` is how long a holder that cannot renew keeps its addresses, counted from the
    /// last renewal that succeeded. At most the duration less 2 % and 1.3 s, which is also what it is
    /// unless set: others may take the addresses after the whole duration, and kernels are late.
    ///
    /// `retry_period` is the time from one renewal to the next; unless set, a third of the duration.
    /// At most half of the deadline, so that one lost renewal moves nothing, and at least 100 ms. A
    /// renewal that failed is tried again sooner.
    ///
    /// # Errors
    ///
    /// If something is outside its range; the error says what fits.
    pub fn new(
        duration: Duration,
        renew_deadline: Option<Duration>,
        retry_period: Option<Duration>,
    ) -> Result<Self, PaceError> {
        if duration < MIN_DURATION {
            return Err(PaceError::DurationTooShort { duration });
        }
        let ours = Self::of(duration);
        let deadline = renew_deadline.unwrap_or(ours.deadline);
        if deadline > ours.deadline {
            return Err(PaceError::DeadlineTooLate { duration, deadline, most: ours.deadline });
        }
        if deadline < SHORTEST_DEADLINE {
            return Err(PaceError::DeadlineTooSoon { deadline });
        }
        let period = retry_period.unwrap_or_else(|| ours.period.min(deadline / 2));
        if !(SHORTEST_PERIOD..=deadline / 2).contains(&period) {
            return Err(PaceError::Period { duration, deadline, period, most: deadline / 2 });
        }
        Ok(Self { duration, deadline, period })
    }

    /// How long the lease lasts for others.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// From one renewal to the next while all goes well; up to a tenth less by chance.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How long one request may take; then it is given up and tried again.
    pub fn request_limit(&self) -> Duration {
        (self.duration / 6).min(self.period)
    }

    /// The shortest time from one try to the next after a failure.
    pub(super) fn pause(&self) -> Duration {
        self.request_limit() / 2
    }

    /// When a right that rests on a write sent at `sent` ends, if others were told of `published`.
    pub(super) fn fence(&self, sent: Tick, published: Duration) -> Tick {
        let end = fence(sent, published);
        // A longer duration than our own is one that was asked for on leaving.
        if published > self.duration { end } else { end.min(sent + self.deadline) }
    }
}

/// The kernel's lifetimes are whole seconds, of which one must be left after a request.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(3);

const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Why a lease cannot be kept in the way that was asked for. Each says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    /// Renew deadline.
    #[error(
        "the renew deadline is {deadline:?}, but others may take over an address when a lease of \
         {duration:?} is over, and a kernel may be late: make it {most:?} or less, leave it out, or \
         make the lease longer"
    )]
    DeadlineTooLate {
        /// The lease's duration.
        duration: Duration,
        /// What was asked for.
        deadline: Duration,
        /// What would fit.
        most: Duration,
    },
    /// Renew deadline.
    #[error(
        "the renew deadline is {deadline:?}, which leaves no time to try twice: make it \
         {SHORTEST_DEADLINE:?} or more, or leave it out"
    )]
    DeadlineTooSoon {
        /// What was asked for.
        deadline: Duration,
    },
    /// Lease duration.
    #[error(
        "the lease duration is {duration:?}, which leaves no time to renew it: make it \
         {MIN_DURATION:?} or more"
    )]
    DurationTooShort {
        /// What was asked for.
        duration: Duration,
    },
    /// Retry period.
    #[error(
        "the retry period is {period:?}: with a lease of {duration:?} that is given up after \
         {deadline:?} make it {most:?} or less, so that one lost renewal moves nothing, and at least \
         {SHORTEST_PERIOD:?}, or leave it out"
    )]
    Period {
        /// The lease's duration.
        duration: Duration,
        /// The renew deadline.
        deadline: Duration,
        /// What was asked for.
        period: Duration,
        /// What would fit.
        most: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn unless_set_a_lease_is_renewed_every_third_and_given_up_at_the_fence() {
        let pace = Pace::new(secs(6), None, None).unwrap();
        assert_eq!(pace, Pace::of(secs(6)));
        assert_eq!((pace.period(), pace.request_limit()), (secs(2), secs(1)));
        assert_eq!(pace.fence(Tick::START, secs(6)), fence(Tick::START, secs(6)));
    }

    #[test]
    fn what_the_helm_chart_of_the_go_agents_sets_is_taken_at_its_word() {
        let pace = Pace::new(secs(10), Some(secs(7)), Some(secs(2))).unwrap();
        assert_eq!(pace.period(), secs(2));
        assert_eq!(pace.fence(Tick::START, secs(10)), Tick::START + secs(7));
    }

    #[test]
    fn a_deadline_after_the_fence_is_refused_with_what_would_fit() {
        let error = Pace::new(secs(5), Some(secs(7)), None).unwrap_err();
        assert!(error.to_string().contains("make it 3.6s or less"), "{error}");
        assert!(matches!(
            Pace::new(secs(5), Some(secs(2)), None),
            Err(PaceError::DeadlineTooSoon { .. })
        ));
    }

    #[test]
    fn a_period_that_leaves_no_second_try_is_refused_with_what_would_fit() {
        let error = Pace::new(secs(5), None, Some(secs(2))).unwrap_err();
        assert!(error.to_string().contains("make it 1.8s or less"), "{error}");
        assert!(Pace::new(secs(5), None, Some(Duration::from_millis(99))).is_err());
        assert!(Pace::new(secs(5), None, Some(secs(1))).is_ok());
    }

    #[test]
    fn a_lease_under_five_seconds_is_refused() {
        let error = Pace::new(secs(4), None, None).unwrap_err();
        assert_eq!(error, PaceError::DurationTooShort { duration: secs(4) });
    }
}
