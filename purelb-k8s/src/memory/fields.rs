//! Sets of fields, in the form that `metadata.managedFields` keeps them (`fieldsV1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::shape::{Place, Shape, members};

/// A set of fields of an object: a tree whose steps are the keys of `fieldsV1` (`f:spec`,
/// `k:{"port":80,"protocol":"TCP"}`, `v:"a"`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// The place itself is in the set, not only what is below it.
    own: bool,
    below: BTreeMap<String, Self>,
}

/// What differs between two versions of an object.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Fields with a new value.
    pub(super) changed: FieldSet,
    /// The tops of what is gone.
    pub(super) removed: FieldSet,
}

impl FieldSet {
    /// Reads a `fieldsV1` object.
    pub(super) fn parse(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (step, below) in fields.as_object()? {
            match step.as_str() {
                "." => set.own = true,
                _ => {
                    let mut child = Self::parse(below)?;
                    child.own |= child.below.is_empty();
                    set.below.insert(step.clone(), child);
                }
            }
        }
        Some(set)
    }

    /// Writes a `fieldsV1` object.
    pub(super) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.own && !self.below.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, child) in &self.below {
            fields.insert(step.clone(), child.to_json());
        }
        Value::Object(fields)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// The fields that a configuration handed to server-side apply names.
    pub(super) fn of_configuration(value: &Value, place: &Place) -> Self {
        Self::of(value, place, false)
    }

    /// The fields of a value, and with `containers` the lists and maps that hold them.
    fn of(value: &Value, place: &Place, containers: bool) -> Self {
        let shape = place.shape();
        let Some(parts) = members(value, shape).filter(|parts| !parts.is_empty()) else {
            return Self { own: true, below: BTreeMap::new() };
        };
        let container = matches!(shape, Shape::Map | Shape::Keyed(_) | Shape::Set);
        let mut set = Self { own: containers && container, below: BTreeMap::new() };
        for (step, part) in parts {
            let mut child = Self::of(part, &place.child(&step), containers);
            child.own |= !step.starts_with("f:");
            set.below.insert(step, child);
        }
        set
    }

    /// What leads from one version of an object to another.
    pub(super) fn difference(old: &Value, new: &Value, place: &Place) -> Difference {
        let mut difference = Difference::default();
        if old == new {
            return difference;
        }
        let shape = place.shape();
        let (Some(before), Some(after)) = (members(old, shape), members(new, shape)) else {
            difference.changed.own = true;
            return difference;
        };
        let before: BTreeMap<_, _> = before.into_iter().collect();
        for (step, value) in &after {
            match before.get(step) {
                Some(old) => {
                    let child = Self::difference(old, value, &place.child(step));
                    difference.changed.insert(step, child.changed);
                    difference.removed.insert(step, child.removed);
                }
                None => {
                    let mut added = Self::of(value, &place.child(step), true);
                    added.own |= !step.starts_with("f:");
                    difference.changed.insert(step, added);
                }
            }
        }
        for (step, _) in before {
            if !after.iter().any(|(s, _)| *s == step) {
                difference.removed.insert(&step, Self { own: true, below: BTreeMap::new() });
            }
        }
        difference
    }

    fn insert(&mut self, step: &str, child: Self) {
        if !child.is_empty() {
            self.below.insert(step.to_owned(), child);
        }
    }

    /// Takes one field and everything below it out of the set.
    pub(super) fn forget(&mut self, path: &[&str]) {
        match path {
            [] => *self = Self::default(),
            [step, rest @ ..] => {
                if let Some(child) = self.below.get_mut(*step) {
                    child.forget(rest);
                    if child.is_empty() {
                        self.below.remove(*step);
                    }
                }
            }
        }
    }

    pub(super) fn below(&self, step: &str) -> Option<&Self> {
        self.below.get(step)
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = (&String, &Self)> {
        self.below.iter()
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, child) in &other.below {
            self.below.entry(step.clone()).or_default().union(child);
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { own: self.own && other.own, below: BTreeMap::new() };
        for (step, child) in &self.below {
            if let Some(others) = other.below.get(step) {
                both.insert(step, child.intersection(others));
            }
        }
        both
    }

    /// This set without the fields of another one.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut rest = Self { own: self.own && !other.own, below: BTreeMap::new() };
        for (step, child) in &self.below {
            match other.below.get(step) {
                Some(others) => rest.insert(step, child.minus(others)),
                None => rest.insert(step, child.clone()),
            }
        }
        rest
    }

    /// This set without the fields of another one and everything below them.
    pub(super) fn without(&self, tops: &Self) -> Self {
        if tops.own {
            return Self::default();
        }
        let mut rest = Self { own: self.own, below: BTreeMap::new() };
        for (step, child) in &self.below {
            match tops.below.get(step) {
                Some(tops) => rest.insert(step, child.without(tops)),
                None => rest.insert(step, child.clone()),
            }
        }
        rest
    }

    /// The fields as people read them: `.spec.ports[port=80,protocol="TCP"].nodePort`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, here: &str, paths: &mut Vec<String>) {
        if self.own {
            paths.push(here.to_owned());
        }
        for (step, child) in &self.below {
            let next = if let Some(name) = step.strip_prefix("f:") {
                format!("{here}.{name}")
            } else if let Some(keys) = step.strip_prefix("k:") {
                format!("{here}[{}]", readable_keys(keys))
            } else {
                format!("{here}[={}]", step.trim_start_matches("v:"))
            };
            child.collect_paths(&next, paths);
        }
    }
}

fn readable_keys(keys: &str) -> String {
    let Ok(Value::Object(keys)) = serde_json::from_str(keys) else { return keys.to_owned() };
    keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
