//! What happened, for a person to read.

use std::fmt;
use std::net::IpAddr;

use super::clock::{Nanos, SECONDS};

/// Everything of note that happened in a simulation, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    entries: Vec<Entry>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Nanos,
    /// To whom: a node's name, `api`, `allocator`.
    pub who: String,
    /// The address that it is about, or all.
    pub about: Option<IpAddr>,
    /// What it is to the address.
    pub kind: EntryKind,
    /// What.
    pub text: String,
}

/// What an entry of a story is to the address that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// It is on the node's local interface from now on.
    Appears,
    /// It is not any more.
    Disappears,
    /// Something else happened.
    Event,
    /// Nothing has changed: a renewal.
    Routine,
}

impl Story {
    pub(super) fn add(&mut self, at: Nanos, who: &str, about: Option<IpAddr>, text: String) {
        let kind = EntryKind::Event;
        self.entries.push(Entry { at, who: who.to_owned(), about, kind, text });
    }

    /// Says what the latest entry is.
    pub(super) fn mark(&mut self, kind: EntryKind) {
        if let Some(entry) = self.entries.last_mut() {
            entry.kind = kind;
        }
    }

    /// Everything, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What concerns one address: what is about it, and what is about none in particular.
    pub fn of(&self, ip: IpAddr) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.about.is_none_or(|about| about == ip))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / SECONDS as f64;
        write!(f, "{seconds:>11.4}  {:<9}  {}", self.who, self.text)
    }
}
