//! What was asked for and not handed out yet.

use std::collections::{BTreeMap, VecDeque};

use crate::name::ServiceKey;

use super::{Action, Announcement, ClusterAction};

/// Actions in their order, in which the write of a Service's annotations is found without a search:
/// with thousands of Services, each of them has one here.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    actions: VecDeque<Action>,
    /// How many were handed out so far: the number of the first of `actions`.
    first: u64,
    /// The numbers of the writes in `actions`, at most one for each Service.
    writes: BTreeMap<ServiceKey, u64>,
}

/// For how many actions an empty queue keeps its room: what a burst took is given back.
const ROOM: usize = 64;

impl Queue {
    pub(super) fn push_back(&mut self, action: Action) {
        if let Action::Cluster(ClusterAction::Announce(write)) = &action {
            let number = self.first + self.actions.len() as u64;
            self.writes.insert(write.service.clone(), number);
        }
        self.actions.push_back(action);
    }

    pub(super) fn pop_front(&mut self) -> Option<Action> {
        let Some(action) = self.actions.pop_front() else {
            self.actions.shrink_to(ROOM);
            return None;
        };
        self.first += 1;
        if let Action::Cluster(ClusterAction::Announce(write)) = &action {
            self.writes.remove(&write.service);
        }
        Some(action)
    }

    /// The write of a Service's annotations, if there is one.
    pub(super) fn write_of(&mut self, service: &ServiceKey) -> Option<&mut Announcement> {
        let place = self.writes.get(service)?.checked_sub(self.first)?;
        match self.actions.get_mut(usize::try_from(place).ok()?)? {
            Action::Cluster(ClusterAction::Announce(write)) => Some(write),
            Action::Cluster(_) | Action::Kernel(_) | Action::Notice(_) => None,
        }
    }
}
