//! Taking in facts: what they change, and what has to be looked at again because of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{ApiOutage, select};
use crate::few::Few;
use crate::group::Group;
use crate::host::{Address, AddressKey, Family, Link, LinkIndex};
use crate::link::{Policy, Unidentified};
use crate::membership::Standings;
use crate::name::ServiceKey;
use crate::place::PoolIndex;
use crate::service::Service;
use crate::store::{Change, Object, Store};

use super::local::{HostView, LocalElection};
use super::notice::{AgentRef, NodeNotice};
use super::verdict::Exclusion;
use super::{Action, ClusterAction, Config, Event, NodeAgent};

/// The addresses of this host, findable by address alone.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// Their marks say whose they are, also where the kernel keeps none.
    store: Store<Address>,
    by_ip: BTreeMap<IpAddr, Few<AddressKey>>,
    ours: usize,
}

impl Addresses {
    /// Takes in a change; returns what was there before under each key that differs now.
    pub(super) fn apply(
        &mut self,
        change: Change<Address>,
    ) -> Vec<(AddressKey, Option<Box<Address>>)> {
        let changed = self.store.replace(change);
        for (key, old) in &changed {
            let keys = self.by_ip.entry(key.net.addr()).or_default();
            if self.store.get(key).is_some() {
                keys.insert(*key);
            } else {
                keys.remove(key);
            }
            if keys.is_empty() {
                self.by_ip.remove(&key.net.addr());
            }
            self.ours += usize::from(self.store.get(key).is_some_and(Address::is_ours));
            self.ours -= usize::from(old.as_ref().is_some_and(|old| old.is_ours()));
        }
        changed
    }

    pub(super) fn is_listed(&self) -> bool {
        self.store.is_listed()
    }

    pub(super) fn get(&self, key: &AddressKey) -> Option<&Address> {
        self.store.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.store.iter()
    }

    /// Every place where `ip` is on this host.
    pub(super) fn of(&self, ip: IpAddr) -> impl Iterator<Item = &Address> {
        let keys = self.by_ip.get(&ip).into_iter().flat_map(Few::iter);
        keys.filter_map(|key| self.store.get(key))
    }

    /// Every address of this host that is in `net`.
    pub(super) fn within(&self, net: IpNet) -> impl Iterator<Item = &Address> {
        let all = self.by_ip.range(net.network()..=net.broadcast());
        all.flat_map(|(_, keys)| keys.iter()).filter_map(|key| self.store.get(key))
    }

    pub(super) fn has_none_of_ours(&self) -> bool {
        self.ours == 0
    }
}

impl NodeAgent {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Addresses(change) => self.take_in_addresses(change),
            Event::Agents(change) => self.dirty.config |= !self.agents.apply(change).is_empty(),
            Event::AnnounceFailed { service, error: _ } => self.claims.failed(&service, self.now),
            Event::Endpoints(change) => {
                for key in self.endpoints.apply(change) {
                    if let Some(service) = self.services.get(&key) {
                        self.dirty.ips.extend(wanted_by(service));
                    }
                }
            }
            Event::Groups(change) => {
                if !self.groups.apply(change).is_empty() {
                    let groups: Vec<Group> =
                        self.groups.iter().filter_map(|group| Group::parse(group).ok()).collect();
                    self.pools = PoolIndex::new(&groups);
                    self.dirty.ownership = true;
                    self.dirty.all = true;
                }
            }
            Event::Kernel(outcome) => self.take_in_outcome(&outcome),
            Event::Leases(event) => {
                let (before, was_listed) = (self.right(), self.membership.is_listed());
                if self.membership.handle_lease(event, self.now) == Standings::Changed {
                    self.dirty.all = true;
                }
                if self.right() != before {
                    self.prolong();
                }
                if was_listed && !self.membership.is_listed() {
                    self.actions.push_back(Action::Cluster(ClusterAction::ListLeases));
                }
            }
            Event::Links(change) => {
                if !self.links.apply(change).is_empty() {
                    self.find_virtual_link();
                    self.hold.link_changed();
                    self.dirty.local = true;
                    self.dirty.virtual_link = true;
                }
            }
            Event::Node(change) => self.dirty.config |= !self.node.apply(change).is_empty(),
            Event::Routes(change) => self.dirty.local |= !self.routes.apply(change).is_empty(),
            Event::Services(change) => {
                for (key, old) in self.services.replace(change) {
                    self.take_in_service(&key, old.as_deref());
                }
            }
            Event::Sighted(sighting) => self.take_in_sighting(sighting),
            Event::Slept => {
                if self.membership.fence_now(self.now) == Standings::Changed {
                    self.dirty.all = true;
                }
            }
            Event::Stop => self.stop(),
        }
    }

    fn take_in_addresses(&mut self, change: Change<Address>) {
        let change = self.attributed(change);
        match &change {
            Change::Listed(_) => self.dirty.ips.extend(self.hold.listed_anew()),
            Change::Updated(address) => self.hold.arrived(&address.key()),
            Change::Deleted(_) => {}
        }
        for (key, before) in self.addresses.apply(change) {
            let after = self.addresses.get(&key).cloned();
            let is_host = |address: &Address| !address.is_ours();
            let is_news_of_host =
                before.as_deref().is_some_and(is_host) || after.as_ref().is_some_and(is_host);
            self.dirty.local |= is_news_of_host;
            if after.is_none() {
                self.judge_loss(&key, before.as_deref());
                self.hold.gone(&key);
                self.bursts.stop(&key);
            } else if before.is_none() {
                self.hold.new.insert(key);
            }
            self.dirty.ips.insert(key.net.addr());
            let is_news_of_virtual = after.is_none() && self.matters_to_virtual_links(&key);
            self.dirty.virtual_link |= is_news_of_host || is_news_of_virtual;
        }
    }

    /// A Service came, changed or went: its addresses, old and new, are looked at again.
    fn take_in_service(&mut self, key: &ServiceKey, old: Option<&Service>) {
        for ip in old.into_iter().flat_map(wanted_by) {
            if let Some(want) = self.wants.get_mut(&ip) {
                want.services.remove(key);
            }
            self.dirty.ips.insert(ip);
        }
        let Some(service) = self.services.get(key).filter(|service| is_to_be_announced(service))
        else {
            self.claims.forget(key);
            return;
        };
        for ip in wanted_by(service) {
            self.wants.entry(ip).or_default().services.insert(key.clone());
            self.dirty.ips.insert(ip);
        }
        self.claims.seen(key);
    }

    pub(super) fn refresh_config(&mut self) {
        if !std::mem::take(&mut self.dirty.config) {
            return;
        }
        let node = self.node.get(&self.me);
        let labels = node.map(|node| node.labels.clone()).unwrap_or_default();
        let selection = select(self.agents.iter(), &labels);
        let config = Config {
            spec: selection.spec().cloned(),
            agent: selection.agent().map(AgentRef::from),
            exclusion: node.and_then(Exclusion::of),
        };
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let is_news = self
            .config
            .as_ref()
            .is_none_or(|old| old.agent != config.agent || old.spec.is_ok() != config.spec.is_ok());
        if is_news {
            self.tell(NodeNotice::Configured {
                agent: config.agent.clone(),
                problem: config.spec.as_ref().err().cloned(),
                node: self.me.clone(),
            });
        }
        let outage = config.spec.as_ref().map_or_else(|_| ApiOutage::default(), |s| s.api_outage);
        let _ = self.membership.set_api_outage(outage, self.now);
        self.config = Some(config);
        self.find_virtual_link();
        self.dirty.all = true;
        self.dirty.local = true;
        self.dirty.virtual_link = true;
    }

    pub(super) fn refresh_local(&mut self) {
        let patience_over =
            self.local.values().filter_map(|e| e.deadline()).any(|at| at <= self.now);
        if !std::mem::take(&mut self.dirty.local) && !patience_over {
            return;
        }
        self.cards = self.card_subnets();
        let Some(spec) = self.spec() else {
            for election in self.local.values_mut() {
                *election = LocalElection::default();
            }
            return;
        };
        let policy = Policy::from(spec);
        let links: Vec<&Link> = self.links.iter().collect();
        let addresses: Vec<&Address> = self.addresses.iter().filter(|a| !a.is_ours()).collect();
        let routes: Vec<_> = self.routes.iter().collect();
        let host = HostView { links: &links, addresses: &addresses, routes: &routes };
        let mut notices = Vec::new();
        for (family, election) in &mut self.local {
            let before = (
                election.net().unidentified.clone(),
                election.net().links.iter().map(|(link, _)| *link).collect::<Vec<_>>(),
            );
            if election.judge(*family, host, &policy, self.now) {
                self.dirty.ownership = true;
                self.dirty.all = true;
                self.dirty.virtual_link = true;
            }
            let net = election.net();
            let after =
                (net.unidentified.clone(), net.links.iter().map(|(link, _)| *link).collect());
            if before != after {
                notices.push((*family, after.0, after.1));
            }
        }
        for (family, unidentified, links) in notices {
            self.tell_local(family, unidentified.as_ref(), &links);
        }
    }

    fn tell_local(
        &mut self,
        family: Family,
        unidentified: Option<&Unidentified>,
        links: &[LinkIndex],
    ) {
        let notice = match unidentified {
            Some(why) => NodeNotice::Unidentified {
                family,
                why: why.describe(self.links.iter()),
                is_ambiguous: why.is_ambiguous(),
                virtual_interface: self.virtual_interface().to_owned(),
                agent: self.config.as_ref().and_then(|config| config.agent.clone()),
            },
            None => NodeNotice::Identified {
                family,
                interfaces: links.iter().map(|link| self.link_name(*link)).collect(),
            },
        };
        self.tell(notice);
    }
}

/// Whether a Service's addresses are PureLB's to announce.
fn is_to_be_announced(service: &Service) -> bool {
    service.is_load_balancer && service.is_branded()
}

/// The addresses that a Service asks nodes for.
fn wanted_by(service: &Service) -> impl Iterator<Item = IpAddr> {
    let ingress = service.ingress.iter().filter(|_| is_to_be_announced(service));
    ingress.map(IpAddr::to_canonical)
}
