//! `apiOutage: Hold`: keeping what one has while writes do not come back.
//!
//! The rules end the right to hold when a renewal does not come back, since others may have expired
//! this node by then. Where an operator prefers an address in two places over one in none, the right
//! goes on for as long as the process runs and the API is silent. It is outside what the rules
//! promise: in a partition, another node may hold the same address until the API is back.

use crate::config::ApiOutage;
use crate::time::Tick;

use super::derived::Derived;
use super::{Membership, Standings, fence};

impl Membership {
    /// What to do when renewals do not come back.
    pub fn set_api_outage(&mut self, outage: ApiOutage, now: Tick) -> Standings {
        let passed = self.pass_time(now);
        self.outage = outage;
        if outage == ApiOutage::Withdraw && self.is_holding_on {
            self.lapse();
            return Standings::Changed;
        }
        passed
    }

    /// Whether the right to hold goes on although no renewal came back in time.
    pub fn is_holding_on(&self) -> bool {
        self.is_holding_on
    }

    /// When a right that ends then is prolonged without the API: early enough for the kernel to hear
    /// of it, whose lifetimes are whole seconds. `None` if it is not.
    pub(super) fn hold_on_at(&self, end: Tick) -> Option<Tick> {
        let holds = self.outage == ApiOutage::Hold && self.leaving.is_none();
        let early = self.settings.duration / 4;
        holds.then(|| end - early)
    }

    /// Prolongs a right whose end is near. One that has ended stays so: a process that did not run in
    /// time was not kept from renewing by the API.
    pub(super) fn hold_on(&mut self) {
        let Some(end) = self.right else { return };
        let is_due = self.hold_on_at(end).is_some_and(|at| at <= self.now);
        if is_due && self.now < end {
            self.right = Some(fence(self.now, self.settings.duration));
            self.is_holding_on = true;
        }
    }

    /// A write came back after an outage. The others may have been kept from renewing just as long:
    /// none of them expires before it was silent for its duration again, or all would take over from
    /// all for a moment.
    pub(super) fn end_outage(&mut self) {
        if std::mem::take(&mut self.is_holding_on) {
            for peer in self.peers.values_mut().filter(|peer| !peer.is_expired) {
                peer.changed = self.now;
            }
            self.bounds = Derived::default();
        }
    }
}
