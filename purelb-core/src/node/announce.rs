//! The announcing annotations: they report who announces an address, and decide nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::announcement::{Announcing, Slot};
use crate::host::Family;
use crate::name::{ResourceVersion, ServiceKey};
use crate::service::Service;
use crate::time::Tick;

use super::verdict::{Verdict, Withheld};
use super::{Action, Announcement, ClusterAction, NodeAgent, Want};

/// How long to wait after a write failed.
const RETRY: Duration = Duration::from_secs(1);

/// The writes of annotations that have not been seen to take effect.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// What was last written; not again until the Service changes or the write fails.
    written: BTreeMap<(ServiceKey, Family), Option<String>>,
    failed: BTreeMap<ServiceKey, Tick>,
}

impl Claims {
    /// The Service has changed: what is missing now is to be written again.
    pub(super) fn seen(&mut self, service: &ServiceKey) {
        for family in Family::BOTH {
            self.written.remove(&(service.clone(), family));
        }
    }

    /// The Service is gone.
    pub(super) fn forget(&mut self, service: &ServiceKey) {
        self.seen(service);
        self.failed.remove(service);
    }

    /// A write failed.
    pub(super) fn failed(&mut self, service: &ServiceKey, now: Tick) {
        self.failed.insert(service.clone(), now + RETRY);
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.failed.values().min().map(|at| (*at, "annotation retry"))
    }

    /// Whether a failed write is to be tried again; forgets it as written if so.
    pub(super) fn is_due(&mut self, now: Tick) -> bool {
        let due: Vec<ServiceKey> =
            self.failed.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for service in &due {
            self.forget(service);
        }
        !due.is_empty()
    }
}

impl NodeAgent {
    /// Claims the slot of `ip` once it is on a local interface, and clears our own slot when this
    /// node gave it up without another having won it.
    pub(super) fn announce(
        &mut self,
        ip: IpAddr,
        want: &Want,
        verdict: &Verdict,
        is_present: bool,
    ) {
        let family = Family::of(ip);
        let interface = match verdict {
            Verdict::Local { link, .. } if is_present => {
                self.links.get(link).map(|link| link.name.clone())
            }
            Verdict::Local { .. }
            | Verdict::Withheld(Withheld::LostTo(_) | Withheld::NotYet(_) | Withheld::Stopping) => {
                return;
            }
            Verdict::Virtual { .. } | Verdict::Withheld(_) => None,
        };
        let mut writes = Vec::new();
        for service in self.services_of(want) {
            let now = Announcing::of(service, family);
            let next = match &interface {
                Some(interface) => {
                    let slot = Slot { node: self.me.clone(), interface: interface.clone() };
                    if now.slot(ip) == Some(&slot) {
                        continue;
                    }
                    let claimed = self.claimed_beside(service, family);
                    now.claimed(ip, slot, &service.ingress).merged(&claimed)
                }
                None => now.released(ip, &self.me),
            };
            if next != now {
                let value = (!next.is_empty()).then(|| next.to_string());
                writes.push((service.key.clone(), service.version.clone(), value));
            }
        }
        for (service, version, value) in writes {
            let written = self.claims.written.insert((service.clone(), family), value.clone());
            if written.as_ref() != Some(&value) {
                self.queue_announcement(service, version, family, value);
            }
        }
    }

    /// Adds to a write of the same Service that was not handed out yet, if there is one.
    fn queue_announcement(
        &mut self,
        service: ServiceKey,
        version: ResourceVersion,
        family: Family,
        value: Option<String>,
    ) {
        match self.actions.write_of(&service) {
            Some(write) => {
                write.version = version;
                write.values.insert(family, value);
            }
            None => {
                let values = BTreeMap::from([(family, value)]);
                let write = Announcement { service, version, values };
                self.actions.push_back(Action::Cluster(ClusterAction::Announce(write)));
            }
        }
    }

    /// What this node has just written about other addresses of the same Service.
    fn claimed_beside(&self, service: &Service, family: Family) -> Announcing {
        let written = self.claims.written.get(&(service.key.clone(), family));
        Announcing::parse(written.and_then(Option::as_deref).unwrap_or_default())
            .only_of(&self.me, &service.ingress)
    }
}

/// Whether a Service's annotations name a node that announces `ip`.
pub(super) fn is_announced(service: &Service, ip: IpAddr) -> bool {
    Announcing::of(service, Family::of(ip)).slot(ip).is_some()
}
