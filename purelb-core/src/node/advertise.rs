//! Telling the neighbours where an address is now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::GarpConfig;
use crate::host::{AddressKey, Family};
use crate::kernel::KernelAction;
use crate::time::Tick;

use super::NodeAgent;
use super::agenda::Agenda;
use super::verdict::Verdict;

/// The gratuitous ARPs and neighbour advertisements that are still to be sent.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct Bursts {
    of: BTreeMap<AddressKey, Burst>,
    next: Agenda<AddressKey>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug)]
struct Burst {
    left: u32,
    interval: Duration,
    first: First,
}

/// Whether nobody of ours is known to have held an address before.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Others are asked whether they have it.
    Fresh,
    /// Its holder before may still be what others know.
    Moved,
}

impl Bursts {
    /// An address has appeared.
    pub(super) fn begin(&mut self, key: AddressKey, first: First, garp: &GarpConfig, now: Tick) {
        if garp.enabled {
            self.of.insert(key, Burst { left: garp.count, interval: garp.interval, first });
            self.next.put(key, now + garp.initial_delay);
        }
    }

    /// It is gone.
    pub(super) fn stop(&mut self, key: &AddressKey) {
        self.of.remove(key);
        self.next.remove(key);
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.next.first().map(|at| (at, "advertise"))
    }

    /// Those that are due now.
    fn take_due(&mut self, now: Tick) -> Vec<(AddressKey, First)> {
        let mut due = Vec::new();
        while let Some(key) = self.next.take_due(now) {
            due.extend(self.of.get(&key).map(|burst| (key, burst.first)));
        }
        for (key, _) in &due {
            let Some(burst) = self.of.get_mut(key) else { continue };
            burst.left = burst.left.saturating_sub(1);
            let interval = burst.interval;
            if burst.left == 0 {
                self.of.remove(key);
            } else {
                self.next.put(*key, now + interval);
            }
        }
        due
    }
}

impl NodeAgent {
    /// Sends what is due, for addresses that are there and still this node's.
    pub(super) fn advertise(&mut self) {
        for (key, first) in self.bursts.take_due(self.now) {
            let ip = key.net.addr();
            let Some(Verdict::Local { link, until, .. }) = self.verdict(ip) else {
                self.bursts.stop(&key);
                continue;
            };
            if *link != key.link || self.addresses.get(&key).is_none() {
                continue;
            }
            // The right may have been prolonged since the verdict.
            let until = self.right().unwrap_or(*until);
            let gateway = self.gateway(key);
            self.ask_kernel(KernelAction::Advertise {
                ip,
                link: key.link,
                gateway,
                until: Some(until),
            });
            match first {
                First::Fresh => self.ask_kernel(KernelAction::Probe { ip, link: key.link }),
                First::Moved => {}
            }
        }
    }

    /// The default gateway on the link of `key`, of its family.
    fn gateway(&self, key: AddressKey) -> Option<IpAddr> {
        let family = Family::of(key.net.addr());
        let defaults = self.routes.iter().filter(|route| {
            route.is_default() && route.family() == family && route.link == Some(key.link)
        });
        defaults.min_by_key(|route| route.metric)?.gateway
    }
}
