//! The objects, their versions, and the history that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::allotment::Allotment;
use super::kind::{Kind, SERVICES, SHELVES};

/// How many changes of each kind are remembered unless said otherwise.
pub(super) const HISTORY: usize = 4096;

/// One version of one object, in the form that it is kept in.
#[derive(Debug)]
pub(super) struct Object {
    value: Value,
    version: u64,
    /// Written once, then shared by every answer.
    json: OnceLock<Bytes>,
}

impl Object {
    pub(super) fn new(value: Value, version: u64) -> Arc<Self> {
        Arc::new(Self { value, version, json: OnceLock::new() })
    }

    /// The object in the form that it is kept in.
    pub(super) fn kept(&self) -> &Value {
        &self.value
    }

    /// The object in the form that `kind` shows it in.
    pub(super) fn shown(&self, kind: &Kind) -> Value {
        match kind.view {
            Some(view) => (view.show)(self.value.clone()),
            None => self.value.clone(),
        }
    }

    /// The JSON text of what `kind` shows.
    pub(super) fn json(&self, kind: &Kind) -> Bytes {
        match kind.view {
            Some(_) => self.shown(kind).to_string().into(),
            None => self.json.get_or_init(|| self.value.to_string().into()).clone(),
        }
    }

    /// The same content under a later version, for a watch whose selector it stops matching.
    pub(super) fn as_of(&self, version: u64) -> Arc<Self> {
        let mut value = self.value.clone();
        value["metadata"]["resourceVersion"] = version.to_string().into();
        Self::new(value, version)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// A change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    /// What was there before; none if it is new.
    pub(super) before: Option<Arc<Object>>,
    /// What is there now; none if it is gone.
    pub(super) now: Option<Arc<Object>>,
}

/// Namespace (empty for kinds without) and name.
type Key = (String, String);

/// The objects of one kind.
#[derive(Debug)]
struct Shelf {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Change>,
    /// Changes up to this version may be missing from the history.
    forgotten: u64,
    news: watch::Sender<()>,
}

/// All objects, under one strictly increasing version.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    shelves: [Shelf; SHELVES],
    limit: usize,
    pub(super) allotment: Allotment,
}

impl Store {
    pub(super) fn new() -> Self {
        let shelf = |_| Shelf {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: 0,
            news: watch::Sender::new(()),
        };
        Self {
            version: 1,
            shelves: std::array::from_fn(shelf),
            limit: HISTORY,
            allotment: Allotment::default(),
        }
    }

    /// The version of the latest change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The version up to which changes of a kind are no longer remembered.
    pub(super) fn forgotten(&self, kind: &Kind) -> u64 {
        self.shelves[kind.shelf].forgotten
    }

    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.shelves[kind.shelf].objects.get(&key).cloned()
    }

    /// The objects of a kind, in one namespace or in all, ordered by namespace and name.
    pub(super) fn objects<'s>(
        &'s self,
        kind: &Kind,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = &'s Arc<Object>> {
        let start = (namespace.unwrap_or_default().to_owned(), String::new());
        self.shelves[kind.shelf]
            .objects
            .range(start..)
            .take_while(move |((ns, _), _)| namespace.is_none_or(|wanted| wanted == ns))
            .map(|(_, object)| object)
    }

    /// The remembered changes of a kind after a version, oldest first.
    pub(super) fn changes_after(&self, kind: &Kind, version: u64) -> impl Iterator<Item = &Change> {
        let history = &self.shelves[kind.shelf].history;
        let start = history.partition_point(|change| change.version <= version);
        history.range(start..)
    }

    /// Wakes up at each change of a kind.
    pub(super) fn news(&self, kind: &Kind) -> watch::Receiver<()> {
        self.shelves[kind.shelf].news.subscribe()
    }

    /// Puts an object, in the form that it is kept in, under the next version.
    pub(super) fn put(&mut self, kind: &Kind, mut value: Value) -> Arc<Object> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Object::new(value, self.version);
        let key = key_of(object.kept());
        let before = self.shelves[kind.shelf].objects.insert(key, object.clone());
        self.note(kind, before, Some(object.clone()));
        object
    }

    /// Takes an object away; its last version carries the version of the deletion.
    pub(super) fn remove(&mut self, kind: &Kind, object: &Object) {
        let key = key_of(object.kept());
        if let Some(before) = self.shelves[kind.shelf].objects.remove(&key) {
            self.version += 1;
            self.note(kind, Some(before), None);
        }
    }

    fn note(&mut self, kind: &Kind, before: Option<Arc<Object>>, now: Option<Arc<Object>>) {
        if kind.shelf == SERVICES {
            self.allotment.release(before.as_deref().map(Object::kept));
            self.allotment.claim(now.as_deref().map(Object::kept));
        }
        let shelf = &mut self.shelves[kind.shelf];
        shelf.history.push_back(Change { version: self.version, before, now });
        shelf.trim(self.limit);
        shelf.news.send_replace(());
    }

    /// Remembers at most this many changes of each kind from now on.
    pub(super) fn limit_history(&mut self, limit: usize) {
        self.limit = limit;
        for shelf in &mut self.shelves {
            shelf.trim(limit);
        }
    }
}

impl Shelf {
    fn trim(&mut self, limit: usize) {
        while self.history.len() > limit {
            if let Some(change) = self.history.pop_front() {
                self.forgotten = change.version;
            }
        }
    }
}

fn key_of(value: &Value) -> Key {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
