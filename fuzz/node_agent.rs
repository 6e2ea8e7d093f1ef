//! One node agent told arbitrary things about its host and its cluster: it never touches an address
//! that is not its own, comes to rest, holds nothing then that no Service has, and leaves nothing behind.

#![no_main]

#[path = "../purelb-core/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::config::LocalSpec;
use purelb_core::host::{AddressKey, Family, LinkIndex};
use purelb_core::lease::{LeaseContent, LeaseEvent, Version};
use purelb_core::name::ServiceKey;
use purelb_core::node::Event;
use purelb_core::service::{Endpoints, Service, TrafficPolicy};
use purelb_core::store::{Change, Object};

use world::{ETH0, ETH1, World, default_route, host_address, ip, lb_node_agent, service};

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

#[derive(Arbitrary, Debug)]
enum Step {
    CutOff(bool),
    DeleteLease,
    DeleteService(u8),
    DownUp { is_second: bool, up: bool, carrier: bool },
    Endpoints { service: u8, is_here: bool },
    Full(bool),
    Hear { vip: u8, is_second: bool },
    Pass(u16),
    Peer { join: bool, seen: bool, leaves: bool },
    PutAddress { vip: u8, length: u8, is_second: bool },
    PutService { service: u8, vips: [bool; 6], is_branded: bool, is_local: bool },
    RemoveAddress { place: u8 },
    Route { is_v6: bool, is_second: bool, metric: u8, is_there: bool },
    Slept,
    Spec { interface: u8, is_there: bool },
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::new();
    world.boot(vec![]);
    let mut foreign: BTreeSet<AddressKey> = world.addresses.keys().copied().collect();
    let mut wanted: [Option<Service>; 3] = [const { None }; 3];
    for step in steps {
        take(&mut world, step, &mut foreign, &mut wanted);
        for key in &foreign {
            let ours = world.addresses.get(key).map(|address| address.is_ours());
            assert_eq!(ours, Some(false), "{key} is not ours: {:?}", world.told);
        }
    }
    world.is_cut_off = false;
    world.is_full = false;
    world.pass(Duration::from_secs(90));
    for address in world.addresses.values().filter(|address| address.is_ours()) {
        let has = |service: &Service| service.ingress.contains(&address.ip());
        assert!(wanted.iter().flatten().any(has), "{} is nobody's", address.net);
    }
    world.take_told();
    world.feed(Event::Stop);
    world.pass(Duration::from_secs(60));
    assert!(world.agent.is_stopped());
    assert!(world.addresses.keys().eq(&foreign), "{:?} and {foreign:?}", world.addresses);
});

fn take(
    world: &mut World,
    step: Step,
    foreign: &mut BTreeSet<AddressKey>,
    wanted: &mut [Option<Service>; 3],
) {
    match step {
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
        Step::Hear { vip, is_second } => {
            world.hear(vip_of(vip), card(is_second), [2, 0, 0, 0, 0, 9]);
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
        Step::RemoveAddress { place } => {
            let present = world.addresses.len().max(1);
            let key = world.addresses.keys().nth(usize::from(place) % present).copied();
            if let Some(key) = key {
                foreign.remove(&key);
                world.remove_by_hand(key.link, &key.net.to_string());
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
        Step::Spec { interface, is_there } => {
            let virtual_interface = ["kube-lb0", "vip0", "eth1"][usize::from(interface) % 3];
            let spec =
                LocalSpec { virtual_interface: virtual_interface.into(), ..LocalSpec::default() };
            let agents = if is_there { vec![lb_node_agent(spec)] } else { vec![] };
            world.feed(Event::Agents(Change::Listed(agents)));
        }
    }
}

fn card(is_second: bool) -> LinkIndex {
    if is_second { ETH1 } else { ETH0 }
}

fn vip_of(number: u8) -> &'static str {
    VIPS[usize::from(number) % VIPS.len()]
}
