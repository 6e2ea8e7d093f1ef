//! The main routing table as the kernel keeps it: which routes stand for one destination, in which
//! order, and what each event does to them. Pure.
//!
//! The kernel does not tell all. Where it is silent, what it does is worked out from what it did tell:
//!
//! * IPv4 routes go without a word when the last of their links goes down or any of them is removed
//!   (`fib_sync_down_dev`, then `fib_flush`), when the last IPv4 address of the link goes
//!   (`fib_disable_ip`), and, before Linux 6.7, when their preferred source goes
//!   (`fib_sync_down_addr`). Next hops of a multipath route that die leave the route with `dead` set
//!   and come back to life with the link (`fib_sync_up`).
//! * A replacing `RTM_NEWROUTE` says what came, not what went: in IPv4 the first route of the same
//!   destination, tos and metric (`fib_table_insert`); in IPv6 the first of the same sort, with or
//!   without a gateway, and all siblings of it (`fib6_add_rt2node`).
//! * The next hops of an IPv6 route are routes of their own that go one by one; a message about one
//!   names all. A preferred source that is deleted is struck out (`fib6_remove_prefsrc`), one that
//!   goes with its link is not, and nothing tells which it was: no IPv6 route is told with one.
//! * A nexthop object that goes takes its routes, and its place in groups, along
//!   (`remove_nexthop`); it goes when its link goes down or loses carrier (`nexthop_flush_dev`).
//!
//! Kept are the default routes and each destination for which some route needs no gateway, with
//! all routes to it; a host with a hundred thousand routes learned from a peer costs nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use purelb_core::host::{AddressKey, Family, LinkIndex, Route, RouteKind};
use purelb_core::store::Change;

/// What the kernel sorts routes by. Several routes can share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The prefix, without host bits.
    pub net: IpNet,
    /// The type of service; always 0 in IPv6.
    pub tos: u8,
    /// The metric; lower is preferred.
    pub metric: u32,
}

impl Destination {
    pub(crate) fn family(&self) -> Family {
        Family::of(self.net.addr())
    }

    fn is_default(&self) -> bool {
        self.net.prefix_len() == 0
    }
}

/// One route to a destination, as a message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `RTN_*`
    pub kind: u8,
    /// `RTPROT_*`
    pub protocol: u8,
    /// `RT_SCOPE_*`
    pub scope: u8,
    /// The preferred source; none in IPv6.
    pub source: Option<IpAddr>,
    /// The number of the nexthop object that it uses, if it does.
    pub nexthop_id: Option<u32>,
    /// A digest of what else tells IPv4 routes apart: metrics, realm, encapsulation, weights. IPv6
    /// siblings are told apart by link and gateway alone.
    pub extras: u64,
    /// Where packets go.
    pub hops: Vec<Hop>,
    /// Whether it was told of together with others as the next hops of one IPv6 route.
    pub together: bool,
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The link that packets leave by.
    pub link: LinkIndex,
    /// The next router.
    pub gateway: Option<IpAddr>,
    /// Not used, because the link is down.
    pub dead: bool,
}

/// How a route came (`NLM_F_*` of the notification).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insertion {
    /// Behind the others of its destination.
    pub append: bool,
    /// As the first of its destination.
    pub exclusive: bool,
    /// In place of another.
    pub replace: bool,
}

/// What happened cannot be told from what was seen: all must be listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListAgain;

impl Entry {
    fn carries(&self) -> bool {
        self.kind == libc::RTN_UNICAST
    }

    fn rejects(&self) -> bool {
        matches!(
            self.kind,
            libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT | libc::RTN_THROW
        )
    }

    /// Whether it can be told of if its destination is not the default.
    fn is_direct(&self) -> bool {
        self.rejects()
            || self.carries()
                && (self.hops.is_empty() || self.hops.iter().any(|hop| hop.gateway.is_none()))
    }

    /// Whether IPv6 makes it a sibling of others of its kind (`rt6_qualify_for_ecmp`).
    fn can_be_sibling(&self) -> bool {
        self.nexthop_id.is_none()
            && self.hops.iter().any(|hop| hop.gateway.is_some())
            && !self.is_ambiguous()
    }

    /// A route that the kernel makes for a router advertisement is nobody's sibling; one that a
    /// program makes for it can be. They look the same until one is told of together with others.
    fn is_ambiguous(&self) -> bool {
        const RTPROT_RA: u8 = 9;
        self.protocol == RTPROT_RA
            && !self.together
            && self.hops.iter().any(|hop| hop.gateway.is_some())
    }

    /// Whether the kernel would not keep both of them.
    fn is_same(&self, other: &Self, family: Family) -> bool {
        let same_hops = || {
            let hops = |entry: &Self| {
                entry.hops.iter().map(|hop| (hop.link, hop.gateway)).collect::<Vec<_>>()
            };
            match (self.nexthop_id, other.nexthop_id) {
                (None, None) => hops(self) == hops(other),
                (one, another) => one == another,
            }
        };
        let same_rest = || match family {
            Family::V4 => {
                (self.kind, self.protocol, self.scope, self.source)
                    == (other.kind, other.protocol, other.scope, other.source)
            }
            Family::V6 => true,
        };
        self.extras == other.extras && same_hops() && same_rest()
    }

    fn uses(&self, link: LinkIndex) -> bool {
        self.hops.iter().any(|hop| hop.link == link)
    }

    fn is_dead(&self) -> bool {
        !self.hops.is_empty() && self.hops.iter().all(|hop| hop.dead)
    }

    fn routes(&self, to: &Destination) -> Vec<Route> {
        let route = |kind, link, gateway| Route {
            destination: to.net,
            kind,
            link,
            gateway,
            source: self.source,
            metric: to.metric,
            tos: to.tos,
            protocol: self.protocol,
        };
        if self.rejects() {
            return vec![route(RouteKind::Reject, None, None)];
        }
        if !self.carries() {
            return Vec::new();
        }
        if self.hops.is_empty() {
            // Over a nexthop object that the kernel does not spell out (`nexthop_compat_mode` 0).
            return vec![route(RouteKind::Unicast, None, None)];
        }
        let shown =
            self.hops.iter().filter(|hop| !hop.dead && (to.is_default() || hop.gateway.is_none()));
        shown.map(|hop| route(RouteKind::Unicast, Some(hop.link), hop.gateway)).collect()
    }
}

/// The routes of one destination, in the kernel's order.
type Group = Vec<Entry>;

/// The main routing table, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTable {
    groups: BTreeMap<Destination, Group>,
}

impl RouteTable {
    /// Everything that a dump holds, in its order.
    pub(crate) fn list(dump: Vec<(Destination, Entry)>) -> Self {
        let mut groups: BTreeMap<Destination, Group> = BTreeMap::new();
        for (to, entry) in dump {
            groups.entry(to).or_default().extend(split(to.family(), entry));
        }
        groups.retain(|to, group| is_kept(to, group));
        Self { groups }
    }

    /// All routes, each once.
    pub(crate) fn routes(&self) -> Vec<Route> {
        self.groups.iter().flat_map(|(to, group)| shown(to, group)).collect()
    }

    /// Whether some route prefers this source.
    pub(crate) fn prefers(&self, source: IpAddr) -> bool {
        self.groups.values().flatten().any(|entry| entry.source == Some(source))
    }

    /// Whether some IPv6 route leaves by the link of this address, other than the connected route of
    /// its prefix.
    pub(crate) fn uses_v6(&self, address: &AddressKey) -> bool {
        let connected = address.net.trunc();
        let others =
            self.groups.iter().filter(|(to, _)| to.family() == Family::V6 && to.net != connected);
        others.flat_map(|(_, group)| group).any(|entry| entry.uses(address.link))
    }

    /// Whether some route uses the nexthop object `number`.
    pub(crate) fn uses_nexthop(&self, number: u32) -> bool {
        self.groups.values().flatten().any(|entry| entry.nexthop_id == Some(number))
    }

    /// A route came or changed.
    pub(crate) fn insert(
        &mut self,
        to: Destination,
        entry: Entry,
        how: Insertion,
    ) -> Result<Vec<Change<Route>>, ListAgain> {
        let family = to.family();
        let new = split(family, entry);
        if let Some(group) = self.groups.get(&to) {
            let unclear = || group.iter().chain(&new).any(Entry::is_ambiguous);
            if family == Family::V6 && how.replace && group.len() > 1 && unclear() {
                return Err(ListAgain);
            }
        } else {
            // The routes that several next hops make in IPv6 are told of without NLM_F_EXCL.
            let first = how.exclusive || family == Family::V6 && to.is_default();
            if !first {
                return match new.iter().any(Entry::is_direct) || to.is_default() {
                    true => Err(ListAgain),
                    false => Ok(Vec::new()),
                };
            }
        }
        Ok(self.change(to, |group| match family {
            Family::V4 => insert_v4(group, new, how),
            Family::V6 => insert_v6(group, new, how),
        }))
    }

    /// A route went.
    pub(crate) fn remove(&mut self, to: Destination, entry: Entry) -> Vec<Change<Route>> {
        if !self.groups.contains_key(&to) {
            return Vec::new();
        }
        let gone = split(to.family(), entry);
        self.change(to, |group| {
            for gone in &gone {
                if let Some(at) = group.iter().position(|one| one.is_same(gone, to.family())) {
                    group.remove(at);
                }
            }
        })
    }

    /// A link went down.
    pub(crate) fn link_down(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.uses(link),
            |to, group| {
                leave_nexthops(group, link);
                match to.family() {
                    Family::V4 => {
                        // A next hop of host scope is not looked at (`RT_SCOPE_NOWHERE`).
                        mark(group, link, true, |entry| entry.scope != libc::RT_SCOPE_HOST);
                        group.retain(|entry| !entry.is_dead());
                    }
                    Family::V6 => {
                        mark(group, link, true, |_| true);
                        let lives = |entry: &Entry| entry.can_be_sibling() && !entry.is_dead();
                        let some = group.iter().any(lives);
                        group.retain(|entry| !entry.is_dead() || some && entry.can_be_sibling());
                    }
                }
            },
        )
    }

    /// A link has no carrier: its nexthop objects are removed.
    pub(crate) fn carrier_lost(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.nexthop_id.is_some() && entry.uses(link),
            |_, group| leave_nexthops(group, link),
        )
    }

    /// A link was removed.
    pub(crate) fn link_gone(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.uses(link),
            |_, group| {
                leave_nexthops(group, link);
                group.retain(|entry| !entry.uses(link));
            },
        )
    }

    /// A link came up: what was dead because of it lives again.
    pub(crate) fn link_up(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.uses(link),
            |_, group| mark(group, link, false, |_| true),
        )
    }

    /// The last IPv4 address of a link went.
    pub(crate) fn v4_disabled(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |to, entry| to.family() == Family::V4 && entry.uses(link),
            |_, group| {
                mark(group, link, true, |_| true);
                group.retain(|entry| entry.nexthop_id.is_some() || !entry.is_dead());
            },
        )
    }

    /// A link that is up has its first IPv4 address.
    pub(crate) fn v4_enabled(&mut self, link: LinkIndex) -> Vec<Change<Route>> {
        self.change_where(
            |to, entry| {
                to.family() == Family::V4
                    && entry.hops.iter().any(|hop| hop.link == link && hop.dead)
            },
            |_, group| mark(group, link, false, |_| true),
        )
    }

    /// No link has the IPv4 address `source` any longer, not even one that is down.
    pub(crate) fn v4_source_gone(&mut self, source: IpAddr) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.source == Some(source),
            |_, group| group.retain(|entry| entry.source != Some(source)),
        )
    }

    /// A nexthop object went.
    pub(crate) fn nexthop_gone(&mut self, number: u32) -> Vec<Change<Route>> {
        self.change_where(
            |_, entry| entry.nexthop_id == Some(number),
            |_, group| group.retain(|entry| entry.nexthop_id != Some(number)),
        )
    }

    fn change_where(
        &mut self,
        concerned: impl Fn(&Destination, &Entry) -> bool,
        mut apply: impl FnMut(&Destination, &mut Group),
    ) -> Vec<Change<Route>> {
        let groups = self.groups.iter();
        let concerned: Vec<_> = groups
            .filter(|(to, group)| group.iter().any(|entry| concerned(to, entry)))
            .map(|(to, _)| *to)
            .collect();
        concerned.into_iter().flat_map(|to| self.change(to, |group| apply(&to, group))).collect()
    }

    /// Changes one group and tells what that did.
    fn change(&mut self, to: Destination, apply: impl FnOnce(&mut Group)) -> Vec<Change<Route>> {
        let group = self.groups.entry(to).or_default();
        let before = shown(&to, group);
        apply(group);
        let after = shown(&to, group);
        if !is_kept(&to, group) {
            self.groups.remove(&to);
        }
        let came = after.difference(&before).cloned().map(Change::Updated);
        let went = before.difference(&after).cloned().map(Change::Deleted);
        came.chain(went).collect()
    }
}

fn insert_v4(group: &mut Group, new: Vec<Entry>, how: Insertion) {
    for entry in new {
        let same = group.iter().position(|one| one.is_same(&entry, Family::V4));
        match same {
            Some(at) if !how.exclusive => group[at] = entry,
            _ if how.exclusive => *group = vec![entry],
            _ if how.append => group.push(entry),
            _ if how.replace && !group.is_empty() => group[0] = entry,
            _ => group.insert(0, entry),
        }
    }
}

fn insert_v6(group: &mut Group, new: Vec<Entry>, how: Insertion) {
    let same =
        |group: &Group, entry: &Entry| group.iter().position(|one| one.is_same(entry, Family::V6));
    if how.exclusive {
        group.clear();
    }
    let is_update =
        new.iter().any(|entry| entry.nexthop_id.is_some() && same(group, entry).is_some());
    if !how.replace || is_update {
        let several = new.len() > 1;
        for mut entry in new {
            match same(group, &entry) {
                // A message about several next hops gives one origin for all.
                Some(at) if several => {
                    entry.protocol = group[at].protocol;
                    group[at] = entry;
                }
                Some(at) => group[at] = entry,
                None => group.push(entry),
            }
        }
        return;
    }
    let sort = new.iter().any(Entry::can_be_sibling);
    let first = group.iter().position(|one| one.can_be_sibling() == sort);
    if group.is_empty() {
        group.extend(new);
        return;
    }
    let at = first.unwrap_or(0);
    if group[at].can_be_sibling() {
        let (mut kept, mut before) = (Vec::new(), at);
        for (index, entry) in group.drain(..).enumerate() {
            if !entry.can_be_sibling() {
                kept.push(entry);
            } else if index < at {
                before -= 1;
            }
        }
        *group = kept;
        group.splice(before..before, new);
    } else {
        group.splice(at..=at, new);
    }
}

/// IPv6 keeps each next hop as a route of its own, unless they are a nexthop object's.
fn split(family: Family, entry: Entry) -> Vec<Entry> {
    if family == Family::V4 || entry.nexthop_id.is_some() || entry.hops.len() < 2 {
        return vec![entry];
    }
    let hops = entry.hops.iter().map(|hop| vec![hop.clone()]);
    hops.map(|hops| Entry { hops, together: true, ..entry.clone() }).collect()
}

fn is_kept(to: &Destination, group: &Group) -> bool {
    !group.is_empty() && (to.is_default() || group.iter().any(Entry::is_direct))
}

fn shown(to: &Destination, group: &Group) -> BTreeSet<Route> {
    // The kernel shows the siblings of an IPv6 route with the origin of the first.
    let is_sibling = |entry: &Entry| to.family() == Family::V6 && entry.can_be_sibling();
    let first = group.iter().find(|entry| is_sibling(entry));
    let mut routes = BTreeSet::new();
    for entry in group {
        let origin = first.filter(|_| is_sibling(entry)).unwrap_or(entry).protocol;
        routes
            .extend(entry.routes(to).into_iter().map(|route| Route { protocol: origin, ..route }));
    }
    routes
}

fn mark(group: &mut Group, link: LinkIndex, dead: bool, applies: impl Fn(&Entry) -> bool) {
    for entry in group.iter_mut().filter(|entry| entry.nexthop_id.is_none() && applies(entry)) {
        for hop in entry.hops.iter_mut().filter(|hop| hop.link == link) {
            hop.dead = dead;
        }
    }
}

/// Nexthop objects on a link that goes down are removed for good, from groups too.
fn leave_nexthops(group: &mut Group, link: LinkIndex) {
    group.retain_mut(|entry| {
        if entry.nexthop_id.is_none() || !entry.uses(link) {
            return true;
        }
        entry.hops.retain(|hop| hop.link != link);
        !entry.hops.is_empty()
    });
}

#[cfg(test)]
mod tests;
