//! Random histories of whole clusters: reproducible, unbroken, and unkind enough to find each missing
//! rule.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "part of tests")]

use purelb_core::mutation::Mutation;
use purelb_core::sim::{History, Invariant, Options, run_seed, run_seeds};

#[test]
fn one_seed_leads_to_one_story_to_the_byte() {
    let options = Options { steps: 3_000, is_told: true, ..Options::default() };
    let tell = || {
        let outcome = run_seed(11, options);
        let story = outcome.story.unwrap();
        let lines: Vec<String> = story.entries().iter().map(ToString::to_string).collect();
        (lines.join("\n"), outcome.report)
    };
    let first = tell();
    assert!(first.0.lines().count() > 100);
    assert_eq!(first, tell());
}

#[test]
fn a_history_in_pieces_is_the_history_as_a_whole() {
    let options = Options { steps: 3_000, is_told: true, ..Options::default() };
    let whole = run_seed(11, options);
    let mut history = History::new(11, options);
    let mut seen_faults = false;
    let end = whole.report.time;
    for piece in (37_000_000..end).step_by(37_000_000).chain([end]) {
        history.run_until(piece);
        assert_eq!(history.simulation().now(), piece);
        seen_faults |= history.simulation().lasting().count() > 0;
    }
    assert!(seen_faults);
    let sim = history.simulation();
    assert_eq!((sim.report(), sim.story()), (&whole.report, whole.story.as_ref()));
}

#[test]
fn a_story_changes_nothing() {
    let told = run_seed(12, Options { steps: 3_000, is_told: true, ..Options::default() });
    let untold = run_seed(12, Options { steps: 3_000, ..Options::default() });
    assert_eq!((told.report, told.violation), (untold.report, untold.violation));
}

#[test]
fn no_invariant_is_broken_in_a_hundred_clusters() {
    let options = Options { steps: 3_000, ..Options::default() };
    let campaign = run_seeds(0..100, 2, options, true, |_, _| true);
    assert_eq!(campaign.failures, []);
    let report = campaign.report;
    assert!(report.moves > 100 && report.calms > 200, "an idle world is a safe one: {report:?}");
    assert!(campaign.overlapping * 2 >= campaign.seeds, "faults must overlap: {report:?}");
}

/// Each broke something in a campaign of 100,000.
#[test]
fn what_broke_once_holds() {
    for seed in [45_231, 85_038, 85_692] {
        assert_eq!(run_seed(seed, Options::default()).violation, None, "seed {seed}");
    }
}

/// Every rule that is switched off leads to a double within so many seeds.
const WITHIN: u64 = 2_000;

fn is_caught(mutation: Mutation) {
    let options = Options { mutation: Some(mutation), ..Options::default() };
    let campaign = run_seeds(0..WITHIN, 2, options, true, |_, _| true);
    let mut failures = campaign.failures.iter();
    let double = failures.find(|(_, violation)| violation.invariant == Invariant::SingleHolder);
    assert!(double.is_some(), "{mutation}: nothing in {} seeds: {failures:?}", campaign.seeds);
}

macro_rules! caught {
    ($($test:ident: $mutation:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_caught(Mutation::$mutation);
            }
        )*

        #[test]
        fn every_mutation_has_a_test() {
            let tested = [$(Mutation::$mutation),*];
            assert!(Mutation::ALL.iter().all(|mutation| tested.contains(mutation)));
        }
    };
}

caught! {
    without_the_echo_two_nodes_hold_one_address: NoEcho,
    without_acknowledgement_two_nodes_hold_one_address: NoAcknowledgement,
    acknowledging_before_letting_go_makes_a_double: AcknowledgeBeforeLettingGo,
    leaving_before_withdrawal_makes_a_double: LeaveBeforeWithdrawal,
    unconditional_writes_make_a_double: UnconditionalWrites,
    taking_a_deletion_for_leaving_makes_a_double: DeletionIsLeaving,
    observers_that_subtract_the_margin_make_a_double: ObserversSubtractMargin,
    a_start_without_observation_makes_a_double: NoObservation,
    a_lifetime_computed_too_early_makes_a_double: EarlyLifetime,
    a_renewal_that_revives_a_lapsed_right_makes_a_double: LateRenewalRevives,
}
