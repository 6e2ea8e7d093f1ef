//! Which address of a group is next.

use std::net::IpAddr;

use crate::allocator::assign::Facts;
use crate::allocator::ledger::{Held, Ledger, Obstacle};
use crate::allocator::refusal::{Ranges, Refusal};
use crate::allocator::reserved::reserved;
use crate::group::{Announce, Group, Pool, Source, Spread};
use crate::host::Family;
use crate::service::Service;

/// Whether a Service gets one address per range of `group`: as its annotation says, or else the group.
pub(crate) fn is_multi(service: &Service, group: &Group) -> bool {
    match &group.source {
        Source::External { .. } => false,
        Source::Pools { spread, .. } => {
            service.annotations.multi_pool.unwrap_or(*spread == Spread::Multi)
        }
    }
}

/// The next address of one family: the one that others hold under the same sharing key, or else the
/// lowest free one of the first range that has any; with `balancePools` and no sharing key, of the
/// range with the fewest in use.
///
/// # Errors
///
/// If there is no range of that family, none is free, or the shared address has the Service's port
/// taken: another address is never used instead.
pub(crate) fn one(
    service: &Service,
    group: &Group,
    family: Family,
    ledger: &Ledger,
) -> Result<IpAddr, Refusal> {
    let mut pools: Vec<&Pool> = group.pools_of(family).collect();
    if pools.is_empty() {
        return Err(Refusal::NoRange { group: group.name.clone(), family });
    }
    match &service.annotations.sharing {
        Some(key) => {
            let bound = ledger.shared_under(family, key, &service.uid);
            let mut clash = None;
            for ip in bound.filter(|ip| group.pool_of(*ip).is_some()) {
                match ledger.obstacle(ip, &service.uid) {
                    None => return Ok(ip),
                    Some(Obstacle::Held { holder }) => {
                        clash.get_or_insert(Refusal::RequestHeld { ip, holder });
                    }
                    Some(Obstacle::Port { port, holder }) => {
                        clash.get_or_insert(Refusal::PortConflict { ip, port, holder });
                    }
                }
            }
            if let Some(clash) = clash {
                return Err(clash);
            }
        }
        None if spread(group) == Spread::Balanced => {
            pools.sort_by_key(|pool| ledger.allocated(&pool.range));
        }
        None => {}
    }
    let free = pools.into_iter().find_map(|pool| lowest(pool, group.announce, ledger));
    free.ok_or_else(|| exhausted(group, family))
}

/// What [`one_per_range`] found.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct PerRange {
    /// The new addresses.
    pub(crate) found: Vec<Held>,
    /// Some range that could have given one had none free.
    pub(crate) partial: bool,
}

/// One address from each range that `held` has none of: in a local group only of ranges whose subnet
/// some live node serves.
pub(crate) fn one_per_range(
    service: &Service,
    group: &Group,
    facts: Facts<'_>,
    held: &[Held],
) -> PerRange {
    let families =
        if service.families.is_empty() { &[Family::V4][..] } else { &service.families[..] };
    let mut added = PerRange { found: Vec::new(), partial: false };
    for pool in families.iter().flat_map(|family| group.pools_of(*family)) {
        let has = held.iter().any(|held| pool.range.contains(held.ip));
        if has || !is_active(pool, group.announce, facts) {
            continue;
        }
        match lowest(pool, group.announce, facts.ledger) {
            Some(ip) => added.found.push(Held { ip, group: Some(group.name.clone()) }),
            None => added.partial = true,
        }
    }
    added
}

/// Why [`one_per_range`] found no address of a family.
pub(crate) fn why_none(group: &Group, family: Family, facts: Facts<'_>) -> Refusal {
    let mut pools = group.pools_of(family).peekable();
    if pools.peek().is_none() {
        return Refusal::NoRange { group: group.name.clone(), family };
    }
    if pools.any(|pool| is_active(pool, group.announce, facts)) {
        return exhausted(group, family);
    }
    Refusal::NoActiveSubnet { group: group.name.clone() }
}

fn is_active(pool: &Pool, announce: Announce, facts: Facts<'_>) -> bool {
    match announce {
        Announce::Local => facts.active_subnets.contains(&pool.subnet),
        Announce::Remote => true,
    }
}

fn lowest(pool: &Pool, announce: Announce, ledger: &Ledger) -> Option<IpAddr> {
    let mut except = [None; 2];
    for (slot, (ip, _)) in except.iter_mut().zip(reserved(pool, announce)) {
        *slot = Some(ip);
    }
    ledger.lowest_free(&pool.range, &except)
}

fn spread(group: &Group) -> Spread {
    match &group.source {
        Source::External { .. } => Spread::InOrder,
        Source::Pools { spread, .. } => *spread,
    }
}

fn exhausted(group: &Group, family: Family) -> Refusal {
    let ranges = Ranges(group.pools_of(family).map(|pool| pool.range).collect());
    Refusal::Exhausted { group: group.name.clone(), family, ranges }
}
