//! The virtual interface: made when missing, guarded against ARP, deleted when it is no longer needed
//! and we made it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::OnStop;
use crate::host::{Address, AddressKey, Family, Link, LinkIndex, Scope};
use crate::kernel::KernelAction;

use super::NodeAgent;
use super::guard::{self, Maker, Note};
use super::verdict::Verdict;

impl NodeAgent {
    /// Makes the virtual interface, keeps its alias and the ARP guards.
    pub(super) fn refresh_virtual_link(&mut self) {
        if !std::mem::take(&mut self.dirty.virtual_link) {
            return;
        }
        let is_wanted = self.spec().is_some() && self.stopping != Some(OnStop::Release);
        let others = self.links.iter().filter(|link| Some(link.index) != self.virtual_index);
        let former = others.filter(|link| is_noted(link) && self.hosts_nothing_of_ours(link));
        let former: Vec<KernelAction> = former.flat_map(|link| self.leaving(link)).collect();
        for action in former {
            self.ask_about_link(action);
        }
        let Some(link) = self.virtual_link().cloned() else {
            if is_wanted {
                let name = self.virtual_interface().to_owned();
                let alias = Note::created().to_string();
                self.hold.has_made_virtual = true;
                self.ask_about_link(KernelAction::CreateVirtual { name, alias });
            }
            return;
        };
        if !is_wanted && self.hosts_nothing_of_ours(&link) {
            for action in self.leaving(&link) {
                self.ask_about_link(action);
            }
            return;
        }
        // The kernel shows a new link before it has its alias.
        if self.hold.has_made_virtual && !is_noted(&link) {
            let alias = Note::created().to_string();
            return self.ask_about_link(KernelAction::SetAlias { link: link.index, alias });
        }
        self.hold.has_made_virtual = false;
        let needed = self.guards_needed();
        for action in guard::changes(&needed, is_wanted, &link, self.links.iter()) {
            self.ask_about_link(action);
        }
        // Whoever waited for the link or for a guard gets its address now.
        let waiting: Vec<IpAddr> = self
            .wants
            .iter()
            .filter(|(_, want)| matches!(want.verdict, Some(Verdict::Virtual { .. })))
            .filter(|(ip, _)| !self.addresses.of(**ip).any(|a| a.link == link.index))
            .map(|(ip, _)| *ip)
            .collect();
        for ip in waiting {
            self.reconcile(ip);
        }
    }

    /// What puts back the things that were changed for the sake of a virtual interface that is no
    /// longer one, and then deletes it if we made it and nobody else uses it.
    fn leaving(&self, link: &Link) -> Vec<KernelAction> {
        let mut actions = guard::changes(&BTreeSet::new(), false, link, self.links.iter());
        let is_ours = Note::parse(&link.alias).maker == Some(Maker::Us);
        if actions.is_empty() && is_ours && !self.is_used(link) {
            actions.push(KernelAction::DeleteVirtual { link: link.index });
        }
        actions
    }

    /// Whether it has an address, whosever.
    fn is_used(&self, link: &Link) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|address| address.link == link.index && address.scope != Scope::Link)
    }

    fn hosts_nothing_of_ours(&self, link: &Link) -> bool {
        !self.addresses.iter().any(|address| address.is_ours() && address.link == link.index)
    }

    /// Whether nothing is left on this host that was changed for the sake of a virtual interface,
    /// but for an interface that others use.
    pub(super) fn has_left_virtual(&self) -> bool {
        self.links.iter().filter(|link| is_noted(link)).all(|link| {
            let note = Note::parse(&link.alias);
            note.guarded.is_empty() && note.promote_secondaries.is_none() && self.is_used(link)
        })
    }

    /// Whether something has to be done about virtual interfaces once an address of ours is gone.
    pub(super) fn matters_to_virtual_links(&self, key: &AddressKey) -> bool {
        let is_needed = self.spec().is_some() && self.stopping.is_none();
        self.links.get(&key.link).is_some_and(is_noted)
            && (Some(key.link) != self.virtual_index
                || !is_needed
                || self.is_on_a_card(key.net.addr()))
    }

    fn is_on_a_card(&self, ip: IpAddr) -> bool {
        self.cards.iter().any(|(_, net)| net.contains(&ip))
    }

    /// The cards that would answer ARP for an address that is, or is to be, on the virtual link.
    fn guards_needed(&self) -> BTreeSet<LinkIndex> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let shown = self.addresses.iter().filter(|a| a.is_ours() && Some(a.link) == virtual_link);
        let wanted = self.wants.iter().filter_map(|(ip, want)| {
            matches!(want.verdict, Some(Verdict::Virtual { .. })).then_some(*ip)
        });
        let ips: BTreeSet<IpAddr> = shown.map(Address::ip).chain(wanted).collect();
        self.cards
            .iter()
            .filter(|(_, net)| ips.iter().any(|ip| net.contains(ip)))
            .map(|(link, _)| *link)
            .collect()
    }

    pub(super) fn is_guarded_for(&self, ip: IpAddr) -> bool {
        self.cards
            .iter()
            .filter(|(_, net)| net.contains(&ip))
            .all(|(link, _)| self.links.get(link).is_none_or(|link| guard::is_guarded(link.conf)))
    }

    /// The IPv4 subnets of the host's own addresses, but for those of the virtual link.
    pub(super) fn card_subnets(&self) -> Vec<(LinkIndex, IpNet)> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        self.addresses
            .iter()
            .filter(|address| !address.is_ours() && Some(address.link) != virtual_link)
            .filter(|address| Family::of(address.ip()) == Family::V4)
            .filter(|address| !self.links.get(&address.link).is_some_and(|link| link.loopback))
            .map(|address| (address.link, address.net.trunc()))
            .collect()
    }
}

/// Whether an alias says that a link is, or was, the virtual interface of an agent.
fn is_noted(link: &Link) -> bool {
    Note::parse(&link.alias).maker.is_some()
}
