//! All that can happen from a beginning, the shortest ways first.

#![allow(clippy::disallowed_types, reason = "the set of states seen is never iterated over")]

use std::collections::{HashSet, VecDeque};

use super::world::{Action, World};

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Different states.
    pub(crate) states: usize,
    /// Steps to the farthest of them.
    pub(crate) depth: u32,
    /// Whether every state was looked at.
    pub(crate) is_exhausted: bool,
    /// How two nodes came to hold the address at one moment, if they did.
    pub(crate) double: Option<Vec<Action>>,
}

/// Looks at every state that can be reached from `beginning`, at `limit` of them at most, until two
/// nodes hold the address at one moment. States are told apart by 64-bit fingerprints.
pub(crate) fn search(beginning: &World, limit: usize) -> Found {
    let mut seen = HashSet::from([beginning.fingerprint()]);
    // How each state was reached: from which, by what.
    let mut steps: Vec<(u32, Action)> = vec![(0, Action::Tick)];
    let mut front = VecDeque::from([(0_u32, 0_u32, beginning.clone())]);
    let mut depth = 0;
    while let Some((id, level, world)) = front.pop_front() {
        depth = level;
        for action in world.actions() {
            let mut next = world.clone();
            next.step(action, None);
            if !seen.insert(next.fingerprint()) {
                continue;
            }
            let number = u32::try_from(steps.len()).expect("the limit is below 2^32");
            steps.push((id, action));
            if next.holders().len() > 1 {
                let double = Some(way(&steps, number));
                return Found { states: seen.len(), depth: level + 1, is_exhausted: false, double };
            }
            if seen.len() >= limit {
                return Found { states: seen.len(), depth, is_exhausted: false, double: None };
            }
            front.push_back((number, level + 1, next));
        }
    }
    Found { states: seen.len(), depth, is_exhausted: true, double: None }
}

fn way(steps: &[(u32, Action)], mut id: u32) -> Vec<Action> {
    let mut actions = vec![];
    while id != 0 {
        let (parent, action) = steps[id as usize];
        actions.push(action);
        id = parent;
    }
    actions.reverse();
    actions
}

/// Who did what at which time, line by line.
pub(crate) fn tell(beginning: &World, actions: &[Action]) -> Vec<String> {
    let mut world = beginning.clone();
    let mut lines = vec![];
    for action in actions {
        world.step(*action, Some(&mut lines));
    }
    let names: Vec<&str> = world.holders().iter().map(|node| node.as_str()).collect();
    lines.push(format!(
        "{}  {} may hold the address at one moment",
        world.now,
        names.join(" and ")
    ));
    lines
}
