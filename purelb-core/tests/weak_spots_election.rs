//! The places where the Go node agent loses an address or has it twice (S1 to S18), and those where
//! addresses flap, each as a story of a simulated cluster.
//!
//! That no address is ever on two nodes is checked by the simulation all along; `sound` tells.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "part of tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use purelb_core::config::OnStop;
use purelb_core::name::NodeName;
use purelb_core::sim::{FaultKind, NodeSetup, ServiceKind, Setup, Simulation};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Everything that nodes hold, with the one holder of each.
type Held = BTreeMap<IpAddr, NodeName>;

/// A cluster in which every address has come to its place.
fn settled(setup: &Setup) -> Simulation {
    let mut sim = Simulation::new(setup);
    sim.run_for(secs(3));
    calm(&mut sim);
    sim
}

fn cluster(nodes: usize, services: usize) -> Simulation {
    settled(&Setup::new(7, nodes).with_services(services))
}

fn sound(sim: &Simulation) {
    assert!(sim.violation().is_none(), "{}", sim.violation().unwrap());
}

/// Lets a lease duration and a second pass, after which all must be where the rules say.
fn calm(sim: &mut Simulation) {
    sim.run_for(sim.patience());
    sound(sim);
    sim.check_places();
    sound(sim);
}

fn held(sim: &Simulation) -> Held {
    let one = |ip: IpAddr| Some((ip, sim.holders(ip).first()?.clone()));
    sim.addresses().into_iter().filter_map(one).collect()
}

/// A node that holds something.
fn a_holder(sim: &Simulation, nodes: usize) -> usize {
    let held = held(sim);
    (0..nodes).find(|node| held.values().any(|holder| holder == sim.name(*node))).unwrap()
}

fn holds_any(sim: &Simulation, node: usize) -> bool {
    held(sim).values().any(|holder| holder == sim.name(node))
}

fn moves(sim: &Simulation) -> u64 {
    sim.moves().values().sum()
}

#[test]
fn s1_a_holder_cut_off_from_the_api_lets_go_before_another_takes_over() {
    let mut sim = cluster(3, 6);
    let node = a_holder(&sim, 3);
    sim.fault(FaultKind::Partitioned, node, secs(20));
    sim.run_for(secs(7));
    sound(&sim);
    assert!(!holds_any(&sim, node), "it is fenced");
    assert_eq!(held(&sim).len(), sim.addresses().len(), "others have all of it");
    sim.run_for(secs(15));
    calm(&mut sim);
}

#[test]
fn s2_a_holder_whose_watch_stands_still_is_fenced_however_its_writes_fare() {
    let mut sim = cluster(3, 6);
    let node = a_holder(&sim, 3);
    sim.fault(FaultKind::WatchStalled, node, secs(60));
    sim.run_for(secs(8));
    sound(&sim);
    assert!(!holds_any(&sim, node), "it knows no more whether others took over");
    assert_eq!(held(&sim).len(), sim.addresses().len(), "it says so, and others have all of it");
    sim.run_for(secs(53));
    calm(&mut sim);
}

#[test]
fn s3_a_holder_whose_writes_alone_fail_is_fenced_before_its_lease_is_over_for_others() {
    let mut sim = cluster(3, 6);
    let node = a_holder(&sim, 3);
    sim.fault(FaultKind::ApiThrottled, node, secs(30));
    sim.run_for(millis(4_900));
    assert!(!holds_any(&sim, node));
    sim.run_for(secs(26));
    calm(&mut sim);
}

#[test]
fn s4_the_addresses_of_an_agent_that_is_killed_or_hangs_go_by_the_hand_of_the_kernel() {
    for kind in [FaultKind::Killed, FaultKind::Frozen, FaultKind::FrozenBeforeCall] {
        let mut sim = cluster(3, 6);
        let node = a_holder(&sim, 3);
        sim.fault(kind, node, secs(30));
        sim.run_for(secs(9));
        sound(&sim);
        assert!(!holds_any(&sim, node), "{kind}");
        assert_eq!(held(&sim).len(), sim.addresses().len(), "{kind}");
        sim.run_for(secs(22));
        calm(&mut sim);
    }
}

#[test]
fn s5_a_holder_that_loses_its_default_route_hands_over_at_once() {
    for kind in [FaultKind::RouteLost, FaultKind::LinkDown] {
        let mut sim = cluster(3, 6);
        let node = a_holder(&sim, 3);
        sim.fault(kind, node, secs(20));
        sim.run_for(secs(1));
        sound(&sim);
        assert!(!holds_any(&sim, node), "{kind}");
        assert_eq!(held(&sim).len(), sim.addresses().len(), "{kind}");
        sim.run_for(secs(20));
        calm(&mut sim);
    }
}

#[test]
fn s6_clocks_that_differ_by_two_percent_move_nothing() {
    let mut setup = Setup::new(7, 3).with_services(6);
    for (node, drift) in setup.nodes.iter_mut().zip([-10_000, 0, 10_000]) {
        node.drift = drift;
    }
    let mut sim = settled(&setup);
    let before = moves(&sim);
    sim.run_for(secs(300));
    sound(&sim);
    assert_eq!(moves(&sim), before);
}

#[test]
fn s7_a_planned_stop_withdraws_first_and_hands_over_at_once() {
    let mut sim = cluster(3, 6);
    let node = a_holder(&sim, 3);
    sim.fault(FaultKind::Stopped, node, secs(20));
    sim.run_for(millis(500));
    sound(&sim);
    assert!(!holds_any(&sim, node));
    assert_eq!(held(&sim).len(), sim.addresses().len());
}

#[test]
fn s8_a_renewal_that_is_under_way_at_a_stop_brings_nothing_back() {
    for offset in 0..20 {
        let mut sim = cluster(3, 6);
        let node = a_holder(&sim, 3);
        sim.run_for(millis(offset * 90));
        sim.fault(FaultKind::Stopped, node, secs(20));
        sim.run_for(millis(500));
        for _ in 0..18 {
            sim.run_for(secs(1));
            assert!(sim.lease(node).unwrap().subnets.is_empty(), "stopped {offset}");
            assert!(!holds_any(&sim, node), "stopped {offset}");
        }
        sound(&sim);
    }
}

#[test]
fn s9_one_lost_renewal_moves_nothing() {
    for offset in 0..20 {
        let mut sim = cluster(3, 6);
        let (before, held_before) = (moves(&sim), held(&sim));
        let node = a_holder(&sim, 3);
        sim.run_for(millis(offset * 90));
        // Longer than one request may take: whatever is sent meanwhile is lost.
        sim.fault(FaultKind::ApiThrottled, node, millis(900));
        sim.run_for(secs(20));
        sound(&sim);
        assert_eq!((moves(&sim), held(&sim)), (before, held_before), "lost after {offset}");
    }
}

#[test]
fn s10_a_request_into_the_void_holds_up_nothing_once_the_api_is_back() {
    let mut sim = cluster(3, 6);
    let (before, node) = (moves(&sim), a_holder(&sim, 3));
    for _ in 0..10 {
        sim.fault(FaultKind::Partitioned, node, millis(1_000));
        sim.run_for(secs(8));
    }
    sound(&sim);
    assert_eq!(moves(&sim), before, "the next request goes out within a sixth of the duration");
}

#[test]
fn s11_after_an_outage_of_the_api_everything_is_where_it_was() {
    let mut sim = cluster(5, 12);
    let (before, counted) = (held(&sim), sim.moves());
    sim.fault(FaultKind::ApiDown, 0, secs(40));
    sim.run_for(secs(39));
    sound(&sim);
    assert_eq!(held(&sim), Held::new(), "nobody can know what others do");
    sim.run_for(secs(3));
    calm(&mut sim);
    assert_eq!(held(&sim), before);
    for (ip, count) in sim.moves() {
        assert!(
            count - counted[&ip] <= 4,
            "{ip} moved more than once for each node that came back"
        );
    }
}

#[test]
fn s12_a_starter_attracts_nothing_before_it_can_serve() {
    let mut sim = cluster(3, 6);
    let node = a_holder(&sim, 3);
    sim.fault(FaultKind::Rebooted, node, secs(20));
    sim.run_for(millis(20_010));
    let before = held(&sim);
    assert_eq!(before.len(), sim.addresses().len());
    sim.run_for(secs(4));
    let lease = sim.lease(node).unwrap();
    assert!(lease.subnets.is_empty() || lease.instance.ends_with("-1"), "it watches first");
    assert_eq!(held(&sim), before, "and others serve meanwhile");
    calm(&mut sim);
    assert!(holds_any(&sim, node));
}

#[test]
fn s13_a_node_that_is_taken_out_and_put_back_moves_each_address_there_and_back_once() {
    let mut sim = cluster(3, 6);
    let (before, node) = (sim.moves(), a_holder(&sim, 3));
    let was = held(&sim);
    sim.fault(FaultKind::Excluded, node, secs(10));
    sim.run_for(secs(1));
    assert_eq!(held(&sim).len(), was.len(), "somebody has each of them within a second");
    sim.run_for(secs(10));
    calm(&mut sim);
    assert_eq!(held(&sim), was);
    for (ip, count) in sim.moves() {
        let most = if was[&ip] == *sim.name(node) { 2 } else { 0 };
        assert_eq!(count - before[&ip], most, "{ip}");
    }
}

#[test]
fn s14_a_changed_lease_duration_is_said_in_the_lease_that_was_there() {
    for (from, to) in [(5, 10), (10, 5)] {
        let mut setup = Setup::new(7, 3).with_services(6);
        setup.nodes[0].duration = secs(from);
        let mut sim = settled(&setup);
        sim.set_duration(0, secs(to));
        sim.fault(FaultKind::Killed, 0, millis(100));
        sim.run_for(secs(25));
        assert_eq!(sim.lease(0).unwrap().duration, secs(to));
        let before = moves(&sim);
        sim.run_for(secs(60));
        sound(&sim);
        assert_eq!(moves(&sim), before, "renewed in the rhythm of its new duration");
    }
}

#[test]
fn s15_endpoints_that_come_and_go_never_put_an_address_on_two_nodes() {
    let mut setup = Setup::new(7, 4);
    setup.services = vec![ServiceKind::LocalTraffic; 4];
    let mut sim = settled(&setup);
    for round in 0..60 {
        sim.fault(FaultKind::EndpointsMoved, 0, millis(1));
        sim.run_for(millis(30 + 37 * (round % 7)));
    }
    sound(&sim);
    calm(&mut sim);
}

#[test]
fn s16_an_owner_that_returns_waits_until_the_one_before_has_let_go() {
    for offset in 0..10 {
        let mut sim = cluster(3, 6);
        let node = a_holder(&sim, 3);
        sim.fault(FaultKind::Rebooted, node, secs(8));
        sim.run_for(millis(12_000 + 100 * offset));
        // Whoever holds it now is asked to let go, and hangs before it does.
        for other in (0..3).filter(|other| *other != node) {
            sim.fault(FaultKind::FrozenBeforeCall, other, secs(4));
        }
        sim.run_for(secs(6));
        sound(&sim);
        calm(&mut sim);
    }
}

#[test]
fn s17_a_node_that_comes_and_goes_moves_each_address_twice_each_time_and_no_more() {
    const TIMES: u64 = 5;
    let mut sim = cluster(3, 6);
    let (before, was) = (sim.moves(), held(&sim));
    let node = a_holder(&sim, 3);
    for _ in 0..TIMES {
        sim.fault(FaultKind::Rebooted, node, secs(8));
        sim.run_for(secs(8));
        calm(&mut sim);
    }
    assert_eq!(held(&sim), was);
    for (ip, count) in sim.moves() {
        let most = if was[&ip] == *sim.name(node) { 2 * TIMES } else { 0 };
        assert!(count - before[&ip] <= most, "{ip} moved {} times", count - before[&ip]);
    }
}

#[test]
fn s18_what_an_earlier_process_sent_cannot_undo_what_a_later_one_said() {
    for seed in 0..20 {
        let mut sim = settled(&Setup::new(seed, 3).with_services(6));
        let node = a_holder(&sim, 3);
        sim.fault(FaultKind::RequestsLost, node, secs(6));
        sim.run_for(secs(5));
        sim.fault(FaultKind::Killed, node, millis(500));
        sim.run_for(secs(20));
        sound(&sim);
        assert!(sim.lease(node).unwrap().instance.ends_with("-2"), "{:?}", sim.lease(node));
        calm(&mut sim);
    }
}

#[test]
fn an_agent_that_is_restarted_with_keep_moves_nothing() {
    for away in [200, 2_000, 12_000] {
        let mut setup = Setup::new(7, 3).with_services(6);
        setup.on_stop = OnStop::Keep;
        let mut sim = settled(&setup);
        let (before, was) = (moves(&sim), held(&sim));
        for node in 0..3 {
            sim.fault(FaultKind::Stopped, node, millis(away));
            for _ in 0..away / 100 + 70 {
                sim.run_for(millis(100));
                assert_eq!(held(&sim), was, "an address was away while node {node} restarted");
            }
        }
        sound(&sim);
        assert_eq!(moves(&sim), before);
    }
}

#[test]
fn an_agent_that_is_killed_and_back_before_its_lease_ends_moves_nothing() {
    let mut sim = cluster(3, 6);
    let (before, was) = (moves(&sim), held(&sim));
    for node in 0..3 {
        sim.fault(FaultKind::Killed, node, millis(300));
        sim.run_for(secs(10));
    }
    calm(&mut sim);
    assert_eq!((moves(&sim), held(&sim)), (before, was));
}

#[test]
fn in_steady_state_each_node_renews_and_nothing_else_happens() {
    let mut setup = Setup::new(7, 5).with_services(12);
    setup.nodes = vec![NodeSetup { duration: secs(6), ..NodeSetup::default() }; 5];
    setup.services.extend([ServiceKind::Remote, ServiceKind::DualStack]);
    let mut sim = settled(&setup);
    for _ in 0..10 {
        sim.check_quiet();
        sound(&sim);
    }
}

#[test]
fn what_the_kernel_does_not_remove_stays_in_the_lease() {
    for length in 20..40 {
        let mut sim = cluster(3, 6);
        let node = a_holder(&sim, 3);
        sim.fault(FaultKind::KernelKeeps, node, secs(10));
        // The right ends in or just after it, and the next write lands before the kernel's own end.
        sim.fault(FaultKind::ApiThrottled, node, millis(length * 100));
        sim.run_for(secs(12));
        sound(&sim);
        calm(&mut sim);
    }
}
