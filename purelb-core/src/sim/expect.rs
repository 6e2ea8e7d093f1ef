//! What the rules say must be where, and whether the cluster is quiet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::clock::{Nanos, nanos};
use super::kernel::ETH0;
use super::report::Invariant;
use super::world::{Counts, Simulation};
use crate::config::VIRTUAL_INTERFACE;
use crate::election;
use crate::group::Announce;
use crate::host::{Family, Link, LinkIndex};
use crate::service::{Service, TrafficPolicy};

/// Whether an allocator has no reason to answer otherwise than before.
pub(super) fn asks_for_the_same(before: &Service, now: &Service) -> bool {
    let user = |service: &Service| {
        let annotations = &service.annotations;
        (
            annotations.service_group.clone(),
            annotations.addresses.clone(),
            annotations.sharing.clone(),
            annotations.multi_pool,
            annotations.re_evaluate,
        )
    };
    (before.uid == now.uid)
        && before.is_load_balancer == now.is_load_balancer
        && before.class == now.class
        && before.families == now.families
        && before.family_policy == now.family_policy
        && before.ports == now.ports
        && before.load_balancer_ip == now.load_balancer_ip
        && user(before) == user(now)
}

/// Whether two Services may have one address.
pub(super) fn may_share(a: &Service, b: &Service) -> bool {
    a.annotations.sharing.is_some()
        && a.annotations.sharing == b.annotations.sharing
        && a.ports.is_disjoint(&b.ports)
}

/// Where one address must be: the host that has it on its Ethernet interface, if one has.
type Places = BTreeMap<IpAddr, Option<u16>>;

/// The Service that an address belongs to.
type Owners<'a> = BTreeMap<IpAddr, &'a Service>;

/// A span in which nothing is to happen but renewals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// How long it lasts.
    pub(super) span: Duration,
    /// Moves before it.
    moves: u64,
}

impl Simulation {
    /// The longest that the rules take to have everything in its place, from now on without faults:
    /// a lease duration and a second.
    pub fn patience(&self) -> Duration {
        let published = self.api.leases.values().map(|lease| lease.content.duration);
        let configured = self.hosts.iter().map(|host| host.duration);
        let longest = published.chain(configured).max().unwrap_or_default();
        longest + longest / 100 + Duration::from_secs(1)
    }

    /// Checks that every address is exactly where the rules say (invariants 3 and 5). To be called
    /// when no fault has lasted for [`patience`](Self::patience).
    pub fn check_places(&mut self) {
        self.report.calms += 1;
        let places = self.places();
        let mut wrong = Vec::new();
        for (ip, expected) in &places {
            let presence = self.segment.get(*ip);
            let holders = presence.map(|p| p.holders.clone()).unwrap_or_default();
            if holders.iter().ne(expected.iter()) {
                wrong.push(format!(
                    "{ip} is on {:?} instead of {:?}",
                    self.labels(&holders),
                    self.labels(expected.as_slice())
                ));
            }
            let cached = presence.and_then(|presence| presence.cached);
            if let (Some(cached), Some(holder)) = (cached, expected)
                && cached != *holder
            {
                let labels = self.labels(&[cached, *holder]);
                wrong.push(format!("a client sends packets for {ip} to {labels:?}[0]"));
            }
        }
        let owners = self.owners();
        for host in 0..self.hosts.len() {
            if self.hosts[host].process.is_some() {
                wrong.extend(self.misplaced(host, &places, &owners));
            }
        }
        if !wrong.is_empty() {
            let leases: Vec<String> =
                self.api.leases.values().map(|lease| format!("{lease:?}")).collect();
            self.tell("", None, || leases.join("\n"));
            for host in 0..self.hosts.len() {
                let state = self.hosts[host].process.as_ref().map(|process| {
                    let verdicts: Vec<_> = process.machine.verdicts().collect();
                    format!("{verdicts:?}\n{:?}", process.machine.membership())
                });
                self.tell_of(host, None, || state.unwrap_or_default());
            }
            self.violate(Invariant::Place, wrong.join("; "));
        }
    }

    fn labels(&self, hosts: &[u16]) -> Vec<&str> {
        hosts.iter().map(|host| self.hosts[usize::from(*host)].label.as_str()).collect()
    }

    /// What of ours on a host is wrong beside what is on the segment.
    fn misplaced(&self, host: usize, places: &Places, owners: &Owners<'_>) -> Vec<String> {
        let h = &self.hosts[host];
        let mut wrong = Vec::new();
        for held in h.kernel.addresses.iter().filter(|held| held.address.is_ours()) {
            let ip = held.address.ip();
            let is_known = match self.link_of(host, held.address.link) {
                Some(ETH0) => places.contains_key(&ip),
                Some(_) => self.is_virtual_here(host, ip, owners),
                None => false,
            };
            if !is_known {
                wrong.push(format!("{} has {ip} for no reason", h.label));
            }
        }
        let link = h.kernel.links.iter().find(|link| link.name == VIRTUAL_INTERFACE);
        for service in self.api.services.values() {
            for ip in &service.ingress {
                let is_there = link.is_some_and(|link| h.kernel.ours(*ip, link.index));
                if is_there != self.is_virtual_here(host, *ip, owners) {
                    wrong.push(format!("{ip} on kube-lb0 of {}: {is_there}", h.label));
                }
            }
        }
        wrong
    }

    fn link_of(&self, host: usize, link: LinkIndex) -> Option<LinkIndex> {
        self.hosts[host].kernel.link(link).map(|link| link.index)
    }

    /// The first Service of ours on each address.
    fn owners(&self) -> Owners<'_> {
        let mut owners = Owners::new();
        for service in self.api.services.values().filter(|service| service.is_branded()) {
            for ip in &service.ingress {
                owners.entry(*ip).or_insert(service);
            }
        }
        owners
    }

    /// Which host must have each allocated local address.
    fn places(&self) -> Places {
        let mut places = Places::new();
        for service in self.api.services.values().filter(|service| service.is_branded()) {
            if is_remote(service) {
                continue;
            }
            for ip in &service.ingress {
                places.insert(*ip, self.place(*ip, service));
            }
        }
        // An address that has no Service any more is nowhere.
        for (ip, _) in self.segment.iter() {
            places.entry(ip).or_insert(None);
        }
        places
    }

    fn place(&self, ip: IpAddr, service: &Service) -> Option<u16> {
        let able = (0..self.hosts.len()).filter(|host| self.serves(*host, ip));
        let narrowed = service.traffic_policy == TrafficPolicy::Local;
        let endpoints = self.api.endpoints.get(&service.key);
        let candidates: Vec<usize> = able
            .filter(|host| {
                let name = &self.hosts[*host].name;
                !narrowed || endpoints.is_some_and(|ends| ends.nodes.contains(name))
            })
            .collect();
        let names = candidates.iter().map(|host| &self.hosts[*host].name);
        let winner = election::winner(ip, names)?;
        candidates.iter().find(|host| self.hosts[**host].name == *winner).map(|host| *host as u16)
    }

    fn takes_part(&self, host: usize) -> bool {
        let h = &self.hosts[host];
        let is_running = h.process.as_ref().is_some_and(|process| !process.is_stopping);
        let node = self.api.nodes.get(&h.name);
        is_running && !h.is_namesake && node.is_some_and(|node| !node.is_excluded())
    }

    fn default_routes(&self, host: usize, family: Family) -> usize {
        let routes = self.hosts[host].kernel.routes.iter();
        routes.filter(|route| route.is_default() && route.family() == family).count()
    }

    /// Whether a host can serve a subnet that holds `ip`.
    fn serves(&self, host: usize, ip: IpAddr) -> bool {
        let kernel = &self.hosts[host].kernel;
        self.takes_part(host)
            && kernel.link(ETH0).is_some_and(Link::is_operational)
            && self.default_routes(host, Family::of(ip)) == 1
            && kernel
                .addresses
                .iter()
                .any(|held| !held.address.is_ours() && held.address.net.contains(&ip))
    }

    /// Whether `ip` belongs on kube-lb0 of a host.
    fn is_virtual_here(&self, host: usize, ip: IpAddr, owners: &Owners<'_>) -> bool {
        let service = owners.get(&ip).filter(|_| self.takes_part(host));
        let Some(service) = service else { return false };
        let has_endpoint = service.traffic_policy != TrafficPolicy::Local || {
            let endpoints = self.api.endpoints.get(&service.key);
            endpoints.is_some_and(|ends| ends.nodes.contains(&self.hosts[host].name))
        };
        let is_ambiguous = self.default_routes(host, Family::of(ip)) > 1;
        has_endpoint && (is_remote(service) || is_ambiguous)
    }

    /// Lets two lease durations pass in which nothing is to happen but renewals (invariants 7 and
    /// 10). To be called when every address is in its place.
    pub fn check_quiet(&mut self) {
        let quiet = self.begin_quiet();
        self.run_for(quiet.span);
        if self.violation.is_none() {
            self.end_quiet(quiet);
        }
    }

    /// Begins to count what is not to happen.
    pub(super) fn begin_quiet(&mut self) -> Quiet {
        for host in &mut self.hosts {
            host.counts = Counts::default();
        }
        let durations = self.hosts.iter().map(|host| host.duration).max().unwrap_or_default();
        Quiet { span: 2 * durations, moves: self.report.moves }
    }

    /// Judges what was counted, once the span has passed.
    pub(super) fn end_quiet(&mut self, quiet: Quiet) {
        let moves = self.report.moves - quiet.moves;
        if moves > 0 {
            return self.violate(Invariant::Quiescence, format!("{moves} addresses moved"));
        }
        for host in 0..self.hosts.len() {
            if self.takes_part(host) {
                self.check_quiet_host(host, nanos(quiet.span));
            }
        }
    }

    fn check_quiet_host(&mut self, host: usize, span: Nanos) {
        let h = &self.hosts[host];
        let counts = h.counts;
        let renewal = nanos(h.duration) / 3;
        // A renewal comes up to a tenth early; clocks drift by up to a hundredth.
        let most = span * 101 / 100 / (renewal * 9 / 10) + 2;
        let least = (span * 99 / 100 / renewal).saturating_sub(1);
        if !(least..=most).contains(&counts.lease_writes) {
            let text = format!("{}: {} lease writes", h.label, counts.lease_writes);
            return self.violate(Invariant::Steady, text);
        }
        let held = h.kernel.addresses.iter().filter(|held| held.address.is_ours()).count() as u64;
        if counts.removals + counts.service_writes > 0 || counts.additions > held * most {
            let text = format!("{}: {counts:?} with {held} addresses", h.label);
            return self.violate(Invariant::Quiescence, text);
        }
        if counts.idle_wakes > 0 {
            let text = format!("{}: {} wake-ups for nothing", h.label, counts.idle_wakes);
            self.violate(Invariant::Steady, text);
        }
    }
}

fn is_remote(service: &Service) -> bool {
    service.annotations.pool_type.as_deref() == Some(Announce::Remote.as_str())
}
