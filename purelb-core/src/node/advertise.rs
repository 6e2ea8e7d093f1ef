//! Telling the neighbours where an address is now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::GarpConfig;
use crate::host::{AddressKey, Family};
use crate::kernel::KernelAction;
use crate::time::Tick;

use super::NodeAgent;
use super::verdict::Verdict;

/// The gratuitous ARPs and neighbour advertisements that are still to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Bursts {
    of: BTreeMap<AddressKey, Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    next: Tick,
    left: u32,
    interval: Duration,
}

impl Bursts {
    /// An address has appeared.
    pub(super) fn begin(&mut self, key: AddressKey, garp: &GarpConfig, now: Tick) {
        if garp.enabled {
            let next = now + garp.initial_delay;
            self.of.insert(key, Burst { next, left: garp.count, interval: garp.interval });
        }
    }

    /// It is gone.
    pub(super) fn stop(&mut self, key: &AddressKey) {
        self.of.remove(key);
    }

    pub(super) fn deadline(&self) -> Option<(Tick, &'static str)> {
        self.of.values().map(|burst| (burst.next, "advertise")).min()
    }

    /// Those that are due now.
    fn take_due(&mut self, now: Tick) -> Vec<AddressKey> {
        let due: Vec<AddressKey> =
            self.of.iter().filter(|(_, burst)| burst.next <= now).map(|(key, _)| *key).collect();
        for burst in self.of.values_mut().filter(|burst| burst.next <= now) {
            burst.left = burst.left.saturating_sub(1);
            burst.next = now + burst.interval;
        }
        self.of.retain(|_, burst| burst.left > 0);
        due
    }
}

impl NodeAgent {
    /// Sends what is due, for addresses that are there and still this node's.
    pub(super) fn advertise(&mut self) {
        for key in self.bursts.take_due(self.now) {
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
