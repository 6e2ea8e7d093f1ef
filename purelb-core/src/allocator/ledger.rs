//! Who has which address: the one owner of all facts about allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocator::intervals::Intervals;
use crate::host::Family;
use crate::name::{GroupName, ServiceKey, SharingKey, Uid};
use crate::range::{self, AddressRange};
use crate::service::{Port, Service};

/// Who has which address.
///
/// The only thing that gives out an address or takes one back, keyed by Service uid. It knows no
/// groups: an address is taken because a Service has it, whatever becomes of the group that it came
/// from. An address that a Service is to lose is *leaving* until the API no longer shows it there;
/// until then nobody else gets it.
///
/// * facts about Services: [`enroll`](Self::enroll), [`expel`](Self::expel);
/// * giving and taking: [`settle`](Self::settle), [`confirm`](Self::confirm);
/// * questions: [`obstacle`](Self::obstacle), [`lowest_free`](Self::lowest_free),
///   [`shared_under`](Self::shared_under), [`allocated`](Self::allocated).
///
/// Every operation costs O(log n) in the number of addresses that are taken, times the number of
/// Services that share the address in question.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    owners: BTreeMap<Uid, Owner>,
    uses: BTreeMap<IpAddr, Vec<Use>>,
    taken_v4: Intervals,
    taken_v6: Intervals,
    shared: BTreeMap<(Family, SharingKey), BTreeSet<IpAddr>>,
    counters: BTreeMap<IpAddr, Counter>,
    touched: BTreeSet<IpAddr>,
}

/// A Service, as far as others must respect what it has.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace and name.
    pub service: ServiceKey,
    sharing: Option<SharingKey>,
    ports: BTreeSet<Port>,
    held: Vec<Held>,
    leaving: BTreeMap<IpAddr, Option<GroupName>>,
}

impl Owner {
    /// Its addresses, in the order of the ingress list.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// The addresses that it is to lose once the API no longer shows them.
    pub fn leaving(&self) -> impl Iterator<Item = IpAddr> {
        self.leaving.keys().copied()
    }

    /// Whether there are any of those.
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }
}

/// An address of a Service, and which group it was given out of, as far as that is known.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The address.
    pub ip: IpAddr,
    /// The group.
    pub group: Option<GroupName>,
}

/// Why a Service cannot have an address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody has it, and does not share it with this Service.
    Held {
        /// Who.
        holder: ServiceKey,
    },
    /// Somebody shares it, but has one of the Service's ports.
    Port {
        /// Which.
        port: Port,
        /// Who.
        holder: ServiceKey,
    },
}

/// What [`Ledger::settle`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Addresses that the Service has now and had not.
    pub gained: Vec<Held>,
    /// Addresses that it had, and that are leaving now.
    pub lost: Vec<Held>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    uid: Uid,
    is_leaving: bool,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug)]
struct Counter {
    range: AddressRange,
    allocated: u128,
}

impl Ledger {
    /// Takes in what a Service is: its name, ports and sharing key. What it has stays as it is, even
    /// where ports or keys now clash: whoever decides next finds the [`obstacle`](Self::obstacle).
    /// Returns whether a Service that was enrolled has other ports or another key now.
    pub fn enroll(&mut self, service: &Service) -> bool {
        let sharing = &service.annotations.sharing;
        let Some(owner) = self.owners.get_mut(&service.uid) else {
            let owner = Owner {
                service: service.key.clone(),
                sharing: sharing.clone(),
                ports: service.ports.clone(),
                held: Vec::new(),
                leaving: BTreeMap::new(),
            };
            self.owners.insert(service.uid.clone(), owner);
            return false;
        };
        let has_other_ports = owner.ports != service.ports;
        if has_other_ports {
            owner.ports.clone_from(&service.ports);
        }
        let has_other_key = owner.sharing != *sharing;
        if has_other_key {
            let old = std::mem::replace(&mut owner.sharing, sharing.clone());
            let held: Vec<_> = owner.held.iter().map(|held| held.ip).collect();
            for ip in held {
                self.unindex(ip, old.as_ref());
                self.index(ip, sharing.as_ref());
            }
        }
        has_other_ports || has_other_key
    }

    /// Forgets a Service that is gone and frees what it had; returns that.
    pub fn expel(&mut self, uid: &Uid) -> Vec<Held> {
        let Some(owner) = self.owners.remove(uid) else { return Vec::new() };
        let leaving = owner.leaving.into_iter().map(|(ip, group)| Held { ip, group });
        let freed: Vec<_> = owner.held.into_iter().chain(leaving).collect();
        for held in &freed {
            self.drop_use(held.ip, uid);
            self.unindex(held.ip, owner.sharing.as_ref());
        }
        freed
    }

    /// The Service of this uid, if it is enrolled.
    pub fn owner(&self, uid: &Uid) -> Option<&Owner> {
        self.owners.get(uid)
    }

    /// What keeps the Service `uid` from having `ip`, or `None` if nothing does. What it has itself,
    /// or is about to lose, is no obstacle; nor is one that is about to leave it to this Service.
    pub fn obstacle(&self, ip: IpAddr, uid: &Uid) -> Option<Obstacle> {
        let uses = self.uses.get(&ip)?;
        let own = self.owners.get(uid);
        let holds = uses.iter().any(|used| used.uid == *uid && !used.is_leaving);
        let others = uses.iter().filter(|used| used.uid != *uid && !(holds && used.is_leaving));
        let mut clash = None;
        for used in others {
            let Some(other) = self.owners.get(&used.uid) else { continue };
            let sharing = own.is_some_and(|own| {
                !used.is_leaving && own.sharing.is_some() && own.sharing == other.sharing
            });
            if !sharing {
                return Some(Obstacle::Held { holder: other.service.clone() });
            }
            let port = own.and_then(|own| own.ports.intersection(&other.ports).next().copied());
            if let Some(port) = port
                && clash.is_none()
            {
                clash = Some(Obstacle::Port { port, holder: other.service.clone() });
            }
        }
        clash
    }

    /// Makes `wanted` what the enrolled Service `uid` has. All or nothing; what it had and is not in
    /// `wanted` is leaving from now on.
    ///
    /// # Errors
    ///
    /// With the first address that it cannot have and why; then nothing has changed.
    pub fn settle(&mut self, uid: &Uid, wanted: Vec<Held>) -> Result<Settled, (IpAddr, Obstacle)> {
        for held in &wanted {
            if let Some(obstacle) = self.obstacle(held.ip, uid) {
                return Err((held.ip, obstacle));
            }
        }
        let Some(owner) = self.owners.get_mut(uid) else { return Ok(Settled::default()) };
        let mut settled = Settled::default();
        for held in &wanted {
            if !owner.held.iter().any(|old| old.ip == held.ip) {
                settled.gained.push(held.clone());
            }
        }
        for old in &owner.held {
            if !wanted.iter().any(|held| held.ip == old.ip) {
                settled.lost.push(old.clone());
            }
        }
        for lost in &settled.lost {
            owner.leaving.insert(lost.ip, lost.group.clone());
        }
        for gained in &settled.gained {
            owner.leaving.remove(&gained.ip);
        }
        owner.held = wanted;
        let sharing = owner.sharing.clone();
        for lost in &settled.lost {
            self.set_use(lost.ip, uid, true);
            self.unindex(lost.ip, sharing.as_ref());
        }
        for gained in &settled.gained {
            self.set_use(gained.ip, uid, false);
            self.index(gained.ip, sharing.as_ref());
        }
        Ok(settled)
    }

    /// Takes in that the API shows exactly `ingress` for a Service: what was leaving and is not
    /// among them is free. Returns that.
    pub fn confirm(&mut self, uid: &Uid, ingress: &[IpAddr]) -> Vec<Held> {
        let Some(owner) = self.owners.get_mut(uid) else { return Vec::new() };
        let leaving = std::mem::take(&mut owner.leaving);
        let (stays, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            leaving.into_iter().partition(|(ip, _)| ingress.contains(ip));
        owner.leaving = stays;
        for ip in gone.keys() {
            self.drop_use(*ip, uid);
        }
        gone.into_iter().map(|(ip, group)| Held { ip, group }).collect()
    }

    /// The lowest address of `range` that nobody has and that is not among `except`.
    pub fn lowest_free(&self, range: &AddressRange, except: &[Option<IpAddr>]) -> Option<IpAddr> {
        let taken = self.taken(range.family());
        let mut from = range::bits(range.first());
        loop {
            let free = taken.free_from(from)?;
            let ip = range.at(free)?;
            if !except.contains(&Some(ip)) {
                return Some(ip);
            }
            from = free.checked_add(1)?;
        }
    }

    /// The addresses of a family that Services other than `uid` hold under a sharing key, lowest
    /// first. One that `uid` alone brought under the key, by changing its own, binds nobody to it.
    pub fn shared_under(
        &self,
        family: Family,
        key: &SharingKey,
        uid: &Uid,
    ) -> impl Iterator<Item = IpAddr> {
        let ips = self.shared.get(&(family, key.clone())).into_iter().flatten().copied();
        ips.filter(move |ip| {
            let others = self.uses.get(ip).into_iter().flatten().filter(|used| used.uid != *uid);
            let mut owners = others.filter_map(|used| self.owners.get(&used.uid));
            owners.any(|owner| owner.sharing.as_ref() == Some(key))
        })
    }

    /// Whether anybody has `ip`.
    pub fn is_taken(&self, ip: IpAddr) -> bool {
        self.uses.contains_key(&ip)
    }

    /// Who has `ip`; those that are about to lose it last.
    pub fn holders(&self, ip: IpAddr) -> impl Iterator<Item = &Owner> {
        let uses = self.uses.get(&ip).into_iter().flatten();
        let (leaving, holding): (Vec<_>, Vec<_>) = uses.partition(|used| used.is_leaving);
        holding.into_iter().chain(leaving).filter_map(|used| self.owners.get(&used.uid))
    }

    /// Every address that somebody has, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.uses.keys().copied()
    }

    /// Counts from now on how many addresses of each of these ranges are taken. The ranges must not
    /// overlap; they replace those of the last call.
    pub fn track(&mut self, ranges: impl IntoIterator<Item = AddressRange>) {
        self.counters = ranges
            .into_iter()
            .map(|range| {
                let allocated = self.uses.range(range.first()..=range.last()).count() as u128;
                (range.first(), Counter { range, allocated })
            })
            .collect();
        self.touched = self.counters.keys().copied().collect();
    }

    /// How many addresses of a range given to [`track`](Self::track) are taken; one that is shared
    /// counts once.
    pub fn allocated(&self, range: &AddressRange) -> u128 {
        self.counters.get(&range.first()).map_or(0, |counter| counter.allocated)
    }

    /// The first addresses of the tracked ranges whose count may have changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    fn taken(&self, family: Family) -> &Intervals {
        match family {
            Family::V4 => &self.taken_v4,
            Family::V6 => &self.taken_v6,
        }
    }

    fn taken_mut(&mut self, family: Family) -> &mut Intervals {
        match family {
            Family::V4 => &mut self.taken_v4,
            Family::V6 => &mut self.taken_v6,
        }
    }

    fn set_use(&mut self, ip: IpAddr, uid: &Uid, is_leaving: bool) {
        let uses = self.uses.entry(ip).or_default();
        if let Some(used) = uses.iter_mut().find(|used| used.uid == *uid) {
            used.is_leaving = is_leaving;
            return;
        }
        // Nearly always the only one.
        uses.reserve_exact(1);
        uses.push(Use { uid: uid.clone(), is_leaving });
        uses.sort_by(|a, b| a.uid.cmp(&b.uid));
        if uses.len() == 1 {
            self.taken_mut(Family::of(ip)).insert(range::bits(ip));
            self.count(ip, |allocated| allocated + 1);
        }
    }

    fn drop_use(&mut self, ip: IpAddr, uid: &Uid) {
        let Some(uses) = self.uses.get_mut(&ip) else { return };
        uses.retain(|used| used.uid != *uid);
        if uses.is_empty() {
            self.uses.remove(&ip);
            self.taken_mut(Family::of(ip)).remove(range::bits(ip));
            self.count(ip, |allocated| allocated.saturating_sub(1));
        }
    }

    fn count(&mut self, ip: IpAddr, change: impl Fn(u128) -> u128) {
        if let Some((first, counter)) = self.counters.range_mut(..=ip).next_back()
            && counter.range.contains(ip)
        {
            counter.allocated = change(counter.allocated);
            self.touched.insert(*first);
        }
    }

    fn index(&mut self, ip: IpAddr, key: Option<&SharingKey>) {
        if let Some(key) = key {
            self.shared.entry((Family::of(ip), key.clone())).or_default().insert(ip);
        }
    }

    /// Takes `ip` out of the index of `key`, unless somebody else holds it under that key.
    fn unindex(&mut self, ip: IpAddr, key: Option<&SharingKey>) {
        let Some(key) = key else { return };
        let uses = self.uses.get(&ip).into_iter().flatten();
        let mut holding = uses.filter(|used| !used.is_leaving);
        let owners = &self.owners;
        let is_used = holding
            .any(|used| owners.get(&used.uid).is_some_and(|o| o.sharing.as_ref() == Some(key)));
        let entry = (Family::of(ip), key.clone());
        if !is_used && let Some(ips) = self.shared.get_mut(&entry) {
            ips.remove(&ip);
            if ips.is_empty() {
                self.shared.remove(&entry);
            }
        }
    }
}
