//! What agents were told, to tell it again.

use std::time::Instant;

use super::world::Simulation;
use crate::machine::Machine;
use crate::membership::Settings;
use crate::name::NodeName;
use crate::node::Event;

/// Something that befell the machine of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The node.
    pub node: NodeName,
    /// Which of the processes of this node, from 1.
    pub life: u32,
    /// When, by the node's clock.
    pub at: Instant,
    /// What.
    pub what: Input,
}

/// What can befall a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// It had no more actions to hand out.
    Drained,
    /// It was told a fact.
    Event(Box<Event>),
    /// It was made.
    Started(Settings),
    /// It was told that time has passed.
    Timeout,
}

impl Simulation {
    /// From now on, all that agents are told is kept.
    pub fn keep_transcript(&mut self) {
        self.transcript.get_or_insert_default();
    }

    /// What agents were told since [`keep_transcript`](Self::keep_transcript), in order.
    pub fn transcript(&self) -> &[Told] {
        self.transcript.as_deref().unwrap_or_default()
    }

    /// The moment at which all clocks stood at zero.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(super) fn transcribe(&mut self, host: usize, what: impl FnOnce() -> Input) {
        let now = self.now;
        let Some(transcript) = &mut self.transcript else { return };
        let host = &self.hosts[host];
        let (node, life, at) = (host.name.clone(), host.starts, host.clock.instant(now));
        transcript.push(Told { node, life, at, what: what() });
    }

    /// The agent of a host, if one runs, is told a fact.
    pub(super) fn tell_agent(&mut self, host: usize, event: Event) {
        self.report.steps += 1;
        self.transcribe(host, || Input::Event(Box::new(event.clone())));
        let (now, host) = (self.now, &mut self.hosts[host]);
        if let Some(process) = &mut host.process {
            process.machine.handle_event(event, host.clock.instant(now));
        }
    }

    /// The agent of a host, if one runs, is told that time has passed.
    pub(super) fn tell_agent_the_time(&mut self, host: usize) {
        self.transcribe(host, || Input::Timeout);
        let (now, host) = (self.now, &mut self.hosts[host]);
        if let Some(process) = &mut host.process {
            process.machine.handle_timeout(host.clock.instant(now));
        }
    }
}
