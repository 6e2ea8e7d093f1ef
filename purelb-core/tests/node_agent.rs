//! The node agent against a kernel, a Kubernetes API and peers that are plain data.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use purelb_core::config::{ApiOutage, LocalSpec};
use purelb_core::host::{AddressKey, Family, LinkConf, OUR_MARK};
use purelb_core::lease::{LeaseContent, LeaseEvent, Version};
use purelb_core::node::{Event, Verdict};
use purelb_core::service::{Endpoints, Service, TrafficPolicy};
use purelb_core::store::{Change, Object};

use world::{ETH0, ETH1, LB0, World, default_route, host_address, ip, lb_node_agent, service};

const NOTHING: [&str; 0] = [];

/// After how many refusals in a row a subnet is left to others.
const REFUSALS_IN_A_ROW: usize = 4;

#[test]
fn a_local_address_goes_onto_the_interface_of_the_default_route() {
    let world = World::serve(vec![service("web", &["192.0.2.100", "2001:db8:1::100"])]);
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0", "2001:db8:1::100/64 eth0"]);
    let v4 = &world.addresses[&AddressKey { link: ETH0, net: "192.0.2.100/24".parse().unwrap() }];
    assert!(v4.valid.is_some() && v4.flags.no_prefix_route && !v4.flags.deprecated);
    let claim = |family| world.claims[&("web".to_owned(), family)].as_deref();
    assert_eq!(claim(Family::V4), Some("node1,eth0,192.0.2.100"));
    assert_eq!(claim(Family::V6), Some("node1,eth0,2001:db8:1::100"));
    assert!(world.told.contains(&"advertise 192.0.2.100 eth0 to 192.0.2.1".to_owned()));
}

#[test]
fn a_remote_address_goes_onto_the_virtual_interface_with_its_aggregation() {
    let world = World::serve(vec![service("far", &["198.51.100.7", "2001:db8:2::7"])]);
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0", "2001:db8:2::7/128 kube-lb0"]);
    assert!(world.claims.is_empty(), "a remote address has no announcer");
    assert_eq!(world.links[&LB0].conf.promote_secondaries, 1);
}

#[test]
fn the_right_is_prolonged_as_long_as_the_lease_is() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(2));
    world.take_told();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    let told = world.take_told();
    assert!(told.iter().all(|line| line == "keep 192.0.2.100/24 eth0"), "{told:?}");
    assert!((30..60).contains(&told.len()), "one for each renewal: {}", told.len());
}

#[test]
fn without_the_api_the_address_is_gone_before_anyone_else_may_have_it() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.is_cut_off = true;
    world.pass(Duration::from_secs(4));
    assert_eq!(world.shown(), NOTHING);
    let verdict = world.agent.verdict(ip("192.0.2.100")).unwrap();
    assert!(matches!(verdict, Verdict::Withheld(_)), "{verdict:?}");
    world.is_cut_off = false;
    world.pass(Duration::from_secs(2));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

fn on_api_outage(api_outage: ApiOutage) -> Event {
    let spec = LocalSpec { api_outage, ..LocalSpec::default() };
    Event::Agents(Change::Listed(vec![lb_node_agent(spec)]))
}

#[test]
fn with_hold_an_address_stays_as_long_as_its_agent_runs() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(on_api_outage(ApiOutage::Hold));
    world.pass(Duration::from_secs(3));
    world.is_cut_off = true;
    world.take_told();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    assert!(world.agent.membership().is_holding_on());
    let told = world.take_told();
    assert!(told.iter().all(|line| line == "keep 192.0.2.100/24 eth0"), "{told:?}");
    let key = AddressKey { link: ETH0, net: "192.0.2.100/24".parse().unwrap() };
    assert!(world.addresses[&key].valid.is_some(), "the kernel still outlives a dead agent");

    world.is_cut_off = false;
    world.pass(Duration::from_secs(3));
    assert!(!world.agent.membership().is_holding_on());
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn who_holds_on_yields_to_no_silence_of_the_others_after_an_outage() {
    let ips: Vec<String> = (100..110).map(|n| format!("192.0.2.{n}")).collect();
    let mut world = World::new();
    world.boot(vec![service("web", &ips.iter().map(String::as_str).collect::<Vec<_>>())]);
    world.feed(on_api_outage(ApiOutage::Hold));
    world.peer_writes("node2", LeaseContent::default());
    for _ in 0..12 {
        world.pass(Duration::from_secs(1));
        let seen = Some(Version(world.version));
        world.peer_writes("node2", LeaseContent { seen, ..LeaseContent::default() });
    }
    let before = world.shown();
    assert!(!before.is_empty() && before.len() < 10, "{before:?}");
    world.is_cut_off = true;
    world.pass(Duration::from_secs(30));
    // This node is the first to be back: what node2 holds stays with node2.
    world.is_cut_off = false;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.shown(), before);
    // Unless it stays silent.
    world.pass(Duration::from_secs(5));
    assert_eq!(world.shown().len(), 10);
}

#[test]
fn hold_that_is_called_off_in_an_outage_fences_at_once() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(on_api_outage(ApiOutage::Hold));
    world.is_cut_off = true;
    world.pass(Duration::from_secs(20));
    world.feed(on_api_outage(ApiOutage::Withdraw));
    assert_eq!(world.shown(), NOTHING);
    assert!(world.errors[0].contains("was not confirmed in time"), "{:?}", world.errors);
}

#[test]
fn a_host_that_has_slept_holds_nothing_even_with_hold() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(on_api_outage(ApiOutage::Hold));
    world.is_cut_off = true;
    world.feed(Event::Slept);
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn a_winner_that_the_kernel_keeps_refusing_leaves_its_subnet_to_others() {
    let ips: Vec<String> = (100..110).map(|n| format!("192.0.2.{n}")).collect();
    let mut world = World::new();
    world.is_full = true;
    world.boot(vec![service("web", &ips.iter().map(String::as_str).collect::<Vec<_>>())]);
    world.peer_writes("node2", LeaseContent::default());
    let mut says_so = Vec::new();
    for _ in 0..60 {
        world.pass(Duration::from_millis(500));
        let seen = Some(Version(world.version));
        world.peer_writes("node2", LeaseContent { seen, ..LeaseContent::default() });
        let subnet = "192.0.2.0/24".parse().unwrap();
        says_so.push(world.lease.as_ref().unwrap().content.subnets.contains(&subnet));
    }
    let joined = says_so.iter().filter(|published| **published).count();
    assert!((1..10).contains(&joined), "it tried, and left: {says_so:?}");
    let left = world.errors.iter().any(|line| line.contains("192.0.2.0/24 is left to other nodes"));
    assert!(left, "{:?}", world.errors);

    // After a while it tries again.
    world.is_full = false;
    for _ in 0..120 {
        world.pass(Duration::from_millis(500));
        let seen = Some(Version(world.version));
        world.peer_writes("node2", LeaseContent { seen, ..LeaseContent::default() });
    }
    assert!(!world.shown().is_empty());
}

#[test]
fn the_only_candidate_goes_on_trying() {
    let mut world = World::new();
    world.is_full = true;
    world.boot(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(60));
    assert!(!world.lease.as_ref().unwrap().content.subnets.is_empty());
    world.is_full = false;
    world.pass(Duration::from_secs(31));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn trouble_that_passes_is_not_added_up() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.peer_writes("node2", LeaseContent::default());
    for round in 1..=REFUSALS_IN_A_ROW {
        // The next time its lifetime is prolonged.
        world.is_full = true;
        while world.errors.len() < round {
            world.pass(Duration::from_millis(50));
        }
        world.is_full = false;
        world.pass(Duration::from_secs(2));
        assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
        world.peer_writes("node2", LeaseContent::default());
    }
    assert!(!world.errors.iter().any(|line| line.contains("left to other")), "{:?}", world.errors);
}

#[test]
fn an_addition_that_came_late_may_be_there_though_nothing_shows_it_yet() {
    let mut world = World::serve(vec![service("web", &["192.0.2.101"])]);
    world.stopped_before = Some(vec![]);
    world.remove_by_hand(ETH0, "192.0.2.101/24");
    assert_eq!(world.shown(), NOTHING);
    world.goes_on_after(Duration::from_millis(1500));
    assert_eq!(world.shown(), ["192.0.2.101/24 eth0"], "and the agent was not told");
    // Another node joins, and wins it.
    let version =
        world.peer_writes("node2", LeaseContent { join: Some(1), ..LeaseContent::default() });
    assert!(matches!(world.agent.verdict(ip("192.0.2.101")), Some(Verdict::Withheld(_))));
    world.pass(Duration::from_millis(100));
    assert!(world.lease.as_ref().unwrap().content.seen >= Some(version), "it is acknowledged");
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn an_address_that_no_node_can_have_is_told_of_once_by_one_node() {
    let mut world = World::new();
    world.boot(vec![service("lost", &["203.0.113.7"]), service("web", &["192.0.2.100"])]);
    let told = |world: &World| {
        world.warnings.iter().filter(|line| line.contains("no node has 203.0.113.7")).count()
    };
    world.pass(Duration::from_millis(9900));
    assert_eq!(told(&world), 0, "it may yet come");
    world.pass(Duration::from_secs(60));
    assert_eq!((told(&world), world.warnings.len()), (1, 1), "{:?}", world.warnings);

    // A node whose name comes first tells instead.
    world.peer_writes("a-node", LeaseContent::default());
    world.feed(Event::Services(Change::Updated(service("gone", &["203.0.113.8"]))));
    for _ in 0..15 {
        world.pass(Duration::from_secs(1));
        world.peer_writes("a-node", LeaseContent::default());
    }
    assert_eq!(world.warnings.len(), 1, "{:?}", world.warnings);
}

#[test]
fn an_address_for_nodes_with_an_endpoint_says_that_no_node_has_one() {
    for address in ["192.0.2.100", "198.51.100.7"] {
        let mut web = service("web", &[address]);
        web.traffic_policy = TrafficPolicy::Local;
        let mut world = World::serve(vec![web.clone()]);
        world.pass(Duration::from_secs(10));
        let expected = format!(
            "no node has {address}: it is for nodes with a ready endpoint of the Service, and no node has one"
        );
        assert_eq!(world.warnings, [expected]);
        world.feed(endpoints_here(&web));
        world.pass(Duration::from_secs(10));
        assert_eq!(world.shown().len(), 1);
        world.feed(Event::Endpoints(Change::Deleted(web.key)));
        world.pass(Duration::from_secs(10));
        assert_eq!(world.warnings.len(), 2, "{:?}", world.warnings);
    }
}

#[test]
fn two_default_routes_send_the_address_to_the_virtual_interface_and_back() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(2));
    let second = default_route(Family::V4, ETH1, 100);
    world.feed(Event::Routes(Change::Updated(second.clone())));
    world.pass(Duration::from_millis(999));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"], "it has to stand for a second");
    world.take_told();
    world.pass(Duration::from_millis(2));
    assert_eq!(world.shown(), ["192.0.2.100/32 kube-lb0"]);
    assert_eq!(
        world.take_told(),
        [
            "remove 192.0.2.100/24 eth0",
            "alias kube-lb0 \"purelb:created eth0:0:0\"",
            "set eth0 ArpIgnore 1",
            "set eth0 ArpAnnounce 2",
            "add 192.0.2.100/32 kube-lb0",
        ]
    );
    assert_eq!(world.errors.len(), 1, "{:?}", world.errors);
    assert!(world.errors[0].contains("dev eth0") && world.errors[0].contains("dev eth1"));

    world.feed(Event::Routes(Change::Deleted(second)));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    assert_eq!(world.links[&ETH0].conf, LinkConf::default());
    assert_eq!(world.links[&LB0].alias, "purelb:created");
}

#[test]
fn a_remote_address_does_not_care_about_default_routes() {
    let mut world = World::serve(vec![service("far", &["198.51.100.7"])]);
    world.feed(Event::Routes(Change::Updated(default_route(Family::V4, ETH1, 100))));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
}

#[test]
fn a_deleted_service_leaves_nothing_behind() {
    let mut world =
        World::serve(vec![service("web", &["192.0.2.100"]), service("far", &["198.51.100.7"])]);
    world.feed(Event::Services(Change::Listed(vec![])));
    assert_eq!(world.shown(), NOTHING);
    assert_eq!(world.agent.verdicts().count(), 0);
}

#[test]
fn a_lease_deleted_by_hand_is_created_anew_and_the_address_comes_back() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(1));
    world.version += 1;
    let version = Version(world.version);
    world.lease = None;
    world.feed(Event::Leases(LeaseEvent::Deleted { node: "node1".into(), version }));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    assert!(world.lease.is_some());
}

#[test]
fn a_configuration_that_goes_while_a_second_route_is_watched_leaves_nothing_due() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(Event::Routes(Change::Updated(default_route(Family::V4, ETH1, 100))));
    world.pass(Duration::from_millis(500));
    world.feed(Event::Agents(Change::Listed(vec![])));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn another_history_of_leases_is_listed_and_lived_with() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(Event::Leases(LeaseEvent::Bookmark(Version(1))));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.lists_asked_for, 1);
    world.version = 3;
    world.lease = None;
    let listed = LeaseEvent::Listed { leases: vec![], version: Version(3) };
    world.feed(Event::Leases(listed));
    world.pass(Duration::from_secs(8));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn an_address_that_the_service_no_longer_has_goes() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100", "2001:db8:1::100"])]);
    world.feed(Event::Services(Change::Updated(service("web", &["192.0.2.101"]))));
    assert_eq!(world.shown(), ["192.0.2.101/24 eth0"]);
}

#[test]
fn an_address_deleted_by_hand_is_put_back_at_once() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    let key = AddressKey { link: ETH0, net: "192.0.2.100/24".parse().unwrap() };
    world.addresses.remove(&key);
    world.feed(Event::Addresses(Change::Deleted(key)));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn what_others_put_there_is_never_touched() {
    let mut world = World::new();
    let foreign = host_address(ETH1, "192.0.2.100/32");
    world.addresses.insert(foreign.key(), foreign.clone());
    world.boot(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_millis(5500));
    world.feed(Event::Services(Change::Listed(vec![])));
    assert!(world.addresses.contains_key(&foreign.key()));
    assert_eq!(world.addresses.len(), 3);
}

#[test]
fn stopping_takes_the_addresses_off_before_the_lease_says_so() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.feed(Event::Stop);
    assert_eq!(world.shown(), NOTHING);
    assert!(world.agent.is_stopped());
    assert!(world.lease.unwrap().content.subnets.is_empty());
}

#[test]
fn a_restart_keeps_the_addresses_of_the_process_before() {
    let before = World::serve(vec![service("web", &["192.0.2.100"])]);
    let mut world = World::started_as("2");
    world.addresses = before.addresses.clone();
    world.links = before.links.clone();
    world.lease = before.lease.clone();
    world.version = before.version;
    // The new process counts its ticks from its own start.
    for address in world.addresses.values_mut().filter(|address| address.is_ours()) {
        address.valid = Some(3);
    }
    world.boot(vec![service("web", &["192.0.2.100"])]);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    let told = world.take_told();
    let is_move = |line: &&String| line.starts_with("add") || line.starts_with("remove");
    assert_eq!(told.iter().find(is_move), None);
}

#[test]
fn an_orphan_of_the_process_before_is_removed() {
    let mut world = World::new();
    for (link, net) in [(ETH0, "192.0.2.109/24"), (ETH1, "198.51.100.99/24")] {
        let mut orphan = host_address(link, net);
        orphan.mark = OUR_MARK;
        world.addresses.insert(orphan.key(), orphan);
    }
    world.boot(vec![]);
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn a_link_without_carrier_serves_nothing_and_comes_back() {
    let mut world = World::serve(vec![service("web", &["192.0.2.100"])]);
    world.change_link(ETH0, |link| link.carrier = false);
    assert_eq!(world.shown(), NOTHING);
    assert!(world.lease.as_ref().unwrap().content.subnets.is_empty());
    world.change_link(ETH0, |link| link.carrier = true);
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

fn endpoints_here(service: &Service) -> Event {
    let (service, nodes) = (service.key.clone(), ["node1".into()].into());
    Event::Endpoints(Change::Listed(vec![Endpoints { service, nodes }]))
}

#[test]
fn local_traffic_policy_asks_for_an_endpoint_here() {
    let mut far = service("far", &["198.51.100.7"]);
    far.traffic_policy = TrafficPolicy::Local;
    let mut world = World::serve(vec![far.clone()]);
    assert_eq!(world.shown(), NOTHING);
    world.feed(endpoints_here(&far));
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
    world.feed(Event::Endpoints(Change::Deleted(far.key)));
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn a_local_address_narrowed_to_endpoints_is_asked_for_in_the_lease() {
    let mut web = service("web", &["192.0.2.100"]);
    web.annotations.endpoint_affinity = true;
    let mut world = World::serve(vec![web.clone()]);
    assert_eq!(world.shown(), NOTHING);
    world.feed(endpoints_here(&web));
    assert_eq!(world.lease.as_ref().unwrap().content.lists, [ip("192.0.2.100")].into());
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    world.feed(Event::Endpoints(Change::Deleted(web.key)));
    assert_eq!(world.shown(), NOTHING);
    assert!(world.lease.as_ref().unwrap().content.lists.is_empty());
}

#[test]
fn what_the_kernel_does_not_remove_stays_in_the_lease_with_all_that_was_said_of_it() {
    let mut web = service("web", &["192.0.2.100"]);
    web.annotations.endpoint_affinity = true;
    let mut world = World::serve(vec![web.clone()]);
    world.feed(endpoints_here(&web));
    (world.is_stuck, world.is_cut_off) = (true, true);
    world.pass(Duration::from_secs(5));
    assert!(matches!(world.agent.verdict(ip("192.0.2.100")), Some(Verdict::Withheld(_))));
    world.is_cut_off = false;
    world.pass(Duration::from_millis(900));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
    let said = &world.lease.as_ref().unwrap().content;
    assert!(said.attempt > 5 && !said.subnets.is_empty(), "{said:?}");
    assert_eq!(said.lists, [ip("192.0.2.100")].into(), "or a node that does not list it wins");
    world.is_stuck = false;
    world.pass(Duration::from_secs(10));
    assert_eq!(world.shown(), ["192.0.2.100/24 eth0"]);
}

#[test]
fn a_removal_without_an_answer_is_asked_for_again_whatever_is_listed_meanwhile() {
    let mut world = World::serve(vec![service("far", &["198.51.100.7"])]);
    world.is_stuck = true;
    world.feed(Event::Services(Change::Listed(vec![])));
    let listed = world.addresses.values().cloned().collect();
    world.feed(Event::Addresses(Change::Listed(listed)));
    assert_eq!(world.shown(), ["198.51.100.7/24 kube-lb0"]);
    world.is_stuck = false;
    world.pass(Duration::from_millis(1100));
    assert_eq!(world.shown(), NOTHING);
}

#[test]
fn a_peer_that_joins_takes_what_it_wins_and_is_told_so() {
    let addresses: Vec<String> = (100..110).map(|n| format!("192.0.2.{n}")).collect();
    let texts: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut world = World::serve(vec![service("web", &texts)]);
    assert_eq!(world.shown().len(), 10);
    world.pass(Duration::from_secs(1));
    let version =
        world.peer_writes("node2", LeaseContent { join: Some(1), ..LeaseContent::default() });
    let left = world.shown().len();
    assert!(0 < left && left < 10, "{left}");
    assert!(world.lease.as_ref().unwrap().content.seen >= Some(version), "acknowledged at once");
}

#[test]
fn nothing_remains_to_be_done_once_everything_is_as_wanted() {
    let mut world =
        World::serve(vec![service("web", &["192.0.2.100"]), service("far", &["198.51.100.7"])]);
    world.pass(Duration::from_secs(3));
    world.take_told();
    let links = world.links.values().cloned().collect();
    let addresses = world.addresses.values().cloned().collect();
    world.feed(Event::Links(Change::Listed(links)));
    world.feed(Event::Addresses(Change::Listed(addresses)));
    assert_eq!(world.take_told(), NOTHING);
}
