//! The allocator in an arbitrary history of Services, groups, sidecars, failed writes and restarts: no address
//! is with two that do not share it, the books agree with the API, and a restart changes nothing.

#![no_main]

#[path = "../purelb-core/tests/allocator_world/mod.rs"]
mod allocator_world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use allocator_world::{GroupExt, ServiceExt, Sidecar, World, Writes, external, key, local, remote};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::allocator::{ALLOCATED_BY, ClusterRange, Event, IpamError};
use purelb_core::group::{GroupSpec, ServiceGroup};
use purelb_core::name::ServiceKey;
use purelb_core::service::{BRAND, Service};

const SERVICES: [&str; 4] = ["red/a", "red/b", "ns/a", "ns/b"];
const GROUPS: [&str; 3] = ["default", "red", "other"];
/// What an external group's sidecar gives out.
const SIDECAR: [&str; 2] = ["198.51.100.0/30", "2001:db8:e::/126"];
/// Small, many of them overlapping.
const RANGES: [&str; 6] = [
    "192.0.2.0/30@192.0.2.0/30",
    "192.0.2.5-192.0.2.6",
    "192.0.2.4/31",
    "2001:db8::/126",
    "2001:db8::2-2001:db8::5",
    "192.0.2.9-192.0.2.1",
];

#[derive(Arbitrary, Debug)]
enum Step {
    Cluster { is_pod_range: bool, is_node_inside: bool },
    Delete(u8),
    DeleteGroup(u8),
    Group { number: u8, kind: Kind, ranges: [bool; 6], flags: u8 },
    Pass(u8),
    Progress(u8),
    Put { service: u8, wants: Wants },
    Relist,
    Restart,
    Retype { service: u8, is_load_balancer: bool },
    Sidecar { group: u8, mood: Mood },
    Strip(u8),
    Subnets(bool),
    Writes(u8),
}

#[derive(Arbitrary, Debug)]
enum Kind {
    External,
    Local,
    Malformed,
    Remote,
}

/// How a sidecar answers.
#[derive(Arbitrary, Debug)]
enum Mood {
    Fails(u8),
    Hangs,
    Insists(u16),
    Thinks,
}

#[derive(Arbitrary, Debug)]
struct Wants {
    families: u8,
    port: bool,
    sharing: Option<bool>,
    wish: Option<u16>,
    text: Option<String>,
    group: Option<u8>,
    multi: Option<bool>,
    shown: Option<u16>,
    re_evaluate: bool,
    is_foreign: bool,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    let hangs = |step: &Step| matches!(step, Step::Sidecar { mood: Mood::Hangs, .. });
    let has_hung = steps.iter().any(hangs);
    for step in steps {
        take(&mut world, step);
    }
    world.writes = Writes::Work;
    for sidecar in world.sidecars.values_mut() {
        Mood::Thinks.come_over(sidecar);
    }
    if has_hung {
        // Calls end in time, answered or not; these do not, but with their process.
        world.restart();
    }
    world.calm();
    check_rest(&world);
    check_words(&world);
    let shown = shown(&world);
    let writes = world.patches.len();
    world.restart();
    world.calm();
    check_rest(&world);
    assert_eq!(self::shown(&world), shown, "a restart changes assignments");
    assert_eq!(world.patches.len(), writes, "a restart writes");
});

fn take(world: &mut World, step: Step) {
    match step {
        Step::Cluster { is_pod_range, is_node_inside } => {
            let pods =
                is_pod_range.then(|| (RANGES[2].parse().expect("a net"), ClusterRange::Pods));
            world.settings.cluster_ranges = pods.into_iter().collect();
            let node = is_node_inside.then(|| ([192, 0, 2, 1].into(), "node1".into()));
            world.settings.node_addresses = node.into_iter().collect();
            world.facts.push_back(Event::Settings(world.settings.clone()));
        }
        Step::Delete(number) => world.delete(service(number)),
        Step::DeleteGroup(number) => world.delete_group(group(number)),
        Step::Group { number, kind, ranges, flags } => {
            let offer = offer(group(number), &kind, ranges, flags);
            if let GroupSpec::External { socket, .. } = &offer.kind {
                world.sidecars.entry(socket.clone()).or_insert_with(|| Sidecar::of(&SIDECAR));
            }
            world.group(offer);
        }
        Step::Pass(seconds) => world.pass(Duration::from_secs(seconds.into())),
        Step::Progress(steps) => {
            for _ in 0..steps {
                world.step();
            }
        }
        Step::Put { service: number, wants } => {
            let name = service(number);
            if world.services.contains_key(&key(name)) {
                world.edit(name, |service| wants.write(service));
            } else {
                world.create(name, |service| wants.write(service));
            }
        }
        Step::Relist => world.relist(),
        Step::Restart => world.restart(),
        Step::Retype { service: number, is_load_balancer } => {
            let name = service(number);
            let now = world.services.get(&key(name)).map(|service| service.is_load_balancer);
            if now.is_some_and(|now| now != is_load_balancer) {
                world.retype(name, is_load_balancer);
            }
        }
        Step::Sidecar { group: number, mood } => {
            let socket = format!("/run/{}", group(number));
            if let Some(sidecar) = world.sidecars.get_mut(&socket) {
                mood.come_over(sidecar);
            }
        }
        Step::Strip(number) => {
            if world.services.contains_key(&key(service(number))) {
                world.edit(service(number), |service| {
                    service.with(|service| service.annotations.allocated_by = None)
                });
            }
        }
        Step::Subnets(are_served) => {
            world.subnets(if are_served { &["192.0.2.0/24", "2001:db8::/64"] } else { &[] });
        }
        Step::Writes(kind) => {
            world.writes = match kind % 3 {
                0 => Writes::Work,
                1 => Writes::Fail,
                _ => Writes::LandUnnoticed,
            };
        }
    }
}

impl Mood {
    fn come_over(&self, sidecar: &mut Sidecar) {
        sidecar.fails = None;
        sidecar.hangs = false;
        sidecar.scripted = None;
        match self {
            Self::Fails(why) => {
                sidecar.fails = Some(ERRORS[usize::from(*why) % ERRORS.len()].clone())
            }
            Self::Hangs => sidecar.hangs = true,
            Self::Insists(number) => sidecar.scripted = Some(parsed(&wish(*number))),
            Self::Thinks => {}
        }
    }
}

const ERRORS: [IpamError; 7] = [
    IpamError::Aborted,
    IpamError::Exhausted,
    IpamError::Invalid,
    IpamError::Other { code: String::new() },
    IpamError::TimedOut,
    IpamError::Unavailable,
    IpamError::Unreadable,
];

impl Wants {
    fn write(&self, service: Service) -> Service {
        let service = match self.families % 4 {
            0 => service.v4(),
            1 => service.v6(),
            2 => service.dual(),
            _ => service.preferring_dual(),
        };
        service.on(&[if self.port { 80 } else { 81 }]).with(|service| {
            service.is_load_balancer = true;
            let annotations = &mut service.annotations;
            annotations.sharing = self.sharing.map(|key| format!("key{key}").into());
            annotations.addresses = self.text.clone().or(self.wish.map(wish));
            annotations.service_group = self.group.map(|number| group(number).into());
            annotations.multi_pool = self.multi;
            annotations.re_evaluate = self.re_evaluate;
            // Another controller, or a person, writes a status too.
            if let Some(shown) = self.shown {
                service.ingress = parsed(&wish(shown));
            }
            service.class = self.is_foreign.then(|| "example.org/other".to_owned());
        })
    }
}

/// One address of each family, most of them in a range.
fn wish(number: u16) -> String {
    let [v4, v6] = number.to_be_bytes();
    format!("192.0.2.{},2001:db8::{:x}", v4 % 12, v6 % 8)
}

fn parsed(ips: &str) -> Vec<IpAddr> {
    ips.split(',').filter_map(|ip| ip.parse().ok()).collect()
}

fn offer(name: &str, kind: &Kind, ranges: [bool; 6], flags: u8) -> ServiceGroup {
    let chosen = RANGES.into_iter().zip(ranges).filter(|(_, chosen)| *chosen);
    let ranges: Vec<&str> = chosen.map(|(range, _)| range).collect();
    let mut group = match kind {
        Kind::External => external(name),
        Kind::Local => pooled(local(name, &ranges), flags),
        Kind::Malformed => {
            ServiceGroup::new(name, "", GroupSpec::Malformed { error: "no spec".to_owned() })
        }
        Kind::Remote => pooled(remote(name, &ranges), flags),
    };
    if flags & 4 != 0 {
        group = group.for_namespaces(&["red"]);
    }
    if flags & 8 != 0 {
        group = group.enforced();
    }
    if flags & 16 != 0 {
        group = group.namespace_default();
    }
    group
}

fn pooled(mut group: ServiceGroup, flags: u8) -> ServiceGroup {
    if flags & 1 != 0 {
        group = group.balanced();
    }
    if flags & 2 != 0 {
        group = group.multi();
    }
    group
}

fn service(number: u8) -> &'static str {
    SERVICES[usize::from(number) % SERVICES.len()]
}

fn group(number: u8) -> &'static str {
    GROUPS[usize::from(number) % GROUPS.len()]
}

fn shown(world: &World) -> BTreeMap<ServiceKey, Vec<IpAddr>> {
    let services = world.services.iter();
    services.map(|(key, service)| (key.clone(), service.ingress.clone())).collect()
}

fn check_rest(world: &World) {
    let ledger = world.allocator.ledger();
    let mut users: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
    for service in world.services.values() {
        let owner = ledger.owner(&service.uid);
        let held: Vec<IpAddr> = owner
            .map(|owner| owner.held().iter().map(|held| held.ip).collect())
            .unwrap_or_default();
        // What somebody else wrote that is in no group is left alone.
        let is_in_a_group = |ip: &IpAddr| world.allocator.catalog().find(*ip).is_some();
        let is_foreign = service.class.is_some();
        let is_ours = !is_foreign && (service.is_branded() || held.iter().any(is_in_a_group));
        assert!(!is_ours || held == service.ingress, "{held:?} and {service:?}");
        if is_foreign && service.is_load_balancer {
            // Unless somebody else had it first, it has what it shows.
            let is_taken = |ip: &IpAddr| ledger.is_taken(*ip);
            assert!(service.ingress.iter().all(is_taken), "{held:?} and {service:?}");
            assert!(held.iter().all(|ip| service.ingress.contains(ip)), "{held:?} and {service:?}");
        }
        for ip in held {
            users.entry(ip).or_default().push(service);
        }
        let refusal = world.allocator.refusal(&service.key).map(ToString::to_string);
        let is_asked_for = service.is_load_balancer && service.class.is_none();
        let is_served = !service.ingress.is_empty() || !is_asked_for;
        assert!(is_served || refusal.is_some_and(|text| !text.is_empty()), "{service:?}");
    }
    assert!(ledger.addresses().eq(users.keys().copied()), "the ledger holds for nobody");
    for (ip, users) in &users {
        for (n, one) in users.iter().enumerate() {
            for other in &users[..n] {
                let share = one.annotations.sharing.is_some()
                    && one.annotations.sharing == other.annotations.sharing
                    && one.ports.is_disjoint(&other.ports);
                assert!(share, "{ip} has {} and {}", one.key, other.key);
            }
        }
    }
}

/// What people are told is never empty, and what is written says whose it is.
fn check_words(world: &World) {
    for notice in &world.notices {
        assert!(!notice.to_string().is_empty(), "{notice:?}");
        assert!(notice.event().is_none_or(|(reason, _)| !reason.as_str().is_empty()), "{notice:?}");
    }
    for marks in world.patches.iter().filter_map(|patch| patch.marks.as_ref()) {
        let written: BTreeMap<&str, String> = marks.annotations().collect();
        assert_eq!(written[ALLOCATED_BY], BRAND);
    }
    for key in world.services.keys() {
        if let Some(refusal) = world.allocator.refusal(key) {
            assert!(!refusal.metric_reason().is_empty());
            assert!(
                refusal.group().is_none_or(|name| GROUPS.contains(&name.as_str())),
                "{refusal:?}"
            );
        }
    }
}
