//! What agents were told of the cluster, told as one.
//!
//! All agents watch the same objects. At each moment one of them is believed, and its place is taken by another
//! when its recording ends or it hears nothing any more.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use purelb_core::lease::{Lease, LeaseEvent, Version};
use purelb_core::membership::Liveness;
use purelb_core::name::Uid;
use purelb_core::node::{Event, NodeAgent};
use purelb_core::store::Change;

use super::HistoryError;
use crate::recording::{ReadError, Recording, Tape, Turn, What};
use crate::top::model::Fact;

/// For how long an agent may hear nothing of the API before another is believed that does.
const SILENCE: SignedDuration = SignedDuration::from_secs(4);

/// Facts, each with its moment, in order.
pub type Facts = Vec<(Timestamp, Fact)>;

/// The recordings of agents.
///
/// # Errors
///
/// If there are none.
pub fn agents(recordings: &[Recording]) -> Result<Vec<&Tape<NodeAgent>>, HistoryError> {
    let tapes: Vec<_> = recordings
        .iter()
        .filter_map(|recording| match recording {
            Recording::Agent(tape) => Some(&**tape),
            Recording::Allocator(_) => None,
        })
        .collect();
    if tapes.is_empty() { Err(HistoryError::NoAgent) } else { Ok(tapes) }
}

/// What the agents heard of Services, groups, LBNodeAgents and leases, and each of its own Node.
///
/// # Errors
///
/// If a recording cannot be run.
pub fn facts(tapes: &[&Tape<NodeAgent>]) -> Result<Facts, HistoryError> {
    let heard: Vec<Vec<Timestamp>> = tapes.iter().map(|tape| hearings(tape)).collect();
    let mut facts = Facts::new();
    for duty in duties(&heard) {
        append(&mut facts, tapes[duty.who], &duty)?;
    }
    for tape in tapes {
        append_own_node(&mut facts, tape)?;
    }
    facts.sort_by_key(|(at, _)| *at);
    Ok(facts)
}

/// A span in which one recording is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Duty {
    who: usize,
    from: Timestamp,
    until: Timestamp,
}

/// Who is believed when, if these are the moments at which each heard something.
fn duties(heard: &[Vec<Timestamp>]) -> Vec<Duty> {
    let next = |who: usize, after: Option<Timestamp>| {
        let times = &heard[who];
        let first = after.map_or(0, |after| times.partition_point(|at| *at <= after));
        times.get(first).copied()
    };
    let first_to_hear = |after| {
        let all = (0..heard.len()).filter_map(|who| Some((next(who, after)?, who)));
        all.min()
    };
    let mut duties: Vec<Duty> = Vec::new();
    let mut begins = first_to_hear(None);
    while let Some((from, who)) = begins {
        let mut until = from;
        begins = loop {
            match (next(who, Some(until)), first_to_hear(Some(until))) {
                (Some(own), Some((other, _)))
                    if own.duration_since(until) <= SILENCE || own == other =>
                {
                    until = own;
                }
                (_, other) => break other,
            }
        };
        duties.push(Duty { who, from, until });
    }
    duties
}

/// When something was heard of the API.
fn hearings(tape: &Tape<NodeAgent>) -> Vec<Timestamp> {
    let inputs = tape.turns.iter().flat_map(|turn| &turn.inputs);
    let heard = inputs.filter(|input| match &input.what {
        What::Event(event) => fact(event).is_some(),
        What::Timeout => false,
    });
    heard.map(|input| tape.header.moment(input.at)).collect()
}

fn append(facts: &mut Facts, tape: &Tape<NodeAgent>, duty: &Duty) -> Result<(), HistoryError> {
    let mut replay = tape.replay().map_err(|source| unusable(tape, source))?;
    let at = |at| tape.header.moment(at);
    let is_over =
        |turn: &Turn<Event>| turn.inputs.last().is_some_and(|input| at(input.at) < duty.from);
    let before = tape.turns.iter().take_while(|turn| is_over(turn)).count();
    replay.by_ref().take(before).for_each(drop);
    facts.extend(all(replay.machine()).into_iter().map(|fact| (duty.from, fact)));
    for input in tape.turns[before..].iter().flat_map(|turn| &turn.inputs) {
        if at(input.at) > duty.until {
            break;
        }
        if let What::Event(event) = &input.what {
            facts.extend(fact(event).map(|fact| (at(input.at), fact)));
        }
    }
    Ok(())
}

fn unusable(tape: &Tape<NodeAgent>, source: ReadError) -> HistoryError {
    HistoryError::Replay { name: tape.header.name.clone(), source }
}

/// What an event tells of the cluster.
fn fact(event: &Event) -> Option<Fact> {
    Some(match event {
        Event::Agents(change) => Fact::Agents(change.clone()),
        Event::Groups(change) => Fact::Groups(change.clone()),
        Event::Leases(LeaseEvent::Written { .. }) => return None,
        Event::Leases(event) => Fact::Leases(event.clone()),
        Event::Services(change) => Fact::Services(change.clone()),
        Event::Addresses(_)
        | Event::AnnounceFailed { .. }
        | Event::Endpoints(_)
        | Event::Kernel(_)
        | Event::Links(_)
        | Event::Node(_)
        | Event::Routes(_)
        | Event::Sighted(_)
        | Event::Slept
        | Event::Stop => return None,
    })
}

/// Everything that an agent knows of the cluster; nothing before it has listed all.
fn all(agent: &NodeAgent) -> Vec<Fact> {
    if !agent.is_ready() || !agent.membership().is_listed() {
        return Vec::new();
    }
    let mut facts = vec![
        Fact::Groups(Change::Listed(agent.groups().cloned().collect())),
        Fact::Agents(Change::Listed(agent.agents().cloned().collect())),
    ];
    facts.extend(leases(agent).into_iter().map(Fact::Leases));
    facts.push(Fact::Services(Change::Listed(agent.services().cloned().collect())));
    facts
}

/// The leases that an agent knows. One that has run out is heard of and lost.
fn leases(agent: &NodeAgent) -> Vec<LeaseEvent> {
    let known = agent.membership().leases();
    let (leases, lost): (Vec<Lease>, Vec<Option<LeaseEvent>>) = known
        .map(|(node, content, liveness)| {
            let (version, uid) = (Version::default(), Uid::from(""));
            let lease = Lease { node: node.clone(), version, uid, content: content.clone() };
            let lost = match liveness {
                Liveness::Expired => Some(LeaseEvent::Deleted { node: node.clone(), version }),
                Liveness::Deleted | Liveness::Live => None,
            };
            (lease, lost)
        })
        .unzip();
    let listed = LeaseEvent::Listed { leases, version: Version::default() };
    std::iter::once(listed).chain(lost.into_iter().flatten()).collect()
}

/// An agent lists no Node but its own.
fn append_own_node(facts: &mut Facts, tape: &Tape<NodeAgent>) -> Result<(), HistoryError> {
    let replay = tape.replay().map_err(|source| unusable(tape, source))?;
    let known = replay.machine().node().cloned().into_iter().map(Change::Updated);
    let began = tape.header.moment(replay.now());
    facts.extend(known.map(|change| (began, Fact::Nodes(change))));
    for input in tape.turns.iter().flat_map(|turn| &turn.inputs) {
        let at = tape.header.moment(input.at);
        let What::Event(Event::Node(change)) = &input.what else { continue };
        match change {
            Change::Deleted(_) | Change::Updated(_) => {
                facts.push((at, Fact::Nodes(change.clone())))
            }
            Change::Listed(nodes) => {
                let nodes = nodes.iter().cloned().map(Change::Updated);
                facts.extend(nodes.map(|change| (at, Fact::Nodes(change))));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[i64]) -> Vec<Timestamp> {
        seconds.iter().map(|second| Timestamp::from_second(*second).unwrap()).collect()
    }

    fn told(heard: &[&[i64]]) -> Vec<(usize, i64, i64)> {
        let heard: Vec<_> = heard.iter().map(|seconds| times(seconds)).collect();
        let duties = duties(&heard);
        duties
            .iter()
            .map(|duty| (duty.who, duty.from.as_second(), duty.until.as_second()))
            .collect()
    }

    #[test]
    fn the_first_is_believed_while_it_hears() {
        assert_eq!(told(&[&[2, 3, 4, 5], &[1, 3, 5, 6]]), [(1, 1, 6)]);
        assert_eq!(told(&[&[], &[]]), []);
    }

    #[test]
    fn another_takes_over_from_one_that_hears_no_more_or_ends() {
        let cut_off = [1, 2, 3, 30, 31];
        let other = [2, 4, 8, 12, 16, 20, 24, 28, 32];
        assert_eq!(told(&[&cut_off, &other]), [(0, 1, 3), (1, 4, 32)]);
        assert_eq!(told(&[&[1, 2], &[50, 51]]), [(0, 1, 2), (1, 50, 51)]);
    }

    #[test]
    fn silence_that_all_share_is_no_reason_to_change() {
        assert_eq!(told(&[&[1, 2, 40, 41], &[1, 2, 41]]), [(0, 1, 41)]);
    }
}
