//! What the leases have to know about this host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::OnStop;
use crate::host::{AddressKey, Link};
use crate::membership::HostReport;
use crate::place::Placement;
use crate::store::Object;
use crate::time::Tick;

use super::NodeAgent;

impl NodeAgent {
    /// What the leases have to know about this host.
    pub(super) fn host_report(&self) -> HostReport {
        let serving = self.serving();
        let (subnets, listed) = self.membership.published();
        let lists = self.lists();
        // While something is on an interface that may not be there, whatever it is in stays said.
        let is_settled = self.hold.unsettled.is_empty();
        let leaving = subnets.into_iter().filter(|net| !is_settled || !serving.contains(net));
        let unlisted = listed.into_iter().filter(|ip| !is_settled || !lists.contains(ip));
        // This is asked after every fact, and when all addresses go there is a fact for each of them: a
        // look at all of them every time would take the processor for seconds.
        let holds_until = if self.membership.is_shortening() { self.holds_until() } else { None };
        let occupied = leaving.filter(|net| self.is_occupied(*net)).collect();
        let occupied_lists = unlisted.filter(|ip| self.is_occupied((*ip).into())).collect();
        HostReport {
            serving,
            lists,
            occupied,
            occupied_lists,
            is_settled,
            holds_until,
            is_adopting: self.hold.is_adopting,
        }
    }

    /// Whether an address of ours in `net` is, or may be, on a local interface.
    fn is_occupied(&self, net: IpNet) -> bool {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let is_local = |key: &AddressKey| Some(key.link) != virtual_link;
        let mut shown = self.addresses.within(net).filter(|address| address.is_ours());
        shown.any(|address| is_local(&address.key())) || self.hold.pending.within(net).any(is_local)
    }

    /// When the last address of ours goes that is, or may be, on a local interface.
    fn holds_until(&self) -> Option<Tick> {
        let virtual_link = self.virtual_link().map(|link| link.index);
        let shown = self.addresses.iter().filter(|address| address.is_ours());
        let shown = shown.map(|address| (address.key(), address.valid));
        let all = shown.chain(self.hold.pending.keys().map(|key| (*key, None)));
        let local = all.filter(|(key, _)| Some(key.link) != virtual_link);
        let ends = local.filter_map(|(key, valid)| {
            let shown = valid.map(|secs| self.now + Duration::from_secs(u64::from(secs) + 1));
            self.hold.granted.get(&key).copied().or(shown)
        });
        ends.max()
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
