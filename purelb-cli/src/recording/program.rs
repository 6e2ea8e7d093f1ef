//! What a machine must be to be recorded.

use std::fmt::Debug;
use std::time::Instant;

use purelb_core::allocator::Allocator;
use purelb_core::config::{LocalInterface, Pattern};
use purelb_core::host::Ownership;
use purelb_core::machine::Machine;
use purelb_core::membership::{Pace, Settings};
use purelb_core::node::{Event, NodeAgent};
use purelb_core::store::Change;
use purelb_k8s::convert::lb_node_agent::local_interface;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::format::Program;

/// A machine whose inputs and state are data.
pub trait Recordable:
    Machine<Event: Clone + Debug + Serialize + DeserializeOwned, Action: Debug>
    + Serialize
    + DeserializeOwned
{
    /// The program that it is in.
    const PROGRAM: Program;
    /// What it is made with.
    type Settings: Clone + Debug + Serialize + DeserializeOwned;

    /// Makes one that knows nothing yet.
    fn make(settings: &Self::Settings, start: Instant) -> Self;

    /// Makes whole one that was read, by what is no data: its clock counts from `start`.
    fn complete(&mut self, start: Instant);

    /// Makes whole an event that was read.
    fn complete_event(event: &mut Self::Event);
}

impl Recordable for Allocator {
    const PROGRAM: Program = Program::Allocator;
    type Settings = ();

    fn make((): &(), start: Instant) -> Self {
        let mut allocator = Self::new();
        allocator.count_from(start);
        allocator
    }

    fn complete(&mut self, start: Instant) {
        self.count_from(start);
    }

    fn complete_event(_: &mut Self::Event) {}
}

/// What the agent of a node is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Which node, and how it keeps its lease.
    pub lease: Settings,
    /// How often and how long, if the operator has asked for something else than the default.
    pub pace: Option<Pace>,
    /// How it tells its addresses from those of others.
    pub ownership: Ownership,
}

impl Recordable for NodeAgent {
    const PROGRAM: Program = Program::Lbnodeagent;
    type Settings = AgentSettings;

    fn make(settings: &AgentSettings, start: Instant) -> Self {
        let mut agent = Self::new(settings.lease.clone(), start).with_ownership(settings.ownership);
        if let Some(pace) = settings.pace {
            agent.keep_pace(pace);
        }
        agent
    }

    fn complete(&mut self, start: Instant) {
        self.count_from(start);
        self.complete_patterns(&pattern);
    }

    fn complete_event(event: &mut Event) {
        match event {
            Event::Agents(Change::Listed(agents)) => {
                agents.iter_mut().for_each(|agent| agent.complete_patterns(&pattern));
            }
            Event::Agents(Change::Updated(agent)) => agent.complete_patterns(&pattern),
            Event::Addresses(_)
            | Event::Agents(Change::Deleted(_))
            | Event::AnnounceFailed { .. }
            | Event::Endpoints(_)
            | Event::Groups(_)
            | Event::Kernel(_)
            | Event::Leases(_)
            | Event::Links(_)
            | Event::Node(_)
            | Event::Routes(_)
            | Event::Services(_)
            | Event::Sighted(_)
            | Event::Slept
            | Event::Stop => {}
        }
    }
}

/// The pattern of a text that once was one.
fn pattern(text: &str) -> Option<Pattern> {
    match local_interface(text) {
        Ok(LocalInterface::Matching(pattern)) => Some(pattern),
        Ok(LocalInterface::DefaultRoute) | Err(_) => None,
    }
}
