//! The same agent under other numbers, so that a model checker knows a state that it has seen before.
//!
//! Two agents behave alike if they differ only in what time it is, in how far the API has counted, or
//! in how many writes and joins there were before. A checker names each of these anew, in their order.

use crate::lease::Base;
use crate::lease::{Lease, LeaseContent, LeaseEvent, LeaseWrite, Version, WriteResult};
use crate::name::NodeName;
use crate::time::Tick;

use super::derived::Derived;
use super::{HostReport, Join, Membership};

/// New names for moments and numbers. Each must keep the order of what it renames.
pub trait Rename {
    /// A moment.
    fn tick(&mut self, tick: &mut Tick);
    /// A version of the API's.
    fn version(&mut self, version: &mut Version);
    /// A number of a write by a process of this node.
    fn attempt(&mut self, node: &NodeName, attempt: &mut u64);
    /// A number of a join of this node.
    fn join(&mut self, node: &NodeName, join: &mut u64);
}

impl Membership {
    /// Renames every moment and number in it.
    pub fn rename(&mut self, names: &mut impl Rename) {
        let me = self.settings.node.clone();
        let writer = &mut self.writer;
        let ticks =
            [&mut self.right, &mut self.lapsed_at, &mut writer.renewed_at, &mut writer.retry_at];
        for tick in ticks.into_iter().flatten() {
            names.tick(tick);
        }
        // Over is over.
        self.quiet_until = self.quiet_until.max(self.now);
        names.tick(&mut self.quiet_until);
        names.tick(&mut self.now);
        self.bounds = Derived::default();
        let versions = [&mut self.seen, &mut self.settled, &mut writer.accepted];
        for version in versions.into_iter().flatten() {
            names.version(version);
        }
        names.attempt(&me, &mut writer.attempts);
        names.join(&me, &mut self.joins);
        if let Some(attempt) = &mut writer.in_flight {
            names.attempt(&me, attempt);
        }
        if let Some(content) = &mut writer.said {
            content.rename(&me, names);
        }
        writer.sent = std::mem::take(&mut writer.sent)
            .into_iter()
            .map(|(mut attempt, mut sent)| {
                names.attempt(&me, &mut attempt);
                names.tick(&mut sent.at);
                (attempt, sent)
            })
            .collect();
        for peer in self.peers.values_mut() {
            peer.lease.rename(names);
            if let Some(remains) = &mut peer.remains {
                remains.content.rename(&peer.lease.node, names);
                names.tick(&mut remains.expiry);
            }
            names.tick(&mut peer.changed);
            names.version(&mut peer.joined);
        }
        if let Some(own) = &mut self.own {
            own.lease.rename(names);
            names.tick(&mut own.changed);
        }
        if let Some(HostReport { holds_until: Some(tick), .. }) = &mut self.host {
            names.tick(tick);
        }
        for join in self.claims.values_mut() {
            match join {
                Join::Done => {}
                Join::Waiting { version, back } => {
                    names.version(version);
                    names.tick(back);
                }
                Join::Writing { number } => names.join(&me, number),
            }
        }
    }
}

impl LeaseContent {
    /// Renames every number in what `node` says.
    pub fn rename(&mut self, node: &NodeName, names: &mut impl Rename) {
        if let Some(version) = &mut self.seen {
            names.version(version);
        }
        if let Some(join) = &mut self.join {
            names.join(node, join);
        }
        names.attempt(node, &mut self.attempt);
    }
}

impl Lease {
    /// Renames every number in it.
    pub fn rename(&mut self, names: &mut impl Rename) {
        names.version(&mut self.version);
        self.content.rename(&self.node, names);
    }
}

impl LeaseWrite {
    /// Renames every number in a write by `node`.
    pub fn rename(&mut self, node: &NodeName, names: &mut impl Rename) {
        names.attempt(node, &mut self.attempt);
        if let Base::Exactly { version, .. } = &mut self.base {
            names.version(version);
        }
        self.content.rename(node, names);
    }
}

impl LeaseEvent {
    /// Renames every number in what `node` is told.
    pub fn rename(&mut self, node: &NodeName, names: &mut impl Rename) {
        match self {
            Self::Bookmark(version) | Self::Deleted { version, .. } => names.version(version),
            Self::Listed { leases, version } => {
                names.version(version);
                leases.iter_mut().for_each(|lease| lease.rename(names));
            }
            Self::Updated(lease) => lease.rename(names),
            Self::Written { attempt, result } => {
                names.attempt(node, attempt);
                if let WriteResult::Accepted { version } = result {
                    names.version(version);
                }
            }
        }
    }
}
