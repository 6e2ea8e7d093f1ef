//! What the leases have to know about this host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::OnStop;
use crate::host::{Address, AddressKey, Link};
use crate::membership::HostReport;
use crate::place::Placement;
use crate::store::Object;

use super::NodeAgent;

impl NodeAgent {
    /// What the leases have to know about this host.
    pub(super) fn host_report(&self) -> HostReport {
        let serving = self.serving();
        let (subnets, listed) = self.membership.published();
        let lists = self.lists();
        // While something is on an interface that may not be there, whatever it is in stays said.
        let stays = |net: &&IpNet| !self.hold.unsettled.is_empty() || !serving.contains(net);
        let leaving: Vec<IpNet> = subnets.iter().filter(stays).copied().collect();
        let unlisted: BTreeSet<IpAddr> = listed.difference(&lists).copied().collect();
        let needs_ends = self.membership.is_shortening();
        let mut occupied = BTreeSet::new();
        let mut occupied_lists = BTreeSet::new();
        let mut holds_until = None;
        if !leaving.is_empty() || !unlisted.is_empty() || needs_ends {
            for (key, address) in self.possibly_local() {
                let ip = key.net.addr();
                occupied.extend(leaving.iter().filter(|net| net.contains(&ip)));
                if unlisted.contains(&ip) {
                    occupied_lists.insert(ip);
                }
                let granted = self.hold.granted.get(&key).copied();
                let valid = address.and_then(|address| address.valid);
                let shown = valid.map(|secs| self.now + Duration::from_secs(u64::from(secs) + 1));
                holds_until = holds_until.max(granted.or(shown));
            }
        }
        HostReport {
            serving,
            lists,
            occupied,
            occupied_lists,
            is_settled: self.hold.unsettled.is_empty(),
            holds_until,
            is_adopting: self.hold.is_adopting,
        }
    }

    /// Addresses of ours that are, or may be, on a local interface.
    fn possibly_local(&self) -> impl Iterator<Item = (AddressKey, Option<&Address>)> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let shown = self.addresses.iter().filter(|address| address.is_ours());
        let shown = shown.map(|address| (address.key(), Some(address)));
        let pending = self.hold.pending.keys().map(|key| (*key, None));
        shown.chain(pending).filter(move |(key, _)| Some(key.link) != virtual_link)
    }

    /// The subnets that can be served now.
    fn serving(&self) -> BTreeSet<IpNet> {
        let is_able = self.stopping != Some(OnStop::Release)
            && self
                .config
                .as_ref()
                .is_some_and(|config| config.spec.is_ok() && config.exclusion.is_none());
        if !is_able {
            return BTreeSet::new();
        }
        let nets = self.local.values().flat_map(|election| &election.net().links);
        nets.filter(|(link, _)| self.links.get(link).is_some_and(Link::is_operational))
            .flat_map(|(link, subnets)| subnets.iter().map(|subnet| (*link, *subnet)))
            .filter(|(link, subnet)| !self.surrendered.contains(*link, *subnet))
            .map(|(_, subnet)| subnet)
            .collect()
    }

    /// The addresses that this node asks for beyond others, having endpoints for them.
    fn lists(&self) -> BTreeSet<IpAddr> {
        let is_asked_for = |ip: &IpAddr| {
            self.wants.get(ip).is_some_and(|want| {
                self.has_endpoint(want)
                    && matches!(self.placement_for(*ip, want), Ok(Placement::Local { .. }))
            })
        };
        self.narrowed.iter().copied().filter(is_asked_for).collect()
    }
}
