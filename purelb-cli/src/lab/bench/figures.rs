//! Figures as text.

use std::fmt::Write as _;
use std::time::Duration;

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How it came out.
    pub measured: String,
    /// The same by the API alone, or the limit, where there is one.
    pub beside: String,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { what: what.into(), measured: measured.into(), beside: String::new() }
    }

    pub(super) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| what | measured | the API alone, in the same run |\n|---|---|---|\n".to_owned();
    for Row { what, measured, beside } in rows {
        // A String takes what is written to it.
        let _ = writeln!(text, "| {what} | {measured} | {beside} |");
    }
    text
}

/// Durations in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spread(Vec<Duration>);

impl Spread {
    /// The smallest value that at least `share` percent of the values do not exceed; 0 of none.
    pub(super) fn percentile(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// Median, 99th percentile and maximum, and of how many.
    pub(super) fn text(&self) -> String {
        let [median, high, max] = [50, 99, 100].map(|share| ms(self.percentile(share)));
        format!("median {median}, p99 {high}, max {max} (n = {})", self.0.len())
    }
}

impl FromIterator<Duration> for Spread {
    fn from_iter<I: IntoIterator<Item = Duration>>(values: I) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }
}

/// A duration for people.
pub(super) fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// How many of `count` there were in a second.
pub(super) fn rate(count: usize, duration: Duration) -> String {
    format!("{:.0} per second", count as f64 / duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let spread: Spread = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(spread.percentile(50), Duration::from_millis(100));
        assert_eq!(spread.percentile(99), Duration::from_millis(198));
        assert_eq!(spread.text(), "median 100 ms, p99 198 ms, max 200 ms (n = 200)");
        assert_eq!(Spread::default().percentile(50), Duration::ZERO);
    }
}
