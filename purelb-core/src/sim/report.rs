//! What a simulation counts, and what it finds.

use std::collections::BTreeMap;
use std::fmt;

use super::clock::{Nanos, SECONDS};
use super::fault::FaultKind;

/// What was counted in one simulation, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events handed to a machine, requests that reached the API, changes that a kernel made, frames
    /// that reached the segment, faults that began or ended.
    pub steps: u64,
    /// Virtual time that passed.
    pub time: Nanos,
    /// How often a fault began, by its kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How often a fault began while another one lasted.
    pub overlapping: u64,
    /// How often an address went from one node to another.
    pub moves: u64,
    /// How often an address was put on a node's local interface.
    pub appearances: u64,
    /// How often it was checked that every address is exactly where the rules say.
    pub calms: u64,
    /// Requests to the API: writes of leases.
    pub lease_writes: u64,
    /// Requests to the API: writes to Services.
    pub service_writes: u64,
    /// Changes that watches delivered.
    pub watch_events: u64,
    /// How often a machine was called because its own deadline had come.
    pub wakes: u64,
    /// The longest that an address was on no node while it went from one to another.
    pub longest_gap: Nanos,
}

impl Report {
    /// Adds what another simulation counted.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.time += other.time;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        self.overlapping += other.overlapping;
        self.moves += other.moves;
        self.appearances += other.appearances;
        self.calms += other.calms;
        self.lease_writes += other.lease_writes;
        self.service_writes += other.service_writes;
        self.watch_events += other.watch_events;
        self.wakes += other.wakes;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    /// All faults.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// An invariant that did not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Nanos,
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / SECONDS as f64;
        write!(f, "at {seconds:.4} s: {}: {}", self.invariant, self.text)
    }
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// An assignment changes only because its Service changed.
    Assignment,
    /// Nothing without our mark is changed, and nothing with it outlives its reason.
    Mark,
    /// Once faults stop, each address is where the rules say.
    Place,
    /// With nothing left to do, nothing is done.
    Quiescence,
    /// No address with two Services, unless they share.
    SingleOwner,
    /// No address on two nodes.
    SingleHolder,
    /// In steady state one write per renewal, and no wake-up for nothing.
    Steady,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assignment => "an assignment changed without its Service",
            Self::Mark => "something that is not ours was touched",
            Self::Place => "an address is not where the rules say",
            Self::Quiescence => "it does not come to rest",
            Self::SingleOwner => "two Services have one address",
            Self::SingleHolder => "two nodes have one address",
            Self::Steady => "the steady state is not quiet",
        })
    }
}
