//! Keeping our own lease: what to write, when, and on what condition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lease::{Base, LeaseContent, LeaseWrite, Version, WriteResult};
use crate::mutation::Mutation;
use crate::time::Tick;

use super::view::Peer;
use super::{Claim, Join, Leaving, Membership};

/// Acknowledgements of joins are coalesced: at most one extra write in this time.
const ACKNOWLEDGEMENT_GAP: Duration = Duration::from_millis(100);

/// The writes of our own lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    /// How many have been sent.
    pub(super) attempts: u64,
    /// Those sent that may still come back.
    pub(super) sent: BTreeMap<u64, Sent>,
    /// What the latest said.
    pub(super) said: Option<LeaseContent>,
    /// The one that has no answer yet.
    pub(super) in_flight: Option<u64>,
    /// When the latest of those that were accepted was sent.
    pub(super) renewed_at: Option<Tick>,
    /// The version that the latest accepted one made, which may not be in view yet.
    pub(super) accepted: Option<Version>,
    /// The last one failed: nothing is sent before this.
    pub(super) retry_at: Option<Tick>,
}

/// A write that was sent.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    /// When.
    pub(super) at: Tick,
    /// Whether it joins for something.
    pub(super) is_join: bool,
}

impl Writer {
    /// What the latest write said, whether or not it landed.
    pub(super) fn last_sent(&self) -> Option<&LeaseContent> {
        self.said.as_ref()
    }

    /// When the oldest write was sent of which nothing was heard, as far as they are remembered.
    pub(super) fn unheard_since(&self) -> Option<Tick> {
        self.sent.values().next().map(|sent| sent.at)
    }

    /// Write number `attempt` is in view; earlier ones can come back no more.
    pub(super) fn came_back(&mut self, attempt: u64, version: Version) -> Option<Sent> {
        let sent = self.sent.get(&attempt).copied()?;
        self.sent.retain(|number, _| *number > attempt);
        if attempt == self.attempts {
            self.retry_at = None;
        }
        self.accepted = self.accepted.max(Some(version));
        self.renewed_at = self.renewed_at.max(Some(sent.at));
        Some(sent)
    }

    /// What the lease says is not what was last sent.
    pub(super) fn distrust(&mut self) {
        self.said = None;
    }

    /// The lease is gone or its history is: what was sent says nothing about what is there.
    pub(super) fn forget(&mut self) {
        self.said = None;
        self.accepted = None;
        self.renewed_at = None;
        self.sent.clear();
    }

    /// Whether a version that was accepted must be in a listing of this version.
    pub(super) fn is_covered_by(&self, version: Version) -> bool {
        self.accepted <= Some(version)
    }

    /// Whether no write may still come into view.
    fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.sent.is_empty() && self.accepted.is_none()
    }

    fn accepted(&mut self, attempt: u64, version: Version) {
        if let Some(sent) = self.sent.get(&attempt) {
            self.renewed_at = self.renewed_at.max(Some(sent.at));
            self.accepted = self.accepted.max(Some(version));
        }
        self.retry_at = None;
    }
}

impl Membership {
    /// The next write of our lease, if one is due. At most one is under way; its answer comes as
    /// [`Written`](crate::lease::LeaseEvent::Written), at the latest when its timeout is over.
    #[must_use]
    pub fn poll_write(&mut self) -> Option<LeaseWrite> {
        if self.write_due()? > self.now {
            return None;
        }
        let base = self.base()?;
        let (served, target) = (self.served(), self.target());
        self.claims.retain(|claim, _| target.contains(claim));
        let fresh: Vec<Claim> =
            served.into_iter().filter(|claim| !self.claims.contains_key(claim)).collect();
        self.joins += u64::from(!fresh.is_empty());
        let number = self.joins;
        self.claims.extend(fresh.into_iter().map(|claim| (claim, Join::Writing { number })));
        let attempt = self.writer.attempts + 1;
        let content = self.content(&target, attempt);
        // A retry may carry a join whose first write was given up: it counts as one as well.
        let is_join = self.claims.values().any(|join| matches!(join, Join::Writing { .. }));
        self.writer.attempts = attempt;
        self.writer.in_flight = Some(attempt);
        // One that is older can give no right any more.
        let (now, duration) = (self.now, self.wanted_duration());
        self.writer.sent.retain(|_, sent| sent.at + duration > now);
        self.writer.sent.insert(attempt, Sent { at: self.now, is_join });
        self.writer.said = Some(content.clone());
        Some(LeaseWrite { attempt, base, content, timeout: self.pace.request_limit() })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Tick, &'static str)> {
        let waits = self.claims.iter().filter_map(|(claim, join)| match join {
            Join::Done | Join::Writing { .. } => None,
            Join::Waiting { version, back } => {
                Some((self.join_wait(*claim, *version, *back), "join"))
            }
        });
        let fence = self.right.map(|end| match self.hold_on_at(end) {
            Some(at) => (at, "hold on"),
            None => (end, "fence"),
        });
        let blind = self.blind_at().map(|at| (at, "blind"));
        let write = self.write_due().map(|due| (due, "lease write"));
        let quiet = (self.host.is_some() && self.quiet_until > self.now)
            .then_some((self.quiet_until, "observation at start"));
        waits.chain(fence).chain(blind).chain(write).chain(quiet).min()
    }

    /// Whether the lease says what leaving asks for.
    pub fn has_left(&self) -> bool {
        let Some(leaving) = self.leaving else { return false };
        let Some(content) = self.own_lease().filter(|_| self.inherits()) else {
            // What is there, if anything, is another host's; a write of ours may still land.
            return self.writer.is_idle();
        };
        if self.writer.attempts > 0 && self.writer.said.is_some() && !self.is_last_in_view() {
            return false;
        }
        match leaving {
            Leaving::Keep(_) => content.keep,
            Leaving::Release => content.subnets.is_empty() && content.lists.is_empty(),
        }
    }

    /// Whether our lease, as in view, is what was last sent.
    fn is_last_in_view(&self) -> bool {
        let is_last = |attempt| attempt == self.writer.attempts;
        self.own.as_ref().is_some_and(|own| own.is_ours && is_last(own.lease.content.attempt))
    }

    /// Takes in the answer to a write.
    pub(super) fn written(&mut self, attempt: u64, result: &WriteResult) {
        if self.writer.in_flight == Some(attempt) {
            self.writer.in_flight = None;
        }
        let sent = self.writer.sent.get(&attempt).copied();
        match result {
            WriteResult::Accepted { version } => self.writer.accepted(attempt, *version),
            // Something else landed. The view will show it; until then the same would fail again.
            WriteResult::Conflict => {
                self.writer.sent.remove(&attempt);
                self.writer.retry_at = Some(self.now + self.pause());
            }
            // Unless it came back already it may have landed or may still land. A request that took
            // its whole time is tried again at once, one that failed faster after a pause.
            WriteResult::Unknown { .. } => {
                self.writer.retry_at = sent.map(|sent| sent.at + self.pause());
            }
        }
    }

    /// The shortest time from one attempt to the next after a failure.
    fn pause(&self) -> Duration {
        self.pace.pause()
    }

    /// When a write is due: now or before if the lease does not say what it should.
    fn write_due(&self) -> Option<Tick> {
        let host = self.host.as_ref()?;
        self.seen?;
        if self.writer.in_flight.is_some() || self.has_left() || self.base().is_none() {
            return None;
        }
        // One that is not there is created only with nothing on an interface that it would not say.
        if self.own.is_none() && !host.is_settled {
            return None;
        }
        let mut due = self.renewal_due();
        if self.differs() {
            due = Tick::START;
        }
        if host.is_settled && self.owes_acknowledgement() {
            let last = self.writer.sent.values().next_back().map(|sent| sent.at);
            let last = last.max(self.writer.renewed_at).unwrap_or_default();
            due = due.min(last + ACKNOWLEDGEMENT_GAP);
        }
        if let Some(retry) = self.writer.retry_at {
            due = retry;
        }
        Some(self.takeover_at().map_or(due, |takeover| due.max(takeover)))
    }

    /// When the lease is to be renewed though it says what it should: a third of its duration after
    /// the last time, or as soon as that expires a peer (rule 2).
    fn renewal_due(&self) -> Tick {
        let Some(last) = self.writer.renewed_at else { return Tick::START };
        let regular = last + self.jittered(self.pace.period());
        if self.bounds.0.expire_not_before(regular) {
            debug_assert!(self.expiries_after(last).all(|expiry| expiry >= regular));
            return regular;
        }
        self.expiries_after(last).fold(regular, Tick::min)
    }

    /// Up to a tenth less than `span`, by node and attempt, so that nodes started together do not
    /// renew together.
    fn jittered(&self, span: Duration) -> Duration {
        let seed = self.settings.node.as_str().bytes().chain(self.writer.attempts.to_le_bytes());
        let hash = seed.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let permille = u32::try_from((hash >> 32) % 1000).unwrap_or(0);
        span - span / 10 * permille / 1000
    }

    /// When a lease that another host wrote may be taken over: once it stayed unchanged for its
    /// duration. `None` if it is ours, this kernel's, or not there.
    fn takeover_at(&self) -> Option<Tick> {
        let own = self.own.as_ref()?;
        let content = &own.lease.content;
        let same_boot = content.boot_id.as_ref() == Some(&self.settings.boot_id);
        // One that publishes nothing has nothing to take over.
        let is_idle = content.subnets.is_empty() && !self.is_contested;
        (!same_boot && !is_idle).then(|| own.changed + content.duration)
    }

    /// What the next write replaces, or `None` while that is not known.
    fn base(&self) -> Option<Base> {
        match &self.own {
            // A lease was created, but is not in view yet: its uid is not known.
            None if self.writer.accepted.is_some() => None,
            None => Some(Base::Absent),
            Some(own) => Some(Base::Exactly {
                uid: own.lease.uid.clone(),
                version: own.lease.version.max(self.writer.accepted.unwrap_or_default()),
            }),
        }
    }

    /// Whether the lease should say something else than what was last sent.
    fn differs(&self) -> bool {
        let Some(said) = &self.writer.said else { return true };
        let (subnets, lists) = split(&self.target());
        said.subnets != subnets
            || said.lists != lists
            || said.keep != self.keeps()
            || said.duration != self.published_duration()
    }

    fn keeps(&self) -> bool {
        matches!(self.leaving, Some(Leaving::Keep(_)))
    }

    /// The duration to publish: a shorter one than before only once no address in the kernel
    /// outlasts it.
    fn published_duration(&self) -> Duration {
        let wanted = self.wanted_duration();
        let published = self.own.as_ref().map_or(wanted, |own| own.lease.content.duration);
        let holds_until = self.host.as_ref().and_then(|host| host.holds_until);
        let outlasts = holds_until.is_some_and(|end| end > self.pace.fence(self.now, wanted));
        if outlasts { published.max(wanted) } else { wanted }
    }

    /// What the lease should say: what can be served, and what is still on an interface (rule 4).
    fn target(&self) -> BTreeSet<Claim> {
        let mut target = self.served();
        let host = self.host.as_ref();
        if let Some(host) = host.filter(|_| !self.mutant.is(Mutation::LeaveBeforeWithdrawal)) {
            target.extend(host.occupied.iter().map(|net| Claim::Subnet(*net)));
            target.extend(host.occupied_lists.iter().map(|ip| Claim::Address(*ip)));
        }
        target
    }

    /// What can be served and may be published; something new only while nothing is on an interface
    /// that should not be.
    fn served(&self) -> BTreeSet<Claim> {
        let Some(host) = self.host.as_ref().filter(|_| self.may_publish()) else {
            return BTreeSet::new();
        };
        let subnets = host.serving.iter().map(|net| Claim::Subnet(*net));
        let lists = host.lists.iter().map(|ip| Claim::Address(*ip));
        let may_join = host.is_settled && self.leaving.is_none();
        let wanted = subnets.chain(lists);
        wanted.filter(|claim| may_join || self.claims.contains_key(claim)).collect()
    }

    fn may_publish(&self) -> bool {
        let is_starting = self.claims.is_empty() && self.right.is_none() && !self.is_adopting;
        let must_watch = is_starting
            && !self.mutant.is(Mutation::NoObservation)
            && (self.now < self.quiet_until || self.is_upgrade_near());
        !self.is_blind && !must_watch && self.leaving != Some(Leaving::Release)
    }

    /// Whether a live lease with an overlapping subnet is marked Keep: its node cannot let go.
    fn is_upgrade_near(&self) -> bool {
        let serving = self.host.iter().flat_map(|host| &host.serving);
        let mut claims = serving.map(|net| Claim::Subnet(*net));
        claims.any(|claim| self.concerned(claim).flat_map(Peer::live).any(|content| content.keep))
    }

    fn content(&self, target: &BTreeSet<Claim>, attempt: u64) -> LeaseContent {
        let (subnets, lists) = split(target);
        LeaseContent {
            duration: self.published_duration(),
            subnets,
            lists,
            join: Some(self.joins),
            seen: self.settled,
            boot_id: Some(self.settings.boot_id.clone()),
            keep: self.keeps(),
            instance: self.settings.instance.clone(),
            attempt,
        }
    }
}

fn split(claims: &BTreeSet<Claim>) -> (BTreeSet<ipnet::IpNet>, BTreeSet<std::net::IpAddr>) {
    let mut subnets = BTreeSet::new();
    let mut lists = BTreeSet::new();
    for claim in claims {
        match claim {
            Claim::Address(ip) => {
                lists.insert(*ip);
            }
            Claim::Subnet(net) => {
                subnets.insert(*net);
            }
        }
    }
    (subnets, lists)
}
