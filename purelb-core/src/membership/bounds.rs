//! What holds of all peers at once, kept so that a fact about one costs no look at the others.

use crate::lease::Version;
use crate::time::Tick;

use super::Membership;

/// Bounds on the peers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// What has not expired expires at this moment at the earliest, but for what could have before our
    /// last renewal was sent. `None` if that is not known.
    first_expiry: Option<Tick>,
    /// Nobody joined by a later change. `None` if that is not known.
    last_join: Option<Version>,
}

impl Bounds {
    /// A peer is as it was not before: it joined by this change, and expires then.
    pub(super) fn saw(&mut self, joined: Version, expiry: Tick) {
        self.first_expiry = self.first_expiry.map(|first| first.min(expiry));
        self.last_join = self.last_join.map(|last| last.max(joined));
    }

    /// Whether everybody's last join is at or before `version`.
    pub(super) fn joined_by(&self, version: Version) -> bool {
        self.last_join.is_some_and(|last| last <= version)
    }

    /// Whether nothing expires before `at`.
    pub(super) fn expire_not_before(&self, at: Tick) -> bool {
        self.first_expiry.is_some_and(|first| first >= at)
    }
}

impl Membership {
    /// Finds the bounds anew where they no longer tell anything.
    pub(super) fn refresh_bounds(&mut self) {
        if self.bounds.0.last_join.is_none() {
            let joins = self.peers.values().map(|peer| peer.joined);
            self.bounds.0.last_join = Some(joins.max().unwrap_or(Version(0)));
        }
        let Some(last) = self.writer.renewed_at else { return };
        if !self.bounds.0.expire_not_before(last + self.pace.period()) {
            let far = last + self.settings.duration * 1000;
            self.bounds.0.first_expiry = Some(self.expiries_after(last).fold(far, Tick::min));
        }
    }

    /// When what has not expired may expire, if later than `last`.
    pub(super) fn expiries_after(&self, last: Tick) -> impl Iterator<Item = Tick> {
        self.peers
            .values()
            .filter(|peer| !peer.is_expired && !peer.lease.content.subnets.is_empty())
            .map(|peer| self.expiry(peer))
            .chain(self.peers.values().flat_map(|peer| &peer.remains).map(|past| past.expiry))
            .filter(move |expiry| *expiry > last)
    }
}
