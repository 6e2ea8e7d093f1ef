//! What is seen, with the moment at which it was: addresses on the nodes, Services in the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use purelb_core::service::Service;
use purelb_core::store::Change;
use purelb_k8s::{Client, watch};
use purelb_netlink::{HostChange, Watch, WatchError};

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The nodes that have an address now.
    pub(super) holders: BTreeMap<IpAddr, BTreeSet<usize>>,
    /// When an address appeared last on any node.
    pub(super) appeared: BTreeMap<IpAddr, Instant>,
    /// When an address went last from any node.
    pub(super) gone: BTreeMap<IpAddr, Instant>,
    /// How long two nodes had an address at once, each time that this ended.
    pub(super) doubles: Vec<Duration>,
    /// Since when two nodes have it.
    double_since: BTreeMap<IpAddr, Instant>,
    /// When a Service was seen first, and when with addresses.
    pub(super) services: BTreeMap<String, (Instant, Option<Instant>)>,
    /// The addresses of the Services that have some.
    pub(super) ingress: BTreeMap<String, Vec<IpAddr>>,
    /// Why nothing more will be seen.
    pub(super) blind: Option<String>,
}

impl Seen {
    fn appears(&mut self, node: usize, address: IpAddr) {
        let now = Instant::now();
        let holders = self.holders.entry(address).or_default();
        if holders.insert(node) {
            self.appeared.insert(address, now);
            if holders.len() == 2 {
                self.double_since.insert(address, now);
            }
        }
    }

    fn goes(&mut self, node: usize, address: IpAddr) {
        let now = Instant::now();
        let Some(holders) = self.holders.get_mut(&address) else { return };
        if holders.remove(&node) {
            self.gone.insert(address, now);
            if holders.len() == 1
                && let Some(since) = self.double_since.remove(&address)
            {
                self.doubles.push(now - since);
            }
        }
    }

    /// How many addresses are on some node.
    pub(super) fn held(&self) -> usize {
        self.holders.values().filter(|holders| !holders.is_empty()).count()
    }

    /// The addresses that a node has.
    pub(super) fn of_node(&self, node: usize) -> Vec<IpAddr> {
        let held = self.holders.iter().filter(|(_, holders)| holders.contains(&node));
        held.map(|(address, _)| *address).collect()
    }

    fn service(&mut self, service: &Service) {
        let now = Instant::now();
        let name = service.key.to_string();
        let (_, answered) = self.services.entry(name.clone()).or_insert((now, None));
        if !service.ingress.is_empty() {
            answered.get_or_insert(now);
            self.ingress.insert(name, service.ingress.clone());
        }
    }
}

/// Seen from several threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight(Arc<Mutex<Seen>>);

impl Sight {
    pub(super) fn look(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the addresses of the network namespace of its thread, but for those that are there.
    pub(super) async fn watch_node(self, node: usize) {
        if let Err(error) = self.follow_node(node).await {
            self.look().blind = Some(format!("node {node}: {error}"));
        }
    }

    async fn follow_node(&self, node: usize) -> Result<(), WatchError> {
        let mut watch = Watch::open()?;
        loop {
            match watch.next().await? {
                HostChange::Addresses(Change::Updated(address)) if address.is_ours() => {
                    self.look().appears(node, address.ip());
                }
                HostChange::Addresses(Change::Deleted(key)) => {
                    self.look().goes(node, key.net.addr());
                }
                HostChange::Addresses(Change::Listed(all)) => {
                    let ours = all.iter().filter(|address| address.is_ours());
                    let now: BTreeSet<_> = ours.map(|address| address.ip()).collect();
                    let mut seen = self.look();
                    for address in seen.of_node(node) {
                        if !now.contains(&address) {
                            seen.goes(node, address);
                        }
                    }
                    now.into_iter().for_each(|address| seen.appears(node, address));
                }
                HostChange::Addresses(Change::Updated(_))
                | HostChange::Links(_)
                | HostChange::Routes(_)
                | HostChange::Sighted(_) => {}
            }
        }
    }

    /// Watches the Services.
    pub(super) async fn watch_services(self, client: Client) {
        let mut changes = watch::services(client);
        while let Some(change) = changes.next().await {
            let mut seen = self.look();
            match change {
                Change::Listed(services) => {
                    services.iter().for_each(|service| seen.service(service));
                }
                Change::Updated(service) => seen.service(&service),
                Change::Deleted(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_on_two_nodes_is_a_double_until_one_lets_go() {
        let mut seen = Seen::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        seen.appears(0, address);
        seen.appears(0, address);
        assert_eq!((seen.held(), seen.doubles.len()), (1, 0));
        seen.appears(1, address);
        seen.goes(0, address);
        assert_eq!((seen.held(), seen.doubles.len()), (1, 1));
        assert_eq!(seen.of_node(1), [address]);
        seen.goes(1, address);
        seen.goes(1, address);
        assert_eq!((seen.held(), seen.doubles.len()), (0, 1));
    }
}
