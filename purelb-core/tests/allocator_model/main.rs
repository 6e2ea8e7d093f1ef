//! The allocator against a reference written for clarity, and against its invariants, over random
//! histories.
//!
//! `PURELB_HISTORIES` says how many (64 unless given; `.ci/run` has 10,000):
//! `PURELB_HISTORIES=1000000 cargo test --release -p purelb-core --test allocator_model`.

#![allow(unreachable_pub, reason = "its own modules are no API")]

#[path = "../allocator_world/mod.rs"]
mod allocator_world;
mod history;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use allocator_world::*;
use history::{SERVICES, Step, apply, step};
use proptest::prelude::*;
use purelb_core::allocator::{Event, Refusal};
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;
use purelb_core::store::Change;
use reference::Reference;

fn config() -> ProptestConfig {
    #[allow(clippy::disallowed_methods, reason = "a test may have an environment")]
    let wanted = std::env::var("PURELB_HISTORIES").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: wanted.unwrap_or(64), failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    /// One thing at a time: exactly what the reference has, in the same order. Restarts, relists and
    /// lost annotations do not exist for the reference.
    #[test]
    fn every_service_has_exactly_what_the_reference_gives_it(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new();
        let mut reference = Reference::default();
        world.calm();
        for step in &steps {
            let touched = apply(&mut world, step);
            match step {
                Step::Group(..) | Step::DeleteGroup(_) => reference.groups(&world.groups),
                Step::Put(..) | Step::Delete(_) | Step::Retype(..) => {
                    if let Some(name) = touched {
                        reference.service(&key(name), world.services.get(&key(name)));
                    }
                }
                Step::Strip(_) | Step::Restart | Step::Relist => {}
            }
            world.calm();
            let expected: BTreeMap<_, Vec<_>> = world
                .services
                .keys()
                .map(|key| {
                    let held = reference.held.get(key).map(Vec::as_slice).unwrap_or_default();
                    (key.clone(), held.iter().map(|(ip, _)| *ip).collect())
                })
                .collect();
            prop_assert_eq!(shown(&world), expected, "after {:?}", step);
            check_rest(&mut world)?;
        }
    }

    /// Everything at once: facts that lag, writes that fail or land unnoticed, restarts and relists
    /// in between.
    #[test]
    fn no_disorder_breaks_an_invariant(
        steps in prop::collection::vec((step(), disorder()), 1..40),
    ) {
        let mut world = World::new();
        world.run();
        let mut before = shown(&world);
        let mut touched: BTreeSet<&str> = BTreeSet::new();
        let mut sharers = BTreeSet::new();
        let mut has_restarted = false;
        for (step, disorder) in &steps {
            touched.extend(apply(&mut world, step));
            has_restarted |= matches!(step, Step::Restart);
            if has_restarted {
                touched.extend(parting(&world, &touched));
            }
            let shares = |service: &&Service| service.annotations.sharing.is_some();
            sharers.extend(world.services.values().filter(shares).map(|s| s.key.clone()));
            world.writes = disorder.writes;
            if disorder.swaps {
                swap_kinds(&mut world);
            }
            for _ in 0..disorder.progress {
                world.step();
                no_address_twice(&world, &sharers)?;
            }
            if disorder.pauses {
                world.pass(std::time::Duration::from_secs(3));
                no_address_twice(&world, &sharers)?;
            }
            if disorder.dies {
                restart_here(&world, &touched)?;
            }
            if disorder.settles {
                world.writes = Writes::Work;
                world.calm();
                let after = shown(&world);
                only_owners_end_assignments(&world, &before, &after, &touched)?;
                check_rest(&mut world)?;
                before = after;
                has_restarted = false;
                // What its owner changed of a Service that is nobody's is looked at when a group
                // claims it.
                touched.retain(|name| is_nobodys(&world, name));
            }
        }
    }

    /// The order inside a list does not matter, and the same facts lead to the same actions.
    #[test]
    fn the_same_facts_in_any_order_of_the_list_lead_to_the_same_actions(
        steps in prop::collection::vec(step(), 1..20),
        seed in any::<u64>(),
    ) {
        let mut world = World::new();
        for step in &steps {
            apply(&mut world, step);
        }
        // Nothing has been decided yet: two Services may well show one address.
        for (n, service) in world.services.values_mut().enumerate() {
            service.ingress = if n % 2 == 0 { ips(&["192.0.2.5", "2001:db8::8"]) } else { vec![] };
        }
        let mut actions = Vec::new();
        for turn in 0..2 {
            let mut services: Vec<Service> = world.services.values().cloned().collect();
            let mut groups: Vec<_> = world.groups.values().cloned().collect();
            if turn == 1 {
                shuffle(&mut services, seed);
                shuffle(&mut groups, seed);
            }
            world.restart();
            world.facts.truncate(2);
            world.facts.push_back(Event::Services(Change::Listed(services)));
            world.facts.push_back(Event::Groups(Change::Listed(groups)));
            while world.deliver() {}
            actions.push(std::iter::from_fn(|| world.allocator.poll_action()).collect::<Vec<_>>());
        }
        prop_assert_eq!(&actions[0], &actions[1]);
    }
}

/// What goes wrong beside a step.
#[derive(Clone, Debug)]
struct Disorder {
    writes: Writes,
    /// How many facts are delivered or actions carried out.
    progress: usize,
    swaps: bool,
    pauses: bool,
    settles: bool,
    /// The allocator dies here and another begins, in a copy of the world.
    dies: bool,
}

fn disorder() -> impl Strategy<Value = Disorder> {
    let writes = prop_oneof![4 => Just(Writes::Work), 1 => Just(Writes::Fail), 1 => Just(Writes::LandUnnoticed)];
    let often = prop::bool::weighted;
    (writes, 0usize..12, any::<bool>(), often(0.2), often(0.3), often(0.2)).prop_map(
        |(writes, progress, swaps, pauses, settles, dies)| Disorder {
            writes,
            progress,
            swaps,
            pauses,
            settles,
            dies,
        },
    )
}

/// Whether a Service shows addresses that bear no mark of ours and are in no group: then it is somebody
/// else's until a group has them.
fn is_nobodys(world: &World, name: &str) -> bool {
    let Some(service) = world.services.get(&key(name)) else { return false };
    let is_grouped = |ip: &IpAddr| world.allocator.catalog().find(*ip).is_some();
    !service.ingress.is_empty() && !service.is_branded() && !service.ingress.iter().any(is_grouped)
}

/// The Services that show an address together with one whose owner has changed it. If they share it no
/// longer, one of them has to go, and an allocator that begins now cannot know who changed.
fn parting(world: &World, touched: &BTreeSet<&str>) -> Vec<&'static str> {
    let ingress = |name: &str| world.services.get(&key(name)).map(|service| &service.ingress);
    let shown: BTreeSet<IpAddr> =
        touched.iter().filter_map(|name| ingress(name)).flatten().copied().collect();
    let is_parting = |name: &&str| {
        ingress(name).is_some_and(|ingress| ingress.iter().any(|ip| shown.contains(ip)))
    };
    SERVICES.into_iter().filter(is_parting).collect()
}

/// Whatever was under way, an allocator that begins now keeps what the API shows, apart from what the
/// owners have changed; and so does one that begins after that. Of two that are found with one address
/// and share it no longer, one has to go, and nothing says whose owner it was that changed.
fn restart_here(world: &World, touched: &BTreeSet<&str>) -> Result<(), TestCaseError> {
    let mut again = world.clone();
    let mut before = shown(&again);
    let is_touched = |service: &ServiceKey| touched.contains(service.to_string().as_str());
    let changed = before.iter().filter(|(service, _)| is_touched(service));
    let parting: BTreeSet<IpAddr> = changed.flat_map(|(_, ips)| ips).copied().collect();
    before.retain(|_, ips| !ips.iter().any(|ip| parting.contains(ip)));
    again.writes = Writes::Work;
    again.restart();
    again.calm();
    only_owners_end_assignments(&again, &before, &shown(&again), touched)?;
    check_rest(&mut again)
}

/// Facts of different kinds come in no common order: the first of another kind overtakes.
fn swap_kinds(world: &mut World) {
    let is_service = |event: &Event| matches!(event, Event::Services(_));
    let Some(first) = world.facts.front().map(is_service) else { return };
    if let Some(other) = world.facts.iter().position(|event| is_service(event) != first)
        && let Some(event) = world.facts.remove(other)
    {
        world.facts.push_front(event);
    }
}

fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for n in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        items.swap(n, (seed >> 33) as usize % (n + 1));
    }
}

fn shown(world: &World) -> BTreeMap<ServiceKey, Vec<IpAddr>> {
    let services = world.services.iter();
    services.map(|(key, service)| (key.clone(), service.ingress.clone())).collect()
}

/// Invariant 1, at every instant and in the API itself. A sharing key that its owner has just taken
/// away is the allocator's to notice; for Services that never had one there is no excuse.
fn no_address_twice(world: &World, sharers: &BTreeSet<ServiceKey>) -> Result<(), TestCaseError> {
    let mut holders: BTreeMap<IpAddr, &ServiceKey> = BTreeMap::new();
    for service in world.services.values().filter(|service| !sharers.contains(&service.key)) {
        for ip in &service.ingress {
            let other = holders.insert(*ip, &service.key);
            prop_assert!(other.is_none(), "{} is shown by {} and {:?}", ip, service.key, other);
        }
    }
    Ok(())
}

/// Invariant 4. A Service that nobody touched has all that it had; one that asks for addresses may
/// have moved to them.
fn only_owners_end_assignments(
    world: &World,
    before: &BTreeMap<ServiceKey, Vec<IpAddr>>,
    after: &BTreeMap<ServiceKey, Vec<IpAddr>>,
    touched: &BTreeSet<&str>,
) -> Result<(), TestCaseError> {
    for (service, had) in before {
        let is_touched = touched.contains(service.to_string().as_str());
        let asks = world
            .services
            .get(service)
            .is_some_and(|service| service.annotations.addresses.is_some());
        if is_touched || asks {
            continue;
        }
        let has = after.get(service).cloned().unwrap_or_default();
        prop_assert!(had.iter().all(|ip| has.contains(ip)), "{}: {:?} to {:?}", service, had, has);
    }
    Ok(())
}

/// What holds whenever everything has come to rest: invariants 1 and 7, the books agree with the API,
/// and a restart changes nothing.
fn check_rest(world: &mut World) -> Result<(), TestCaseError> {
    let shown_before = shown(world);
    let ledger = world.allocator.ledger();
    let mut users: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for service in world.services.values() {
        let owner = ledger.owner(&service.uid);
        let held: Vec<_> =
            owner.map(|o| o.held().iter().map(|h| h.ip).collect()).unwrap_or_default();
        // Whose annotations were lost together with its group, before a start, is nobody's: what it
        // shows stays, whoever else has it.
        let is_lost = is_nobodys(world, &service.key.to_string());
        let agree = held == service.ingress || is_lost && held.is_empty();
        prop_assert!(agree, "{} holds {:?}, shows {:?}", service.key, held, service.ingress);
        prop_assert!(owner.is_none_or(|owner| !owner.has_leaving()));
        let is_fine = service.is_branded() != held.is_empty() || is_lost;
        prop_assert!(is_fine, "{} bears {:?}", service.key, service.annotations);
        for ip in held {
            users.entry(ip).or_default().push(service);
        }
    }
    prop_assert!(ledger.addresses().eq(users.keys().copied()), "the ledger holds for nobody");
    for (ip, users) in &users {
        for (n, one) in users.iter().enumerate() {
            for other in &users[..n] {
                let share = one.annotations.sharing.is_some()
                    && one.annotations.sharing == other.annotations.sharing
                    && one.ports.is_disjoint(&other.ports);
                prop_assert!(share, "{} has {} and {}", ip, one.key, other.key);
            }
        }
    }
    for service in world.services.values() {
        let refusal = world.allocator.refusal(&service.key);
        let is_served = !service.ingress.is_empty() || !service.is_load_balancer;
        prop_assert!(is_served || refusal.is_some(), "{} has neither", service.key);
        // Each refusal can be said.
        prop_assert!(!refusal.map(Refusal::to_string).is_some_and(|text| text.is_empty()));
    }
    let patches = world.patches.len();
    world.calm();
    prop_assert_eq!(world.patches.len(), patches, "not at rest");
    let mut again = world.clone();
    again.restart();
    again.calm();
    prop_assert_eq!(shown(&again), shown_before, "a restart changes assignments");
    prop_assert_eq!(again.patches.len(), patches, "a restart writes");
    Ok(())
}
