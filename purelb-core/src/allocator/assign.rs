//! Which addresses a Service should have: a pure function of the Service, the groups, and who has
//! what.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::allocator::catalog::{self, Catalog, Provenance};
use crate::allocator::ledger::{Held, Ledger, Obstacle};
use crate::allocator::notice::{Cause, How, Remark};
use crate::allocator::pick;
use crate::allocator::refusal::Refusal;
use crate::allocator::request::{Origin, Request};
use crate::allocator::reserved;
use crate::group::{Group, Source, Spread};
use crate::host::Family;
use crate::name::GroupName;
use crate::service::{FamilyPolicy, Service};

/// What a Service should have.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// All its addresses, in the order of the ingress list: those that it keeps, then new ones.
    pub held: Vec<Held>,
    /// How the new ones were chosen.
    pub how: How,
    /// Those that it has and is to lose, with the reason.
    pub dropped: Vec<(IpAddr, Cause)>,
    /// Why it does not get all that it asks for, if it does not.
    pub refusal: Option<Refusal>,
    /// What its owner should know.
    pub remarks: Vec<Remark>,
    /// A sidecar is to be asked for its addresses.
    pub ask: Option<Ask>,
    /// The group of which some range had no address left for it, though it is not refused.
    pub scarce: Option<GroupName>,
}

/// A sidecar is to be asked.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The external group.
    pub group: GroupName,
    /// The families wanted, all of the Service's, in its order.
    pub families: Vec<Family>,
    /// What it gives replaces what the Service has, rather than adding to it.
    pub replaces: bool,
}

/// What the decision stands on beside the Service itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The groups.
    pub catalog: &'a Catalog,
    /// Who has what. The Service must be [enrolled](Ledger::enroll) as it is now.
    pub ledger: &'a Ledger,
    /// The subnets that live nodes can serve, host bits cleared.
    pub active_subnets: &'a BTreeSet<IpNet>,
}

/// Decides which addresses a Service should have.
///
/// It keeps what it has unless the Service itself says otherwise: a family it no longer has, ports or
/// a sharing key that no longer go with those it shares an address with, or other addresses asked
/// for. Groups never take an address away. What is missing is added: the addresses asked for all or
/// none; otherwise one for each family without one, from the group that its other addresses are from,
/// or else from the group [chosen](Catalog::choose) for it.
///
/// The result is what [`Ledger::settle`] takes.
pub fn assign(service: &Service, facts: Facts<'_>) -> Assignment {
    let held = facts.ledger.owner(&service.uid).map_or(&[][..], |owner| owner.held());
    let of_today = |held: &Held| Held { ip: held.ip, group: group_of(held, facts.catalog) };
    let mut assignment = Assignment {
        held: held.iter().map(of_today).collect(),
        how: How::InOrder,
        dropped: Vec::new(),
        refusal: None,
        remarks: Vec::new(),
        ask: None,
        scarce: None,
    };
    drop_what_no_longer_fits(service, facts, &mut assignment);
    if !service.has_cluster_ip {
        assignment.refusal = Some(Refusal::Headless);
        return assignment;
    }
    let outcome = match Request::parse(service) {
        Ok(Some(request)) => by_request(service, &request, facts, &mut assignment),
        Ok(None) => by_group(service, facts, &mut assignment),
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = outcome {
        assignment.refusal = Some(refusal);
    }
    assignment
}

/// Drops what the Service's own families, ports and sharing key no longer allow.
fn drop_what_no_longer_fits(service: &Service, facts: Facts<'_>, assignment: &mut Assignment) {
    let dropped = &mut assignment.dropped;
    assignment.held.retain(|held| {
        let unwanted =
            !service.families.is_empty() && !service.families.contains(&Family::of(held.ip));
        let cause = if unwanted {
            Some(Cause::Family)
        } else {
            match facts.ledger.obstacle(held.ip, &service.uid) {
                Some(Obstacle::Held { .. }) => Some(Cause::SharingKey),
                Some(Obstacle::Port { .. }) => Some(Cause::Ports),
                None => None,
            }
        };
        dropped.extend(cause.map(|cause| (held.ip, cause)));
        cause.is_none()
    });
}

/// Exactly the addresses asked for, or what it has.
fn by_request(
    service: &Service,
    request: &Request,
    facts: Facts<'_>,
    assignment: &mut Assignment,
) -> Result<(), Refusal> {
    let has = |ip: &IpAddr| assignment.held.iter().any(|held| held.ip == *ip);
    let all_held = request.addresses.iter().all(has);
    if all_held && request.addresses.len() == assignment.held.len() {
        // What it has was given to it, however many that are; only what it lacks is judged.
        return incomplete(service, request);
    }
    if request.origin == Origin::LoadBalancerIp {
        assignment.remarks.push(Remark::LoadBalancerIp);
    } else if let Some(group) = catalog::asked(service) {
        assignment.remarks.push(Remark::AddressesOverGroup { group });
    }
    request.fits(service)?;
    let mut wanted = Vec::new();
    for &ip in &request.addresses {
        wanted.push(match assignment.held.iter().find(|held| held.ip == ip) {
            Some(held) => held.clone(),
            None => requested(ip, service, facts)?,
        });
    }
    let gone = assignment.held.iter().filter(|held| !request.addresses.contains(&held.ip));
    assignment.dropped.extend(gone.map(|held| (held.ip, Cause::Moved)));
    assignment.held = wanted;
    assignment.how = How::Requested;
    Ok(())
}

fn incomplete(service: &Service, request: &Request) -> Result<(), Refusal> {
    match request.fits(service) {
        Err(refusal @ Refusal::RequestIncomplete { .. }) => Err(refusal),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn requested(ip: IpAddr, service: &Service, facts: Facts<'_>) -> Result<Held, Refusal> {
    let Some((group, pool)) = facts.catalog.find(ip) else {
        return Err(Refusal::RequestOutside { ip });
    };
    facts.catalog.admit(&service.key.namespace, &group.name)?;
    if let Some(role) = reserved::role_of(ip, pool, group.announce) {
        return Err(Refusal::RequestReserved { ip, role, subnet: pool.subnet });
    }
    match facts.ledger.obstacle(ip, &service.uid) {
        Some(Obstacle::Held { holder }) => Err(Refusal::RequestHeld { ip, holder }),
        Some(Obstacle::Port { port, holder }) => Err(Refusal::PortConflict { ip, port, holder }),
        None => Ok(Held { ip, group: Some(group.name.clone()) }),
    }
}

/// One address for each family, or for each range.
fn by_group(
    service: &Service,
    facts: Facts<'_>,
    assignment: &mut Assignment,
) -> Result<(), Refusal> {
    if service.annotations.re_evaluate && move_to_group(service, facts, assignment)? {
        return Ok(());
    }
    remark_on_other_group(service, facts, assignment);
    let missing = missing_families(service, assignment);
    let Some(group) = group_for(service, &missing, facts, assignment)? else { return Ok(()) };
    extend(service, group, &missing, facts, assignment)
}

/// With `re-evaluate`, a Service whose addresses are from another group than the one chosen for it
/// moves there, all or nothing. Returns whether it does.
fn move_to_group(
    service: &Service,
    facts: Facts<'_>,
    assignment: &mut Assignment,
) -> Result<bool, Refusal> {
    if assignment.held.is_empty() {
        return Ok(false);
    }
    let choice = facts.catalog.choose(service)?;
    let is_there = |held: &Held| group_of(held, facts.catalog).as_ref() == Some(&choice.group.name);
    if assignment.held.iter().all(is_there) {
        return Ok(false);
    }
    let mut moved = Assignment { held: Vec::new(), ..assignment.clone() };
    let missing = missing_families(service, &moved);
    extend(service, choice.group, &missing, facts, &mut moved)?;
    if moved.ask.is_none() {
        moved.dropped.extend(assignment.held.iter().map(|held| (held.ip, Cause::Moved)));
        *assignment = moved;
    } else {
        assignment.ask = moved.ask.map(|ask| Ask { replaces: true, ..ask });
    }
    Ok(true)
}

/// The families that a Service needs an address for and has none.
fn missing_families(service: &Service, assignment: &Assignment) -> Vec<Family> {
    let has = |family: &Family| assignment.held.iter().any(|held| Family::of(held.ip) == *family);
    let mut missing = service.families.clone();
    missing.retain(|family| !has(family));
    if service.families.is_empty() && assignment.held.is_empty() {
        missing.push(Family::V4);
    }
    missing
}

/// The group to take what is missing from; `None` if nothing is missing.
fn group_for<'a>(
    service: &Service,
    missing: &[Family],
    facts: Facts<'a>,
    assignment: &mut Assignment,
) -> Result<Option<&'a Group>, Refusal> {
    let Some(first) = assignment.held.first() else {
        let choice = facts.catalog.choose(service)?;
        if let Provenance::Ambiguous { groups } = choice.why {
            let namespace = service.key.namespace.clone();
            assignment.remarks.push(Remark::AmbiguousDefault { namespace, groups });
        }
        return Ok(Some(choice.group));
    };
    let base = group_of(first, facts.catalog).and_then(|name| facts.catalog.group(&name));
    let grows = base.is_some_and(|group| pick::is_multi(service, group));
    if missing.is_empty() && !grows {
        return Ok(None);
    }
    let admitted =
        |group: &&Group| facts.catalog.admit(&service.key.namespace, &group.name).is_ok();
    let serves = |group: &&Group| match &group.source {
        Source::External { .. } => true,
        Source::Pools { .. } => {
            missing.is_empty() || missing.iter().any(|family| group.pools_of(*family).count() > 0)
        }
    };
    match base.filter(admitted).filter(serves) {
        Some(base) => Ok(Some(base)),
        None if missing.is_empty() => Ok(None),
        None => Ok(Some(facts.catalog.choose(service)?.group)),
    }
}

/// Adds what is missing from `group`.
fn extend(
    service: &Service,
    group: &Group,
    missing: &[Family],
    facts: Facts<'_>,
    assignment: &mut Assignment,
) -> Result<(), Refusal> {
    let spread = match &group.source {
        Source::External { .. } if service.annotations.multi_pool == Some(true) => {
            return Err(Refusal::MultiPoolExternal { group: group.name.clone() });
        }
        Source::External { .. } => {
            if !missing.is_empty() {
                assignment.ask = Some(Ask {
                    group: group.name.clone(),
                    families: if service.families.is_empty() {
                        missing.to_vec()
                    } else {
                        service.families.clone()
                    },
                    replaces: false,
                });
            }
            return Ok(());
        }
        Source::Pools { spread, .. } => *spread,
    };
    if pick::is_multi(service, group) {
        return extend_every_range(service, group, spread, facts, assignment);
    }
    let group_serves = |family: Family| group.pools_of(family).next().is_some();
    let mut missing = missing.to_vec();
    if service.families.is_empty() && !group_serves(Family::V4) && group_serves(Family::V6) {
        missing = vec![Family::V6];
    }
    let picks = missing.iter().map(|family| pick::one(service, group, *family, facts.ledger));
    let (found, refused): (Vec<_>, Vec<_>) = picks.partition(Result::is_ok);
    let found = found.into_iter().flatten().map(|ip| Held { ip, group: Some(group.name.clone()) });
    let refusal = refused.into_iter().filter_map(Result::err).min_by_key(urgency);
    let had_some = !assignment.held.is_empty();
    let found: Vec<_> = found.collect();
    if let Some(refusal) = refusal {
        match service.family_policy {
            FamilyPolicy::PreferDualStack if had_some || !found.is_empty() => {
                let is_unserved = matches!(refusal, Refusal::NoRange { .. });
                assignment.refusal = (!is_unserved).then_some(refusal);
            }
            FamilyPolicy::PreferDualStack
            | FamilyPolicy::RequireDualStack
            | FamilyPolicy::SingleStack => return Err(refusal),
        }
    }
    assignment.how = if spread == Spread::Balanced { How::Balanced } else { How::InOrder };
    assignment.held.extend(found);
    Ok(())
}

/// Adds an address of each range of `group` that the Service has none of. Never takes one away.
fn extend_every_range(
    service: &Service,
    group: &Group,
    spread: Spread,
    facts: Facts<'_>,
    assignment: &mut Assignment,
) -> Result<(), Refusal> {
    if spread == Spread::Balanced {
        return Err(Refusal::MultiPoolBalanced { group: group.name.clone() });
    }
    if service.annotations.sharing.is_some() {
        return Err(Refusal::MultiPoolSharing);
    }
    let groups: BTreeSet<_> =
        assignment.held.iter().filter_map(|held| group_of(held, facts.catalog)).collect();
    if groups.len() > 1 {
        return Err(Refusal::MultiPoolMismatch { groups: groups.into_iter().collect() });
    }
    let added = pick::one_per_range(service, group, facts, &assignment.held);
    let has = |family: &Family| {
        let mut ips = assignment.held.iter().chain(&added.found).map(|held| held.ip);
        ips.any(|ip| Family::of(ip) == *family)
    };
    let lacking: Vec<Family> =
        service.families.iter().copied().filter(|family| !has(family)).collect();
    let has_any = !assignment.held.is_empty() || !added.found.is_empty();
    let suffices = match service.family_policy {
        FamilyPolicy::RequireDualStack => lacking.is_empty() && has_any,
        FamilyPolicy::PreferDualStack | FamilyPolicy::SingleStack => has_any,
    };
    if !suffices {
        let mut reasons = lacking.iter().map(|family| pick::why_none(group, *family, facts));
        // Where one of two families would do, the reason is the one that can pass.
        let reason = match service.family_policy {
            FamilyPolicy::RequireDualStack => reasons.next(),
            FamilyPolicy::PreferDualStack | FamilyPolicy::SingleStack => {
                reasons.min_by_key(urgency)
            }
        };
        return Err(reason.unwrap_or_else(|| pick::why_none(group, Family::V4, facts)));
    }
    assignment.how = How::Multi { partial: added.partial };
    assignment.scarce = added.partial.then(|| group.name.clone());
    assignment.held.extend(added.found);
    Ok(())
}

/// Says so if the Service names a group and its addresses are from another.
fn remark_on_other_group(service: &Service, facts: Facts<'_>, assignment: &mut Assignment) {
    let Some(asks) = catalog::asked(service) else { return };
    let holds: BTreeSet<_> =
        assignment.held.iter().filter_map(|held| group_of(held, facts.catalog)).collect();
    if let Some(holds) = holds.first()
        && !holds.as_str().is_empty()
        && !assignment.held.is_empty()
        && holds != &asks
        && !holds_contains(&assignment.held, facts.catalog, &asks)
    {
        assignment.remarks.push(Remark::KeepsGroup { holds: holds.clone(), asks });
    }
}

fn holds_contains(held: &[Held], catalog: &Catalog, group: &GroupName) -> bool {
    held.iter().any(|held| group_of(held, catalog).as_ref() == Some(group))
}

/// The group that an address is of: the external one that gave it, or the one whose range holds it
/// now, or else the one that it was given out of.
pub(crate) fn group_of(held: &Held, catalog: &Catalog) -> Option<GroupName> {
    if let Some(name) = &held.group
        && catalog.external(name).is_some()
    {
        return Some(name.clone());
    }
    match catalog.find(held.ip) {
        Some((group, _)) => Some(group.name.clone()),
        None => held.group.clone(),
    }
}

/// Of two refusals the one that says more about what to change comes first.
fn urgency(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::PortConflict { .. } => 0,
        Refusal::RequestHeld { .. } => 1,
        Refusal::Exhausted { .. } => 2,
        Refusal::AmbiguousDefault { .. }
        | Refusal::GroupRefused { .. }
        | Refusal::Headless
        | Refusal::IpamConflict { .. }
        | Refusal::IpamFailed { .. }
        | Refusal::IpamIncomplete { .. }
        | Refusal::IpamTooMany { .. }
        | Refusal::MultiPoolBalanced { .. }
        | Refusal::MultiPoolExternal { .. }
        | Refusal::MultiPoolMismatch { .. }
        | Refusal::MultiPoolSharing
        | Refusal::NamespaceDenied { .. }
        | Refusal::NoActiveSubnet { .. }
        | Refusal::NoRange { .. }
        | Refusal::RequestFamily { .. }
        | Refusal::RequestIncomplete { .. }
        | Refusal::RequestOutside { .. }
        | Refusal::RequestReserved { .. }
        | Refusal::RequestTooMany { .. }
        | Refusal::RequestUnreadable { .. }
        | Refusal::RequestedTwice { .. }
        | Refusal::UnknownGroup { .. } => 3,
    }
}
