//! Leaving a subnet to others when the kernel keeps refusing its addresses.
//!
//! A winner that cannot put an address on its interface (no permission, no room) would keep it from
//! everybody. So where another node could win, this one stops serving the subnet for a while, longer
//! each time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::host::LinkIndex;
use crate::time::Tick;

use super::NodeAgent;
use super::notice::NodeNotice;

/// How many refusals in a row are enough: with their pauses they take about a second and a half.
pub(super) const REFUSALS: u32 = 4;

/// The first time away; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The longest time away.
const LAST_PAUSE: Duration = Duration::from_secs(3600);

/// Subnets on interfaces that others are to serve.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Surrendered {
    subnets: BTreeMap<(LinkIndex, IpNet), Pause>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Until when; `None` when it is being tried again.
    until: Option<Tick>,
    span: Duration,
}

impl Surrendered {
    /// Whether the subnet is left to others now.
    pub(super) fn contains(&self, link: LinkIndex, subnet: IpNet) -> bool {
        self.subnets.get(&(link, subnet)).is_some_and(|pause| pause.until.is_some())
    }

    /// Leaves a subnet to others; for how long.
    fn add(&mut self, link: LinkIndex, subnet: IpNet, now: Tick) -> Duration {
        let before = self.subnets.get(&(link, subnet));
        let span = before.map_or(FIRST_PAUSE, |pause| (pause.span * 2).min(LAST_PAUSE));
        self.subnets.insert((link, subnet), Pause { until: Some(now + span), span });
        span
    }

    /// An address went onto the link: the next trouble there is new trouble.
    pub(super) fn forgive(&mut self, link: LinkIndex, ip: IpAddr) {
        self.subnets.retain(|(on, subnet), _| *on != link || !subnet.contains(&ip));
    }

    /// Ends the pauses that are over; whether there were any.
    pub(super) fn expire(&mut self, now: Tick) -> bool {
        let mut ended = false;
        for pause in self.subnets.values_mut() {
            if pause.until.is_some_and(|until| until <= now) {
                pause.until = None;
                ended = true;
            }
        }
        ended
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        let next = self.subnets.values().filter_map(|pause| pause.until).min();
        next.map(|at| (at, "serve a subnet again"))
    }
}

impl NodeAgent {
    /// The kernel has refused `ip` on `link` again and again: leaves its subnet to others if there
    /// are any.
    pub(super) fn surrender(&mut self, ip: IpAddr, link: LinkIndex) {
        let Some(want) = self.wants.get(&ip) else { return };
        if self.membership.ranking(ip, self.is_narrowed(want)).len() < 2 {
            return;
        }
        let services = self.refs(want);
        let served = self.local.values().flat_map(|election| &election.net().links);
        let subnets: Vec<IpNet> = served
            .filter(|(on, _)| *on == link)
            .flat_map(|(_, subnets)| subnets.iter().copied())
            .filter(|subnet| subnet.contains(&ip) && !self.surrendered.contains(link, *subnet))
            .collect();
        for subnet in subnets {
            let pause = self.surrendered.add(link, subnet, self.now);
            let interface = self.link_name(link);
            for service in services.clone() {
                let interface = interface.clone();
                self.tell(NodeNotice::GaveUp { ip, service, subnet, interface, pause });
            }
        }
        self.dirty.all = true;
    }
}

/// Whether another node might be spared this error: no permission or no room (`errno(3)`). What is
/// wrong with the address itself would only drive the subnet from node to node.
pub(super) fn is_about_this_node(errno: i32) -> bool {
    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const ENOSPC: i32 = 28;
    const ENOBUFS: i32 = 105;
    matches!(errno, EPERM | ENOMEM | EACCES | ENOSPC | ENOBUFS)
}
