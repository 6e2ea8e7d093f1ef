//! Objects that are to be otherwise than they were.

use std::collections::BTreeMap;

use purelb_core::config::{LbNodeAgent, Node};
use purelb_core::group::ServiceGroup;
use purelb_core::service::{Annotations, Service};
use purelb_core::store::{Change, Object};
use purelb_k8s::snapshot::Snapshot;

/// What differs between a cluster as it was and as it is imagined.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// LBNodeAgents.
    pub agents: Edits<LbNodeAgent>,
    /// ServiceGroups.
    pub groups: Edits<ServiceGroup>,
    /// Nodes.
    pub nodes: Edits<Node>,
    /// Services.
    pub services: Edits<Service>,
}

impl Overlay {
    /// What makes `after` of `before`.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        Self {
            agents: Edits::between(&before.agents, &after.agents),
            groups: Edits::between(&before.groups, &after.groups),
            nodes: Edits::between(&before.nodes, &after.nodes),
            services: Edits::between(&before.services, &after.services),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
            && self.groups.is_empty()
            && self.nodes.is_empty()
            && self.services.is_empty()
    }
}

/// The objects of one kind that are otherwise; `None` for one that is not there.
#[derive(Clone, Debug)]
pub struct Edits<T: Object>(BTreeMap<T::Key, Option<T>>);

/// An object with what only the API knows of it, where it was recorded with that.
pub trait Edited: Object {
    /// This object as it would have been recorded instead of `recorded`.
    #[must_use]
    fn in_place_of(&self, recorded: &Self) -> Self;
}

impl Edited for LbNodeAgent {
    fn in_place_of(&self, recorded: &Self) -> Self {
        Self { uid: recorded.uid.clone(), ..self.clone() }
    }
}

impl Edited for Node {
    fn in_place_of(&self, recorded: &Self) -> Self {
        Self { uid: recorded.uid.clone(), ..self.clone() }
    }
}

impl Edited for ServiceGroup {
    fn in_place_of(&self, recorded: &Self) -> Self {
        Self { uid: recorded.uid.clone(), status: recorded.status.clone(), ..self.clone() }
    }
}

impl Edited for Service {
    fn in_place_of(&self, recorded: &Self) -> Self {
        let recorded = recorded.clone();
        Self {
            uid: recorded.uid,
            version: recorded.version,
            ingress: recorded.ingress,
            is_deleting: recorded.is_deleting,
            annotations: with_answer(self.annotations.clone(), &recorded.annotations),
            ..self.clone()
        }
    }
}

/// Annotations of which those that PureLB sets are as in `answer`.
pub fn with_answer(asked: Annotations, answer: &Annotations) -> Annotations {
    let answer = answer.clone();
    Annotations {
        allocated_by: answer.allocated_by,
        allocated_from: answer.allocated_from,
        pool_type: answer.pool_type,
        skip_ipv6_dad: answer.skip_ipv6_dad,
        announcing_v4: answer.announcing_v4,
        announcing_v6: answer.announcing_v6,
        ..asked
    }
}

impl<T: Edited> Edits<T> {
    fn between(before: &[T], after: &[T]) -> Self {
        let by_key = |all: &[T]| -> BTreeMap<T::Key, T> {
            all.iter().map(|object| (object.key(), object.clone())).collect()
        };
        let (mut before, after) = (by_key(before), by_key(after));
        let mut edits = BTreeMap::new();
        for (key, object) in after {
            if before.remove(&key).as_ref() != Some(&object) {
                edits.insert(key, Some(object));
            }
        }
        edits.extend(before.into_keys().map(|key| (key, None)));
        Self(edits)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edits as facts, for a program that knows the objects as they were.
    pub fn changes(&self) -> Vec<Change<T>> {
        let change = |(key, object): (&T::Key, &Option<T>)| match object {
            Some(object) => Change::Updated(object.clone()),
            None => Change::Deleted(key.clone()),
        };
        self.0.iter().map(change).collect()
    }

    /// A recorded fact as it would have been; `None` if there would not have been one.
    pub fn apply(&self, change: Change<T>) -> Option<Change<T>> {
        let edited = |object: T| match self.0.get(&object.key()) {
            None => Some(object),
            Some(edited) => edited.as_ref().map(|edited| edited.in_place_of(&object)),
        };
        Some(match change {
            Change::Deleted(key) => Change::Deleted(key),
            Change::Listed(objects) => {
                let mut objects: Vec<T> = objects.into_iter().filter_map(edited).collect();
                let is_missing =
                    |object: &&T| !objects.iter().any(|other| other.key() == object.key());
                let new: Vec<T> = self.0.values().flatten().filter(is_missing).cloned().collect();
                objects.extend(new);
                Change::Listed(objects)
            }
            Change::Updated(object) => Change::Updated(edited(object)?),
        })
    }
}
