//! Prolonging lifetimes as the right to hold is prolonged.

use std::time::Duration;

use crate::host::{Address, AddressKey};
use crate::kernel::KernelAction;

use super::NodeAgent;

/// How many lifetimes are prolonged at once: a burst overruns the sockets of other listeners.
const CHUNK: usize = 64;

/// With less than this left of a lifetime there are no pauses.
const URGENT: Duration = Duration::from_secs(1);

impl NodeAgent {
    /// The right was prolonged: so are the lifetimes, in chunks spread over a tenth of the lease's
    /// duration, always in the same order.
    pub(super) fn prolong(&mut self) {
        let Some(right) = self.right() else { return };
        let keys: Vec<AddressKey> = self
            .hold
            .granted
            .iter()
            .filter(|(_, granted)| **granted < right)
            .map(|(key, _)| *key)
            .collect();
        let chunks = u32::try_from(keys.len().div_ceil(CHUNK)).unwrap_or(u32::MAX).max(1);
        let gap = self.membership.duration() / 10 / chunks;
        let ends = keys.iter().filter_map(|key| self.hold.granted.get(key)).min();
        let is_urgent = ends.is_some_and(|end| *end < self.now + URGENT);
        self.hold.pause = if is_urgent { Duration::ZERO } else { gap / 2 };
        self.hold.next_chunk = self.now;
        for (n, chunk) in (0_u32..).zip(keys.chunks(CHUNK)) {
            let queue = self.hold.prolonging.entry(self.now + gap * n).or_default();
            queue.extend(chunk);
        }
        // What could not be added because too little was left may be tried again.
        let ips = &mut self.dirty.ips;
        self.hold.refused.retain(|ip, refused| {
            if refused.is_past_deadline {
                ips.insert(*ip);
            }
            !refused.is_past_deadline
        });
    }

    /// Prolongs the lifetimes that are due.
    pub(super) fn extend(&mut self) {
        while self.hold.next_prolongation().is_some_and(|at| at <= self.now)
            && let Some(entry) = self.hold.prolonging.first_entry()
        {
            self.hold.next_chunk = self.now + self.hold.pause;
            let at = *entry.key();
            for key in entry.remove() {
                // One with a lifetime of its own may have been added anew meanwhile.
                if self.hold.refresh.get(&key).is_none_or(|refresh| *refresh == at) {
                    self.extend_one(key);
                }
            }
        }
    }

    fn extend_one(&mut self, key: AddressKey) {
        let ip = key.net.addr();
        let mut elections = std::mem::take(&mut self.elections);
        let verdict = self.wants.get(&ip).map(|want| self.decide(ip, want, &mut elections));
        self.elections = elections;
        let wanted = verdict.as_ref().and_then(|verdict| self.wanted(verdict));
        let Some(new) = wanted.filter(|wanted| wanted.key() == key) else {
            self.dirty.ips.insert(ip);
            return;
        };
        if self.addresses.get(&key).is_some_and(Address::is_ours) {
            self.added(&new);
            self.ask_kernel(KernelAction::AddAddress(new));
        }
    }
}
