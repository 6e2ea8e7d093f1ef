//! How often something that can wait may be done.

use std::time::Duration;

use tokio::time::Instant;

/// So many at once, then one after each interval; what was not used is saved up again.
///
/// It is for what informs people: when a thousand Services appear at once, their Events and annotations
/// must not hold up the requests that give them addresses.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// How long it takes to save up a whole burst but for the one that may be done now.
    reserve: Duration,
    interval: Duration,
    /// When a whole burst is saved up again.
    full_at: Instant,
}

impl Allowance {
    /// `burst` at once, at least one, then one after each `interval`.
    pub fn new(burst: u32, interval: Duration) -> Self {
        let reserve = interval * burst.saturating_sub(1);
        Self { reserve, interval, full_at: Instant::now() }
    }

    /// When the next one may be done; a time that has passed if that is now.
    pub fn next(&self) -> Instant {
        // A clock that has run for less than that allows everything.
        self.full_at.checked_sub(self.reserve).unwrap_or_else(Instant::now)
    }

    /// Takes one, if one may be done now.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.next() <= now;
        if is_due {
            self.full_at = self.full_at.max(now) + self.interval;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn taken(allowance: &mut Allowance) -> usize {
        std::iter::from_fn(|| allowance.take().then_some(())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_one_after_each_interval() {
        let mut allowance = Allowance::new(3, INTERVAL);
        let start = Instant::now();
        assert_eq!(taken(&mut allowance), 3);
        for number in 1..5 {
            sleep_until(allowance.next()).await;
            assert_eq!(taken(&mut allowance), 1);
            assert!(start.elapsed() >= INTERVAL * number, "{:?}", start.elapsed());
        }
        assert!(start.elapsed() < INTERVAL * 5, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_saved_up_and_no_more_than_a_burst() {
        let mut allowance = Allowance::new(3, INTERVAL);
        assert_eq!(taken(&mut allowance), 3);
        advance(INTERVAL * 2).await;
        assert_eq!(taken(&mut allowance), 2);
        advance(INTERVAL * 100).await;
        assert_eq!(taken(&mut allowance), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_burst_is_a_burst_of_one() {
        assert_eq!(taken(&mut Allowance::new(0, INTERVAL)), 1);
    }
}
