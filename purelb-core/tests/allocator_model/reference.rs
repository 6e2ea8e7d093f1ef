//! The rules of allocation, written for clarity: plain sets, every address of every range looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use purelb_core::group::{Announce, Group, Pool, ServiceGroup, Source, Spread};
use purelb_core::host::Family;
use purelb_core::name::{GroupName, ServiceKey};
use purelb_core::service::{FamilyPolicy, Service};

/// Who has which addresses, and from which group each is.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    pub services: BTreeMap<ServiceKey, Service>,
    pub groups: BTreeMap<GroupName, ServiceGroup>,
    pub held: BTreeMap<ServiceKey, Vec<(IpAddr, GroupName)>>,
    unmet: BTreeSet<ServiceKey>,
}

type Holding = Vec<(IpAddr, GroupName)>;

impl Reference {
    /// A Service was created, changed, or deleted.
    pub fn service(&mut self, key: &ServiceKey, service: Option<&Service>) {
        let mut woken = BTreeSet::new();
        let was = self.services.get(key).map(|old| old.uid.clone());
        let is = service.filter(|service| service.is_load_balancer);
        if is.map(|service| &service.uid) != was.as_ref() && self.held.remove(key).is_some() {
            woken.extend(self.unmet.clone());
        }
        match is {
            Some(service) => {
                // Its ports or sharing key may be others now: those that wait may fit in.
                self.services.insert(key.clone(), service.clone());
                if self.held.contains_key(key) {
                    woken.extend(self.unmet.clone());
                }
            }
            None => {
                self.services.remove(key);
                self.unmet.remove(key);
            }
        }
        // Who changed is who yields.
        self.decide(BTreeSet::from([key.clone()]));
        self.decide(woken);
    }

    /// The groups are others now.
    pub fn groups(&mut self, groups: &BTreeMap<GroupName, ServiceGroup>) {
        self.groups.clone_from(groups);
        self.decide(self.services.keys().cloned().collect());
    }

    fn decide(&mut self, mut dirty: BTreeSet<ServiceKey>) {
        while let Some(key) = dirty.pop_first() {
            let Some(service) = self.services.get(&key) else { continue };
            let before = self.held.get(&key).cloned().unwrap_or_default();
            let (after, is_met) = self.wanted(service, &before);
            let lacks = |some: &Holding, ip: &IpAddr| some.iter().all(|(other, _)| other != ip);
            let has_lost = before.iter().any(|(ip, _)| lacks(&after, ip));
            // What is shared may be shared with those that wait.
            let shares_more = service.annotations.sharing.is_some()
                && after.iter().any(|(ip, _)| lacks(&before, ip));
            self.held.insert(key.clone(), after);
            if is_met {
                self.unmet.remove(&key);
            } else {
                self.unmet.insert(key);
            }
            if has_lost || shares_more {
                dirty.extend(self.unmet.clone());
            }
        }
    }

    /// What a Service should have, and whether that is all it asks for.
    fn wanted(&self, service: &Service, before: &Holding) -> (Holding, bool) {
        let usable = self.usable_groups();
        let today = |(ip, group): &(IpAddr, GroupName)| {
            let now = usable.values().find(|group| group.pool_of(*ip).is_some());
            (*ip, now.map_or(group, |group| &group.name).clone())
        };
        let kept: Holding = before
            .iter()
            .filter(|(ip, _)| service.families.contains(&Family::of(*ip)))
            .filter(|(ip, _)| self.may_have(service, *ip))
            .map(today)
            .collect();
        if let Some(wish) = &service.annotations.addresses {
            let wish: Vec<IpAddr> = wish.split(',').filter_map(|ip| ip.parse().ok()).collect();
            let complete = service.family_policy != FamilyPolicy::RequireDualStack
                || service.families.iter().all(|f| wish.iter().any(|ip| Family::of(*ip) == *f));
            let same = |a: &[IpAddr], b: &Holding| {
                a.iter().collect::<BTreeSet<_>>() == b.iter().map(|(ip, _)| ip).collect()
            };
            if same(&wish, &kept) {
                return (kept, complete);
            }
            let granted: Option<Holding> = wish
                .iter()
                .map(|ip| match kept.iter().find(|(held, _)| held == ip) {
                    Some(held) => Some(held.clone()),
                    None => self.grant(service, *ip, &usable),
                })
                .collect();
            return match granted {
                Some(granted) if complete => (granted, true),
                Some(_) | None => (kept, false),
            };
        }
        self.wanted_from_group(service, kept, &usable)
    }

    fn grant(
        &self,
        service: &Service,
        ip: IpAddr,
        usable: &BTreeMap<GroupName, Group>,
    ) -> Option<(IpAddr, GroupName)> {
        if !service.families.contains(&Family::of(ip)) {
            return None;
        }
        let group = usable.values().find(|group| group.pool_of(ip).is_some())?;
        let pool = group.pool_of(ip)?;
        let fine = self.admits(service, &group.name)
            && !is_reserved(ip, pool, group.announce)
            && self.may_have(service, ip);
        fine.then(|| (ip, group.name.clone()))
    }

    fn wanted_from_group(
        &self,
        service: &Service,
        kept: Holding,
        usable: &BTreeMap<GroupName, Group>,
    ) -> (Holding, bool) {
        let has = |kept: &Holding, family| kept.iter().any(|(ip, _)| Family::of(*ip) == family);
        let missing: Vec<Family> =
            service.families.iter().copied().filter(|family| !has(&kept, *family)).collect();
        let base = kept.first().and_then(|(_, group)| usable.get(group));
        let grows = base.is_some_and(|base| is_multi(service, base));
        if !kept.is_empty() && missing.is_empty() && !grows {
            return (kept, true);
        }
        let serves = |group: &Group| {
            missing.is_empty() || missing.iter().any(|f| group.pools_of(*f).next().is_some())
        };
        let base = base.filter(|base| self.admits(service, &base.name) && serves(base));
        let group = match base {
            Some(base) => base,
            None if missing.is_empty() => return (kept, true),
            None => match self.chosen(service).and_then(|name| usable.get(&name)) {
                Some(group) if self.admits(service, &group.name) => group,
                Some(_) | None => return (kept, false),
            },
        };
        let taken: BTreeSet<IpAddr> = self.held.values().flatten().map(|(ip, _)| *ip).collect();
        if is_multi(service, group) {
            return self.every_range(service, kept, group, &taken);
        }
        let mut added = Holding::new();
        let mut lacks_range = false;
        for family in &missing {
            match self.one(service, *family, group, &taken) {
                Some(ip) => added.push((ip, group.name.clone())),
                None => lacks_range |= group.pools_of(*family).next().is_none(),
            }
        }
        let is_all = added.len() == missing.len();
        let only_unserved = lacks_range && added.len() + 1 == missing.len();
        match service.family_policy {
            FamilyPolicy::PreferDualStack if !kept.is_empty() || !added.is_empty() => {
                (kept.into_iter().chain(added).collect(), is_all || only_unserved)
            }
            FamilyPolicy::PreferDualStack
            | FamilyPolicy::RequireDualStack
            | FamilyPolicy::SingleStack
                if is_all =>
            {
                (kept.into_iter().chain(added).collect(), true)
            }
            FamilyPolicy::PreferDualStack
            | FamilyPolicy::RequireDualStack
            | FamilyPolicy::SingleStack => (kept, false),
        }
    }

    fn every_range(
        &self,
        service: &Service,
        kept: Holding,
        group: &Group,
        taken: &BTreeSet<IpAddr>,
    ) -> (Holding, bool) {
        let groups: BTreeSet<_> = kept.iter().map(|(_, group)| group).collect();
        let is_balanced = matches!(group.source, Source::Pools { spread: Spread::Balanced, .. });
        if is_balanced || service.annotations.sharing.is_some() || groups.len() > 1 {
            return (kept, false);
        }
        let mut all = kept.clone();
        let mut is_partial = false;
        for pool in service.families.iter().flat_map(|family| group.pools_of(*family)) {
            // No node of this cluster lists a subnet.
            if group.announce == Announce::Local
                || kept.iter().any(|(ip, _)| pool.range.contains(*ip))
            {
                continue;
            }
            match free(pool, group.announce, taken).next() {
                Some(ip) => all.push((ip, group.name.clone())),
                None => is_partial = true,
            }
        }
        let lacks = |family: &Family| !all.iter().any(|(ip, _)| Family::of(*ip) == *family);
        let is_short = service.family_policy == FamilyPolicy::RequireDualStack
            && service.families.iter().any(lacks);
        if all.is_empty() || is_short { (kept, false) } else { (all, !is_partial) }
    }

    fn one(
        &self,
        service: &Service,
        family: Family,
        group: &Group,
        taken: &BTreeSet<IpAddr>,
    ) -> Option<IpAddr> {
        if service.annotations.sharing.is_some() {
            let bound: BTreeSet<IpAddr> = self
                .held
                .iter()
                .filter(|(key, _)| {
                    let other = self.services.get(key).filter(|other| other.key != service.key);
                    other.is_some_and(|o| o.annotations.sharing == service.annotations.sharing)
                })
                .flat_map(|(_, held)| held.iter().map(|(ip, _)| *ip))
                .filter(|ip| Family::of(*ip) == family && group.pool_of(*ip).is_some())
                .collect();
            if !bound.is_empty() {
                return bound.into_iter().find(|ip| self.may_have(service, *ip));
            }
        }
        let mut pools: Vec<&Pool> = group.pools_of(family).collect();
        let is_balanced = matches!(group.source, Source::Pools { spread: Spread::Balanced, .. });
        if is_balanced && service.annotations.sharing.is_none() {
            pools.sort_by_key(|pool| taken.iter().filter(|ip| pool.range.contains(**ip)).count());
        }
        pools.into_iter().find_map(|pool| free(pool, group.announce, taken).next())
    }

    /// Nobody else has it, or all who have it share it with this Service.
    fn may_have(&self, service: &Service, ip: IpAddr) -> bool {
        self.held.iter().all(|(key, held)| {
            let is_other = *key != service.key && held.iter().any(|(other, _)| *other == ip);
            let Some(other) = self.services.get(key).filter(|_| is_other) else { return true };
            service.annotations.sharing.is_some()
                && service.annotations.sharing == other.annotations.sharing
                && service.ports.is_disjoint(&other.ports)
        })
    }

    /// The groups that make sense and overlap none that sorts before them.
    fn usable_groups(&self) -> BTreeMap<GroupName, Group> {
        let mut usable: BTreeMap<GroupName, Group> = BTreeMap::new();
        for group in self.groups.values().filter_map(|group| Group::parse(group).ok()) {
            let overlaps = usable
                .values()
                .flat_map(Group::pools)
                .any(|other| group.pools().iter().any(|pool| pool.range.overlaps(&other.range)));
            if !overlaps {
                usable.insert(group.name.clone(), group);
            }
        }
        usable
    }

    fn chosen(&self, service: &Service) -> Option<GroupName> {
        if let Some(asked) = &service.annotations.service_group {
            return Some(asked.clone());
        }
        // Only the group `red` lists a namespace in these histories.
        let lists = |group: &&ServiceGroup| group.namespaces.contains(&service.key.namespace);
        let listing = self.groups.values().find(lists);
        Some(listing.map_or_else(|| "default".into(), |group| group.name.clone()))
    }

    fn admits(&self, service: &Service, group: &GroupName) -> bool {
        let namespace = &service.key.namespace;
        let confined: BTreeSet<_> = self
            .groups
            .values()
            .filter(|group| group.enforce_namespaces)
            .flat_map(|group| &group.namespaces)
            .collect();
        let lists = self.groups.get(group).map(|group| &group.namespaces[..]).unwrap_or_default();
        let is_fenced = lists.iter().any(|namespace| confined.contains(namespace));
        lists.contains(namespace) || (!confined.contains(namespace) && !is_fenced)
    }
}

fn is_multi(service: &Service, group: &Group) -> bool {
    let by_group = matches!(group.source, Source::Pools { spread: Spread::Multi, .. });
    service.annotations.multi_pool.unwrap_or(by_group)
}

fn free(pool: &Pool, announce: Announce, taken: &BTreeSet<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let all = (0..).map_while(|n| pool.range.nth(n));
    all.filter(move |ip| !taken.contains(ip) && !is_reserved(*ip, pool, announce))
}

fn is_reserved(ip: IpAddr, pool: &Pool, announce: Announce) -> bool {
    let prefix = pool.subnet.prefix_len();
    let bits = pool.subnet.max_prefix_len();
    if bits - prefix < 2 || (announce == Announce::Remote && pool.prefix_len() == bits) {
        return false;
    }
    let is_v4 = matches!(pool.subnet, IpNet::V4(_));
    ip == pool.subnet.network() || (is_v4 && ip == pool.subnet.broadcast())
}
