//! Who may hold an address: the five rules that keep two nodes from ever holding one at once.
//!
//! Every agent owns a Lease that lists the subnets it can serve. A local address belongs to the
//! [winner](crate::election::winner) among the live leases with a subnet that holds it, and an agent
//! holds it only while it wins *in its own view* of the leases. Views differ, so that alone is not
//! safe; these rules make it so. All rest on one fact: the API delivers the changes of all Leases in
//! one order, one's own among them. `seen` is the version up to which every change is in our view,
//! and a write *came back* once `seen` has reached it.
//!
//! 1. **Fence.** The right to hold starts when a join came back and ends a lease duration after it
//!    was *sent*. A renewal moves that end only if it comes back while the right still runs. The
//!    kernel enforces it: addresses carry a lifetime that ends with the right.
//! 2. **Expiry by echo.** A peer has expired once a write of ours that was sent its full duration or
//!    more after its last change came back without a newer change of it.
//! 3. **Joining.** To publish a subnet not served without a break until now is a join. The joiner
//!    holds nothing in it until every live peer with an overlapping subnet has `seen` the join, or
//!    the longest of their durations has passed since it came back. Agents publish `seen` only once
//!    everything it costs them is off their interfaces.
//! 4. **Leaving.** First off the interface, then out of the lease, by a write. A lease that is
//!    deleted stays live until rule 2 expires it.
//! 5. **No late writes.** Every write is conditional on the version that it replaces.
//!
//! Why two cannot hold: let A beat B, and both hold. So A is not in B's view. If B ever processed A's
//! latest join, it dropped A since, so A is fenced (2) or has let go (4). If it did not, every write
//! that B's right rests on came back before A's join; so B is in A's view without having `seen` the
//! join, and A still waits until B's right is over (3).

mod bounds;
mod derived;
mod elections;
#[cfg(feature = "mutations")]
mod normal;
mod outage;
mod pace;
mod publish;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::ApiOutage;
use crate::election;
use crate::lease::{LeaseContent, Version};
use crate::mutation::{Mutant, Mutation};
use crate::name::{BootId, NodeName};
use crate::time::Tick;

pub(crate) use elections::Elections;
#[cfg(feature = "mutations")]
pub use normal::Rename;
pub use pace::{Pace, PaceError};

use derived::Derived;
use view::{Own, Peer};

/// The shortest lease duration that leaves time to renew before the fence.
pub const MIN_DURATION: Duration = Duration::from_secs(5);

/// The lease duration unless configured otherwise.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(5);

/// How late a kernel may remove an address whose lifetime is over: measured 0.93 s, by its source
/// (`addrconf_verify_rtnl`, `check_lifetime`) up to 1.25 s.
const KERNEL_LATENESS: Duration = Duration::from_millis(1300);

/// When a right that rests on a write sent at `sent` ends for its holder: a lease duration later,
/// less two percent for clocks that drift, less the kernel's lateness. Others wait for the whole
/// duration; only the holder subtracts.
pub fn fence(sent: Tick, duration: Duration) -> Tick {
    sent + (duration - duration / 50).saturating_sub(KERNEL_LATENESS)
}

/// Who this agent is and how it keeps its lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This node.
    pub node: NodeName,
    /// The boot of this node's kernel.
    pub boot_id: BootId,
    /// This process, unlike any other before or after it.
    pub instance: String,
    /// How long the lease is valid, at least [`MIN_DURATION`].
    pub duration: Duration,
}

/// The machine that keeps this node's lease and judges who may hold what. Plain data: it knows
/// subnets and leases, no Services and no interfaces.
///
/// Facts go in by [`handle_lease`](Self::handle_lease), [`handle_host`](Self::handle_host),
/// [`handle_timeout`](Self::handle_timeout) and [`leave`](Self::leave);
/// [`poll_write`](Self::poll_write) hands out the next write of the lease;
/// [`standing`](Self::standing) answers whose an address is.
///
/// After every fact the owner takes off its interfaces what it may no longer hold and reports by
/// [`handle_host`](Self::handle_host), before it polls for a write.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    settings: Settings,
    pace: Pace,
    /// The latest moment that was passed in.
    now: Tick,

    /// Every lease change up to this one is in view; `None` before the first listing.
    seen: Option<Version>,
    peers: BTreeMap<NodeName, Peer>,
    #[cfg_attr(feature = "serde", serde(skip))]
    bounds: Derived<bounds::Bounds>,
    own: Option<Own>,
    /// Counts the changes of what is [live](Self::live).
    #[cfg_attr(feature = "serde", serde(skip))]
    edition: Derived<u64>,
    /// Another host writes our lease.
    is_contested: bool,
    /// Until when a starter that adopts nothing publishes no subnets.
    quiet_until: Tick,
    /// Started by taking over the previous process's addresses.
    is_adopting: bool,

    /// The last report; nothing is written before the first.
    host: Option<HostReport>,
    /// What was seen when the host last had on its interfaces only what it may hold.
    settled: Option<Version>,
    /// The process is to stop, and how.
    leaving: Option<Leaving>,

    /// The end of the right to hold, while it runs.
    right: Option<Tick>,
    /// What becomes of it when renewals do not come back.
    outage: ApiOutage,
    /// It goes on although none came back in time.
    is_holding_on: bool,
    /// When the right was last lost.
    lapsed_at: Option<Tick>,
    /// Nothing that was written since the last lapse has come back.
    is_blind: bool,
    /// What we have published without a break, and how far its join has come.
    claims: BTreeMap<Claim, Join>,
    /// Counts our joins.
    joins: u64,

    writer: publish::Writer,
    /// The rule that is broken on purpose, for tests.
    #[cfg_attr(feature = "serde", serde(skip))]
    mutant: Mutant,
}

/// What an agent claims in its lease.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Claim {
    /// An address beyond others, having endpoints for it.
    Address(IpAddr),
    /// A subnet.
    Subnet(IpNet),
}

impl Claim {
    /// Whether a lease that says `content` may be used to hold something of this claim.
    fn concerns(self, content: &LeaseContent) -> bool {
        match self {
            Self::Address(ip) => content.subnets.iter().any(|subnet| subnet.contains(&ip)),
            Self::Subnet(net) => content.subnets.iter().any(|subnet| overlap(subnet, &net)),
        }
    }

    fn is_in(self, content: &LeaseContent) -> bool {
        match self {
            Self::Address(ip) => content.lists.contains(&ip),
            Self::Subnet(net) => content.subnets.contains(&net),
        }
    }
}

/// How far the join for a claim has come.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Join {
    /// Everyone concerned knows: what is won may be held.
    Done,
    /// Came back as `version` at `back`; waiting until everyone concerned has seen it.
    Waiting { version: Version, back: Tick },
    /// Not come back yet; it is the join of this number.
    Writing { number: u64 },
}

/// What the owner says of this host.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostReport {
    /// The subnets that can be served now.
    pub serving: BTreeSet<IpNet>,
    /// The addresses to ask for beyond others.
    pub lists: BTreeSet<IpAddr>,
    /// Of the subnets published so far, those with an address that is, or may be, on an interface.
    pub occupied: BTreeSet<IpNet>,
    /// Of the addresses listed so far, those that are, or may be, on an interface.
    pub occupied_lists: BTreeSet<IpAddr>,
    /// Nothing is, or may be, on an interface that may not be held by the present view.
    pub is_settled: bool,
    /// The latest moment at which the kernel may still keep a local address of ours.
    pub holds_until: Option<Tick>,
    /// Addresses of the previous process are kept. Read in the first report only, which must not
    /// come before the leases are listed.
    pub is_adopting: bool,
}

/// How to leave.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaving {
    /// Mark the lease so that the addresses stay for the next process, and for this long at most.
    Keep(Duration),
    /// Take the subnets out of the lease.
    Release,
}

/// Whether a fact may have changed whose an address is.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Standings {
    /// Some may be another's now.
    Changed,
    /// All as before.
    Same,
}

impl Standings {
    fn changed_if(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Same }
    }

    fn or(self, other: Self) -> Self {
        Self::changed_if(self == Self::Changed || other == Self::Changed)
    }
}

/// Whose an address is, in this agent's view.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// This node's, to hold until then unless the right is prolonged.
    Mine {
        /// The end of the right.
        until: Tick,
    },
    /// Nobody's: no live lease has a subnet that holds it.
    Nobody,
    /// This node has won it, but may not hold it yet or any more.
    NotYet(NotYet),
    /// Another node's.
    Theirs {
        /// That node.
        node: NodeName,
    },
}

/// Whether a lease counts.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// Its object is gone, but it counts until it has expired.
    Deleted,
    /// It has run out, and does not count.
    Expired,
    /// It counts.
    Live,
}

/// Why an address that this node has won may not be held.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotYet {
    /// This node's lease has run out: the API was out of reach, or answers came too late.
    Fenced,
    /// These nodes have not confirmed yet that they know this node has joined.
    Joining {
        /// The nodes.
        unconfirmed: Vec<NodeName>,
    },
    /// The subnet is not served by this node now.
    NotServed,
}

impl Membership {
    /// An agent that has seen nothing yet. Durations under [`MIN_DURATION`] are raised to it.
    pub fn new(mut settings: Settings) -> Self {
        settings.duration = settings.duration.max(MIN_DURATION);
        Self {
            pace: Pace::of(settings.duration),
            settings,
            now: Tick::START,
            seen: None,
            peers: BTreeMap::new(),
            bounds: Derived::default(),
            own: None,
            edition: Derived::default(),
            is_contested: false,
            quiet_until: Tick::START,
            is_adopting: false,
            host: None,
            settled: None,
            leaving: None,
            right: None,
            outage: ApiOutage::default(),
            is_holding_on: false,
            lapsed_at: None,
            is_blind: false,
            claims: BTreeMap::new(),
            joins: 0,
            writer: publish::Writer::default(),
            mutant: Mutant::default(),
        }
    }

    /// Keeps the lease as the operator asked for, who names its duration as well.
    pub fn keep_pace(&mut self, pace: Pace) {
        self.settings.duration = pace.duration();
        self.pace = pace;
    }

    /// Breaks a rule on purpose.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutation: Mutation) {
        self.mutant = Mutant::with(mutation);
    }

    /// Takes in what the owner says of this host.
    pub fn handle_host(&mut self, mut report: HostReport, now: Tick) -> Standings {
        let lapsed = self.pass_time(now);
        if self.host.is_none() {
            self.is_adopting = report.is_adopting;
        }
        report.is_settled |= self.mutant.is(Mutation::AcknowledgeBeforeLettingGo);
        if report.is_settled {
            self.settled = self.seen;
        }
        let changed = self
            .host
            .as_ref()
            .is_none_or(|host| host.serving != report.serving || host.lists != report.lists);
        self.host = Some(report);
        lapsed.or(Standings::changed_if(changed))
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Tick) -> Standings {
        self.pass_time(now)
    }

    /// Gives up the right to hold at once, as when the host has slept without our clock noticing.
    pub fn fence_now(&mut self, now: Tick) -> Standings {
        let lapsed = self.pass_time(now);
        self.lapse();
        lapsed.or(Standings::Changed)
    }

    /// Begins to leave. With [`Leaving::Release`] the owner takes everything off its interfaces;
    /// [`has_left`](Self::has_left) tells when the lease says so too.
    pub fn leave(&mut self, how: Leaving, now: Tick) -> Standings {
        let _ = self.pass_time(now);
        self.leaving = Some(how);
        Standings::Changed
    }

    /// Whose `ip` is. A `narrowed` address is for nodes that list it alone.
    pub fn standing(&self, ip: IpAddr, narrowed: bool) -> Standing {
        let (candidates, is_listed) = election::electorate(ip, narrowed, self.live());
        self.standing_if(election::winner(ip, candidates), ip, is_listed)
    }

    fn standing_if(&self, winner: Option<&NodeName>, ip: IpAddr, is_listed: bool) -> Standing {
        match winner {
            None => Standing::Nobody,
            Some(node) if *node == self.settings.node => self.own_standing(ip, is_listed),
            Some(node) => Standing::Theirs { node: node.clone() },
        }
    }

    /// Whether any node could have `ip`.
    pub fn has_candidates(&self, ip: IpAddr, narrowed: bool) -> bool {
        !election::electorate(ip, narrowed, self.live()).0.is_empty()
    }

    /// The nodes among which `ip` is elected, the winner first. A `narrowed` address is for nodes
    /// that list it alone.
    pub fn ranking(&self, ip: IpAddr, narrowed: bool) -> Vec<&NodeName> {
        let (candidates, _) = election::electorate(ip, narrowed, self.live());
        let mut ranking = election::ranking(ip, candidates);
        ranking.dedup();
        ranking
    }

    /// Every lease in view, our own last, with whether it counts.
    pub fn leases(&self) -> impl Iterator<Item = (&NodeName, &LeaseContent, Liveness)> {
        let peers = self.peers.iter().map(|(node, peer)| {
            let liveness = match (peer.is_expired, peer.is_deleted) {
                (true, _) => Liveness::Expired,
                (false, true) => Liveness::Deleted,
                (false, false) => Liveness::Live,
            };
            (node, &peer.lease.content, liveness)
        });
        let own = self.own.iter();
        peers.chain(own.map(|own| (&self.settings.node, &own.lease.content, Liveness::Live)))
    }

    /// The end of the right to hold, while it runs.
    pub fn right(&self) -> Option<Tick> {
        self.right
    }

    /// Whether an address that is won may be taken that is not on the interface yet. A process that
    /// adopted addresses publishes its subnets at once to keep them, but takes no others before it
    /// has watched for a duration as well: a peer may hold them whose lease was just deleted.
    pub fn may_take(&self) -> bool {
        !self.is_adopting || self.now >= self.quiet_until
    }

    /// Whether this node may hold and take whatever it wins: its right runs, and it has joined for every
    /// subnet that its host can serve.
    pub fn is_able(&self) -> bool {
        let mut serving = self.host.iter().flat_map(|host| &host.serving);
        let has_joined = |net: &IpNet| self.claims.get(&Claim::Subnet(*net)) == Some(&Join::Done);
        self.right.is_some() && self.may_take() && serving.all(has_joined)
    }

    /// The subnets and addresses that our lease may say at this moment: the last that is known to
    /// be there, of this process or the one before it on this boot, and the last that was sent.
    pub fn published(&self) -> (BTreeSet<IpNet>, BTreeSet<IpAddr>) {
        let mut subnets = BTreeSet::new();
        let mut lists = BTreeSet::new();
        let landed = self.own_lease().filter(|_| self.inherits());
        for content in landed.into_iter().chain(self.writer.last_sent()) {
            subnets.extend(content.subnets.iter().copied());
            lists.extend(content.lists.iter().copied());
        }
        (subnets, lists)
    }

    /// Our lease as last seen, from whichever process.
    pub fn own_lease(&self) -> Option<&LeaseContent> {
        self.own.as_ref().map(|own| &own.lease.content)
    }

    /// Whether our lease, as last seen, was written on this boot of the kernel: what a previous
    /// process left on the interfaces was its to hold.
    pub fn inherits(&self) -> bool {
        let boot_id = self.own.as_ref().and_then(|own| own.lease.content.boot_id.as_ref());
        boot_id == Some(&self.settings.boot_id)
    }

    /// Whether this process has never held a right and has not been found blind either.
    pub fn is_first_join(&self) -> bool {
        self.right.is_none() && !self.is_blind || self.right.is_some() && self.lapsed_at.is_none()
    }

    /// The lease duration.
    pub fn duration(&self) -> Duration {
        self.settings.duration
    }

    /// Whether the lease says a longer duration than it is to say.
    pub fn is_shortening(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.lease.content.duration > self.wanted_duration())
    }

    /// The duration that the lease is to say.
    fn wanted_duration(&self) -> Duration {
        match self.leaving {
            Some(Leaving::Keep(duration)) => duration.max(self.settings.duration),
            Some(Leaving::Release) | None => self.settings.duration,
        }
    }

    /// Whether all leases have been listed.
    pub fn is_listed(&self) -> bool {
        self.seen.is_some()
    }

    /// Whether another host keeps writing our lease: two hosts have one name.
    pub fn is_contested(&self) -> bool {
        self.is_contested
    }

    /// What is live of all leases, our own last; a node's may be there twice.
    fn live(&self) -> impl Iterator<Item = (&NodeName, &LeaseContent)> {
        let peers = self.peers.iter();
        let own = self.own.iter().map(|own| (&self.settings.node, &own.lease.content));
        peers.flat_map(|(node, peer)| peer.live().map(move |content| (node, content))).chain(own)
    }

    fn own_standing(&self, ip: IpAddr, is_listed: bool) -> Standing {
        let Some(until) = self.right else { return Standing::NotYet(NotYet::Fenced) };
        let serving = self.host.iter().flat_map(|host| &host.serving);
        let mut claims: Vec<Claim> =
            serving.filter(|net| net.contains(&ip)).map(|net| Claim::Subnet(*net)).collect();
        let lists = self.host.as_ref().is_some_and(|host| host.lists.contains(&ip));
        if claims.is_empty() || (is_listed && !lists) {
            return Standing::NotYet(NotYet::NotServed);
        }
        let is_done = |claim: &Claim| self.claims.get(claim) == Some(&Join::Done);
        let listing = Claim::Address(ip);
        if claims.iter().any(is_done) && (!is_listed || is_done(&listing)) {
            return Standing::Mine { until };
        }
        if is_listed {
            claims.push(listing);
        }
        Standing::NotYet(NotYet::Joining { unconfirmed: self.unconfirmed(&claims) })
    }

    /// The nodes that the joins for `claims` wait for.
    fn unconfirmed(&self, claims: &[Claim]) -> Vec<NodeName> {
        let mut nodes = BTreeSet::new();
        for claim in claims {
            if let Some(Join::Waiting { version, .. }) = self.claims.get(claim) {
                let unseen = self.concerned(*claim).filter(|peer| !peer.has_seen(*version));
                nodes.extend(unseen.map(|peer| peer.lease.node.clone()));
            }
        }
        nodes.into_iter().collect()
    }

    /// The live peers that could hold something of `claim`.
    fn concerned(&self, claim: Claim) -> impl Iterator<Item = &Peer> {
        let peers = self.peers.values();
        peers.filter(move |peer| peer.live().any(|content| claim.concerns(content)))
    }

    /// Moves the clock; loses the right if its end has come; finishes joins whose wait is over.
    fn pass_time(&mut self, now: Tick) -> Standings {
        let could_take = self.may_take();
        self.now = self.now.max(now);
        self.refresh_bounds();
        let may_take = self.may_take() && !could_take;
        self.hold_on();
        let lapsed = self.right.is_some_and(|end| end <= self.now)
            || self.blind_at().is_some_and(|at| at <= self.now);
        if lapsed {
            self.lapse();
        }
        let expired = self.mutant.is(Mutation::NoEcho) && self.expire(self.now);
        Standings::changed_if(lapsed || expired || may_take).or(self.finish_joins())
    }

    /// When a joiner whose writes do not come back is blind: a lease duration after the oldest of
    /// them was sent.
    fn blind_at(&self) -> Option<Tick> {
        // One that forgets no lapse would lapse for this again and again.
        let is_joining = self.right.is_none()
            && !self.claims.is_empty()
            && !self.mutant.is(Mutation::LateRenewalRevives);
        let since = self.writer.unheard_since().filter(|_| is_joining)?;
        Some(since + self.settings.duration)
    }

    fn lapse(&mut self) {
        self.right = None;
        self.is_holding_on = false;
        if self.mutant.is(Mutation::LateRenewalRevives) {
            return;
        }
        self.lapsed_at = Some(self.now);
        self.is_blind = true;
        self.claims.clear();
    }

    /// Rule 3: a join is done once everyone concerned has seen it, or can no longer rest on
    /// something older.
    fn finish_joins(&mut self) -> Standings {
        let now = self.now;
        let done: Vec<Claim> = self
            .claims
            .iter()
            .filter_map(|(claim, join)| match join {
                Join::Done | Join::Writing { .. } => None,
                Join::Waiting { version, back } => {
                    (self.join_wait(*claim, *version, *back) <= now).then_some(*claim)
                }
            })
            .collect();
        for claim in &done {
            self.claims.insert(*claim, Join::Done);
        }
        Standings::changed_if(!done.is_empty())
    }

    /// Until when a join has to wait as things stand.
    fn join_wait(&self, claim: Claim, version: Version, back: Tick) -> Tick {
        let unseen = self.concerned(claim).filter(|peer| !peer.has_seen(version));
        let longest = unseen.flat_map(Peer::live).map(|content| content.duration).max();
        match longest.filter(|_| !self.mutant.is(Mutation::NoAcknowledgement)) {
            Some(duration) => over(self.mutant, back, duration),
            None => back,
        }
    }
}

/// When a peer's `duration` that began at `start` is over for us.
fn over(mutant: Mutant, start: Tick, duration: Duration) -> Tick {
    if mutant.is(Mutation::ObserversSubtractMargin) {
        return fence(start, duration);
    }
    start + duration
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
