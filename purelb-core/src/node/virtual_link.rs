//! The virtual interface: made when missing, guarded against ARP, never deleted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::{Address, Family, LinkIndex};
use crate::kernel::KernelAction;

use super::NodeAgent;
use super::guard::{self, Note};
use super::verdict::Verdict;

impl NodeAgent {
    /// Makes the virtual interface, keeps its alias and the ARP guards.
    pub(super) fn refresh_virtual_link(&mut self) {
        if !std::mem::take(&mut self.dirty.virtual_link) {
            return;
        }
        let is_wanted = self.spec().is_some() && self.stopping.is_none();
        let Some(link) = self.virtual_link().cloned() else {
            if is_wanted {
                let name = self.virtual_interface().to_owned();
                let alias = Note::created().to_string();
                self.hold.has_made_virtual = true;
                self.ask_about_link(KernelAction::CreateVirtual { name, alias });
            }
            return;
        };
        let is_noted = Note::parse(&link.alias).maker.is_some();
        // The kernel shows a new link before it has its alias.
        if self.hold.has_made_virtual && !is_noted {
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
