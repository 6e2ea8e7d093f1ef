//! Two nodes never hold one address, whatever happens in whatever order: every interleaving within
//! bounds, with the rules as they are; and with each rule broken in turn, that a search finds out.
//!
//! `docs/safety.md` says what is modelled, and how to search farther.

#[path = "mod.rs"]
mod model;

use std::time::Duration;

use model::scene::Scene;
use model::search::{Found, search, tell};
use model::world::World;
use purelb_core::mutation::Mutation;

const SECOND: Duration = Duration::from_secs(1);

fn from(scene: Scene, nodes: usize, ticks: u32, faults: u32, mutation: Option<Mutation>) -> World {
    let mut world = scene.world(nodes, SECOND, mutation);
    (world.ticks_left, world.faults_left) = (ticks, faults);
    world
}

/// Searches from each scene, to the end or up to `limit` states; tells whether all ended.
fn safe(scenes: &[Scene], nodes: usize, ticks: u32, faults: u32, limit: usize) -> bool {
    let mut is_exhausted_everywhere = true;
    for scene in scenes {
        let world = from(*scene, nodes, ticks, faults, None);
        let Found { states, depth, is_exhausted, double } = search(&world, limit);
        let extent = if is_exhausted { "all" } else { "the first" };
        println!("{nodes} nodes, {scene:?}: {extent} {states} states, {depth} steps deep");
        if let Some(actions) = double {
            panic!("{scene:?}:\n{}", tell(&world, &actions).join("\n"));
        }
        assert!(states > 100, "{scene:?}: too little happens");
        is_exhausted_everywhere &= is_exhausted;
    }
    is_exhausted_everywhere
}

#[test]
fn two_nodes_never_hold_one_address_in_any_order_of_events_with_one_fault() {
    use Scene::{Absent, Cold, Late, Newcomer, Stale, Steady};
    let scenes = [Absent, Cold, Late, Newcomer, Stale, Steady];
    assert!(safe(&scenes, 2, 1, 1, 100_000), "not every state was looked at");
}

#[test]
fn two_nodes_never_hold_one_address_in_any_order_of_events_while_time_passes() {
    use Scene::{Frozen, Newcomer, Slow, Stale, Steady};
    assert!(safe(&[Newcomer, Stale, Steady], 2, 2, 0, 100_000), "not every state was looked at");
    assert!(safe(&[Frozen, Slow], 2, 1, 0, 100_000), "not every state was looked at");
}

#[test]
fn three_nodes_never_hold_one_address_in_any_order_of_events() {
    use Scene::{Cold, Newcomer, Steady};
    assert!(safe(&[Cold, Newcomer, Steady], 3, 1, 0, 100_000), "not every state was looked at");
}

#[test]
fn two_nodes_never_hold_one_address_in_the_first_states_with_two_faults() {
    safe(&Scene::ALL, 2, 3, 2, 15_000);
}

#[test]
fn three_nodes_never_hold_one_address_in_the_first_states_with_a_fault() {
    safe(&Scene::ALL, 3, 2, 1, 5_000);
}

/// The shortest way to a double once this rule is broken.
fn refuted(mutation: Mutation, scene: Scene, ticks: u32, faults: u32) -> Vec<String> {
    let world = from(scene, 2, ticks, faults, Some(mutation));
    let found = search(&world, 200_000);
    println!("{mutation}: found after {} states, {} steps deep", found.states, found.depth);
    let Some(actions) = found.double else { panic!("{mutation} is not found out: {found:?}") };
    let lines = tell(&world, &actions);
    lines.iter().for_each(|line| println!("  {line}"));
    lines
}

#[test]
fn an_acknowledgement_before_letting_go_is_found_out() {
    refuted(Mutation::AcknowledgeBeforeLettingGo, Scene::Newcomer, 1, 0);
}

#[test]
fn a_deletion_taken_as_leaving_is_found_out() {
    let lines = refuted(Mutation::DeletionIsLeaving, Scene::Steady, 0, 1);
    let golden = include_str!("deletion-is-leaving.txt");
    assert_eq!(lines.join("\n").trim(), golden.trim());
}

#[test]
fn leaving_before_withdrawal_is_found_out() {
    refuted(Mutation::LeaveBeforeWithdrawal, Scene::Steady, 0, 1);
}

#[test]
fn a_join_without_acknowledgement_is_found_out() {
    refuted(Mutation::NoAcknowledgement, Scene::Newcomer, 1, 0);
}

#[test]
fn a_start_without_observation_is_found_out() {
    refuted(Mutation::NoObservation, Scene::Absent, 0, 2);
}

#[test]
fn unconditional_writes_are_found_out() {
    refuted(Mutation::UnconditionalWrites, Scene::Late, 0, 0);
}

#[test]
fn expiry_without_an_echo_is_found_out() {
    refuted(Mutation::NoEcho, Scene::Stale, 3, 0);
}

#[test]
fn a_renewal_that_revives_a_lapsed_right_is_found_out() {
    refuted(Mutation::LateRenewalRevives, Scene::Slow, 2, 0);
}

#[test]
fn observers_that_subtract_the_margin_are_found_out() {
    refuted(Mutation::ObserversSubtractMargin, Scene::Steady, 5, 0);
}

#[test]
fn a_lifetime_computed_before_the_system_call_is_found_out() {
    refuted(Mutation::EarlyLifetime, Scene::Frozen, 2, 0);
}
