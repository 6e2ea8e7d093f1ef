//! Which of several allocators decides: one Lease, held by one of them at a time.
//!
//! The rules are those of [`membership`](crate::membership), as far as a single lease needs them:
//!
//! 1. **Fence.** The right to decide starts when the write that took the lease was answered, and ends
//!    a lease duration after that write was *sent*, less a margin that only the holder subtracts. A
//!    renewal moves the end only if its answer comes while the right still runs.
//! 2. **Expiry by observation.** Another's lease has run out once it was not seen to change for its
//!    whole published duration. Nobody's clock is compared with anybody else's: `renewTime` is never
//!    read. A stale view does no harm, for the write that takes the lease is conditional on the very
//!    version that stood so long.
//! 3. **Absence.** A lease that is not there says nothing about who had the right, nor is absence a
//!    version that a write could be conditional on. Who has no right creates the lease as
//!    [`NOBODY_YET`]'s; it is taken, as anybody else's, after it stood for its duration.
//! 4. **No late writes.** Every write of the lease is conditional on the version that it replaces.
//!
//! Why two cannot have the right at once: let A's right rest on a write sent at *s*. Whoever takes the
//! lease after A saw that write's version after *s*, and sent its own a whole duration later; by then
//! A's right is over.
//!
//! That settles who may *send*. What A had sent before may still arrive after B has begun, held up by a
//! network or a server, and no clock bounds by how much. So B first makes every such request void:
//! each is conditional on the version of a Service, and B changes each Service that A might have been
//! writing to ([`unsettled`]) before it decides anything. What A knew is older than B's lease, so
//! nothing that appears later can be concerned. [`Takeover`] says whether that is needed.

mod unsettled;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::lease::{Base, Version, WriteResult};
use crate::machine::{Deadline, Machine};
use crate::name::Uid;

pub use self::unsettled::unsettled;

/// The shortest lease duration that leaves time to renew.
pub const MIN_DURATION: Duration = Duration::from_secs(1);

/// The lease duration unless configured otherwise.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(5);

/// The holder of a lease that was created because it was missing: somebody may still have a right that
/// rests on an earlier one.
pub const NOBODY_YET: &str = "nobody-yet";

/// Who this process is, and how it keeps the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This process, unlike any other before or after it; never empty.
    pub identity: String,
    /// How long the lease is valid, at least [`MIN_DURATION`].
    pub duration: Duration,
}

/// The leader's Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaderLease {
    /// The change that made it what it is.
    pub version: Version,
    /// One for its whole life.
    pub uid: Uid,
    /// What it says.
    pub content: LeaderContent,
}

/// What the leader's Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaderContent {
    /// `holderIdentity`; `None` if nobody holds it.
    pub holder: Option<String>,
    /// `leaseDurationSeconds`.
    pub duration: Duration,
    /// `leaseTransitions`: how often it changed hands.
    pub transitions: u32,
    /// `purelb.io/attempt`: which write of its holder this is.
    pub attempt: u64,
    /// `purelb.io/late-writes`: who gave it up cannot tell what became of some of its requests.
    pub late_writes: bool,
}

/// A fact for [`Leadership`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lease was deleted, by this change.
    Deleted(Version),
    /// This is the lease, or there is none, as of `version`.
    Listed {
        /// The lease.
        lease: Option<LeaderLease>,
        /// The list's own version.
        version: Version,
    },
    /// Nothing is decided here any more: give the lease up.
    Resigned {
        /// Some request may still arrive.
        late_writes: bool,
    },
    /// Time has passed that our clock did not count: the host slept.
    Slept,
    /// The lease is new or has changed.
    Updated(LeaderLease),
    /// A write was answered.
    Written {
        /// Which.
        attempt: u64,
        /// The answer.
        result: WriteResult,
    },
}

/// A write of the lease, conditional on what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderWrite {
    /// What must be there for the write to happen.
    pub base: Base,
    /// What to write.
    pub content: LeaderContent,
    /// Whether the lease changes hands by it, so that `acquireTime` is now.
    pub is_acquisition: bool,
    /// Give up on the request after this.
    pub timeout: Duration,
}

/// What this process may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing; the lease is held by this one, as far as is known.
    Follower(Option<String>),
    /// Decide, until the right ends.
    Leader(Term),
    /// Nothing any more, and the lease says so, or has run out.
    Retired,
    /// Nothing any more; the lease is being given up.
    Retiring,
}

/// An unbroken time of leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Tells one term from another: `leaseTransitions` during it.
    pub number: u32,
    /// What it began with.
    pub takeover: Takeover,
    /// When the right ends, unless it is prolonged: nothing may be sent from then on.
    pub until: Instant,
}

/// How a term began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Takeover {
    /// The one before gave the lease up and every request of its was answered, or there was none.
    Clean,
    /// Requests of the one before may still arrive.
    Unclean,
}

/// The machine that keeps the lease, or waits for it.
#[derive(Clone, Debug)]
pub struct Leadership {
    settings: Settings,
    /// The latest moment that was passed in.
    now: Option<Instant>,
    /// The latest version that the watch has told of.
    seen: Option<Version>,
    view: Option<View>,
    right: Option<Term>,
    /// Writes that may still come back.
    sent: BTreeMap<u64, Sent>,
    attempts: u64,
    in_flight: Option<u64>,
    /// What the latest write says.
    said: Option<LeaderContent>,
    /// Our latest write that was accepted, which may not be in view yet.
    accepted: Option<(Version, LeaderContent)>,
    /// When the latest write that came back was sent.
    renewed_at: Option<Instant>,
    /// The last write failed: none is sent before this.
    retry_at: Option<Instant>,
    /// Nothing is decided here any more; whether some request may still arrive.
    resigned: Option<bool>,
    writes: VecDeque<LeaderWrite>,
}

/// What the watch says of the lease.
#[derive(Clone, Debug)]
enum View {
    Absent,
    Present { lease: LeaderLease, changed: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    purpose: Purpose,
}

/// What a write of the lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Acquire(u32, Takeover),
    Create,
    Release,
    Renew,
}

impl Leadership {
    /// One that knows nothing yet. Durations under [`MIN_DURATION`] are raised to it.
    pub fn new(mut settings: Settings) -> Self {
        settings.duration = settings.duration.max(MIN_DURATION);
        Self {
            settings,
            now: None,
            seen: None,
            view: None,
            right: None,
            sent: BTreeMap::new(),
            attempts: 0,
            in_flight: None,
            said: None,
            accepted: None,
            renewed_at: None,
            retry_at: None,
            resigned: None,
            writes: VecDeque::new(),
        }
    }

    /// What this process may do now.
    pub fn role(&self) -> Role {
        match (&self.right, &self.resigned) {
            (None, Some(_)) => Role::Retired,
            (Some(_), Some(_)) => Role::Retiring,
            (Some(term), None) => Role::Leader(*term),
            (None, None) => Role::Follower(match &self.view {
                Some(View::Present { lease, .. }) => lease.content.holder.clone(),
                Some(View::Absent) | None => None,
            }),
        }
    }

    /// Whether somebody leads, as far as this one can tell: itself, or another whose lease was seen to
    /// change within its duration.
    pub fn is_led(&self) -> bool {
        let is_live = match (&self.view, self.now) {
            (Some(View::Present { lease, changed }), Some(now)) => {
                let holder = lease.content.holder.as_deref();
                holder.is_some_and(|it| it != NOBODY_YET) && now < Self::free_at(lease, *changed)
            }
            (Some(View::Absent | View::Present { .. }) | None, _) => false,
        };
        self.right.is_some() || is_live
    }

    /// When a right that rests on a write sent at `sent` ends for its holder: a tenth before the
    /// others count it out, for clocks that drift and requests on their way.
    fn fence(&self, sent: Instant) -> Instant {
        sent + self.settings.duration - self.settings.duration / 10
    }

    /// Takes in `now`, and ends a right that is over.
    fn pass_time(&mut self, now: Instant) -> Instant {
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        self.right.take_if(|term| term.until <= now);
        now
    }

    fn see(&mut self, lease: LeaderLease, now: Instant) {
        // A watch that lags shows what our accepted write has replaced.
        if self.accepted.as_ref().is_some_and(|(version, _)| lease.version < *version) {
            return;
        }
        if lease.content.holder.as_deref() == Some(&self.settings.identity) {
            self.came_back(lease.content.attempt, now);
        } else {
            self.right = None;
        }
        let same = match &self.view {
            Some(View::Present { lease: known, changed })
                if known.version == lease.version && known.uid == lease.uid =>
            {
                Some(*changed)
            }
            Some(View::Absent | View::Present { .. }) | None => None,
        };
        self.view = Some(View::Present { lease, changed: same.unwrap_or(now) });
    }

    fn miss(&mut self) {
        self.accepted = None;
        self.view = Some(View::Absent);
    }

    /// Notes how far the watch has come; whether versions go on growing. If not, this is another
    /// history of the cluster, and nothing that was known of this lease counts.
    fn advance(&mut self, version: Version) {
        if self.seen.is_some_and(|seen| version < seen) {
            self.right = None;
            self.view = None;
            self.accepted = None;
            self.sent.clear();
        }
        self.seen = Some(version);
    }

    /// Write number `attempt` is known to have landed.
    fn came_back(&mut self, attempt: u64, now: Instant) {
        let Some(sent) = self.sent.get(&attempt).copied() else { return };
        self.sent.retain(|number, _| *number > attempt);
        self.renewed_at = self.renewed_at.max(Some(sent.at));
        let end = self.fence(sent.at);
        match sent.purpose {
            Purpose::Acquire(number, takeover) => {
                if end > now {
                    self.right = Some(Term { number, takeover, until: end });
                }
            }
            Purpose::Create => {}
            Purpose::Release => self.right = None,
            Purpose::Renew => {
                if let Some(term) = &mut self.right {
                    term.until = term.until.max(end);
                }
            }
        }
    }

    fn written(&mut self, attempt: u64, result: &WriteResult, now: Instant) {
        if self.in_flight == Some(attempt) {
            self.in_flight = None;
        }
        match result {
            WriteResult::Accepted { version } => {
                self.retry_at = None;
                let said = self.said.as_ref().filter(|said| said.attempt == attempt);
                if let Some(content) = said {
                    self.accepted = Some((*version, content.clone()));
                }
                self.came_back(attempt, now);
            }
            WriteResult::Conflict => {
                self.sent.remove(&attempt);
                self.accepted = None;
                self.retry_at = Some(now + self.pause());
            }
            WriteResult::Unknown { .. } => {
                self.retry_at = Some(now + self.pause());
            }
        }
    }

    /// From a write that failed to the next.
    fn pause(&self) -> Duration {
        self.settings.duration / 12
    }

    /// When a write is due, and what for.
    fn due(&self) -> Option<(Instant, &'static str)> {
        if self.in_flight.is_some() {
            return None;
        }
        let (view, now) = (self.view.as_ref()?, self.now?);
        // It was created, but is not in view yet: its uid is not known.
        if matches!(view, View::Absent) && self.accepted.is_some() {
            return None;
        }
        let (due, why) = match (&self.right, &self.resigned) {
            (None, Some(_)) => return None,
            (Some(_), Some(_)) => (now, "release"),
            (Some(_), None) => match view {
                View::Absent => (now, "renewal"),
                View::Present { .. } => (self.renewed_at? + self.settings.duration / 3, "renewal"),
            },
            (None, None) => match view {
                View::Absent => (now, "creation"),
                View::Present { lease, changed } => (Self::free_at(lease, *changed), "expiry"),
            },
        };
        Some((self.retry_at.map_or(due, |retry| due.max(retry)), why))
    }

    /// When a lease that is not ours to renew may be taken.
    fn free_at(lease: &LeaderLease, changed: Instant) -> Instant {
        match lease.content.holder {
            None => changed,
            // Be it our own: a request that created it anew may have been on its way for long.
            Some(_) => changed + lease.content.duration,
        }
    }

    fn write(&mut self, now: Instant) {
        let Some(view) = &self.view else { return };
        let (mut base, mut before) = match view {
            View::Absent => (Base::Absent, None),
            View::Present { lease, .. } => (
                Base::Exactly { uid: lease.uid.clone(), version: lease.version },
                Some(&lease.content),
            ),
        };
        if let (Some((accepted, content)), Base::Exactly { version, .. }) =
            (&self.accepted, &mut base)
            && *accepted > *version
        {
            *version = *accepted;
            before = Some(content);
        }
        let transitions = before.map_or(0, |content| content.transitions);
        let purpose = match (&self.right, &self.resigned) {
            (_, Some(_)) => Purpose::Release,
            (Some(_), None) => Purpose::Renew,
            (None, None) if base == Base::Absent => Purpose::Create,
            (None, None) => {
                let clean =
                    before.is_some_and(|content| content.holder.is_none() && !content.late_writes);
                let takeover = if clean { Takeover::Clean } else { Takeover::Unclean };
                Purpose::Acquire(transitions.saturating_add(1), takeover)
            }
        };
        self.attempts += 1;
        let holder = Some(self.settings.identity.clone());
        let (holder, transitions, late_writes) = match purpose {
            Purpose::Acquire(number, _) => (holder, number, false),
            Purpose::Create => (Some(NOBODY_YET.to_owned()), transitions, false),
            Purpose::Release => (None, transitions, self.resigned == Some(true)),
            Purpose::Renew => (holder, transitions, false),
        };
        let content = LeaderContent {
            holder,
            duration: self.settings.duration,
            transitions,
            attempt: self.attempts,
            late_writes,
        };
        self.sent.insert(self.attempts, Sent { at: now, purpose });
        self.in_flight = Some(self.attempts);
        self.said = Some(content.clone());
        self.writes.push_back(LeaderWrite {
            base,
            content,
            is_acquisition: matches!(purpose, Purpose::Acquire(..)),
            timeout: self.settings.duration / 4,
        });
    }
}

impl Machine for Leadership {
    type Event = Event;
    type Action = LeaderWrite;

    fn handle_event(&mut self, event: Event, now: Instant) {
        let now = self.pass_time(now);
        match event {
            Event::Deleted(version) => {
                self.advance(version);
                self.miss();
            }
            Event::Listed { lease, version } => {
                self.advance(version);
                match lease {
                    Some(lease) => self.see(lease, now),
                    // Asked before our write had landed.
                    None if self.accepted.as_ref().is_some_and(|(own, _)| version < *own) => {}
                    None => self.miss(),
                }
            }
            Event::Resigned { late_writes } => {
                self.resigned = Some(late_writes);
            }
            Event::Slept => self.right = None,
            Event::Updated(lease) => {
                self.advance(lease.version);
                self.see(lease, now);
            }
            Event::Written { attempt, result } => self.written(attempt, &result, now),
        }
        self.handle_timeout(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.pass_time(now);
        if self.due().is_some_and(|(due, _)| due <= now) {
            self.write(now);
        }
    }

    fn poll_action(&mut self) -> Option<LeaderWrite> {
        self.writes.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let fence = self.right.map(|term| Deadline { at: term.until, why: "fence" });
        let write = self.due().map(|(at, why)| Deadline { at, why });
        fence.into_iter().chain(write).min_by_key(|deadline| deadline.at)
    }
}
