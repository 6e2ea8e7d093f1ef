//! What has been observed of one kind of object, and whether all of it has.

use std::collections::BTreeMap;

/// Something that a source lists and watches.
pub trait Object: Clone + PartialEq {
    /// What tells one object from another.
    type Key: Clone + Ord;

    /// This object's key.
    fn key(&self) -> Self::Key;

    /// Takes over texts of its former version that it has, too, so that they are in memory once. Changes
    /// nothing of what it says; does nothing unless implemented.
    fn share_texts(&mut self, _former: &Self) {}
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
        self.replace(change).into_iter().map(|(key, _)| key).collect()
    }

    /// As [`apply`](Self::apply); beside each key is what was there before.
    pub(crate) fn replace(&mut self, change: Change<T>) -> Vec<(T::Key, Option<Box<T>>)> {
        match change {
            Change::Deleted(key) => match self.objects.remove(&key) {
                Some(old) => vec![(key, Some(old))],
                None => Vec::new(),
            },
            Change::Listed(objects) => {
                self.listed = true;
                let sharing = objects.into_iter().map(|object| self.sharing_texts(object));
                let new = sharing.map(|object| (object.key(), Box::new(object))).collect();
                let mut old = std::mem::replace(&mut self.objects, new);
                let mut differing = Vec::new();
                for (key, object) in &self.objects {
                    let before = old.remove(key);
                    if before.as_ref() != Some(object) {
                        differing.push((key.clone(), before));
                    }
                }
                differing.extend(old.into_iter().map(|(key, gone)| (key, Some(gone))));
                differing.sort_by(|(a, _), (b, _)| a.cmp(b));
                differing
            }
            Change::Updated(object) => {
                let object = self.sharing_texts(object);
                let key = object.key();
                if self.get(&key) == Some(&object) {
                    return Vec::new();
                }
                let old = self.objects.insert(key.clone(), Box::new(object));
                vec![(key, old)]
            }
        }
    }

    /// `object`, with the texts of its former version.
    fn sharing_texts(&self, mut object: T) -> T {
        if let Some(former) = self.get(&object.key()) {
            object.share_texts(former);
        }
        object
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
    use crate::name::ServiceKey;
    use crate::service::Service;

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

    #[test]
    fn what_was_there_before_is_told_beside_each_key() {
        let mut store = Store::default();
        store.apply(Change::Listed(vec![Thing("a", 1), Thing("b", 1), Thing("c", 1)]));
        let before = |thing| Some(Box::new(thing));
        let update = Change::Updated(Thing("c", 2));
        assert_eq!(store.replace(update), [("c", before(Thing("c", 1)))]);
        let listing = Change::Listed(vec![Thing("d", 1), Thing("b", 1), Thing("c", 3)]);
        assert_eq!(
            store.replace(listing),
            [("a", before(Thing("a", 1))), ("c", before(Thing("c", 2))), ("d", None)]
        );
        assert_eq!(store.replace(Change::Deleted("b")), [("b", before(Thing("b", 1)))]);
    }

    #[test]
    fn versions_of_a_service_share_their_texts() {
        let service = |version: &str| {
            let service = Service::new(ServiceKey::new("shop", "web"), "uid");
            Service { version: version.into(), ..service }
        };
        let texts = |store: &Store<Service>| -> Vec<_> {
            let texts = store.iter().map(|s| [s.key.name.as_str(), s.uid.as_str()]);
            texts.map(|texts| texts.map(str::as_ptr)).collect()
        };
        let mut store = Store::default();
        store.apply(Change::Updated(service("1")));
        let first = texts(&store);
        store.apply(Change::Updated(service("2")));
        assert_eq!(texts(&store), first);
        store.apply(Change::Listed(vec![service("3")]));
        assert_eq!(texts(&store), first);
    }
}
