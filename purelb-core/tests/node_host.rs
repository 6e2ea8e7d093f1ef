//! The node agent and its host: what others do to addresses, links and the network, as plain data.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use purelb_core::config::{GarpConfig, LocalSpec};
use purelb_core::host::{Family, LinkConf, LinkKind, Ownership};
use purelb_core::lease::LeaseContent;
use purelb_core::node::{Event, Verdict, Withheld};
use purelb_core::service::{Endpoints, TrafficPolicy};
use purelb_core::store::Change;

use world::{ETH0, ETH1, LB0, World, default_route, host_address, ip, lb_node_agent, service};

const NOTHING: [&str; 0] = [];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

fn is_in_conflict(world: &World, address: &str) -> bool {
    let verdict = world.agent.verdict(ip(address));
    matches!(verdict, Some(Verdict::Withheld(Withheld::Conflict { .. })))
}

fn asked(told: &[String], address: &str) -> usize {
    told.iter().filter(|line| line.starts_with(&format!("ask for {address} "))).count()
}

#[test]
fn a_fresh_address_is_asked_for_beside_being_added_and_one_that_moved_is_not() {
    let fresh = service("fresh", &["192.0.2.100", "2001:db8:1::100"]);
    let mut moved = service("moved", &["192.0.2.101"]);
    moved.annotations.announcing_v4 = Some("node2,eth0,192.0.2.101".into());
    let mut world = World::serve(vec![fresh, moved]);
    let told = world.take_told();
    let at = |line: &str| told.iter().position(|told| told == line).unwrap();
    for address in ["192.0.2.100/24", "2001:db8:1::100/64"] {
        let bare = address.split('/').next().unwrap();
        assert!(at(&format!("add {address} eth0")) < at(&format!("ask for {bare} on eth0")));
    }
    assert_eq!(asked(&told, "192.0.2.101"), 0, "{told:?}");
    assert_eq!(world.heeded.len(), 3, "each is listened for");
}

#[test]
fn an_address_that_a_stranger_has_is_withdrawn_until_that_one_is_silent() {
    for address in ["192.0.2.100", "2001:db8:1::100"] {
        let mut world = World::serve(vec![service("web", &[address])]);
        let shown = world.shown();
        assert_eq!(shown.len(), 1);
        world.hear(address, ETH0, STRANGER);
        assert_eq!(world.shown(), NOTHING);
        assert!(is_in_conflict(&world, address));
        let [error] = &world.errors[..] else { panic!("{:?}", world.errors) };
        for part in [address, "eth0", "02:00:00:00:00:99"] {
            assert!(error.contains(part), "{error}");
        }
        // It answers whenever it is asked: asked later and later, never put back meanwhile.
        world.take_told();
        let mut questions = 0;
        for _ in 0..600 {
            world.pass(Duration::from_millis(100));
            let told = world.take_told();
            assert_eq!(world.shown(), NOTHING);
            if asked(&told, address) > 0 {
                questions += 1;
                world.hear(address, ETH0, STRANGER);
            }
        }
        assert!((4..=6).contains(&questions), "in a minute: {questions}");
        world.pass(Duration::from_secs(40));
        assert_eq!(world.shown(), shown, "it heals");
        assert_eq!(world.errors.len(), 1, "told once");
    }
}

#[test]
fn what_this_host_says_itself_is_no_conflict() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    let own = world.links[&ETH1].mac.unwrap();
    world.hear("192.0.2.100", ETH0, own);
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn with_ipvs_every_node_answers_and_that_is_no_reason_to_let_go() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    let mut ipvs = world.links[&ETH1].clone();
    (ipvs.index.0, ipvs.name) = (7, "kube-ipvs0".into());
    world.links.insert(ipvs.index, ipvs.clone());
    world.feed(Event::Links(Change::Updated(ipvs.clone())));
    world.put_by_hand(host_address(ipvs.index, "192.0.2.100/32"));
    world.hear("192.0.2.100", ETH0, STRANGER);
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    assert!(world.warnings[0].contains("kube-ipvs0"), "{:?}", world.warnings);
}

#[test]
fn what_is_said_of_an_address_that_another_node_won_is_not_listened_to() {
    let addresses: Vec<String> = (100..110).map(|n| format!("192.0.2.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut world = World::serve(vec![service("web", &addresses)]);
    world.pass(Duration::from_secs(1));
    world.peer_writes("node2", LeaseContent { join: Some(1), ..LeaseContent::default() });
    let kept = world.shown().len();
    assert!(kept < 10, "{kept}");
    assert_eq!(world.heeded.len(), kept);
    // The winner announces itself: that is how a hand-over looks.
    for address in addresses {
        if !world.heeded.contains(&(ip(address), ETH0)) {
            world.hear(address, ETH0, STRANGER);
        }
    }
    assert_eq!(world.shown().len(), kept);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_conflict_ends_with_the_service() {
    let web = service("web", &["192.0.2.100"]);
    let mut world = World::serve(vec![web.clone()]);
    world.hear("192.0.2.100", ETH0, STRANGER);
    world.feed(Event::Services(Change::Deleted(web.key)));
    assert!(world.heeded.is_empty());
    world.take_told();
    world.pass(Duration::from_secs(60));
    let told = world.take_told();
    assert_eq!(asked(&told, "192.0.2.100"), 0, "{told:?}");
}

#[test]
fn what_something_keeps_deleting_is_put_back_with_growing_pauses_and_told() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    for _ in 0..3 {
        world.remove_by_hand(ETH0, "192.0.2.100/24");
        assert_eq!(world.shown(), ["192.0.2.100/24 eth0"], "at once");
    }
    assert_eq!(world.warnings.len(), 1, "{:?}", world.warnings);
    let mut waited = Duration::ZERO;
    for _ in 0..5 {
        world.remove_by_hand(ETH0, "192.0.2.100/24");
        assert_eq!(world.shown(), NOTHING);
        let before = waited;
        while world.shown().is_empty() {
            world.pass(Duration::from_millis(100));
            waited += Duration::from_millis(100);
        }
        assert!(before.is_zero() || waited > before, "{waited:?}");
    }
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
    assert_eq!(world.warnings.len(), 2, "{:?}", world.warnings);
    assert!(world.warnings.iter().all(|text| text.contains("192.0.2.100")));
}

#[test]
fn what_the_agent_removes_itself_is_no_loss() {
    let web = service("web", &["192.0.2.100", "198.51.100.7"]);
    let mut world = World::serve(vec![web.clone()]);
    world.feed(Event::Services(Change::Deleted(web.key.clone())));
    world.feed(Event::Services(Change::Updated(web)));
    world.change_link(ETH0, |link| link.carrier = false);
    world.change_link(ETH0, |link| link.carrier = true);
    assert!(world.warnings.is_empty(), "{:?}", world.warnings);
}

#[test]
fn an_address_of_others_that_equals_a_later_services_is_told_and_untouched_on_any_link() {
    let mut world = World::serve(vec![]);
    world.put_by_hand(host_address(ETH1, "192.0.2.100/32"));
    assert!(world.warnings.is_empty());
    let web = service("web", &["192.0.2.100"]);
    world.feed(Event::Services(Change::Updated(web.clone())));
    let [warning] = &world.warnings[..] else { panic!("{:?}", world.warnings) };
    assert!(warning.contains("eth1") && warning.contains("192.0.2.100"), "{warning}");
    world.feed(Event::Services(Change::Deleted(web.key)));
    assert_eq!(world.shown_at_all(), ["192.0.2.100/32 eth1"]);
    assert_eq!(world.warnings.len(), 1);
}

#[test]
fn a_virtual_interface_that_we_made_goes_with_us_and_another_stays() {
    let mut world = World::serve(vec![service("far", &["198.51.100.7"])]);
    world.feed(Event::Stop);
    assert!(world.agent.is_stopped());
    assert!(!world.links.contains_key(&LB0));
    let deletions = world.told.iter().filter(|told| told.starts_with("delete"));
    assert_eq!(deletions.count(), 1, "{:?}", world.told);

    let mut world = World::new();
    let mut found = world.links[&ETH1].clone();
    (found.index, found.name, found.kind) = (LB0, "kube-lb0".into(), LinkKind::Dummy);
    world.links.insert(LB0, found.clone());
    world.boot(vec![service("far", &["198.51.100.7"])]);
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
    world.feed(Event::Stop);
    assert!(world.agent.is_stopped());
    assert_eq!(world.links[&LB0], found, "as it was");
}

#[test]
fn a_virtual_interface_that_we_made_stays_while_others_use_it() {
    let mut world = World::serve(vec![service("far", &["198.51.100.7"])]);
    world.put_by_hand(host_address(LB0, "203.0.113.1/32"));
    world.feed(Event::Stop);
    assert!(world.agent.is_stopped());
    assert!(world.links.contains_key(&LB0));
}

#[test]
fn another_name_for_the_virtual_interface_leaves_nothing_of_the_old_one() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(Event::Routes(Change::Updated(default_route(Family::V4, ETH1, 50))));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.shown(), ["192.0.2.100/32 kube-lb0"]);
    assert_eq!(world.links[&ETH0].conf.arp_ignore, 1);
    world.next_virtual = 10;
    let spec = LocalSpec { virtual_interface: "lb7".into(), ..LocalSpec::default() };
    world.feed(Event::Agents(Change::Updated(lb_node_agent(spec))));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.shown(), ["192.0.2.100/32 lb7"]);
    assert!(!world.links.values().any(|link| link.name == "kube-lb0"));
    assert_eq!(world.links[&ETH0].conf.arp_ignore, 1, "still guarded");
    world.feed(Event::Stop);
    assert!(world.agent.is_stopped());
    assert_eq!(world.links[&ETH0].conf, LinkConf::default());
}

#[test]
fn a_service_that_turns_to_local_traffic_stays_until_endpoints_are_listed() {
    for address in ["192.0.2.100", "198.51.100.7"] {
        let mut web = service("web", &[address]);
        let mut world = World::serve(vec![web.clone()]);
        world.endpoints = None;
        let shown = world.shown();
        world.take_told();
        web.traffic_policy = TrafficPolicy::Local;
        world.feed(Event::Services(Change::Updated(web.clone())));
        world.pass(Duration::from_secs(8));
        assert_eq!(world.shown(), shown, "nothing is known of endpoints yet");
        let (service, nodes) = (web.key.clone(), ["node1".into()].into());
        let listed = Change::Listed(vec![Endpoints { service, nodes }]);
        world.feed(Event::Endpoints(listed));
        assert_eq!(world.shown(), shown);
        let told = world.take_told();
        assert!(!told.iter().any(|line| line.starts_with("remove")), "{told:?}");
        world.feed(Event::Endpoints(Change::Listed(vec![])));
        assert_eq!(world.shown(), NOTHING, "none here");
    }
}

#[test]
fn without_marks_the_pool_and_the_interface_tell_what_is_ours() {
    let started = |instance| {
        let mut world = World::started_as(instance);
        world.agent = world.agent.with_ownership(Ownership::PoolAndLink);
        world.drops_marks = true;
        world
    };
    let web = service("web", &["192.0.2.100", "2001:db8:1::100", "198.51.100.7"]);
    let gone = service("gone", &["192.0.2.101", "2001:db8:1::101", "198.51.100.8"]);
    let mut world = started("1");
    world.boot(vec![web.clone(), gone]);
    world.pass(Duration::from_millis(5500));
    assert_eq!(world.shown_at_all().len(), 6);
    // The host's own address lies within a pool, too; so does one that somebody added elsewhere.
    let own = host_address(ETH0, "192.0.2.110/24");
    let elsewhere = host_address(ETH1, "192.0.2.111/32");
    world.put_by_hand(own);
    world.put_by_hand(elsewhere);

    // Killed; the next one finds them.
    let mut next = started("2");
    next.addresses = world.addresses.clone();
    next.links = world.links.clone();
    (next.lease, next.version) = (world.lease.clone(), world.version);
    next.boot(vec![web.clone()]);
    let told = next.take_told();
    let lost = ["192.0.2.100/24", "2001:db8:1::100/64", "198.51.100.7/24"];
    for net in lost {
        assert!(!told.iter().any(|line| line.starts_with(&format!("remove {net}"))), "{told:?}");
    }
    assert_eq!(next.shown_at_all().len(), 5, "{:?}", next.shown_at_all());
    next.pass(Duration::from_secs(6));
    next.feed(Event::Services(Change::Deleted(web.key)));
    assert_eq!(next.shown_at_all(), ["192.0.2.110/24 eth0", "192.0.2.111/32 eth1"]);
}

#[test]
fn the_neighbours_are_told_as_often_as_configured_and_not_of_what_is_gone() {
    let garp = GarpConfig {
        enabled: true,
        initial_delay: Duration::from_millis(300),
        count: 4,
        interval: Duration::from_secs(1),
    };
    let spec = LocalSpec { garp, ..LocalSpec::default() };
    let mut world = World::serve(vec![]);
    world.feed(Event::Agents(Change::Updated(lb_node_agent(spec))));
    let mut times = Vec::new();
    let watch = |world: &mut World, times: &mut Vec<u32>| {
        for step in 0..60 {
            let told = world.take_told();
            times.extend(told.iter().filter(|line| line.starts_with("advertise")).map(|_| step));
            world.pass(Duration::from_millis(100));
        }
    };
    world.take_told();
    let web = service("web", &["192.0.2.100"]);
    world.feed(Event::Services(Change::Updated(web.clone())));
    watch(&mut world, &mut times);
    assert_eq!(times, [3, 13, 23, 33]);

    // Cut off: what is left of a burst is not sent past the right.
    world.feed(Event::Services(Change::Deleted(web.key.clone())));
    world.feed(Event::Services(Change::Updated(web)));
    world.is_cut_off = true;
    world.pass(Duration::from_secs(5));
    world.take_told();
    world.pass(Duration::from_secs(5));
    let told = world.take_told();
    assert!(!told.iter().any(|line| line.starts_with("advertise")), "{told:?}");
}
