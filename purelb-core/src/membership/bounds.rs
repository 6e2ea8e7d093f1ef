//! What holds of all peers at once, kept so that a fact about one costs no look at the others.

use std::collections::BTreeSet;

use crate::lease::Version;
use crate::name::NodeName;
use crate::time::Tick;

use super::Membership;

/// Bounds on the peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// What has not expired expires at this moment at the earliest, but for what could have before our
    /// last renewal was sent. `None` if that is not known.
    first_expiry: Option<Tick>,
    /// The change by which each of them last joined. `None` if that is not known.
    joins: Option<BTreeSet<(Version, NodeName)>>,
}

impl Bounds {
    /// A peer was told of: it last joined by this change and before by that one, and expires then.
    pub(super) fn saw(
        &mut self,
        node: &NodeName,
        joined: Version,
        before: Option<Version>,
        expiry: Tick,
    ) {
        self.first_expiry = self.first_expiry.map(|first| first.min(expiry));
        let Some(joins) = self.joins.as_mut().filter(|_| before != Some(joined)) else { return };
        if let Some(before) = before {
            joins.remove(&(before, node.clone()));
        }
        joins.insert((joined, node.clone()));
    }

    /// Who joined by a later change than `version`, if that is known.
    pub(super) fn joined_after(
        &self,
        version: Option<Version>,
    ) -> Option<impl Iterator<Item = &NodeName>> {
        let latest_first = self.joins.as_ref()?.iter().rev();
        let later = latest_first.take_while(move |(joined, _)| Some(*joined) > version);
        Some(later.map(|(_, node)| node))
    }

    /// Whether nothing expires before `at`.
    pub(super) fn expire_not_before(&self, at: Tick) -> bool {
        self.first_expiry.is_some_and(|first| first >= at)
    }
}

impl Membership {
    /// Finds the bounds anew where they no longer tell anything.
    pub(super) fn refresh_bounds(&mut self) {
        let peers = &self.peers;
        self.bounds.0.joins.get_or_insert_with(|| {
            peers.iter().map(|(node, peer)| (peer.joined, node.clone())).collect()
        });
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
