//! The kernels: addresses with lifetimes, removed late, and notifications of what changed.

use std::net::IpAddr;
use std::time::Duration;

use super::clock::{MILLIS, NEVER, Nanos, SECONDS};
use super::queue::Happening;
use super::report::Invariant;
use super::segment::Appearance;
use super::story::EntryKind;
use super::world::{Fact, Simulation};
use crate::host::{
    Address, AddressFlags, AddressKey, Family, Link, LinkConf, LinkIndex, LinkKind, OUR_MARK,
    Route, Scope,
};
use crate::kernel::{ConfKey, KernelAction, KernelError, Lifetime, NewAddress};
use crate::mutation::Mutation;
use crate::node::Event;
use crate::store::{Change, Object};
use crate::time::Tick;

/// The Ethernet interface of every host.
pub(super) const ETH0: LinkIndex = LinkIndex(2);

/// The latest that a kernel removes an address whose lifetime is over, by its source.
const LATEST: Nanos = 1250 * MILLIS;

/// One host's kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) links: Vec<Link>,
    pub(super) routes: Vec<Route>,
    pub(super) addresses: Vec<Held>,
    pub(super) next_link: u32,
    pub(super) next_address: u32,
    /// Removals do not happen, and have no answer, before this.
    pub(super) keeps_until: Nanos,
    /// Additions are refused before this.
    pub(super) refuses_until: Nanos,
}

/// An address on a link.
#[derive(Debug)]
pub(super) struct Held {
    number: u32,
    pub(super) address: Address,
    /// When the kernel removes it; never for one without a lifetime.
    dies: Nanos,
}

impl Kernel {
    pub(super) fn link(&self, index: LinkIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn link_mut(&mut self, index: LinkIndex) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.index == index)
    }

    fn position(&self, key: &AddressKey) -> Option<usize> {
        self.addresses
            .iter()
            .position(|held| held.address.link == key.link && held.address.net == key.net)
    }

    /// Whether `ip` is on a link with our mark.
    pub(super) fn ours(&self, ip: IpAddr, link: LinkIndex) -> bool {
        self.addresses.iter().any(|held| {
            held.address.link == link && held.address.ip() == ip && held.address.is_ours()
        })
    }

    /// Adds an address of the host's own, which nothing is to change.
    pub(super) fn configure(&mut self, address: Address) {
        self.next_address += 1;
        self.addresses.push(Held { number: self.next_address, address, dies: NEVER });
    }
}

/// A link as it is when it is made.
pub(super) fn link(index: LinkIndex, name: &str, kind: LinkKind) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        kind,
        up: true,
        carrier: true,
        loopback: false,
        alias: String::new(),
        conf: LinkConf::default(),
    }
}

/// An address of the host's own.
pub(super) fn host_address(net: ipnet::IpNet) -> Address {
    Address {
        link: ETH0,
        net,
        broadcast: None,
        flags: AddressFlags::default(),
        scope: Scope::Global,
        mark: 0,
        valid: None,
    }
}

impl Simulation {
    /// Carries out what an agent asked for, decided when its clock showed `decided`; returns what it
    /// learns at once.
    pub(super) fn call_kernel(
        &mut self,
        host: usize,
        action: &KernelAction,
        decided: Nanos,
    ) -> Result<(), KernelError> {
        match action {
            KernelAction::AddAddress(new) => self.add_address(host, new, decided),
            KernelAction::Advertise { ip, until, .. } => self.advertise(host, *ip, *until),
            KernelAction::CreateVirtual { name, alias } => {
                let kernel = &mut self.hosts[host].kernel;
                if kernel.links.iter().any(|link| link.name == *name) {
                    return Ok(());
                }
                kernel.next_link += 1;
                let mut made = link(LinkIndex(kernel.next_link), name, LinkKind::Dummy);
                made.alias.clone_from(alias);
                kernel.links.push(made.clone());
                self.report.steps += 1;
                self.notify(host, Event::Links(Change::Updated(made)));
                Ok(())
            }
            KernelAction::DeleteVirtual { link } => {
                let kernel = &mut self.hosts[host].kernel;
                kernel.addresses.retain(|held| held.address.link != *link);
                kernel.links.retain(|known| known.index != *link);
                self.report.steps += 1;
                self.notify(host, Event::Links(Change::Deleted(*link)));
                Ok(())
            }
            // Nobody on the segment answers but hosts of the cluster, which never hold one at once.
            KernelAction::Heed { .. }
            | KernelAction::Probe { .. }
            | KernelAction::Unheed { .. } => Ok(()),
            KernelAction::RemoveAddress(key) => self.remove_address(host, key),
            KernelAction::SetAlias { link, alias } => {
                self.change_link(host, *link, |link| link.alias.clone_from(alias))
            }
            KernelAction::SetConf { link, settings } => self.change_link(host, *link, |link| {
                for (key, value) in settings {
                    match key {
                        ConfKey::ArpAnnounce => link.conf.arp_announce = *value,
                        ConfKey::ArpIgnore => link.conf.arp_ignore = *value,
                        ConfKey::PromoteSecondaries => link.conf.promote_secondaries = *value,
                    }
                }
            }),
        }
    }

    /// What a process's clock shows, in its own ticks.
    fn tick(&self, host: usize, shown: Nanos) -> Tick {
        let origin = self.hosts[host].process.as_ref().map_or(0, |process| process.origin);
        Tick::from_nanos(shown as i64 - origin as i64)
    }

    /// The adapter's part of it: seconds are counted down from a clock that was read before the
    /// call, and the clock is read again after the answer.
    fn add_address(
        &mut self,
        host: usize,
        new: &NewAddress,
        decided: Nanos,
    ) -> Result<(), KernelError> {
        let shown = self.hosts[host].clock.shows(self.now);
        let until = match new.lifetime {
            Lifetime::Forever => return self.put_address(host, new, None),
            Lifetime::Seconds(seconds) => return self.put_address(host, new, Some(seconds)),
            Lifetime::Until(until) => until,
        };
        let is_careless = self.mutation == Some(Mutation::EarlyLifetime);
        // Between the clock and the kernel some time passes, now and then up to 40 ms.
        let stall = if self.dice.once_in(64) { self.dice.below(40 * MILLIS) } else { 20_000 };
        let read = if is_careless { decided } else { shown.saturating_sub(stall) };
        let seconds = until.since(self.tick(host, read)).as_secs() as u32;
        if seconds == 0 {
            return Err(KernelError::PastDeadline);
        }
        self.put_address(host, new, Some(seconds))?;
        let end = self.tick(host, shown) + Duration::from_secs(seconds.into());
        if end <= until || is_careless {
            return Ok(());
        }
        match until.since(self.tick(host, shown)).as_secs() as u32 {
            0 => {
                let _ = self.remove_address(host, &new.key());
                Err(KernelError::PastDeadline)
            }
            seconds => self.put_address(host, new, Some(seconds)),
        }
    }

    fn put_address(
        &mut self,
        host: usize,
        new: &NewAddress,
        seconds: Option<u32>,
    ) -> Result<(), KernelError> {
        let now = self.now;
        self.report.steps += 1;
        self.hosts[host].counts.additions += 1;
        let late = self.dice.below(LATEST);
        let (clock, kernel) = (self.hosts[host].clock, &mut self.hosts[host].kernel);
        let refused =
            |errno, text: &str| Err(KernelError::Refused { errno, text: text.to_owned() });
        if kernel.refuses_until > now {
            return refused(1, "Operation not permitted");
        }
        if kernel.link(new.link).is_none() {
            return refused(19, "No such device");
        }
        let dies = seconds
            .map_or(NEVER, |seconds| now + clock.lasts(Nanos::from(seconds) * SECONDS) + late);
        let ip = new.net.addr();
        let (number, is_new, was_ours) = match kernel.position(&new.key()) {
            Some(position) => {
                let held = &mut kernel.addresses[position];
                let was_ours = held.address.is_ours();
                let was_sooner = held.dies <= dies;
                held.dies = dies;
                held.address.valid = seconds;
                held.address.flags.deprecated = new.deprecated;
                // An end that was put off is found when the old one comes.
                let number = (!was_sooner).then_some(held.number);
                (number, false, was_ours)
            }
            None => {
                kernel.next_address += 1;
                let flags = AddressFlags {
                    deprecated: new.deprecated,
                    no_prefix_route: new.no_prefix_route,
                    ..AddressFlags::default()
                };
                let address = Address {
                    link: new.link,
                    net: new.net,
                    broadcast: None,
                    flags,
                    scope: Scope::Global,
                    mark: OUR_MARK,
                    valid: seconds,
                };
                let number = kernel.next_address;
                kernel.addresses.push(Held { number, address, dies });
                ((dies != NEVER).then_some(number), true, true)
            }
        };
        if let Some(address) = number {
            self.queue.push(dies, Happening::Expire { host: host as u16, address });
        }
        if !was_ours {
            let text = format!("{} replaced {} of the host", self.hosts[host].label, new.net);
            self.violate(Invariant::Mark, text);
        }
        let position = self.hosts[host].kernel.position(&new.key());
        if let Some(position) = position {
            let address = self.hosts[host].kernel.addresses[position].address.clone();
            self.notify(host, Event::Addresses(Change::Updated(address)));
        }
        if is_new {
            let name = self.link_name(host, new.link);
            self.tell_of(host, Some(ip), || match seconds {
                Some(seconds) => format!("puts {ip} on {name} for {seconds} s"),
                None => format!("puts {ip} on {name}"),
            });
            if new.link == ETH0 {
                self.mark(EntryKind::Appears);
                self.appears(host, ip);
            }
        } else if self.story.is_some() {
            self.tell_of(host, Some(ip), || match seconds {
                Some(seconds) => format!("keeps {ip} for {seconds} s"),
                None => format!("keeps {ip}"),
            });
            self.mark(EntryKind::Routine);
        }
        Ok(())
    }

    fn appears(&mut self, host: usize, ip: IpAddr) {
        self.report.appearances += 1;
        match self.segment.appears(ip, host as u16, self.now) {
            Appearance::Double(other) => {
                let other = &self.hosts[usize::from(other)].label;
                let text = format!("{ip} is on {other} and on {}", self.hosts[host].label);
                self.violate(Invariant::SingleHolder, text);
            }
            Appearance::Moved(gap) => {
                self.report.moves += 1;
                self.report.longest_gap = self.report.longest_gap.max(gap);
            }
            Appearance::Quiet => {}
        }
    }

    pub(super) fn remove_address(
        &mut self,
        host: usize,
        key: &AddressKey,
    ) -> Result<(), KernelError> {
        self.report.steps += 1;
        self.hosts[host].counts.removals += 1;
        if self.hosts[host].kernel.keeps_until > self.now {
            return Err(KernelError::Transport { text: "no answer".to_owned() });
        }
        // One that is not there is as good as removed.
        let Some(position) = self.hosts[host].kernel.position(key) else { return Ok(()) };
        if !self.hosts[host].kernel.addresses[position].address.is_ours() {
            let text = format!("{} removed {} of the host", self.hosts[host].label, key.net);
            self.violate(Invariant::Mark, text);
        }
        self.drop_address(host, position, "takes off");
        Ok(())
    }

    /// The address at a position goes, whoever did it.
    pub(super) fn drop_address(&mut self, host: usize, position: usize, how: &str) {
        let held = self.hosts[host].kernel.addresses.swap_remove(position);
        let key = held.address.key();
        let ip = key.net.addr();
        let name = self.link_name(host, key.link);
        self.tell_of(host, Some(ip), || format!("{how} {ip}, on {name}"));
        if key.link == ETH0 {
            self.mark(EntryKind::Disappears);
            self.segment.disappears(ip, host as u16, self.now);
        }
        self.notify(host, Event::Addresses(Change::Deleted(key)));
    }

    /// The kernel looks at an address whose end had come when it was last set.
    pub(super) fn expire(&mut self, host: usize, number: u32) {
        let kernel = &self.hosts[host].kernel;
        let Some(position) = kernel.addresses.iter().position(|held| held.number == number) else {
            return;
        };
        let dies = kernel.addresses[position].dies;
        if dies > self.now {
            if dies != NEVER {
                self.queue.push(dies, Happening::Expire { host: host as u16, address: number });
            }
            return;
        }
        self.report.steps += 1;
        self.drop_address(host, position, "is over: the kernel removes");
    }

    fn advertise(
        &mut self,
        host: usize,
        ip: IpAddr,
        until: Option<Tick>,
    ) -> Result<(), KernelError> {
        let shown = self.tick(host, self.hosts[host].clock.shows(self.now));
        if until.is_some_and(|until| shown >= until) {
            return Err(KernelError::PastDeadline);
        }
        let holders = self.segment.get(ip).map(|presence| presence.holders.as_slice());
        let other = holders.unwrap_or_default().iter().find(|holder| usize::from(**holder) != host);
        if let Some(other) = other {
            let other = self.hosts[usize::from(*other)].label.clone();
            let text = format!("{} says it has {ip}, which is on {other}", self.hosts[host].label);
            self.violate(Invariant::SingleHolder, text);
        }
        let slot = self.frames.put((ip, host as u16));
        let at = self.now + MILLIS / 20 + self.dice.below(MILLIS / 2);
        self.queue.push(at, Happening::Arp { slot });
        Ok(())
    }

    /// A gratuitous ARP reaches the client, or is lost on the way.
    pub(super) fn hear(&mut self, slot: u32) {
        let Some((ip, host)) = self.frames.take(slot) else { return };
        self.report.steps += 1;
        let is_up =
            self.hosts[usize::from(host)].kernel.link(ETH0).is_some_and(Link::is_operational);
        if self.lossy_until > self.now || !is_up {
            self.segment.forgets(ip);
        } else {
            self.segment.hears(ip, host);
        }
    }

    pub(super) fn change_link(
        &mut self,
        host: usize,
        index: LinkIndex,
        change: impl FnOnce(&mut Link),
    ) -> Result<(), KernelError> {
        self.report.steps += 1;
        let Some(link) = self.hosts[host].kernel.link_mut(index) else {
            return Err(KernelError::Refused { errno: 19, text: "No such device".to_owned() });
        };
        change(link);
        let link = link.clone();
        self.notify(host, Event::Links(Change::Updated(link)));
        Ok(())
    }

    /// A route of a host comes or goes.
    pub(super) fn set_route(&mut self, host: usize, route: Route, is_there: bool) {
        let routes = &mut self.hosts[host].kernel.routes;
        let position = routes.iter().position(|known| *known == route);
        match (position, is_there) {
            (None, true) => {
                routes.push(route.clone());
                self.notify(host, Event::Routes(Change::Updated(route)));
            }
            (Some(position), false) => {
                routes.swap_remove(position);
                self.notify(host, Event::Routes(Change::Deleted(route)));
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The kernel tells its listener, after a moment, unless that has been overrun.
    pub(super) fn notify(&mut self, host: usize, event: Event) {
        let delay = MILLIS / 50 + self.dice.below(MILLIS / 2);
        let late = if !self.lasting.is_empty() && self.dice.once_in(200) {
            self.dice.below(300 * MILLIS)
        } else {
            0
        };
        let Some(process) = &mut self.hosts[host].process else { return };
        if process.deaf_until > self.now {
            return;
        }
        let at = (self.now + delay + late).max(process.notify_at);
        process.notify_at = at;
        let life = process.life;
        let slot = self.facts.put(Fact::Agent(event));
        self.queue.push(at, Happening::Fact { client: host as u16, life, slot });
    }

    /// The listener dumps everything: at its start, or because it was overrun.
    pub(super) fn dump(&mut self, host: usize) {
        let kernel = &self.hosts[host].kernel;
        let links = kernel.links.clone();
        let addresses = kernel.addresses.iter().map(|held| held.address.clone()).collect();
        let routes = kernel.routes.clone();
        self.notify(host, Event::Links(Change::Listed(links)));
        self.notify(host, Event::Addresses(Change::Listed(addresses)));
        self.notify(host, Event::Routes(Change::Listed(routes)));
    }

    fn link_name(&self, host: usize, link: LinkIndex) -> String {
        if self.story.is_none() {
            return String::new();
        }
        let link = self.hosts[host].kernel.link(link);
        link.map_or_else(|| "nothing".to_owned(), |link| link.name.clone())
    }

    /// The addresses of a family go, as they do when a link goes down.
    pub(super) fn flush(&mut self, host: usize, family: Family) {
        loop {
            let kernel = &self.hosts[host].kernel;
            let position = kernel.addresses.iter().position(|held| {
                held.address.link == ETH0
                    && held.address.is_ours()
                    && Family::of(held.address.ip()) == family
            });
            let Some(position) = position else { return };
            self.drop_address(host, position, "goes down with");
        }
    }
}
