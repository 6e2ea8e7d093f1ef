//! Bringing one address up to date: decide, ask the kernel for the difference, tell who should know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{AddressConfig, ValidLifetime};
use crate::diff;
use crate::host::{Address, AddressKey, Family, LinkIndex};
use crate::kernel::{KernelAction, Lifetime, NewAddress};
use crate::membership::NotYet;
use crate::place::Placement;
use crate::store::Object;
use crate::time::Tick;

use super::advertise::First;
use super::notice::NodeNotice;
use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want};

impl NodeAgent {
    /// Looks again at every address that has to be.
    pub(super) fn reconcile_dirty(&mut self) {
        let mut ips = std::mem::take(&mut self.dirty.ips);
        if std::mem::take(&mut self.dirty.all) {
            ips.extend(self.wants.keys());
            ips.extend(self.addresses.iter().filter(|a| a.is_ours()).map(Address::ip));
            ips.extend(self.hold.pending.keys().map(|key| key.net.addr()));
            self.dirty.virtual_link = true;
        }
        for ip in ips {
            self.reconcile(ip);
        }
    }

    /// Decides about one address, and asks the kernel for the difference.
    pub(super) fn reconcile(&mut self, ip: IpAddr) {
        let want = self.wants.get(&ip).filter(|want| !want.services.is_empty()).cloned();
        if want.as_ref().is_some_and(|want| self.is_narrowed(want)) {
            self.narrowed.insert(ip);
        } else {
            self.narrowed.remove(&ip);
        }
        let mut elections = std::mem::take(&mut self.elections);
        let verdict = want.as_ref().map(|want| self.decide(ip, want, &mut elections));
        self.elections = elections;
        let wanted = verdict.as_ref().and_then(|verdict| self.wanted(verdict));
        // It has to wait for the virtual interface, or for its guard.
        self.dirty.virtual_link |=
            matches!(verdict, Some(Verdict::Virtual { .. })) && wanted.is_none();
        let tolerated = match (&want, &verdict) {
            (Some(want), Some(verdict)) => self.tolerated(ip, want, verdict),
            (None, _) | (_, None) => None,
        };

        let observed: Vec<Address> = self.addresses.of(ip).cloned().collect();
        for key in observed.iter().map(Object::key).filter(|key| Some(*key) != tolerated) {
            self.hold.adopted.remove(&key);
        }
        self.await_arrival(ip, want.as_ref(), verdict.as_ref(), &observed);
        let relevant = observed.iter().filter(|address| Some(address.key()) != tolerated);
        let mut actions = diff::changes(wanted.as_ref(), relevant);
        actions.extend(wanted.filter(|new| self.is_inherited(new)).map(KernelAction::AddAddress));
        let wanted_key = wanted.map(|wanted| wanted.key());
        let strays = self.hold.pending.of(ip).filter(|key| Some(**key) != wanted_key);
        actions.extend(strays.map(|key| KernelAction::RemoveAddress(*key)));
        self.heed(ip, verdict.as_ref());
        let is_add = |action: &KernelAction| matches!(action, KernelAction::AddAddress(_));
        let is_new = observed.is_empty() && actions.iter().any(is_add);
        for action in actions {
            self.ask_about(ip, action);
        }
        self.tell_foreign(ip, want.as_ref(), &observed);
        if let (true, Some(Verdict::Local { link, .. }), Some(want)) = (is_new, &verdict, &want)
            && wanted_key.is_some_and(|key| self.hold.pending.contains(&key))
            && self.is_fresh(ip, want)
        {
            self.ask_kernel(KernelAction::Probe { ip, link: *link });
        }
        self.judge_settled(ip, wanted.map(|wanted| wanted.key()), tolerated, &observed);
        self.report(ip, want, verdict, wanted, &observed);
    }

    /// Whether it is there by the right of the process before, and is to be by this one's now.
    fn is_inherited(&self, new: &NewAddress) -> bool {
        matches!(new.lifetime, Lifetime::Until(_))
            && !self.hold.granted.contains_key(&new.key())
            && self.addresses.get(&new.key()).is_some_and(|a| a.is_ours() && a.valid.is_some())
    }

    /// What is wanted of the kernel for a verdict, as far as it can be asked for now.
    pub(super) fn wanted(&self, verdict: &Verdict) -> Option<NewAddress> {
        let spec = self.spec()?;
        match *verdict {
            Verdict::Local { link, net, until } => {
                Some(new_address(link, net, &spec.local_addresses, until, true))
            }
            Verdict::Virtual { net, why: _ } => {
                let link = self.virtual_link()?;
                let key = AddressKey { link: link.index, net };
                // A card in its subnet must be kept from answering for it before it is there.
                let is_there = self.addresses.get(&key).is_some();
                if !is_there && !self.is_guarded_for(net.addr()) {
                    return None;
                }
                Some(new_address(link.index, net, &spec.virtual_addresses, self.now, false))
            }
            Verdict::Withheld(_) => None,
        }
    }

    /// The adopted address that is neither prolonged nor removed: this node has won it, belongs where
    /// it is, and only has to wait for its first join.
    fn tolerated(&self, ip: IpAddr, want: &Want, verdict: &Verdict) -> Option<AddressKey> {
        let is_waiting = match verdict {
            Verdict::Withheld(Withheld::NotYet(NotYet::Fenced | NotYet::Joining { .. })) => {
                self.membership.is_first_join()
            }
            Verdict::Withheld(_) | Verdict::Local { .. } | Verdict::Virtual { .. } => false,
        };
        if !is_waiting {
            return None;
        }
        let Ok(Placement::Local { link, net }) = self.placement_for(ip, want) else { return None };
        let key = AddressKey { link, net };
        self.hold.adopted.contains(&key).then_some(key)
    }

    /// Notes whether something is, or may be, on a local interface without a right.
    fn judge_settled(
        &mut self,
        ip: IpAddr,
        wanted: Option<AddressKey>,
        tolerated: Option<AddressKey>,
        observed: &[Address],
    ) {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let ours = observed.iter().filter(|address| address.is_ours()).map(Object::key);
        let pending = self.hold.pending.of(ip).copied();
        let is_stray = ours.chain(pending).any(|key| {
            Some(key.link) != virtual_link && Some(key) != wanted && Some(key) != tolerated
        });
        if is_stray {
            self.hold.unsettled.insert(ip);
        } else {
            self.hold.unsettled.remove(&ip);
        }
    }

    /// Tells what changed about one address: to people, to neighbours, in annotations.
    fn report(
        &mut self,
        ip: IpAddr,
        want: Option<Want>,
        verdict: Option<Verdict>,
        wanted: Option<NewAddress>,
        observed: &[Address],
    ) {
        let is_present =
            wanted.is_some_and(|wanted| observed.iter().any(|a| a.key() == wanted.key()));
        let (Some(mut want), Some(verdict)) = (want, verdict) else {
            self.wants.remove(&ip);
            self.elections.forget(ip);
            self.forget_silence(ip);
            return;
        };
        let is_news = want.verdict.as_ref().is_none_or(|old| !old.says_the_same_as(&verdict));
        if let (true, Verdict::Withheld(why)) = (is_news, &verdict) {
            for service in self.refs(&want) {
                self.tell(NodeNotice::Withheld { ip, service, why: why.clone() });
            }
        }
        if let Some(key) = wanted.map(|wanted| wanted.key()).filter(|_| is_present) {
            self.appeared(ip, key, &verdict, &want);
        }
        self.judge_silence(ip, &want, &verdict);
        self.announce(ip, &want, &verdict, is_present);
        want.verdict = Some(verdict);
        self.wants.insert(ip, want);
    }

    /// A wanted address is there: told once, advertised if others may think it elsewhere.
    fn appeared(&mut self, ip: IpAddr, key: AddressKey, verdict: &Verdict, want: &Want) {
        if !self.hold.new.remove(&key) {
            return;
        }
        self.hold.refused.remove(&ip);
        self.surrendered.forgive(key.link, ip);
        self.tell_arrival(ip, key.link);
        let why = match verdict {
            Verdict::Virtual { why, .. } => Some(*why),
            Verdict::Local { .. } | Verdict::Withheld(_) => None,
        };
        if why.is_none()
            && let Some(garp) = self.spec().map(|spec| spec.garp)
            && !self.hold.adopted.contains(&key)
        {
            let first = if self.is_fresh(ip, want) { First::Fresh } else { First::Moved };
            self.bursts.begin(key, first, &garp, self.now);
        }
        let interface = self.link_name(key.link);
        for service in self.refs(want) {
            let node = self.me.clone();
            self.tell(NodeNotice::Announced {
                ip,
                service,
                node,
                interface: interface.clone(),
                why,
            });
        }
    }

    /// Tells of addresses of others that equal one of a Service, and when they no longer do.
    fn tell_foreign(&mut self, ip: IpAddr, want: Option<&Want>, observed: &[Address]) {
        let foreign = observed.iter().filter(|a| want.is_some() && !a.is_ours()).map(Object::key);
        let now: BTreeSet<AddressKey> = foreign.collect();
        if now.is_empty() && !self.foreign.contains_key(&ip) {
            return;
        }
        let services = want.map(|want| self.refs(want)).unwrap_or_default();
        let told = self.foreign.remove(&ip).unwrap_or_default();
        for key in now.symmetric_difference(&told.keys().copied().collect()) {
            let is_there = now.contains(key);
            let (name, services) = match told.get(key) {
                Some((name, services)) => (name.clone(), services.clone()),
                None => (self.link_name(key.link), services.clone()),
            };
            for service in services {
                let interface = name.clone();
                self.tell(match is_there {
                    true => NodeNotice::Foreign { ip, service, interface },
                    false => NodeNotice::ForeignGone { ip, service, interface },
                });
            }
        }
        let kept = now.into_iter().map(|key| match told.get(&key) {
            Some(known) => (key, known.clone()),
            None => (key, (self.link_name(key.link), services.clone())),
        });
        let kept: BTreeMap<_, _> = kept.collect();
        if !kept.is_empty() {
            self.foreign.insert(ip, kept);
        }
    }
}

/// How an address is put on a link. On a local interface an IPv6 one is never a source address, so
/// that the node's own traffic keeps the node's address.
fn new_address(
    link: LinkIndex,
    net: IpNet,
    config: &AddressConfig,
    until: Tick,
    is_local: bool,
) -> NewAddress {
    let lifetime = match config.valid {
        ValidLifetime::Fenced if is_local => Lifetime::Until(until),
        ValidLifetime::Fenced | ValidLifetime::Forever => Lifetime::Forever,
        ValidLifetime::Seconds(seconds) => Lifetime::Seconds(seconds),
    };
    let is_v6 = Family::of(net.addr()) == Family::V6;
    let deprecated =
        lifetime != Lifetime::Forever && (config.preferred == Some(0) || (is_local && is_v6));
    NewAddress { link, net, lifetime, deprecated, no_prefix_route: config.no_prefix_route }
}
