//! How long addresses take onto their interfaces: from which moment, and to which, is counted.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use purelb_core::lease::LeaseContent;
use purelb_core::node::{Event, Since, Verdict};
use purelb_core::store::Change;

use world::{ETH0, LB0, World, ip, service};

const WEB: &str = "192.0.2.100";

/// Shorter than the kernel may refuse before a node leaves an address to others.
const WHILE: Duration = Duration::from_millis(500);

/// Longer than any wait for the next attempt after that.
const THEN: Duration = Duration::from_secs(2);

/// The only arrival so far, which is forgotten.
fn arrived(world: &mut World) -> (Since, Duration) {
    match std::mem::take(&mut world.arrivals)[..] {
        [(_, since, took)] => (since, took),
        ref others => panic!("{others:?}"),
    }
}

#[test]
fn a_new_address_counts_from_being_won_to_being_shown() {
    let mut world = World::serve(vec![]);
    world.is_full = true;
    world.feed(Event::Services(Change::Updated(service("web", &[WEB]))));
    world.pass(WHILE);
    assert_eq!(world.arrivals, []);
    world.is_full = false;
    world.pass(THEN);
    let (since, took) = arrived(&mut world);
    assert_eq!(since, Since::WonNew);
    assert!((WHILE..WHILE + THEN).contains(&took), "{took:?}");
    // Its lifetime is prolonged, which is no arrival.
    world.pass(Duration::from_secs(60));
    assert_eq!(world.arrivals, []);
}

#[test]
fn an_address_of_a_peer_that_died_counts_from_when_it_is_won_and_not_from_the_death() {
    let mut world = World::serve(vec![]);
    world.peer_writes("node2", LeaseContent { join: Some(1), ..LeaseContent::default() });
    world.feed(Event::Services(Change::Updated(service("web", &["192.0.2.101"]))));
    let verdict = world.agent.verdict(ip("192.0.2.101")).unwrap();
    assert!(matches!(verdict, Verdict::Withheld(_)), "{verdict:?}");
    world.pass(Duration::from_secs(30));
    assert_eq!(world.shown(), ["192.0.2.101/24 eth0"]);
    let (since, took) = arrived(&mut world);
    assert_eq!(since, Since::WonFromPeer);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_address_that_another_is_known_to_have_announced_is_not_new() {
    let mut world = World::serve(vec![]);
    let mut web = service("web", &[WEB]);
    web.annotations.announcing_v4 = Some(format!("node2,eth0,{WEB}"));
    world.feed(Event::Services(Change::Updated(web)));
    assert_eq!(arrived(&mut world), (Since::WonFromPeer, Duration::ZERO));
}

#[test]
fn what_something_else_removes_counts_from_its_loss_to_its_return() {
    for (address, link, net) in
        [(WEB, ETH0, "192.0.2.100/24"), ("198.51.100.7", LB0, "198.51.100.7/24")]
    {
        let mut world = World::serve(vec![service("web", &[address])]);
        world.arrivals.clear();
        world.remove_by_hand(link, net);
        assert_eq!(arrived(&mut world), (Since::Lost, Duration::ZERO), "it is put back at once");
        world.is_full = true;
        world.remove_by_hand(link, net);
        world.pass(WHILE);
        world.is_full = false;
        world.pass(THEN);
        let (since, took) = arrived(&mut world);
        assert_eq!(since, Since::Lost);
        assert!((WHILE..WHILE + THEN).contains(&took), "{took:?}");
    }
}

#[test]
fn what_is_no_longer_asked_for_is_not_awaited() {
    let mut world = World::serve(vec![service("web", &[WEB])]);
    world.arrivals.clear();
    world.is_full = true;
    world.remove_by_hand(ETH0, "192.0.2.100/24");
    world.feed(Event::Services(Change::Listed(vec![])));
    world.pass(Duration::from_secs(60));
    world.is_full = false;
    world.feed(Event::Services(Change::Updated(service("web", &[WEB]))));
    world.pass(THEN);
    let (since, took) = arrived(&mut world);
    assert_eq!(since, Since::WonNew);
    assert!(took < THEN, "{took:?}");
}

#[test]
fn a_virtual_address_is_won_by_nobody() {
    let world = World::serve(vec![service("far", &["198.51.100.7"])]);
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
    assert_eq!(world.arrivals, []);
}

#[test]
fn a_node_is_able_once_it_has_joined_and_while_its_lease_is_confirmed() {
    let mut world = World::new();
    assert!(!world.agent.is_able());
    world.boot(vec![]);
    assert!(world.agent.is_ready() && !world.agent.is_able(), "it only watches yet");
    world.pass(Duration::from_millis(5500));
    assert!(world.agent.is_able());
    world.is_cut_off = true;
    world.pass(Duration::from_secs(5));
    assert!(world.agent.is_ready() && !world.agent.is_able(), "it is fenced");
    world.is_cut_off = false;
    world.pass(Duration::from_secs(10));
    assert!(world.agent.is_able());
    world.feed(Event::Stop);
    assert!(!world.agent.is_able());
}
