//! A value that changes as time passes.

use k8s_openapi::jiff::Timestamp;

/// What something was since when, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps<T>(Vec<(Timestamp, T)>);

impl<T> Default for Steps<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Steps<T> {
    /// It is `value` from `at` on, which is not before the last change.
    pub fn set(&mut self, at: Timestamp, value: T) {
        if self.last() == Some(&value) {
            return;
        }
        // Of several changes at one moment the last one counts.
        while self.0.last().is_some_and(|(then, _)| *then >= at) {
            self.0.pop();
        }
        if self.last() != Some(&value) {
            self.0.push((at, value));
        }
    }

    /// What it was at this moment; `None` before it was anything.
    pub fn at(&self, moment: Timestamp) -> Option<&T> {
        let after = self.0.partition_point(|(at, _)| *at <= moment);
        Some(&self.0[after.checked_sub(1)?].1)
    }

    /// What it was last.
    pub fn last(&self) -> Option<&T> {
        self.0.last().map(|(_, value)| value)
    }

    /// Every change.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, &T)> {
        self.0.iter().map(|(at, value)| (*at, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_value_stays_until_it_changes() {
        let mut steps = Steps::default();
        steps.set(at(1), "a");
        steps.set(at(2), "a");
        steps.set(at(3), "b");
        assert_eq!(steps.iter().collect::<Vec<_>>(), [(at(1), &"a"), (at(3), &"b")]);
        let seen: Vec<_> = (0..5).map(|second| steps.at(at(second)).copied()).collect();
        assert_eq!(seen, [None, Some("a"), Some("a"), Some("b"), Some("b")]);
    }

    #[test]
    fn what_lasts_no_time_was_never_there() {
        let mut steps = Steps::default();
        steps.set(at(1), "a");
        steps.set(at(2), "b");
        steps.set(at(2), "a");
        assert_eq!(steps.iter().count(), 1);
    }
}
