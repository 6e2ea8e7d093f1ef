//! What the API told: Services, their annotations, and leases.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::announcement::Slot;
use purelb_core::membership::fence;
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::time::Tick;

use super::steps::Steps;
use super::witness::Facts;
use super::{Mark, MarkKind};
use crate::top::model::{Fact, Model};

/// Who held what by the objects of the API: a node holds an address while a Service's annotation names it and
/// its lease has not run out.
#[derive(Clone, Debug, Default)]
pub struct Hearsay {
    /// Who held each address. There is nobody for one that is on no local interface.
    pub holders: BTreeMap<IpAddr, Steps<Option<Slot>>>,
    /// The Services that had each address.
    pub services: BTreeMap<IpAddr, Steps<BTreeSet<ServiceKey>>>,
    /// The nodes whose leases lived.
    pub live: Steps<BTreeSet<NodeName>>,
    /// When the lease of a node was about to run out: in this time its kernel took its addresses off.
    pub expiries: BTreeMap<NodeName, Vec<(Timestamp, Timestamp)>>,
    /// Leases and Services that came and went.
    pub marks: Vec<Mark>,
}

impl Hearsay {
    /// Of facts.
    pub fn of(facts: Facts) -> Self {
        let Some((first, _)) = facts.first() else { return Self::default() };
        let mut listener = Listener::new(*first);
        for (at, fact) in facts {
            listener.hear(fact, at);
        }
        listener.hearsay
    }
}

struct Listener {
    model: Model,
    hearsay: Hearsay,
    addresses: BTreeMap<ServiceKey, BTreeSet<IpAddr>>,
    dead: BTreeMap<NodeName, Timestamp>,
    has_services: bool,
    has_leases: bool,
}

impl Listener {
    fn new(at: Timestamp) -> Self {
        Self {
            model: Model::new(at),
            hearsay: Hearsay::default(),
            addresses: BTreeMap::new(),
            dead: BTreeMap::new(),
            has_services: false,
            has_leases: false,
        }
    }

    fn hear(&mut self, fact: Fact, at: Timestamp) {
        let is_of_services = matches!(fact, Fact::Services(_));
        let is_of_leases = matches!(fact, Fact::Leases(_));
        self.model.handle_fact(fact, at);
        if !self.model.take_news() {
            return;
        }
        self.compare_leases(at);
        self.has_leases |= is_of_leases;
        if is_of_services {
            self.compare_services(at);
            self.has_services = true;
        }
        for (ip, holding) in self.model.holdings().iter() {
            let since = holding.since.unwrap_or(at);
            self.hearsay.holders.entry(ip).or_default().set(since, holding.holder.clone());
        }
    }

    fn compare_leases(&mut self, at: Timestamp) {
        let dead = self.model.holdings().dead();
        for (node, since) in dead.iter().filter(|(node, _)| !self.dead.contains_key(node)) {
            let lease = self.model.lease(node);
            let how = if lease.is_some() { "ran out" } else { "is gone" };
            if let Some((_, duration)) = lease
                && let Ok(fenced) = since.checked_sub(unheld(duration))
            {
                let expiries = self.hearsay.expiries.entry(node.clone()).or_default();
                expiries.push((fenced, *since));
            }
            if self.has_leases {
                let text = format!("the lease of {node} {how}");
                let (kind, whose) = (MarkKind::LeaseLost, node.to_string());
                self.hearsay.marks.push(Mark { at: *since, kind, whose, text });
            }
        }
        let live: BTreeSet<NodeName> =
            self.model.leased().filter(|node| !dead.contains_key(node)).cloned().collect();
        let before = self.hearsay.live.last().cloned().unwrap_or_default();
        for node in live.difference(&before) {
            if self.has_leases {
                let text = format!("the lease of {node} is there");
                let (kind, whose) = (MarkKind::LeaseLive, node.to_string());
                self.hearsay.marks.push(Mark { at, kind, whose, text });
            }
        }
        self.dead = dead.clone();
        self.hearsay.live.set(at, live);
    }

    fn compare_services(&mut self, at: Timestamp) {
        let now: BTreeMap<ServiceKey, BTreeSet<IpAddr>> = self
            .model
            .services()
            .iter()
            .filter(|service| service.is_load_balancer && service.is_branded())
            .map(|service| (service.key.clone(), service.ingress.iter().copied().collect()))
            .collect();
        let is_news = self.has_services;
        let mark = |key: &ServiceKey, what| {
            let (whose, text) = (key.to_string(), format!("Service {key} {what}"));
            is_news.then_some(Mark { at, kind: MarkKind::Service, whose, text })
        };
        let mut touched: BTreeSet<IpAddr> = BTreeSet::new();
        for (key, ips) in &now {
            match self.addresses.get(key) {
                None => self.hearsay.marks.extend(mark(key, "is there")),
                Some(before) if before == ips => continue,
                Some(before) => touched.extend(before),
            }
            touched.extend(ips);
        }
        let gone: Vec<_> =
            self.addresses.iter().filter(|(key, _)| !now.contains_key(key)).collect();
        for (key, ips) in gone {
            touched.extend(ips);
            self.hearsay.marks.extend(mark(key, "is gone"));
        }
        for ip in touched {
            let has = |(_, ips): &(&ServiceKey, &BTreeSet<IpAddr>)| ips.contains(&ip);
            let users = now.iter().filter(has).map(|(key, _)| key.clone()).collect();
            self.hearsay.services.entry(ip).or_default().set(at, users);
        }
        self.addresses = now;
    }
}

/// How long before the end of a lease of so many seconds its holder's right ends.
fn unheld(duration: f64) -> Duration {
    let duration = Duration::from_secs_f64(duration);
    duration.saturating_sub(fence(Tick::START, duration).since(Tick::START))
}
