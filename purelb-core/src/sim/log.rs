//! The changes that the API has made of one kind of thing, in its order.

use std::collections::VecDeque;

/// Changes by position. Old ones are forgotten; who still needed them lists anew.
#[derive(Clone, Debug)]
pub(super) struct Log<T> {
    changes: VecDeque<T>,
    /// The position of the first that is kept.
    first: u64,
    /// How many are kept.
    kept: usize,
}

impl<T> Log<T> {
    pub(super) fn new(kept: usize) -> Self {
        Self { changes: VecDeque::new(), first: 0, kept }
    }

    pub(super) fn push(&mut self, change: T) {
        self.changes.push_back(change);
        if self.changes.len() > self.kept {
            self.changes.pop_front();
            self.first += 1;
        }
    }

    /// The position of the next change to come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Whether the change at a position is still known, or yet to come.
    pub(super) fn remembers(&self, position: u64) -> bool {
        position >= self.first
    }

    pub(super) fn get(&self, position: u64) -> Option<&T> {
        self.changes.get(position.checked_sub(self.first)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_while_old_changes_go() {
        let mut log = Log::new(2);
        for change in ["a", "b", "c"] {
            log.push(change);
        }
        assert_eq!((log.end(), log.get(0), log.get(1), log.get(3)), (3, None, Some(&"b"), None));
        assert!(!log.remembers(0) && log.remembers(1) && log.remembers(3));
    }
}
