//! What goes wrong on hosts with the Go PureLB, and does not here. docs/pitfalls.md has the whole list.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use purelb_core::config::{LbNodeAgent, Local, LocalInterface, LocalSpec, OnStop, Pattern};
use purelb_core::group::{GroupSpec, ServiceGroup};
use purelb_core::host::Family;
use purelb_core::node::Event;
use purelb_core::service::Service;
use purelb_core::store::{Change, Object};

use world::{ETH0, ETH1, LB0, World, default_route, host_address, ip, lb_node_agent, service};

const NOTHING: [&str; 0] = [];

fn configure(spec: LocalSpec) -> Event {
    Event::Agents(Change::Listed(vec![lb_node_agent(spec)]))
}

#[test]
fn a_service_that_loses_its_brand_or_its_addresses_or_its_type_has_nothing_here() {
    let web = service("web", &["192.0.2.100", "2001:db8:1::100"]);
    let changes: [fn(&mut Service); 3] = [
        |service| service.annotations.allocated_by = None,
        |service| service.ingress.clear(),
        |service| service.is_load_balancer = false,
    ];
    for change in changes {
        let mut world = World::serve(vec![web.clone()]);
        assert_eq!(world.shown().len(), 2);
        let mut changed = web.clone();
        change(&mut changed);
        world.feed(Event::Services(Change::Updated(changed)));
        assert_eq!(world.shown(), NOTHING);
        // The next Service with that address gets it.
        world.feed(Event::Services(Change::Updated(service("next", &["192.0.2.100"]))));
        assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    }
}

#[test]
fn an_address_that_another_implementation_gave_is_not_announced() {
    let mut theirs = service("web", &["192.0.2.100"]);
    theirs.annotations.allocated_by = None;
    let mut world = World::serve(vec![theirs.clone()]);
    assert_eq!(world.shown(), NOTHING);
    theirs.annotations.allocated_by = Some("somebody else".into());
    world.feed(Event::Services(Change::Updated(theirs)));
    assert_eq!(world.shown(), NOTHING);
    assert!(world.claims.is_empty());
}

/// Each family by its own default route: an interface serves what it can announce, and no more.
#[test]
fn the_lease_says_what_can_be_announced_where_the_families_leave_by_two_cards() {
    let mut world = World::new();
    for net in ["198.51.100.11/24", "2001:db8:5::11/64"] {
        let address = host_address(ETH1, net);
        world.addresses.insert(address.key(), address);
    }
    world.boot(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(6));
    world.feed(Event::Routes(Change::Deleted(default_route(Family::V6, ETH0, 1024).key())));
    world.feed(Event::Routes(Change::Updated(default_route(Family::V6, ETH1, 1024))));
    world.pass(Duration::from_secs(6));
    let subnets = &world.lease.as_ref().unwrap().content.subnets;
    let said: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["192.0.2.0/24", "2001:db8:5::/64"]);
}

#[test]
fn a_node_without_a_configuration_attracts_nothing() {
    let unconfigured = LbNodeAgent { local: Local::Absent, ..lb_node_agent(LocalSpec::default()) };
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(Event::Agents(Change::Listed(vec![unconfigured])));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.shown(), NOTHING);
    assert!(world.lease.as_ref().unwrap().content.subnets.is_empty());
}

#[test]
fn a_pattern_that_matches_everything_neither_serves_nor_says_the_loopback_interface() {
    let mut world = World::new();
    let mut lo = world.links[&ETH1].clone();
    (lo.name, lo.loopback) = ("lo".into(), true);
    world.links.insert(ETH1, lo);
    let address = host_address(ETH1, "203.0.113.1/24");
    world.addresses.insert(address.key(), address);
    world.boot(vec![service("web", &["192.0.2.100", "203.0.113.9"])]);
    let local_interface = LocalInterface::Matching(Pattern::new(".*", |_| true));
    world.feed(configure(LocalSpec { local_interface, ..LocalSpec::default() }));
    world.pass(Duration::from_secs(8));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    let subnets = &world.lease.as_ref().unwrap().content.subnets;
    assert!(!subnets.iter().any(|net| net.contains(&ip("203.0.113.1"))), "{subnets:?}");
}

#[test]
fn a_remote_address_of_an_external_group_is_on_the_virtual_interface() {
    let kind = GroupSpec::External {
        announce: "remote".into(),
        provider: "netbox".into(),
        socket: "/run/ipam".into(),
    };
    let mut far = service("far", &["203.0.113.7"]);
    far.annotations.allocated_from = Some("external".into());
    far.annotations.pool_type = Some("remote".into());
    let mut world = World::serve(vec![]);
    world.feed(Event::Groups(Change::Listed(vec![ServiceGroup::new("external", "g3", kind)])));
    world.feed(Event::Services(Change::Updated(far)));
    assert_eq!(world.shown(), ["203.0.113.7/32 kube-lb0"]);
}

#[test]
fn one_address_that_the_kernel_refuses_keeps_no_other_from_being_announced() {
    let mut world = World::serve(vec![]);
    world.refuses = Some(ip("192.0.2.100"));
    world.feed(Event::Services(Change::Updated(service(
        "web",
        &["192.0.2.100", "2001:db8:1::100"],
    ))));
    assert_eq!(world.shown(), ["2001:db8:1::100/64 eth0"]);
    let claim = |world: &World, family| world.claims[&("web".to_owned(), family)].clone();
    assert_eq!(claim(&world, Family::V6).as_deref(), Some("node1,eth0,2001:db8:1::100"));
    world.refuses = None;
    world.pass(Duration::from_secs(30));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0", "2001:db8:1::100/64 eth0"]);
    assert_eq!(claim(&world, Family::V4).as_deref(), Some("node1,eth0,192.0.2.100"));
}

#[test]
fn an_upgrade_with_keep_withdraws_no_route() {
    let mut world = World::serve(vec![service("far", &["198.51.100.7"])]);
    world.feed(configure(LocalSpec { on_stop: OnStop::Keep, ..LocalSpec::default() }));
    world.take_told();
    world.feed(Event::Stop);
    world.pass(Duration::from_secs(2));
    assert!(world.agent.is_stopped());
    assert!(world.links.contains_key(&LB0));
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
    assert_eq!(world.take_told(), NOTHING, "the kernel was asked for nothing");
}
