//! A story as lines that a person can read, with a column for each node that has the address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use purelb_core::sim::{Entry, EntryKind, Story};

/// What happened, or what concerned one address.
pub(super) struct Timeline<'a> {
    entries: Vec<&'a Entry>,
    /// The nodes in the columns, if it is about one address.
    nodes: Vec<&'a str>,
}

impl<'a> Timeline<'a> {
    pub(super) fn new(story: &'a Story, address: Option<IpAddr>, all: bool) -> Self {
        let is_wanted = |entry: &&Entry| {
            let concerns = match address {
                Some(ip) => entry.about.is_none_or(|about| about == ip),
                None => true,
            };
            let is_quiet = entry.kind == EntryKind::Routine
                || (address.is_some() && matches!(entry.who.as_str(), "allocator"));
            concerns && (all || !is_quiet)
        };
        let entries: Vec<&Entry> = story.entries().iter().filter(is_wanted).collect();
        let moved = |entry: &&&Entry| {
            address.is_some() && matches!(entry.kind, EntryKind::Appears | EntryKind::Disappears)
        };
        let nodes: BTreeSet<&str> =
            entries.iter().filter(moved).map(|entry| entry.who.as_str()).collect();
        Self { entries, nodes: nodes.into_iter().collect() }
    }

    /// One mark for each node: whether it has the address.
    fn columns(&self, holds: &BTreeMap<&str, bool>) -> String {
        let mark = |node: &&str| if holds.get(node) == Some(&true) { "█ " } else { "· " };
        self.nodes.iter().map(mark).collect()
    }
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.nodes.is_empty() {
            writeln!(f, "columns: {}; █ has the address", self.nodes.join(", "))?;
        }
        let mut holds = BTreeMap::new();
        for entry in &self.entries {
            match entry.kind {
                EntryKind::Appears => {
                    holds.insert(entry.who.as_str(), true);
                }
                EntryKind::Disappears => {
                    holds.insert(entry.who.as_str(), false);
                }
                EntryKind::Event | EntryKind::Routine => {}
            }
            writeln!(f, "{}{entry}", self.columns(&holds))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use purelb_core::sim::{Options, run_seed};

    #[test]
    fn the_story_of_an_address_shows_who_has_it() {
        let outcome = run_seed(1, Options { steps: 500, is_told: true, ..Options::default() });
        let story = outcome.story.unwrap();
        let ip = IpAddr::from([192, 0, 2, 100]);
        let told = Timeline::new(&story, Some(ip), false).to_string();
        let puts: Vec<&str> =
            told.lines().filter(|line| line.contains("puts 192.0.2.100 on eth0")).collect();
        assert!(!puts.is_empty(), "{told}");
        assert!(puts.iter().all(|line| line.contains('█')), "{told}");
        assert!(!told.contains("192.0.2.101"), "{told}");
        assert!(!told.contains("keeps"), "renewals are left out: {told}");
    }
}
