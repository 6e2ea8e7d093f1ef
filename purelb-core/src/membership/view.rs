//! This agent's view of the leases, in the order in which the API delivers their changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::{Lease, LeaseContent, LeaseEvent, Version};
use crate::mutation::Mutation;
use crate::name::{NodeName, Uid};
use crate::time::Tick;

use super::derived::Derived;
use super::{Claim, Join, Membership, Standings, over};

/// Another node's lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) lease: Lease,
    /// When we last saw it change.
    pub(super) changed: Tick,
    /// The change by which it last joined for something.
    pub(super) joined: Version,
    /// Rule 2 has expired it.
    pub(super) is_expired: bool,
    /// The object is gone; it stays live until rule 2 expires it.
    pub(super) is_deleted: bool,
    /// What an object said in whose place another was created. To create is on no condition but that
    /// nothing is there, so a request given up long ago may do it: only what is written over a lease
    /// may take something out of it (rules 4 and 5).
    pub(super) remains: Option<Remains>,
}

/// What a lease said that was deleted and created anew. Live until rule 2 expires it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Remains {
    pub(super) content: LeaseContent,
    /// From when on a write of ours that comes back expires it.
    pub(super) expiry: Tick,
}

impl Peer {
    /// What it says, as far as that is live: in its lease, and in one that was there before.
    pub(super) fn live(&self) -> impl Iterator<Item = &LeaseContent> {
        let present = (!self.is_expired).then_some(&self.lease.content);
        present.into_iter().chain(self.remains.as_ref().map(|remains| &remains.content))
    }

    /// What remains of it, which would expire at `expiry`, if `next` takes its place.
    fn remains_beside(&mut self, next: &Lease, expiry: Tick) -> Option<Remains> {
        let before = self.remains.take();
        if self.is_expired || self.lease.uid == next.uid {
            return before;
        }
        let mut content = self.lease.content.clone();
        let Some(before) = before else { return Some(Remains { content, expiry }) };
        content.subnets.extend(before.content.subnets);
        content.lists.extend(before.content.lists);
        content.duration = content.duration.max(before.content.duration);
        content.keep |= before.content.keep;
        Some(Remains { content, expiry: expiry.max(before.expiry) })
    }

    /// Whether everything up to `version` has taken effect on its interfaces.
    pub(super) fn has_seen(&self, version: Version) -> bool {
        self.lease.content.seen.is_some_and(|seen| seen >= version)
    }

    /// Whether `next` publishes something that this one does not.
    fn is_join(&self, next: &Lease) -> bool {
        let (before, after) = (&self.lease.content, &next.content);
        self.is_expired
            || self.is_deleted
            || self.lease.uid != next.uid
            || before.join != after.join
            || !after.subnets.is_subset(&before.subnets)
            || !after.lists.is_subset(&before.lists)
    }
}

/// This node's own lease, from whichever process.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Own {
    pub(super) lease: Lease,
    /// When we last saw it change.
    pub(super) changed: Tick,
    /// This very process wrote it.
    pub(super) is_ours: bool,
}

impl Membership {
    /// Takes in a fact about leases, in the order of the API.
    pub fn handle_lease(&mut self, event: LeaseEvent, now: Tick) -> Standings {
        let passed = self.pass_time(now);
        let moved = match event {
            // A listing comes first; what comes before it is not ordered with it.
            LeaseEvent::Bookmark(_) | LeaseEvent::Deleted { .. } | LeaseEvent::Updated(_)
                if self.seen.is_none() =>
            {
                Standings::Same
            }
            LeaseEvent::Bookmark(version) => self.see(version, Standings::Same),
            LeaseEvent::Deleted { node, version } => {
                let changed = self.delete(&node);
                self.see(version, changed)
            }
            LeaseEvent::Listed { leases, version } => self.list(leases, version),
            LeaseEvent::Updated(lease) => {
                let version = lease.version;
                let changed = self.update(lease);
                self.see(version, changed)
            }
            LeaseEvent::Written { attempt, result } => {
                self.written(attempt, &result);
                Standings::Same
            }
        };
        passed.or(moved).or(self.finish_joins())
    }

    /// Everything up to `version` is in view. Going back means another history: a restored backup.
    fn see(&mut self, version: Version, changed: Standings) -> Standings {
        if self.seen.is_some_and(|seen| version < seen) {
            return self.forget();
        }
        self.seen = Some(version);
        changed
    }

    /// Starts afresh: fenced, and nothing known until the next listing.
    fn forget(&mut self) -> Standings {
        self.lapse();
        self.seen = None;
        self.settled = None;
        self.is_adopting = false;
        self.peers.clear();
        self.bounds = Derived::default();
        self.own = None;
        self.electors_changed();
        self.writer.forget();
        Standings::Changed
    }

    fn list(&mut self, leases: Vec<Lease>, version: Version) -> Standings {
        let has_gone_back = self.seen.is_some_and(|seen| version < seen)
            || leases.iter().any(|lease| self.version_of(&lease.node) > Some(lease.version));
        if has_gone_back {
            let _ = self.forget();
        }
        let is_first = self.seen.is_none();
        let present: BTreeSet<NodeName> = leases.iter().map(|lease| lease.node.clone()).collect();
        let mut changed = Standings::changed_if(is_first);
        // A lease whose end a list has hidden may have changed up to the list.
        let uids: BTreeMap<&NodeName, &Uid> =
            leases.iter().map(|lease| (&lease.node, &lease.uid)).collect();
        for (node, peer) in &mut self.peers {
            if uids.get(node) != Some(&&peer.lease.uid) {
                peer.changed = self.now;
                self.bounds = Derived::default();
            }
        }
        let known: Vec<NodeName> = self.peers.keys().cloned().collect();
        for node in known.iter().filter(|node| !present.contains(*node)) {
            changed = changed.or(self.delete(node));
        }
        if self.own.is_some() && !present.contains(&self.settings.node) {
            let node = self.settings.node.clone();
            changed = changed.or(self.delete(&node));
        }
        if !present.contains(&self.settings.node) && self.writer.is_covered_by(version) {
            // Created, and deleted again before it was ever in view.
            self.writer.forget();
        }
        // Our own last: that a write came back says something about everyone else's.
        let (own, peers): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|lease| lease.node == self.settings.node);
        for lease in peers.into_iter().chain(own) {
            changed = changed.or(self.update(lease));
        }
        if is_first {
            let durations = self.live().map(|(_, content)| content.duration);
            let longest = durations.max().unwrap_or_default().max(self.settings.duration);
            self.quiet_until = self.now + longest;
        }
        self.seen = Some(version);
        changed
    }

    /// The version of a lease in view.
    fn version_of(&self, node: &NodeName) -> Option<Version> {
        if *node == self.settings.node {
            return self.own.as_ref().map(|own| own.lease.version);
        }
        self.peers.get(node).map(|peer| peer.lease.version)
    }

    fn delete(&mut self, node: &NodeName) -> Standings {
        if *node == self.settings.node {
            // The next write creates it anew, which is a join for all that it says.
            self.claims.clear();
            self.writer.forget();
            self.electors_changed();
            return Standings::changed_if(self.own.take().is_some());
        }
        let Some(peer) = self.peers.get_mut(node) else { return Standings::Same };
        peer.is_deleted = true;
        if peer.live().next().is_none() || self.mutant.is(Mutation::DeletionIsLeaving) {
            self.peers.remove(node);
            self.electors_changed();
        }
        Standings::Same
    }

    fn update(&mut self, lease: Lease) -> Standings {
        if lease.node == self.settings.node {
            return self.update_own(lease);
        }
        let now = self.now;
        let next_expiry = over(self.mutant, now, lease.content.duration);
        let Some(peer) = self.peers.get_mut(&lease.node) else {
            let joined = lease.version;
            self.bounds.0.saw(&lease.node, joined, None, next_expiry);
            let (is_expired, is_deleted, remains) = (false, false, None);
            let peer = Peer { changed: now, joined, is_expired, is_deleted, remains, lease };
            self.peers.insert(peer.lease.node.clone(), peer);
            self.electors_changed();
            return Standings::Changed;
        };
        if peer.lease.version == lease.version && peer.lease.uid == lease.uid {
            return Standings::Same;
        }
        let joined_before = peer.joined;
        if peer.is_join(&lease) {
            peer.joined = lease.version;
        }
        let (before, after) = (&peer.lease.content, &lease.content);
        let changed =
            peer.is_expired || before.subnets != after.subnets || before.lists != after.lists;
        let expiry = over(self.mutant, peer.changed, before.duration);
        let remains = peer.remains_beside(&lease, expiry);
        let has_remains = remains.is_some();
        let (joined, is_expired, is_deleted) = (peer.joined, false, false);
        let first = remains.as_ref().map_or(next_expiry, |past| past.expiry.min(next_expiry));
        self.bounds.0.saw(&lease.node, joined, Some(joined_before), first);
        *peer = Peer { changed: now, joined, is_expired, is_deleted, remains, lease };
        if changed || has_remains {
            self.electors_changed();
        }
        Standings::changed_if(changed)
    }

    fn update_own(&mut self, lease: Lease) -> Standings {
        if self.own.as_ref().is_some_and(|own| own.lease == lease) {
            return Standings::Same;
        }
        if self.own.as_ref().is_some_and(|own| own.lease.uid != lease.uid) {
            // Deleted and created anew between two listings.
            self.claims.clear();
            self.writer.distrust();
        }
        let was_ours = self.own.as_ref().is_some_and(|own| own.is_ours);
        let content = &lease.content;
        let same_boot = content.boot_id.as_ref() == Some(&self.settings.boot_id);
        let is_ours = same_boot && content.instance == self.settings.instance;
        let changed = self.own.as_ref().is_none_or(|own| {
            let before = &own.lease.content;
            before.subnets != content.subnets || before.lists != content.lists
        });
        // A change by another host after we first saw the lease: it is alive, and bears our name.
        self.is_contested = !same_boot && (self.is_contested || self.own.is_some());
        self.joins = self.joins.max(content.join.unwrap_or_default());
        self.own = Some(Own { lease, changed: self.now, is_ours });
        if changed {
            self.electors_changed();
        }
        if is_ours {
            self.drop_lost_claims();
            return self.came_back().or(Standings::changed_if(changed));
        }
        if was_ours {
            self.lapse();
        }
        Standings::Changed
    }

    /// Somebody has edited our lease: what it says no more was not published without a break, and
    /// the next write joins for it.
    fn drop_lost_claims(&mut self) {
        let Some(content) = self.own_lease().cloned() else { return };
        let count = self.claims.len();
        self.claims.retain(|claim, join| match join {
            Join::Writing { .. } => true,
            Join::Done | Join::Waiting { .. } => claim.is_in(&content),
        });
        if self.claims.len() < count {
            self.writer.distrust();
        }
    }

    /// A write of this process is in view: rules 1, 2 and 3 rest on this moment.
    fn came_back(&mut self) -> Standings {
        let Some(own) = &self.own else { return Standings::Same };
        let (version, content) = (own.lease.version, own.lease.content.clone());
        let Some(sent) = self.writer.came_back(content.attempt, version) else {
            return Standings::Same;
        };
        let mut changed = false;
        self.end_outage();
        if Some(sent.at) >= self.lapsed_at {
            self.is_blind = false;
        }
        changed |= self.expire(sent.at);
        let end = self.pace.fence(sent.at, content.duration.min(self.wanted_duration()));
        match self.right {
            Some(until) => self.right = Some(until.max(end)),
            None if self.mutant.is(Mutation::LateRenewalRevives)
                || (sent.is_join && Some(sent.at) >= self.lapsed_at) =>
            {
                if end <= self.now {
                    // It came back too late to give a right: only another join can.
                    self.lapse();
                    return Standings::Changed;
                }
                self.right = Some(end);
                changed = true;
            }
            None => {}
        }
        for (claim, join) in &mut self.claims {
            let landed = content.join.unwrap_or_default();
            if matches!(*join, Join::Writing { number } if number <= landed)
                && claim.is_in(&content)
            {
                *join = Join::Waiting { version, back: self.now };
            }
        }
        Standings::changed_if(changed)
    }

    /// From when on a write of ours that comes back expires this peer.
    pub(super) fn expiry(&self, peer: &Peer) -> Tick {
        over(self.mutant, peer.changed, peer.lease.content.duration)
    }

    /// Rule 2: what was sent at `sent` came back, so every change up to then is in view. Tells
    /// whether a peer has expired by it.
    pub(super) fn expire(&mut self, sent: Tick) -> bool {
        let over: Vec<NodeName> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_expired && sent >= self.expiry(peer))
            .map(|(node, _)| node.clone())
            .collect();
        let mut changed = !over.is_empty();
        for node in &over {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.is_expired = true;
            }
        }
        for peer in self.peers.values_mut() {
            changed |= peer.remains.take_if(|remains| sent >= remains.expiry).is_some();
        }
        self.peers.retain(|_, peer| peer.live().next().is_some() || !peer.is_deleted);
        if changed {
            self.electors_changed();
        }
        changed
    }

    /// Whether a live peer has joined for something that overlaps what we publish, and our lease does
    /// not say yet that we have seen it.
    pub(super) fn owes_acknowledgement(&self) -> bool {
        let Some(settled) = self.settled else { return false };
        // Who publishes nothing holds nothing.
        let Some(said) = self.writer.last_sent().filter(|said| !said.subnets.is_empty()) else {
            return false;
        };
        let owes = |peer: &Peer| {
            !peer.is_expired
                && said.seen.is_none_or(|seen| seen < peer.joined)
                && peer.joined <= settled
                && said.subnets.iter().any(|net| Claim::Subnet(*net).concerns(&peer.lease.content))
        };
        match self.bounds.0.joined_after(said.seen) {
            Some(mut later) => {
                let found = later.any(|node| self.peers.get(node).is_some_and(owes));
                debug_assert_eq!(found, self.peers.values().any(owes));
                found
            }
            None => self.peers.values().any(owes),
        }
    }
}
