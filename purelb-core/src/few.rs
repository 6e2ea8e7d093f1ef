//! Sets that nearly always have one member.

/// A set in order, in no more memory than its members need; a `BTreeSet` of one has room for eleven.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub(crate) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Few<T> {
    pub(crate) fn insert(&mut self, member: T) {
        if let Err(place) = self.0.binary_search(&member) {
            self.0.reserve_exact(1);
            self.0.insert(place, member);
        }
    }

    pub(crate) fn remove(&mut self, member: &T) {
        if let Ok(place) = self.0.binary_search(member) {
            self.0.remove(place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_there_once_and_in_order() {
        let mut few = Few::default();
        for member in [2, 3, 1, 2] {
            few.insert(member);
        }
        assert!(few.iter().eq(&[1, 2, 3]));
        assert_eq!(few.0.capacity(), 3);
        for member in [2, 4, 3, 1] {
            assert!(!few.is_empty());
            few.remove(&member);
        }
        assert!(few.is_empty());
    }
}
