//! A set of numbers kept as its gaps and runs.

use std::collections::BTreeMap;

/// A set of numbers, stored as maximal runs: the first free number from any point on is found in
/// O(log n) of the runs, whatever the size of what is searched.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// First to last of each run. No two touch.
    runs: BTreeMap<u128, u128>,
}

impl Intervals {
    /// The lowest number from `from` on that is not in the set; `None` past the last one there is.
    pub(crate) fn free_from(&self, from: u128) -> Option<u128> {
        match self.runs.range(..=from).next_back() {
            Some((_, last)) if *last >= from => last.checked_add(1),
            Some(_) | None => Some(from),
        }
    }

    /// Adds `number`.
    pub(crate) fn insert(&mut self, number: u128) {
        let mut first = number;
        let mut last = number;
        if let Some((below, end)) = self.runs.range_mut(..=number).next_back() {
            if *end >= number {
                return;
            }
            if *end + 1 == number {
                first = *below;
            }
        }
        if let Some(above) = number.checked_add(1)
            && let Some(end) = self.runs.remove(&above)
        {
            last = end;
        }
        self.runs.insert(first, last);
    }

    /// Removes `number`.
    pub(crate) fn remove(&mut self, number: u128) {
        let Some((&first, end)) = self.runs.range_mut(..=number).next_back() else { return };
        let last = *end;
        if last < number {
            return;
        }
        if first < number {
            *end = number - 1;
        } else {
            self.runs.remove(&first);
        }
        if number < last {
            self.runs.insert(number + 1, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(steps in prop::collection::vec((any::<bool>(), 0u128..40), 0..200)) {
            let mut runs = Intervals::default();
            let mut plain = BTreeSet::new();
            for (add, number) in steps {
                if add {
                    runs.insert(number);
                    plain.insert(number);
                } else {
                    runs.remove(number);
                    plain.remove(&number);
                }
                for from in 0..42 {
                    let free = (from..).find(|number| !plain.contains(number));
                    prop_assert_eq!(runs.free_from(from), free);
                }
            }
        }
    }

    #[test]
    fn the_last_number_there_is_has_none_after_it() {
        let mut runs = Intervals::default();
        runs.insert(u128::MAX);
        runs.insert(u128::MAX - 1);
        assert_eq!(runs.free_from(u128::MAX - 1), None);
        runs.remove(u128::MAX);
        assert_eq!(runs.free_from(u128::MAX - 1), Some(u128::MAX));
    }
}
