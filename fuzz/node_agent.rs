//! One node agent told arbitrary things about its host and its cluster: it never touches an address
//! that is not its own, comes to rest, holds nothing then that no Service has, and leaves nothing behind.

#![no_main]

#[path = "node_agent/config.rs"]
mod config;
#[path = "../purelb-core/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::config::{LocalSpec, Node, OnStop};
use purelb_core::host::{Address, AddressKey, Family, LinkIndex, Ownership};
use purelb_core::lease::{LeaseContent, LeaseEvent, Version};
use purelb_core::name::ServiceKey;
use purelb_core::node::{Event, Verdict};
use purelb_core::notice::{Notice, Regarding};
use purelb_core::service::{Endpoints, Service, TrafficPolicy};
use purelb_core::store::{Change, Object};

use config::Config;
use world::{
    ETH0, ETH1, World, default_route, host_address, ip, local_group, remote_group, service,
};

/// Addresses of Services: local ones, one of no group, remote ones.
const VIPS: [&str; 6] = [
    "192.0.2.100",
    "192.0.2.101",
    "2001:db8:1::100",
    "203.0.113.1",
    "198.51.100.7",
    "2001:db8:2::7",
];

/// Prefix lengths that people and we give them.
const LENGTHS: [&str; 3] = ["24", "32", "64"];

/// How the host and the cluster are when the agent begins.
#[derive(Arbitrary, Debug)]
struct Start {
    /// The kernel keeps no marks, and the agent knows.
    is_markless: bool,
    /// A Service is announced already.
    serves: bool,
}

#[derive(Arbitrary, Debug)]
enum Step {
    AnnounceFailed(u8),
    CutOff(bool),
    DeleteLease,
    DeleteService(u8),
    DownUp { is_second: bool, up: bool, carrier: bool },
    Endpoints { service: u8, is_here: bool },
    Full(bool),
    Groups(bool),
    Hear { vip: u8, is_second: bool },
    Node { is_out_of_service: bool, is_labelled: bool },
    Pass(u16),
    Peer { join: bool, seen: bool, leaves: bool },
    PutAddress { vip: u8, length: u8, is_second: bool },
    PutService { service: u8, vips: [bool; 6], is_branded: bool, is_local: bool },
    Refuse(Option<u8>),
    RemoveAddress { place: u8 },
    Restart,
    Route { is_v6: bool, is_second: bool, metric: u8, is_there: bool },
    Slept,
    Spec { is_there: bool, config: Config },
    Stuck(bool),
}

fuzz_target!(|input: (Start, Vec<Step>)| {
    let (start, steps) = input;
    let mut world = World::new();
    world.drops_marks = start.is_markless;
    if start.is_markless {
        world.agent = world.agent.with_ownership(Ownership::PoolAndLink);
    }
    let mut wanted: [Option<Service>; 3] = [const { None }; 3];
    if start.serves {
        wanted[0] = Some(service("s0", &VIPS));
    }
    let mut foreign: BTreeSet<AddressKey> = world.addresses.keys().copied().collect();
    world.boot(wanted.iter().flatten().cloned().collect());
    if start.serves {
        world.pass(Duration::from_millis(5500));
    }
    for step in steps {
        take(&mut world, step, &mut foreign, &mut wanted);
        for key in &foreign {
            let ours = world.addresses.get(key).map(|address| address.is_ours());
            assert_eq!(ours, Some(false), "{key} is not ours: {:?}", world.told);
        }
        check_words(&mut world);
    }
    world.is_cut_off = false;
    world.is_full = false;
    world.is_stuck = false;
    world.refuses = None;
    world.pass(Duration::from_secs(90));
    for address in world.addresses.values().filter(|address| !foreign.contains(&address.key())) {
        let has = |service: &Service| service.ingress.contains(&address.ip());
        assert!(wanted.iter().flatten().any(has), "{} is nobody's", address.net);
    }
    world.take_told();
    let config = world.agent.view().config;
    let is_kept = |spec: &LocalSpec| spec.on_stop == OnStop::Keep;
    let keeps = config.is_some_and(|config| config.spec.as_ref().is_ok_and(is_kept));
    world.feed(Event::Stop);
    world.pass(Duration::from_secs(60));
    assert!(world.agent.is_stopped() && !world.agent.is_able());
    // What is to be kept for the next process and has a lifetime is gone by now as well.
    let is_left = |address: &&Address| !keeps || address.valid.is_some();
    let left = world.addresses.values().filter(|address| !foreign.contains(&address.key()));
    let left: Vec<_> = left.filter(is_left).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(foreign.iter().all(|key| world.addresses.contains_key(key)), "{foreign:?}");
    check_words(&mut world);
});

/// What people are told and shown says something, and agrees with what was decided.
fn check_words(world: &mut World) {
    for notice in world.notices.drain(..) {
        assert!(!notice.to_string().is_empty(), "{notice:?}");
        match notice.regarding() {
            Regarding::Agent { uid, .. } => assert_eq!(uid.as_str(), "a1"),
            Regarding::Node => assert!(notice.reason().is_none_or(|reason| !reason.is_empty())),
            Regarding::Service { key, .. } => assert!(notice.ip().is_some(), "{key}: {notice}"),
        }
    }
    let view = world.agent.view();
    for (ip, verdict) in world.agent.verdicts() {
        let shown = view.addresses.iter().find(|address| address.ip == ip).expect("it is in view");
        assert_eq!(shown.verdict.as_ref(), Some(verdict));
        if let Verdict::Withheld(why) = verdict {
            assert!(!why.to_string().is_empty());
        }
        let there = world.addresses.values().filter(|address| address.ip() == ip);
        assert_eq!(shown.shown.len(), there.count(), "{ip}");
        assert_eq!(world.agent.view_of(ip).as_ref(), Some(shown));
    }
    assert_eq!(view.is_ready, world.agent.is_ready());
}

fn take(
    world: &mut World,
    step: Step,
    foreign: &mut BTreeSet<AddressKey>,
    wanted: &mut [Option<Service>; 3],
) {
    match step {
        Step::AnnounceFailed(service) => {
            let service = ServiceKey::new("default", &*format!("s{}", service % 3));
            world.feed(Event::AnnounceFailed { service, error: "no".to_owned() });
        }
        Step::CutOff(is_cut_off) => world.is_cut_off = is_cut_off,
        Step::DeleteLease => {
            if world.lease.take().is_some() {
                world.version += 1;
                let version = Version(world.version);
                let node = "node1".into();
                world.feed(Event::Leases(LeaseEvent::Deleted { node, version }));
            }
        }
        Step::DeleteService(number) => {
            if let Some(service) = wanted[usize::from(number) % 3].take() {
                world.feed(Event::Services(Change::Deleted(service.key)));
            }
        }
        Step::DownUp { is_second, up, carrier } => world.change_link(card(is_second), |link| {
            link.up = up;
            link.carrier = up && carrier;
        }),
        Step::Endpoints { service, is_here } => {
            let nodes = is_here.then(|| "node1".into()).into_iter().collect();
            let service = ServiceKey::new("default", &*format!("s{}", service % 3));
            world.feed(Event::Endpoints(Change::Updated(Endpoints { service, nodes })));
        }
        Step::Full(is_full) => world.is_full = is_full,
        Step::Groups(are_there) => {
            let groups = if are_there { vec![local_group(), remote_group()] } else { vec![] };
            world.feed(Event::Groups(Change::Listed(groups)));
        }
        Step::Hear { vip, is_second } => {
            world.hear(vip_of(vip), card(is_second), [2, 0, 0, 0, 0, 9]);
        }
        Step::Node { is_out_of_service, is_labelled } => {
            let label = ("zone".to_owned(), "a".to_owned());
            world.feed(Event::Node(Change::Updated(Node {
                name: "node1".into(),
                uid: "n1".into(),
                labels: is_labelled.then_some(label).into_iter().collect(),
                is_out_of_service,
            })));
        }
        Step::Pass(millis) => world.pass(Duration::from_millis(millis.into())),
        Step::Peer { join, seen, leaves } => {
            let content = LeaseContent {
                join: join.then_some(1),
                seen: seen.then_some(Version(world.version)),
                keep: leaves,
                ..LeaseContent::default()
            };
            world.peer_writes("node2", content);
        }
        Step::PutAddress { vip, length, is_second } => {
            let text = format!("{}/{}", vip_of(vip), LENGTHS[usize::from(length) % 3]);
            if !text.parse().is_ok_and(|net: ipnet::IpNet| net.addr() == ip(vip_of(vip))) {
                return;
            }
            let address = host_address(card(is_second), &text);
            // Nobody puts one there that is ours already: the kernel would say that it exists.
            if !world.addresses.contains_key(&address.key()) {
                foreign.insert(address.key());
                world.put_by_hand(address);
            }
        }
        Step::PutService { service: number, vips, is_branded, is_local } => {
            let number = usize::from(number) % 3;
            let chosen: Vec<&str> = VIPS
                .into_iter()
                .zip(vips)
                .filter(|(_, chosen)| *chosen)
                .map(|(ip, _)| ip)
                .collect();
            let mut new = service(&format!("s{number}"), &chosen);
            if !is_branded {
                new.annotations.allocated_by = None;
            }
            if is_local {
                new.traffic_policy = TrafficPolicy::Local;
            }
            wanted[number] = Some(new.clone());
            world.feed(Event::Services(Change::Updated(new)));
        }
        Step::Refuse(vip) => world.refuses = vip.map(|vip| ip(vip_of(vip))),
        Step::RemoveAddress { place } => {
            let present = world.addresses.len().max(1);
            let key = world.addresses.keys().nth(usize::from(place) % present).copied();
            if let Some(key) = key {
                foreign.remove(&key);
                world.remove_by_hand(key.link, &key.net.to_string());
            }
        }
        Step::Restart => {
            // Without marks, a new process cannot know what is in no pool.
            if !world.drops_marks {
                world.version += 1;
                let instance = world.version.to_string();
                world.restart(&instance, wanted.iter().flatten().cloned().collect());
            }
        }
        Step::Route { is_v6, is_second, metric, is_there } => {
            let family = if is_v6 { Family::V6 } else { Family::V4 };
            let route = default_route(family, card(is_second), metric.into());
            world.feed(Event::Routes(match is_there {
                true => Change::Updated(route),
                false => Change::Deleted(route.key()),
            }));
        }
        Step::Slept => world.feed(Event::Slept),
        Step::Spec { is_there, config } => {
            // Without marks, everything of a pool that is on the virtual interface counts as ours.
            if world.drops_marks && config.has_a_card_for_virtual() {
                return;
            }
            let agents = if is_there { vec![config.agent()] } else { vec![] };
            world.feed(Event::Agents(Change::Listed(agents)));
        }
        Step::Stuck(is_stuck) => world.is_stuck = is_stuck,
    }
}

fn card(is_second: bool) -> LinkIndex {
    if is_second { ETH1 } else { ETH0 }
}

fn vip_of(number: u8) -> &'static str {
    VIPS[usize::from(number) % VIPS.len()]
}
