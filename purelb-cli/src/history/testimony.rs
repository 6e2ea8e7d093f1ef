//! What one agent tells of its own node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use purelb_core::host::LinkIndex;
use purelb_core::name::NodeName;
use purelb_core::node::{Action, Event, NodeAgent, NodeNotice, Verdict};

use super::steps::Steps;
use super::{Mark, MarkKind, Source};
use crate::recording::{ReadError, Replay, Step, Tape, What};
use crate::replay::agent::new_verdicts;
use crate::report::story::decision;

/// What happened on one node, as its agent was told, and what the agent decided.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// The recording.
    pub source: Source,
    /// The node.
    pub node: NodeName,
    /// Since when the agent knew what is on the interfaces; `None` if it never did.
    pub knows_since: Option<Timestamp>,
    /// Where each address was.
    pub places: BTreeMap<IpAddr, Steps<Place>>,
    /// What was decided about each address.
    pub verdicts: BTreeMap<IpAddr, Steps<String>>,
    /// What the agent told people about an address.
    pub notes: BTreeMap<IpAddr, Vec<(Timestamp, String)>>,
    /// What befell the node.
    pub marks: Vec<Mark>,
}

/// Where an address is on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this local interface.
    Local(String),
    /// On no interface.
    Nowhere,
    /// On the virtual interface, of this name.
    Virtual(String),
}

impl Testimony {
    /// That of an agent; `None` if nothing is recorded.
    ///
    /// # Errors
    ///
    /// If the recording begins with a machine that cannot be made.
    pub fn of(tape: &Tape<NodeAgent>) -> Result<Option<Self>, ReadError> {
        let Some((first, last)) = tape.span() else { return Ok(None) };
        let (from, until) = (tape.header.moment(first), tape.header.moment(last));
        let mut replay = tape.replay()?;
        let mut clerk = Clerk::new(tape, from, until);
        if tape.checkpoint.is_some() {
            clerk.look(replay.machine(), from);
            clerk.watched = interfaces(replay.machine());
            clerk.operational = clerk.operational_now(replay.machine());
        } else {
            clerk.mark(from, MarkKind::AgentUp, "starts");
        }
        while let Some(step) = replay.next() {
            clerk.take(&step, &replay);
        }
        Ok(Some(clerk.testimony))
    }

    /// Whether it knows what was on the interfaces at this moment.
    pub fn covers(&self, at: Timestamp) -> bool {
        self.knows_since.is_some_and(|since| since <= at) && at < self.source.until
    }

    /// Where the address was, if that is known.
    pub fn place(&self, ip: IpAddr, at: Timestamp) -> Option<&Place> {
        let place = self.places.get(&ip).and_then(|places| places.at(at));
        self.covers(at).then(|| place.unwrap_or(&Place::Nowhere))
    }
}

/// Writes a testimony down.
struct Clerk<'a> {
    tape: &'a Tape<NodeAgent>,
    testimony: Testimony,
    decided: BTreeMap<IpAddr, Verdict>,
    /// The names of the interfaces for addresses.
    watched: BTreeSet<String>,
    /// Those of them that carry packets.
    operational: BTreeSet<String>,
}

impl<'a> Clerk<'a> {
    fn new(tape: &'a Tape<NodeAgent>, from: Timestamp, until: Timestamp) -> Self {
        let inputs = tape.turns.iter().map(|turn| turn.inputs.len()).sum();
        let header = tape.header.clone();
        let testimony = Testimony {
            source: Source { header, from, until, inputs, is_as_recorded: true },
            node: tape.settings.lease.node.clone(),
            knows_since: None,
            places: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            notes: BTreeMap::new(),
            marks: Vec::new(),
        };
        let (watched, operational) = (BTreeSet::new(), BTreeSet::new());
        Self { tape, testimony, decided: BTreeMap::new(), watched, operational }
    }

    fn take(&mut self, step: &Step<'_, NodeAgent>, replay: &Replay<'_, NodeAgent>) {
        self.testimony.source.is_as_recorded &= step.is_as_recorded();
        let at = self.tape.header.moment(step.at);
        let agent = replay.machine();
        let events = step.inputs.iter().filter_map(|input| match &input.what {
            What::Event(event) => Some(event),
            What::Timeout => None,
        });
        let mut has_links = false;
        for event in events {
            match event {
                Event::Links(_) => has_links = true,
                Event::Slept => self.mark(at, MarkKind::AgentDown, "was asleep, host and all"),
                Event::Stop => self.mark(at, MarkKind::AgentDown, "is told to stop"),
                Event::Addresses(_)
                | Event::Agents(_)
                | Event::AnnounceFailed { .. }
                | Event::Endpoints(_)
                | Event::Groups(_)
                | Event::Kernel(_)
                | Event::Leases(_)
                | Event::Node(_)
                | Event::Routes(_)
                | Event::Services(_)
                | Event::Sighted(_) => {}
            }
        }
        self.look(agent, at);
        for action in &step.actions {
            if let Action::Notice(notice) = action {
                self.note(notice, at);
            }
        }
        if has_links {
            self.compare_links(agent, at);
        }
    }

    /// Compares what is on the interfaces, and what was decided, with what was before.
    fn look(&mut self, agent: &NodeAgent, at: Timestamp) {
        if let Some(own) = agent.own_addresses() {
            self.testimony.knows_since.get_or_insert(at);
            let mut now: BTreeMap<IpAddr, Place> = BTreeMap::new();
            for address in own {
                now.insert(address.ip(), place(agent, address.link));
            }
            for (ip, places) in &mut self.testimony.places {
                places.set(at, now.remove(ip).unwrap_or(Place::Nowhere));
            }
            for (ip, place) in now {
                self.testimony.places.entry(ip).or_default().set(at, place);
            }
        }
        for (ip, verdict) in new_verdicts(agent, &mut self.decided) {
            let text = decision(verdict, |link| agent.link_name(link));
            self.testimony.verdicts.entry(ip).or_default().set(at, text);
        }
    }

    fn note(&mut self, notice: &NodeNotice, at: Timestamp) {
        let mut mark = |kind| {
            let (whose, text) = (self.testimony.node.to_string(), notice.to_string());
            self.testimony.marks.push(Mark { at, kind, whose, text });
        };
        match notice {
            // What was decided and where an address is tell as much.
            NodeNotice::Announced { .. } | NodeNotice::Withheld { .. } => {}
            NodeNotice::Configured { problem: None, .. } => {}
            NodeNotice::Configured { problem: Some(_), .. }
            | NodeNotice::Contested { .. }
            | NodeNotice::Fenced { .. }
            | NodeNotice::GaveUp { .. }
            | NodeNotice::HoldingOn { .. }
            | NodeNotice::KernelFailed { service: None, .. } => mark(MarkKind::AgentDown),
            NodeNotice::Unidentified { is_ambiguous: true, .. } => mark(MarkKind::LinkDown),
            NodeNotice::Unidentified { is_ambiguous: false, .. } => {}
            NodeNotice::Confirmed { .. } => mark(MarkKind::AgentUp),
            NodeNotice::Identified { interfaces, .. } => {
                self.watched.extend(interfaces.iter().cloned());
                self.operational.extend(interfaces.iter().cloned());
            }
            NodeNotice::Arrived { ip, interface, since, took } => {
                let text = format!("it is on {interface}, {} ms after {since}", took.as_millis());
                self.testimony.notes.entry(*ip).or_default().push((at, text));
            }
            NodeNotice::Conflict { .. }
            | NodeNotice::ConflictOver { .. }
            | NodeNotice::Foreign { .. }
            | NodeNotice::ForeignGone { .. }
            | NodeNotice::KernelFailed { service: Some(_), .. }
            | NodeNotice::Restored { .. }
            | NodeNotice::ServedAgain { .. }
            | NodeNotice::Unserved { .. } => {
                if let Some(ip) = notice.ip() {
                    let notes = self.testimony.notes.entry(ip).or_default();
                    notes.push((at, notice.to_string()));
                }
            }
        }
    }

    fn operational_now(&self, agent: &NodeAgent) -> BTreeSet<String> {
        let links = agent.links().filter(|link| link.is_operational());
        let watched = |name: &&String| self.watched.contains(*name);
        links.map(|link| &link.name).filter(watched).cloned().collect()
    }

    fn compare_links(&mut self, agent: &NodeAgent, at: Timestamp) {
        let now = self.operational_now(agent);
        let before = std::mem::replace(&mut self.operational, now.clone());
        for name in before.difference(&now) {
            self.mark(at, MarkKind::LinkDown, format_args!("has {name} down"));
        }
        for name in now.difference(&before) {
            self.mark(at, MarkKind::LinkUp, format_args!("has {name} up"));
        }
    }

    fn mark(&mut self, at: Timestamp, kind: MarkKind, what: impl fmt::Display) {
        let who = if matches!(kind, MarkKind::LinkDown | MarkKind::LinkUp) {
            ""
        } else {
            "the agent of "
        };
        let whose = self.testimony.node.to_string();
        let text = format!("{who}{whose} {what}");
        self.testimony.marks.push(Mark { at, kind, whose, text });
    }
}

fn place(agent: &NodeAgent, link: LinkIndex) -> Place {
    let name = agent.link_name(link);
    if agent.virtual_link().is_some_and(|virtual_link| virtual_link.index == link) {
        Place::Virtual(name)
    } else {
        Place::Local(name)
    }
}

/// The names of the interfaces for addresses.
fn interfaces(agent: &NodeAgent) -> BTreeSet<String> {
    let local = agent.view().local;
    let links = local.iter().flat_map(|local| &local.links);
    links.map(|(link, _)| agent.link_name(*link)).collect()
}
