//! Other stations that say they have an address of ours.
//!
//! An address that no node of ours held before is asked for on the wire beside being installed, and
//! every local address is listened for as long as this node holds it. A station that answers, then or
//! later, has it withdrawn here; it is asked again, with growing pauses, until nobody answers. Both
//! families go the same way. What the holder before us says is no conflict: it lets go before the
//! leases say that the address is ours (design: leaving), and what was said before is not heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::host::{Address, Link, LinkIndex, Mac, Sighting};
use crate::kernel::KernelAction;
use crate::time::Tick;

use super::agenda::Agenda;
use super::notice::{NodeNotice, ServiceRef};
use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want, announce};

/// The first pause before the other station is asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long an answer may take (`PROBE_MAX` is 2 s, RFC 5227 §1.1; `RetransTimer` 1 s, RFC 4861 §10).
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The interface on which kube-proxy in IPVS mode puts every address of a Service, on every node.
const IPVS: &str = "kube-ipvs0";

/// Which addresses other stations say they have, and which are listened for.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Conflicts {
    of: BTreeMap<IpAddr, Conflict>,
    /// When which stage is over.
    stages: Agenda<IpAddr>,
    heeded: BTreeMap<IpAddr, LinkIndex>,
    /// The links that could not be listened on.
    deaf: BTreeSet<LinkIndex>,
}

/// Another station has an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Conflict {
    /// The link that it was heard on.
    link: LinkIndex,
    /// The station.
    mac: Mac,
    /// Those who were told.
    services: Vec<ServiceRef>,
    stage: Stage,
    pause: Duration,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The station was asked: silence ends the conflict.
    Asked,
    /// It is to be asked later.
    Pausing,
}

impl Conflicts {
    /// The conflict over `ip` on `link`, if there is one.
    pub(super) fn on(&self, ip: IpAddr, link: LinkIndex) -> Option<Mac> {
        self.of.get(&ip).filter(|conflict| conflict.link == link).map(|conflict| conflict.mac)
    }

    /// Listening on a link failed; tells whether that is news.
    pub(super) fn is_deaf_now(&mut self, link: LinkIndex) -> bool {
        self.deaf.insert(link)
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.stages.first().map(|at| (at, "address conflict"))
    }

    fn put(&mut self, ip: IpAddr, conflict: Conflict, until: Tick) {
        self.of.insert(ip, conflict);
        self.stages.put(ip, until);
    }

    fn remove(&mut self, ip: IpAddr) -> Option<Conflict> {
        self.stages.remove(&ip);
        self.of.remove(&ip)
    }

    fn take_due(&mut self, now: Tick) -> Option<(IpAddr, Conflict)> {
        let ip = self.stages.take_due(now)?;
        Some((ip, self.of.remove(&ip)?))
    }
}

impl NodeAgent {
    /// Another station said that it has an address.
    pub(super) fn take_in_sighting(&mut self, sighting: Sighting) {
        let Sighting { ip, link, mac } = sighting;
        let is_heeded = self.conflicts.heeded.get(&ip) == Some(&link);
        // A second card on the same wire answers for the first one's addresses.
        let is_this_host = self.links.iter().any(|link| link.mac == Some(mac.0));
        if !is_heeded || is_this_host || self.is_answered_for_everywhere(ip) {
            return;
        }
        let now = self.now;
        match self.conflicts.of.get_mut(&ip) {
            Some(conflict) => match conflict.stage {
                Stage::Asked => {
                    conflict.stage = Stage::Pausing;
                    conflict.pause = (conflict.pause * 2).min(LAST_PAUSE);
                    let until = now + conflict.pause;
                    self.conflicts.stages.put(ip, until);
                }
                Stage::Pausing => {}
            },
            None => {
                let services = self.wants.get(&ip).map(|want| self.refs(want)).unwrap_or_default();
                let (stage, pause) = (Stage::Pausing, FIRST_PAUSE);
                let conflict = Conflict { link, mac, services, stage, pause };
                self.tell_conflict(ip, &conflict, Told::Began);
                self.conflicts.put(ip, conflict, now + pause);
                self.dirty.ips.insert(ip);
            }
        }
    }

    /// Asks those again whose pause is over, and ends the conflicts that nobody answered for.
    pub(super) fn ask_again(&mut self) {
        let now = self.now;
        while let Some((ip, conflict)) = self.conflicts.take_due(now) {
            match conflict.stage {
                Stage::Asked => {
                    self.tell_conflict(ip, &conflict, Told::Ended);
                    self.dirty.ips.insert(ip);
                }
                Stage::Pausing => {
                    self.ask_kernel(KernelAction::Probe { ip, link: conflict.link });
                    let asked = Conflict { stage: Stage::Asked, ..conflict };
                    self.conflicts.put(ip, asked, now + ANSWER_TIME);
                }
            }
        }
    }

    /// Listens for an address where this node holds it, or would but for a conflict; forgets a
    /// conflict that no longer matters.
    pub(super) fn heed(&mut self, ip: IpAddr, verdict: Option<&Verdict>) {
        let (link, is_in_conflict) = match verdict {
            Some(Verdict::Local { link, .. }) => (Some(*link), false),
            Some(Verdict::Withheld(Withheld::Conflict { link, mac: _ })) => (Some(*link), true),
            Some(Verdict::Virtual { .. } | Verdict::Withheld(_)) | None => (None, false),
        };
        if !is_in_conflict && let Some(conflict) = self.conflicts.remove(ip) {
            self.tell_conflict(ip, &conflict, Told::Ended);
        }
        let before = match link {
            Some(link) => self.conflicts.heeded.insert(ip, link),
            None => self.conflicts.heeded.remove(&ip),
        };
        if before == link {
            return;
        }
        if let Some(link) = before {
            self.ask_kernel(KernelAction::Unheed { ip, link });
        }
        if let Some(link) = link {
            self.ask_kernel(KernelAction::Heed { ip, link });
        }
    }

    /// Whether no node of ours is known to have held an address: its annotations name nobody.
    pub(super) fn is_fresh(&self, ip: IpAddr, want: &Want) -> bool {
        !self.services_of(want).any(|service| announce::is_announced(service, ip))
    }

    /// With kube-proxy in IPVS mode and no strict ARP every node answers for every address: that is
    /// told as an address of others, and no reason to let go.
    fn is_answered_for_everywhere(&self, ip: IpAddr) -> bool {
        let is_ipvs = |link: &Link| link.name == IPVS;
        self.addresses
            .of(ip)
            .filter(|address| !Address::is_ours(address))
            .any(|address| self.links.get(&address.link).is_some_and(is_ipvs))
    }

    fn tell_conflict(&mut self, ip: IpAddr, conflict: &Conflict, told: Told) {
        let interface = self.link_name(conflict.link);
        let mac = conflict.mac;
        for service in conflict.services.clone() {
            let interface = interface.clone();
            self.tell(match told {
                Told::Began => NodeNotice::Conflict { ip, service, interface, mac },
                Told::Ended => NodeNotice::ConflictOver { ip, service, interface, mac },
            });
        }
    }
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy)]
enum Told {
    Began,
    Ended,
}
