//! Many seeds, on several threads.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::chaos::{Options, run_seed};
use super::report::{Report, Violation};

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// How many were run to their end.
    pub seeds: u64,
    /// In how many of them faults overlapped.
    pub overlapping: u64,
    /// What was counted in all of them.
    pub report: Report,
    /// The seeds that broke an invariant, in order.
    pub failures: Vec<(u64, Violation)>,
}

impl Campaign {
    fn add(&mut self, seed: u64, report: &Report, violation: Option<Violation>) {
        self.seeds += 1;
        self.overlapping += u64::from(report.overlapping > 0);
        self.report.add(report);
        self.failures.extend(violation.map(|violation| (seed, violation)));
    }

    fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.overlapping += other.overlapping;
        self.report.add(&other.report);
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|(seed, _)| *seed);
    }
}

/// Runs the history of each seed on so many threads. `progress` is called after each with the number
/// of seeds and steps so far, and says whether to go on; with `stop_early` no seed is begun after a
/// failure either. Seeds are begun in order, so all before the first failing one have been run.
pub fn run_seeds(
    seeds: Range<u64>,
    threads: usize,
    options: Options,
    stop_early: bool,
    progress: impl Fn(u64, u64) -> bool + Sync,
) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let (done, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let all = Mutex::new(Campaign::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut mine = Campaign::default();
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = run_seed(seed, options);
                    let has_failed = outcome.violation.is_some();
                    let mine_steps = outcome.report.steps;
                    mine.add(seed, &outcome.report, outcome.violation);
                    let steps = steps.fetch_add(mine_steps, Ordering::Relaxed) + mine_steps;
                    let goes_on = progress(done.fetch_add(1, Ordering::Relaxed) + 1, steps);
                    if !goes_on || (stop_early && has_failed) {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
                // A thread that panicked has taken the scope down with it.
                all.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).join(mine);
            });
        }
    });
    all.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}
