//! What has been observed of one kind of object, and whether all of it has.

use std::collections::BTreeMap;

/// Something that a source lists and watches.
pub trait Object: Clone + PartialEq {
    /// What tells one object from another.
    type Key: Clone + Ord;

    /// This object's key.
    fn key(&self) -> Self::Key;
}

/// A fact about objects of one kind, from a Kubernetes watch and from rtnetlink alike.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: serde::Serialize, T::Key: serde::Serialize",
        deserialize = "T: serde::Deserialize<'de>, T::Key: serde::Deserialize<'de>"
    ))
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T: Object> {
    /// This object is gone.
    Deleted(T::Key),
    /// These are all objects there are; what is not among them is gone.
    Listed(Vec<T>),
    /// This object is new or has changed.
    Updated(T),
}

/// The objects of one kind as last observed.
#[derive(Clone, Debug)]
pub struct Store<T: Object> {
    /// Boxed: a map of large values is half empty.
    objects: BTreeMap<T::Key, Box<T>>,
    listed: bool,
}

impl<T: Object> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: false }
    }
}

impl<T: Object> Store<T> {
    /// Takes in a change; returns the keys whose objects differ now, in order. The first listing
    /// returns every key, so that "all of nothing" can be told from "not yet" by [`Self::listed`].
    pub fn apply(&mut self, change: Change<T>) -> Vec<T::Key> {
        match change {
            Change::Deleted(key) => match self.objects.remove(&key) {
                Some(_) => vec![key],
                None => Vec::new(),
            },
            Change::Listed(objects) => {
                self.listed = true;
                let new: BTreeMap<_, _> =
                    objects.into_iter().map(|object| (object.key(), Box::new(object))).collect();
                let old = std::mem::replace(&mut self.objects, new);
                let gone = old.keys().filter(|key| !self.objects.contains_key(key)).cloned();
                let changed =
                    self.objects.iter().filter(|(key, object)| old.get(key) != Some(object));
                let mut keys: Vec<_> = gone.chain(changed.map(|(key, _)| key.clone())).collect();
                keys.sort();
                keys
            }
            Change::Updated(object) => {
                let key = object.key();
                if self.get(&key) == Some(&object) {
                    return Vec::new();
                }
                self.objects.insert(key.clone(), Box::new(object));
                vec![key]
            }
        }
    }

    /// Everything observed in key order, once all of it has been listed; `None` before.
    pub fn listed(&self) -> Option<impl ExactSizeIterator<Item = &T>> {
        self.listed.then(|| self.objects.values().map(Box::as_ref))
    }

    /// Whether the kind has been listed once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// One object, whether or not the listing is complete.
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        self.objects.get(key).map(Box::as_ref)
    }

    /// All objects observed so far, to be completed in place. What is in their keys must stay.
    #[cfg(feature = "serde")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.objects.values_mut().map(Box::as_mut)
    }

    /// All objects observed so far in key order, whether or not the listing is complete.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values().map(Box::as_ref)
    }
}

/// Whether all was listed, and the objects; their keys are in them.
#[cfg(feature = "serde")]
impl<T: Object + serde::Serialize> serde::Serialize for Store<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let objects: Vec<&T> = self.iter().collect();
        (self.listed, objects).serialize(serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de, T: Object + serde::Deserialize<'de>> serde::Deserialize<'de> for Store<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (listed, objects) = <(bool, Vec<T>)>::deserialize(deserializer)?;
        let objects = objects.into_iter().map(|object| (object.key(), Box::new(object))).collect();
        Ok(Self { objects, listed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Thing(&'static str, u32);

    impl Object for Thing {
        type Key = &'static str;

        fn key(&self) -> Self::Key {
            self.0
        }
    }

    #[test]
    fn nothing_is_listed_before_the_first_listing() {
        let mut store = Store::default();
        assert_eq!(store.apply(Change::Updated(Thing("a", 1))), ["a"]);
        assert!(store.listed().is_none());
        assert_eq!(store.apply(Change::Listed(vec![Thing("a", 1)])), [] as [&str; 0]);
        assert_eq!(store.listed().map(|all| all.len()), Some(1));
    }

    #[test]
    fn a_listing_tells_what_went_came_and_changed() {
        let mut store = Store::default();
        store.apply(Change::Listed(vec![Thing("a", 1), Thing("b", 1), Thing("c", 1)]));
        let keys = store.apply(Change::Listed(vec![Thing("d", 1), Thing("c", 1), Thing("b", 2)]));
        assert_eq!(keys, ["a", "b", "d"]);
    }

    #[test]
    fn an_unchanged_object_changes_nothing() {
        let mut store = Store::default();
        store.apply(Change::Updated(Thing("a", 1)));
        assert!(store.apply(Change::Updated(Thing("a", 1))).is_empty());
        assert!(store.apply(Change::Deleted("x")).is_empty());
    }
}
