//! The local interfaces of this node, judged with a second of patience.

use std::time::Duration;

use crate::host::{Address, Family, Link, LinkIndex, Route};
use crate::link::{Policy, local_links, subnets};
use crate::place::LocalNet;
use crate::time::Tick;

/// How long a second default route must stand before it counts: DHCP and router advertisements
/// replace a route by having two for a moment.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the local interfaces of one family are, as last judged.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(super) struct LocalElection {
    net: LocalNet,
    /// Since when there has been too much to choose from while the last choice still stands.
    ambiguous_since: Option<Tick>,
}

/// What a host's kernel shows, borrowed for one judgement.
#[derive(Clone, Copy)]
pub(super) struct HostView<'a> {
    pub(super) links: &'a [&'a Link],
    pub(super) addresses: &'a [&'a Address],
    pub(super) routes: &'a [&'a Route],
}

impl LocalElection {
    /// The local interfaces with their subnets: those that packets can leave by before the others, and
    /// of either kind the preferred one first.
    pub(super) fn net(&self) -> &LocalNet {
        &self.net
    }

    /// When patience ends, while it lasts.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.ambiguous_since.map(|since| since + PATIENCE)
    }

    /// Judges anew; tells whether anything is different.
    pub(super) fn judge(
        &mut self,
        family: Family,
        host: HostView<'_>,
        policy: &Policy,
        now: Tick,
    ) -> bool {
        let found =
            local_links(family, host.links.iter().copied(), host.routes.iter().copied(), policy);
        let mut links = found.links;
        let mut unidentified = found.unidentified;
        let is_ambiguous = unidentified.as_ref().is_some_and(|why| why.is_ambiguous());
        let stood = self.net.unidentified.is_none() && self.last_choice_stands(host.links);
        if is_ambiguous && stood {
            let since = *self.ambiguous_since.get_or_insert(now);
            if now < since + PATIENCE {
                links = self.net.links.iter().map(|(link, _)| *link).collect();
                unidentified = None;
            } else {
                self.ambiguous_since = None;
            }
        } else {
            self.ambiguous_since = None;
        }
        // Of two links in one subnet the one that works serves it.
        links.sort_by_key(|link| !is_operational(*link, host.links));
        let net = LocalNet {
            links: links
                .into_iter()
                .map(|link| {
                    let addresses = host.addresses.iter().copied();
                    (link, subnets(family, link, addresses, host.routes.iter().copied()))
                })
                .collect(),
            unidentified,
        };
        let changed = net != self.net;
        self.net = net;
        changed
    }

    fn last_choice_stands(&self, links: &[&Link]) -> bool {
        self.net.links.first().is_some_and(|(link, _)| is_operational(*link, links))
    }
}

fn is_operational(index: LinkIndex, links: &[&Link]) -> bool {
    links.iter().any(|link| link.index == index && link.is_operational())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{AddressFlags, LinkConf, LinkKind, RouteKind, Scope};

    fn link(index: u32) -> Link {
        Link {
            index: LinkIndex(index),
            name: format!("eth{index}"),
            mac: None,
            kind: LinkKind::Other,
            up: true,
            carrier: true,
            loopback: false,
            alias: String::new(),
            conf: LinkConf::default(),
        }
    }

    fn default_route(link: u32, metric: u32) -> Route {
        Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Unicast,
            link: Some(LinkIndex(link)),
            gateway: Some("192.0.2.1".parse().unwrap()),
            source: None,
            metric,
            tos: 0,
            protocol: 3,
        }
    }

    fn judge(election: &mut LocalElection, routes: &[Route], millis: i64) -> bool {
        let (eth1, eth2) = (link(1), link(2));
        let address = Address {
            link: LinkIndex(1),
            net: "192.0.2.11/24".parse().unwrap(),
            broadcast: None,
            flags: AddressFlags::default(),
            scope: Scope::Global,
            mark: 0,
            valid: None,
        };
        let routes: Vec<_> = routes.iter().collect();
        let host = HostView { links: &[&eth1, &eth2], addresses: &[&address], routes: &routes };
        election.judge(Family::V4, host, &Policy::default(), Tick::from_nanos(millis * 1_000_000))
    }

    #[test]
    fn a_second_default_route_must_stand_for_a_second() {
        let mut election = LocalElection::default();
        let (one, two) = (default_route(1, 0), default_route(2, 100));
        assert!(judge(&mut election, std::slice::from_ref(&one), 0));
        assert!(!judge(&mut election, &[one.clone(), two.clone()], 100));
        assert_eq!(election.deadline(), Some(Tick::from_nanos(1_100_000_000)));
        assert!(!judge(&mut election, &[one.clone(), two.clone()], 1099));
        assert!(judge(&mut election, &[one.clone(), two], 1100));
        assert!(election.net().unidentified.is_some() && election.deadline().is_none());
        assert!(judge(&mut election, &[one], 1200), "its going away counts at once");
        assert!(election.net().unidentified.is_none());
    }

    #[test]
    fn a_route_that_replaces_another_moves_nothing() {
        let mut election = LocalElection::default();
        let (old, new) = (default_route(1, 0), default_route(1, 100));
        judge(&mut election, std::slice::from_ref(&old), 0);
        assert!(!judge(&mut election, &[old, new.clone()], 100));
        assert!(!judge(&mut election, &[new], 200));
        assert_eq!(election.deadline(), None);
    }

    #[test]
    fn two_at_the_start_count_at_once() {
        let mut election = LocalElection::default();
        judge(&mut election, &[default_route(1, 0), default_route(2, 0)], 0);
        assert!(election.net().unidentified.is_some());
    }
}
