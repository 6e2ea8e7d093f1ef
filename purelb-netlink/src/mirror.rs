//! What the kernel has, kept up to date from what it tells. Pure: messages in, changes out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use purelb_core::host::{Address, AddressKey, Family, Link, LinkIndex, Route, Sighting};
use purelb_core::store::{Change, Object};

use crate::decode::Message;
pub use crate::route::ListAgain;
use crate::route::{Destination, Entry, RouteTable};

/// A fact about this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// About its addresses.
    Addresses(Change<Address>),
    /// About its links.
    Links(Change<Link>),
    /// About the routes of its main table.
    Routes(Change<Route>),
    /// Another station said that it has an address that is heeded. No mirror tells this.
    Sighted(Sighting),
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The addresses of both families.
    Addresses,
    /// The links.
    Links,
    /// The main routing table of a family.
    Routes(Family),
}

impl Kind {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 4] =
        [Self::Links, Self::Addresses, Self::Routes(Family::V4), Self::Routes(Family::V6)];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses => f.write_str("addresses"),
            Self::Links => f.write_str("links"),
            Self::Routes(family) => write!(f, "{family} routes"),
        }
    }
}

/// Everything that a dump of all kinds holds, in the kernel's order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    links: Vec<Link>,
    addresses: Vec<(Address, Option<IpAddr>)>,
    routes: Vec<(Destination, Entry)>,
}

impl Listing {
    /// Takes in one message of a dump of this kind; others than asked for are left out.
    pub fn take(&mut self, kind: Kind, message: Message) {
        match message {
            Message::AddressIs(address, peer) if kind == Kind::Addresses => {
                self.addresses.push((address, peer));
            }
            Message::LinkIs(link) if kind == Kind::Links => self.links.push(link),
            Message::RouteIs(to, entry, _) if kind == Kind::Routes(to.family()) => {
                self.routes.push((to, entry));
            }
            Message::AddressGone(..)
            | Message::AddressIs(..)
            | Message::LinkGone(_)
            | Message::LinkIs(_)
            | Message::NexthopChanged(_)
            | Message::NexthopGone(_)
            | Message::Other
            | Message::RouteGone(..)
            | Message::RouteIs(..) => {}
        }
    }
}

/// The kernel's links, addresses and routes as last told.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    links: BTreeMap<LinkIndex, Link>,
    /// By key; addresses that differ in their peer alone share one.
    addresses: BTreeMap<AddressKey, Vec<(Option<IpAddr>, Address)>>,
    routes: RouteTable,
}

impl Mirror {
    /// All links in the order of their numbers.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// One link.
    pub fn link(&self, index: LinkIndex) -> Option<&Link> {
        self.links.get(&index)
    }

    /// All addresses, by link.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.values().flat_map(|same| same.first()).map(|(_, address)| address)
    }

    /// The addresses of one link.
    pub fn addresses_of(&self, link: LinkIndex) -> impl Iterator<Item = &Address> {
        self.addresses
            .range(lowest(link, Family::V4)..)
            .take_while(move |(key, _)| key.link == link)
            .flat_map(|(_, same)| same.first())
            .map(|(_, address)| address)
    }

    /// All routes that are told of: each next hop of the default routes, and of the routes that
    /// need no gateway.
    pub fn routes(&self) -> Vec<Route> {
        self.routes.routes()
    }

    /// Starts anew from a dump of all kinds; returns that as facts.
    pub fn list(&mut self, listing: Listing) -> [HostChange; 3] {
        self.links = listing.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = BTreeMap::new();
        for (address, peer) in listing.addresses {
            self.put(address, peer);
        }
        let routes = listing.routes.into_iter();
        self.routes =
            RouteTable::list(routes.map(|(to, entry)| (to, self.with_life(&to, entry))).collect());
        [
            HostChange::Links(Change::Listed(self.links().cloned().collect())),
            HostChange::Addresses(Change::Listed(self.addresses().cloned().collect())),
            HostChange::Routes(Change::Listed(self.routes())),
        ]
    }

    /// Takes in one notification; returns what it changes, its direct effect first.
    ///
    /// # Errors
    ///
    /// If all must be listed again to know what happened.
    pub fn apply(&mut self, message: Message) -> Result<Vec<HostChange>, ListAgain> {
        let mut changes = Vec::new();
        let routes = match message {
            Message::AddressGone(key, peer) => self.address_gone(key, peer, &mut changes)?,
            Message::AddressIs(address, peer) => self.address_is(address, peer, &mut changes),
            Message::LinkGone(index) => self.link_gone(index, &mut changes),
            Message::LinkIs(link) => self.link_is(link, &mut changes),
            Message::NexthopChanged(number) if self.routes.uses_nexthop(number) => {
                return Err(ListAgain);
            }
            Message::NexthopChanged(_) | Message::Other => Vec::new(),
            Message::NexthopGone(number) => self.routes.nexthop_gone(number),
            Message::RouteGone(to, entry) => self.routes.remove(to, entry),
            Message::RouteIs(to, entry, how) => {
                let entry = self.with_life(&to, entry);
                self.routes.insert(to, entry, how)?
            }
        };
        changes.extend(routes.into_iter().map(HostChange::Routes));
        Ok(changes)
    }

    fn link_is(&mut self, link: Link, changes: &mut Vec<HostChange>) -> Vec<Change<Route>> {
        let index = link.index;
        let was_up = self.links.get(&index).map(|old| old.up);
        let mut routes = match (was_up, link.up) {
            (_, false) => self.routes.link_down(index),
            (Some(false), true) => self.routes.link_up(index),
            (None | Some(true), true) => Vec::new(),
        };
        if !link.carrier {
            routes.extend(self.routes.carrier_lost(index));
        }
        let went_down = was_up == Some(true) && !link.up;
        if self.links.get(&index) != Some(&link) {
            changes.push(HostChange::Links(Change::Updated(link.clone())));
            self.links.insert(index, link);
        }
        if went_down {
            self.addresses_down(index, changes);
        }
        routes
    }

    /// IPv6 addresses that stay on a link that goes down (`keep_addr_on_down`) have to pass duplicate
    /// address detection anew; nobody is told (`addrconf_ifdown`). Of those that go, the kernel tells.
    fn addresses_down(&mut self, link: LinkIndex, changes: &mut Vec<HostChange>) {
        let of_link = self.addresses.range_mut(lowest(link, Family::V6)..);
        let of_link = of_link.take_while(|(key, _)| key.link == link);
        for (_, address) in of_link.flat_map(|(_, same)| same) {
            let IpAddr::V6(ip) = address.ip() else { continue };
            let may_stay =
                address.valid.is_none() && !ip.is_unicast_link_local() && !ip.is_loopback();
            if may_stay && !address.flags.no_dad && !address.flags.tentative {
                address.flags.tentative = true;
                changes.push(HostChange::Addresses(Change::Updated(address.clone())));
            }
        }
    }

    fn link_gone(&mut self, index: LinkIndex, changes: &mut Vec<HostChange>) -> Vec<Change<Route>> {
        let keys: Vec<_> = self.addresses_of(index).map(Object::key).collect();
        for key in keys {
            self.addresses.remove(&key);
            changes.push(HostChange::Addresses(Change::Deleted(key)));
        }
        if self.links.remove(&index).is_some() {
            changes.push(HostChange::Links(Change::Deleted(index)));
        }
        self.routes.link_gone(index)
    }

    fn address_is(
        &mut self,
        address: Address,
        peer: Option<IpAddr>,
        changes: &mut Vec<HostChange>,
    ) -> Vec<Change<Route>> {
        let (key, link) = (address.key(), address.link);
        let family = Family::of(address.ip());
        let is_first = !self.has(link, family);
        let before = self.shown(&key).cloned();
        self.put(address, peer);
        // The seconds left count from now, so the same number is news.
        if let Some(after) = self.shown(&key)
            && (before.as_ref() != Some(after) || after.valid.is_some())
        {
            changes.push(HostChange::Addresses(Change::Updated(after.clone())));
        }
        match family {
            Family::V4 if is_first && self.is_up(link) => self.routes.v4_enabled(link),
            Family::V4 | Family::V6 => Vec::new(),
        }
    }

    fn address_gone(
        &mut self,
        key: AddressKey,
        peer: Option<IpAddr>,
        changes: &mut Vec<HostChange>,
    ) -> Result<Vec<Change<Route>>, ListAgain> {
        let before = self.shown(&key).cloned();
        if let Some(same) = self.addresses.get_mut(&key) {
            same.retain(|(other, _)| *other != peer);
            if same.is_empty() {
                self.addresses.remove(&key);
            }
        }
        match (before, self.shown(&key).cloned()) {
            (Some(_), None) => changes.push(HostChange::Addresses(Change::Deleted(key))),
            (Some(before), Some(after)) if before != after => {
                changes.push(HostChange::Addresses(Change::Updated(after)));
            }
            _ => {}
        }
        let family = Family::of(key.net.addr());
        let is_last = !self.has(key.link, family);
        match family {
            Family::V4 => Ok(self.v4_gone(key, is_last)),
            // IPv6 may have been disabled on the link: next hops of multipath routes have died then.
            Family::V6 if is_last && self.is_up(key.link) && self.routes.uses_v6(&key) => {
                Err(ListAgain)
            }
            Family::V6 => Ok(Vec::new()),
        }
    }

    fn v4_gone(&mut self, key: AddressKey, is_last: bool) -> Vec<Change<Route>> {
        let ip = key.net.addr();
        let mut routes = Vec::new();
        if self.routes.prefers(ip) && !self.addresses().any(|one| one.ip() == ip) {
            routes.extend(self.routes.v4_source_gone(ip));
        }
        if is_last {
            routes.extend(self.routes.v4_disabled(key.link));
        }
        routes
    }

    fn is_up(&self, link: LinkIndex) -> bool {
        self.links.get(&link).is_some_and(|link| link.up)
    }

    /// With `ignore_routes_with_linkdown` the kernel shows a next hop as dead also while its link
    /// is without carrier, and says nothing when that changes. That is the link's to tell. What
    /// makes it dead in earnest is that the link is down, or has no address of its family left.
    fn with_life(&self, to: &Destination, mut entry: Entry) -> Entry {
        let family = Family::of(to.net.addr());
        for hop in entry.hops.iter_mut().filter(|hop| hop.dead) {
            let link = self.links.get(&hop.link);
            let is_carrier = link.is_some_and(|link| link.up && !link.carrier);
            hop.dead = !(is_carrier && self.has(hop.link, family));
        }
        entry
    }

    fn has(&self, link: LinkIndex, family: Family) -> bool {
        let next = self.addresses.range(lowest(link, family)..).next();
        next.is_some_and(|(key, _)| key.link == link && Family::of(key.net.addr()) == family)
    }

    fn shown(&self, key: &AddressKey) -> Option<&Address> {
        self.addresses.get(key)?.first().map(|(_, address)| address)
    }

    fn put(&mut self, address: Address, peer: Option<IpAddr>) {
        let same = self.addresses.entry(address.key()).or_default();
        match same.iter_mut().find(|(other, _)| *other == peer) {
            Some((_, old)) => *old = address,
            None => {
                // Nearly always the only one.
                same.reserve_exact(1);
                same.push((peer, address));
            }
        }
    }
}

/// What comes before all addresses of a family on a link: IPv4 sorts before IPv6.
fn lowest(link: LinkIndex, family: Family) -> AddressKey {
    AddressKey { link, net: family.everything() }
}

#[cfg(test)]
mod tests;
