//! Deciding about one address: facts in, a verdict with its reason out.

use std::net::IpAddr;

use crate::group::Announce;
use crate::host::{Address, Family, Link, LinkIndex};
use crate::membership::{Elections, NotYet, Standing};
use crate::place::{Placement, PoolFacts, placement};
use crate::service::{Service, TrafficPolicy};

use super::verdict::{Verdict, Withheld};
use super::{NodeAgent, Want};

impl NodeAgent {
    /// What this node does with `ip`, for which `want` asks; `elections` are those of the last time.
    pub(super) fn decide(&self, ip: IpAddr, want: &Want, elections: &mut Elections) -> Verdict {
        match self.placement_for(ip, want) {
            Err(why) => Verdict::Withheld(why),
            Ok(Placement::Local { link, net }) => {
                let needs_endpoint = self.is_narrowed(want) && self.must_let_go(ip, want);
                // What is held already is held on until the lease lists it.
                let narrowed = needs_endpoint || self.is_narrowed(want) && !self.is_shown(ip);
                match self.membership.standing_by(ip, narrowed, elections) {
                    Standing::Theirs { node } => Verdict::Withheld(Withheld::LostTo(node)),
                    _ if needs_endpoint => Verdict::Withheld(Withheld::NoEndpoint),
                    Standing::Mine { .. }
                        if !self.membership.may_take() && !self.is_on(ip, link) =>
                    {
                        Verdict::Withheld(Withheld::NotYet(NotYet::Joining { unconfirmed: vec![] }))
                    }
                    Standing::Mine { until } => match self.conflicts.on(ip, link) {
                        Some(mac) => Verdict::Withheld(Withheld::Conflict { link, mac }),
                        None => Verdict::Local { link, net, until },
                    },
                    Standing::Nobody => Verdict::Withheld(Withheld::NoCandidate),
                    Standing::NotYet(why) => Verdict::Withheld(Withheld::NotYet(why)),
                }
            }
            Ok(Placement::Virtual { net, why }) => {
                if self.wants_local_traffic(want) && self.must_let_go(ip, want) {
                    Verdict::Withheld(Withheld::NoEndpoint)
                } else {
                    Verdict::Virtual { net, why }
                }
            }
            Ok(Placement::Nowhere(why)) => Verdict::Withheld(Withheld::Nowhere(why)),
        }
    }

    /// Where on this node `ip` belongs, or why this node has no part in it.
    pub(super) fn placement_for(&self, ip: IpAddr, want: &Want) -> Result<Placement, Withheld> {
        if self.stopping == Some(crate::config::OnStop::Release) {
            return Err(Withheld::Stopping);
        }
        let Some(config) = &self.config else { return Err(Withheld::Stopping) };
        if let Err(why) = &config.spec {
            return Err(Withheld::NotConfigured(why.clone()));
        }
        if let Some(why) = config.exclusion {
            return Err(Withheld::Excluded(why));
        }
        let net = self.local[&Family::of(ip)].net();
        Ok(placement(ip, self.pool_facts(ip, want), net))
    }

    /// What the pool of `ip` says of it. An address whose pool is no longer in any group, or is a
    /// sidecar's, is what its Service says it was allocated as.
    pub(super) fn pool_facts(&self, ip: IpAddr, want: &Want) -> Option<PoolFacts> {
        self.pools.find(ip).or_else(|| {
            let is_remote = |service: &&Service| {
                service.annotations.pool_type.as_deref() == Some(Announce::Remote.as_str())
            };
            self.services_of(want).any(|service| is_remote(&service)).then(|| PoolFacts {
                announce: Announce::Remote,
                prefix_len: Family::of(ip).bits(),
            })
        })
    }

    pub(super) fn services_of<'a>(&'a self, want: &'a Want) -> impl Iterator<Item = &'a Service> {
        want.services.iter().filter_map(|key| self.services.get(key))
    }

    /// Whether every Service on it wants traffic only where it has endpoints.
    fn wants_local_traffic(&self, want: &Want) -> bool {
        self.services_of(want).all(|service| service.traffic_policy == TrafficPolicy::Local)
    }

    /// Whether only nodes with a ready endpoint may hold it on a local interface.
    pub(super) fn is_narrowed(&self, want: &Want) -> bool {
        self.services_of(want).all(Service::is_narrowed)
    }

    /// Whether a Service on it has a ready endpoint on this node.
    pub(super) fn has_endpoint(&self, want: &Want) -> bool {
        self.endpoints.is_listed()
            && want.services.iter().any(|key| {
                self.endpoints.get(key).is_some_and(|ends| ends.nodes.contains(&self.me))
            })
    }

    /// Whether an address for nodes with a ready endpoint is not for this one. Before endpoints have
    /// been listed that is so of one that is not here, while one that is here stays.
    fn must_let_go(&self, ip: IpAddr, want: &Want) -> bool {
        match self.endpoints.is_listed() {
            true => !self.has_endpoint(want),
            false => !self.is_shown(ip),
        }
    }

    /// Whether it is on this link, and ours.
    fn is_on(&self, ip: IpAddr, link: LinkIndex) -> bool {
        self.addresses.of(ip).any(|address| address.is_ours() && address.link == link)
    }

    /// Whether an address of ours is on some interface.
    fn is_shown(&self, ip: IpAddr) -> bool {
        self.addresses.of(ip).any(Address::is_ours)
    }

    pub(super) fn virtual_interface(&self) -> &str {
        self.spec().map_or(crate::config::VIRTUAL_INTERFACE, |spec| &spec.virtual_interface)
    }

    /// The virtual interface, if it is there.
    pub fn virtual_link(&self) -> Option<&Link> {
        self.links.get(&self.virtual_index?)
    }

    /// Finds the virtual interface among the links, as often as they or its name change.
    pub(super) fn find_virtual_link(&mut self) {
        let name = self.virtual_interface();
        let found = self.links.iter().find(|link| link.name == name).map(|link| link.index);
        self.virtual_index = found;
    }
}
