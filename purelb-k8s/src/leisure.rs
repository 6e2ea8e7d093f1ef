//! What can wait while there is more urgent work.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A queue of requests that inform people, such as Events and annotations.
///
/// A few go at once, and as many more as ten each second. Where more come than that, as when a thousand Services
/// appear, the rest waits until no more come, so that the API server has its hands free for the requests that
/// give them addresses; meanwhile one goes each second. Then 25 go each second, until none is left.
#[derive(Clone, Debug)]
pub struct Leisurely<T> {
    queue: VecDeque<T>,
    pace: Pace,
    /// When a whole burst is saved up again.
    full_at: Instant,
    /// When one came last.
    last_at: Instant,
    /// When one of more than a burst went last; when it became more, if none has.
    crowded_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How many go at once, at least one.
    burst: u32,
    /// How long it takes to save up one of them.
    refill: Duration,
    /// From one of a complete crowd to the next.
    interval: Duration,
}

impl Pace {
    /// How long it takes to save up a whole burst but for the one that may go now.
    fn reserve(self) -> Duration {
        self.refill * self.burst.saturating_sub(1)
    }
}

/// After how long without another one a crowd is complete.
const QUIET: Duration = Duration::from_millis(500);

/// How often one goes while a crowd is not complete.
const TRICKLE: Duration = Duration::from_secs(1);

impl<T> Leisurely<T> {
    /// How many go at once.
    pub const BURST: u32 = 16;

    /// From one to the next when many wait.
    pub const INTERVAL: Duration = Duration::from_millis(40);

    /// An empty queue.
    pub fn new() -> Self {
        Self::with(Pace {
            burst: Self::BURST,
            refill: Duration::from_millis(100),
            interval: Self::INTERVAL,
        })
    }

    fn with(pace: Pace) -> Self {
        let now = Instant::now();
        Self { queue: VecDeque::new(), pace, full_at: now, last_at: now, crowded_since: None }
    }

    /// Puts one at the end.
    pub fn push(&mut self, item: T) {
        self.last_at = Instant::now();
        self.queue.push_back(item);
    }

    /// The first one, if it may go now.
    pub fn pop(&mut self) -> Option<T> {
        let now = Instant::now();
        if self.due()? > now {
            self.crowded_since.get_or_insert(now);
            return None;
        }
        let pause = match &mut self.crowded_since {
            Some(since) => {
                *since = now;
                self.pace.interval
            }
            None => self.pace.refill,
        };
        self.full_at = self.full_at.max(now) + pause;
        let item = self.queue.pop_front();
        if self.queue.is_empty() {
            self.crowded_since = None;
        }
        item
    }

    /// When the first one may go, a time that has passed if that is now; nothing if there is none.
    pub fn due(&self) -> Option<Instant> {
        if self.queue.is_empty() {
            return None;
        }
        // A clock that has run for less than that allows everything.
        let saved_up = self.full_at.checked_sub(self.pace.reserve()).unwrap_or(self.last_at);
        Some(match self.crowded_since {
            Some(since) => saved_up.max((self.last_at + QUIET).min(since + TRICKLE)),
            None => saved_up,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Default for Leisurely<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn queue(burst: u32) -> Leisurely<u32> {
        Leisurely::with(Pace { burst, refill: INTERVAL, interval: INTERVAL })
    }

    fn gone(queue: &mut Leisurely<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_go_at_once() {
        let mut queue = queue(3);
        assert_eq!((gone(&mut queue), queue.due()), (vec![], None));
        (1..=3).for_each(|number| queue.push(number));
        assert_eq!((gone(&mut queue), queue.due()), (vec![1, 2, 3], None));
        // What was not used is saved up again, and no more than a burst.
        advance(INTERVAL * 100).await;
        (4..=7).for_each(|number| queue.push(number));
        assert_eq!((gone(&mut queue), queue.len()), (vec![4, 5, 6], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_waits_until_it_is_complete_and_then_goes_one_by_one() {
        let mut queue = queue(2);
        (1..=4).for_each(|number| queue.push(number));
        assert_eq!(gone(&mut queue), [1, 2]);
        for number in 5..=6 {
            advance(QUIET / 2).await;
            queue.push(number);
            assert_eq!(gone(&mut queue), Vec::<u32>::new());
        }
        let complete = Instant::now();
        let mut order = Vec::new();
        while let Some(due) = queue.due() {
            sleep_until(due).await;
            order.extend(gone(&mut queue));
        }
        assert_eq!(order, [3, 4, 5, 6]);
        // By then a burst is saved up: two go at once, and two one by one.
        let took = complete.elapsed();
        assert!(took >= QUIET + INTERVAL * 2 && took < QUIET + INTERVAL * 3, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_that_never_ends_one_goes_each_second() {
        let mut queue = queue(1);
        let start = Instant::now();
        let mut gone_at = Vec::new();
        for number in 0.. {
            queue.push(number);
            gone_at.extend(gone(&mut queue).into_iter().map(|_| start.elapsed()));
            if gone_at.len() == 10 {
                break;
            }
            advance(INTERVAL / 2).await;
        }
        assert_eq!(gone_at[0], Duration::ZERO);
        for pair in gone_at[1..].windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause >= TRICKLE && pause < TRICKLE + INTERVAL, "{gone_at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_each_second_than_are_saved_up_are_a_crowd_which_goes_faster_once_it_is_complete()
    {
        let pace = Pace { burst: 2, refill: INTERVAL, interval: INTERVAL / 4 };
        let mut queue = Leisurely::with(pace);
        let mut went = 0;
        for number in 0..40 {
            queue.push(number);
            went += gone(&mut queue).len();
            advance(INTERVAL / 2).await;
        }
        // Two at once, what was saved up until it was clear that there are many, and one each second.
        assert!((4..=7).contains(&went), "{went}");
        let complete = Instant::now();
        let waiting = u32::try_from(queue.len()).unwrap();
        while let Some(due) = queue.due() {
            sleep_until(due).await;
            gone(&mut queue);
        }
        let took = complete.elapsed();
        assert!(took <= QUIET + INTERVAL / 4 * waiting, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_burst_is_a_burst_of_one() {
        let mut queue = queue(0);
        (1..=2).for_each(|number| queue.push(number));
        assert_eq!(gone(&mut queue), [1]);
    }
}
