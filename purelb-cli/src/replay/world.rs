//! What answers a machine that asks for other things than was recorded.
//!
//! Recorded facts go on being true where they do not rest on what the machine did. What it asks of the kernel
//! and the API is done at once, as if nothing ever failed.

mod agent;
mod allocator;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_k8s::snapshot::Snapshot;

use super::overlay::Overlay;
use super::tale::Tale;
use crate::recording::Tape;

pub use agent::AgentWorld;
pub use allocator::AllocatorWorld;

/// A machine whose world can be imagined.
pub trait Imagined: Tale {
    /// What is around it.
    type World: World<Self>;

    /// Whether it has been told everything once.
    fn is_told_all(&self) -> bool;

    /// The objects of the cluster that it was told of.
    fn snapshot(&self, taken: Timestamp) -> Snapshot;

    /// The world around it as it is after so many turns of its tape, where objects are otherwise.
    fn world(&self, overlay: Overlay, tape: &Tape<Self>, turns: usize) -> Self::World;
}

/// What is around a machine.
pub trait World<M: Tale> {
    /// That objects are otherwise, for a machine that knew them as they were.
    fn changes(&self) -> Vec<M::Event>;

    /// What is true here where `event` was recorded.
    fn hear(&mut self, event: M::Event) -> Option<M::Event>;

    /// What comes of an action at `now`.
    fn answer(&mut self, action: M::Action, machine: &M, now: Duration) -> Vec<M::Event>;
}
