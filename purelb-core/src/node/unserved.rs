//! Addresses that no node has: said once, by one node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::group::Announce;
use crate::membership::Liveness;
use crate::time::Tick;

use super::agenda::Agenda;
use super::notice::{NodeNotice, ServiceRef};
use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want};

/// Why no node has an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unserved {
    /// It is for nodes with a ready endpoint of the Service, and there is none.
    NoEndpoint,
    /// No node serves a subnet that holds it.
    NoSubnet,
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndpoint => {
                "it is for nodes with a ready endpoint of the Service, and no node has one"
            }
            Self::NoSubnet => {
                "none serves a subnet that holds it: compare the pool of its ServiceGroup with the nodes' local interfaces, or make the group remote"
            }
        })
    }
}

/// What nobody has.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    /// Not told yet: it may pass, as while a node takes over from another.
    waiting: Agenda<IpAddr>,
    why: BTreeMap<IpAddr, Unserved>,
    /// Told by this node.
    told: BTreeMap<IpAddr, Vec<ServiceRef>>,
}

impl Silence {
    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.waiting.first().map(|at| (at, "nobody has an address"))
    }
}

impl NodeAgent {
    /// Notes whether anybody can have `ip`.
    pub(super) fn judge_silence(&mut self, ip: IpAddr, want: &Want, verdict: &Verdict) {
        let why = self.unserved(ip, want, verdict).filter(|_| self.is_spokesman());
        if self.silence.why.get(&ip).copied() == why {
            return;
        }
        self.forget_silence(ip);
        if let Some(why) = why {
            self.silence.why.insert(ip, why);
            // A starter watches for one lease duration before it serves anything.
            self.silence.waiting.put(ip, self.now + self.membership.duration() * 2);
        }
    }

    /// Nobody wants it any more.
    pub(super) fn forget_silence(&mut self, ip: IpAddr) {
        self.silence.waiting.remove(&ip);
        self.silence.why.remove(&ip);
        self.end_silence(ip);
    }

    /// Tells of what nobody has had for two lease durations.
    pub(super) fn break_silence(&mut self) {
        while let Some(ip) = self.silence.waiting.take_due(self.now) {
            let services = self.wants.get(&ip).map(|want| self.refs(want)).unwrap_or_default();
            let Some(why) = self.silence.why.get(&ip).copied() else { continue };
            for service in services.clone() {
                self.tell(NodeNotice::Unserved { ip, service, why });
            }
            self.silence.told.insert(ip, services);
        }
    }

    fn end_silence(&mut self, ip: IpAddr) {
        for service in self.silence.told.remove(&ip).unwrap_or_default() {
            self.tell(NodeNotice::ServedAgain { ip, service });
        }
    }

    /// Why no node at all can have it, as far as this one knows.
    fn unserved(&self, ip: IpAddr, want: &Want, verdict: &Verdict) -> Option<Unserved> {
        let is_narrowed = self.is_narrowed(want);
        let is_remote =
            self.pool_facts(ip, want).is_some_and(|pool| pool.announce == Announce::Remote);
        match verdict {
            Verdict::Local { .. } | Verdict::Virtual { .. } => None,
            Verdict::Withheld(Withheld::NoEndpoint) if is_remote => {
                let all = self.endpoints.is_listed().then_some(&want.services)?;
                let has_none =
                    |key| self.endpoints.get(key).is_none_or(|ends| ends.nodes.is_empty());
                all.iter().all(has_none).then_some(Unserved::NoEndpoint)
            }
            Verdict::Withheld(
                Withheld::NoCandidate
                | Withheld::NoEndpoint
                | Withheld::Excluded(_)
                | Withheld::NotConfigured(_)
                | Withheld::Nowhere(_),
            ) if !is_remote => {
                if self.membership.has_candidates(ip, is_narrowed) {
                    return None;
                }
                let is_served = is_narrowed && self.membership.has_candidates(ip, false);
                Some(if is_served { Unserved::NoEndpoint } else { Unserved::NoSubnet })
            }
            Verdict::Withheld(_) => None,
        }
    }

    /// Whether this is the one of all nodes that tells: the first by name that is alive.
    fn is_spokesman(&self) -> bool {
        let live = self.membership.leases().filter(|(_, _, state)| *state == Liveness::Live);
        live.map(|(node, _, _)| node).min() == Some(&self.me)
    }
}
