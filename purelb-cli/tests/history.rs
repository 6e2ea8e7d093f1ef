//! What recordings tell of a cluster, against what a simulation knows of itself.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[path = "common/simulated.rs"]
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use purelb_cli::history::track::{Evidence, Span, State, Track};
use purelb_cli::history::{History, HistoryError, MarkKind, html};
use purelb_cli::recording::{self, Bytes, Recording};
use purelb_cli::top::draw::{Setting, Theme};
use purelb_cli::top::model::Holder;
use purelb_cli::top::screen;
use purelb_cli::top::source::recording::Recorded;
use purelb_cli::top::source::{OwnTime, Source};
use purelb_core::allocator::Allocator;
use purelb_core::name::NodeName;
use purelb_core::sim::Simulation;
use simulated::{ALL, BEGAN, recordings, story};

/// How often the simulation is asked who holds what.
const STEP: Duration = Duration::from_millis(20);

/// Kernels tell agents of changes a little later.
const LATE: SignedDuration = SignedDuration::from_millis(60);

/// Who held what at each moment, in truth.
type Truth = Vec<(Timestamp, BTreeMap<IpAddr, Vec<NodeName>>)>;

fn told_with_truth() -> (Simulation, Truth) {
    let mut truth = Truth::new();
    let sim = story(|sim, span| {
        let end = sim.now() + span.as_nanos() as u64;
        while sim.now() < end {
            sim.run_for(STEP);
            let at = Duration::from_secs(BEGAN) + Duration::from_nanos(sim.now());
            let at = Timestamp::UNIX_EPOCH.checked_add(at).unwrap();
            let holders = sim.addresses().into_iter().map(|ip| (ip, sim.holders(ip)));
            truth.push((at, holders.collect()));
        }
    });
    (sim, truth)
}

fn all_of(sim: &Simulation, size: Bytes) -> Vec<Recording> {
    recordings(sim, size).into_values().collect()
}

/// The state of an address at a moment, if no other is near.
fn settled(track: &Track, at: Timestamp) -> Option<&Span> {
    let is_inside = |span: &&Span| span.from + LATE <= at && at + LATE <= span.until;
    track.spans.iter().find(is_inside)
}

/// Compares a history with the truth; returns how often.
fn compare(history: &History, truth: &Truth) -> usize {
    let mut compared = 0;
    for (at, holders) in truth {
        for track in &history.tracks {
            let Some(span) = settled(track, *at) else { continue };
            let holders = holders.get(&track.ip).map(Vec::as_slice).unwrap_or_default();
            let is_true = match &span.state {
                State::Awaited | State::Everywhere { .. } => holders.is_empty(),
                State::Expiring(node) => holders.iter().all(|holder| holder == node),
                State::Held { node, evidence: Evidence::Seen, .. } => holders == [node.clone()],
                State::Nobody(Evidence::Seen) => holders.is_empty(),
                // What the API told comes later by what writes and watches take.
                State::Held { evidence: Evidence::Heard, .. } | State::Nobody(Evidence::Heard) => {
                    continue;
                }
                State::Several(_) => false,
            };
            assert!(is_true, "{} at {at}: {:?}, in truth {holders:?}", track.ip, span.state);
            compared += 1;
        }
    }
    compared
}

#[test]
fn the_history_of_all_recordings_is_what_happened() {
    let (sim, truth) = told_with_truth();
    let history = History::of(&all_of(&sim, ALL)).unwrap();
    assert!(history.sources.iter().all(|source| source.is_as_recorded));
    let compared = compare(&history, &truth);
    assert!(compared > 10_000, "{compared}");
    let of_kind = |kind| history.marks.iter().filter(move |mark| mark.kind == kind);
    for (kind, node) in [
        (MarkKind::LeaseLost, "node-1"),
        (MarkKind::LinkDown, "node-2"),
        (MarkKind::LinkUp, "node-2"),
        (MarkKind::AgentDown, "node-3"),
    ] {
        assert!(of_kind(kind).any(|mark| mark.whose == node), "{kind:?} {:?}", history.marks);
    }
    // The agent that was killed has no recording from then on; its addresses went before its lease.
    let lost = history.states().filter(|state| **state == State::Expiring("node-1".into()));
    assert!(lost.count() >= 1);
    let gaps: Vec<&Span> = history
        .tracks
        .iter()
        .flat_map(|track| &track.spans)
        .filter(|span| span.state == State::Nobody(Evidence::Seen))
        .collect();
    assert!(gaps.len() >= 3, "{gaps:?}");
    for gap in gaps {
        assert!(gap.length() < SignedDuration::from_millis(200), "{gap:?}");
        let has_reason = gap.why.iter().any(|(_, text)| text.contains("won it"));
        assert!(has_reason, "{gap:?}");
    }
}

#[test]
fn recordings_that_begin_later_tell_the_same_of_what_they_have() {
    let (sim, truth) = told_with_truth();
    let later = all_of(&sim, Bytes(1 << 10));
    let has_checkpoint = |recording: &&Recording| match recording {
        Recording::Agent(tape) => tape.checkpoint.is_some(),
        Recording::Allocator(_) => false,
    };
    assert!(later.iter().filter(has_checkpoint).count() >= 2);
    let history = History::of(&later).unwrap();
    let whole = History::of(&all_of(&sim, ALL)).unwrap();
    assert!(history.tracks.len() == whole.tracks.len() && history.until == whole.until);
    let compared = compare(&history, &truth);
    assert!(compared > 1000, "{compared}");
}

#[test]
fn one_recording_tells_the_rest_as_hearsay() {
    let (sim, truth) = told_with_truth();
    let of = |node: &str| -> Vec<Recording> {
        let all = recordings(&sim, ALL).into_iter();
        all.filter(|((name, _), _)| name.as_str() == node).map(|(_, tape)| tape).collect()
    };
    let history = History::of(&of("node-2")).unwrap();
    assert!(history.has_hearsay());
    compare(&history, &truth);
    let seen: BTreeSet<(&NodeName, bool)> = history
        .states()
        .filter_map(|state| match state {
            State::Held { node, evidence, .. } => Some((node, *evidence == Evidence::Seen)),
            State::Awaited
            | State::Everywhere { .. }
            | State::Expiring(_)
            | State::Nobody(_)
            | State::Several(_) => None,
        })
        .collect();
    let [one, two, three] = ["node-1", "node-2", "node-3"].map(NodeName::from);
    assert_eq!(seen, [(&one, false), (&two, true), (&three, false)].into());
    let page = html::page(&history);
    assert!(page.contains("as others heard") && page.contains("Pale bars are hearsay"));
}

#[test]
fn the_live_view_of_recordings_goes_back_and_ahead_and_ends_at_their_end() {
    let sim = story(|sim, span| sim.run_for(span));
    let mut source = Recorded::new(&all_of(&sim, ALL)).unwrap();
    let setting = Setting { title: source.title(), theme: Theme::Plain, has_own_time: true };
    assert_eq!(setting.title, "recording of node-1, node-2, node-3");
    let mut shown = |second: u64| {
        screen::once(&mut source, Duration::from_secs(second), 120, &setting).unwrap()
    };
    let calm = shown(10);
    assert!(calm.contains("3 of 3 leases live") && calm.contains("12:00:10"), "{calm}");
    let lost = shown(20);
    assert!(lost.contains("2 of 3 leases live") && lost.contains("EXPIRED"), "{lost}");
    assert!(lost.contains("node-1 → node-3"), "{lost}");
    assert_eq!(shown(10), calm);
    let end = source.seek(Duration::from_secs(3600)).unwrap();
    let length = source.position();
    assert!(length > Duration::from_secs(50) && length < Duration::from_secs(60), "{length:?}");
    for row in end.addresses() {
        let Some(ip) = row.line.ip else { panic!("{row:?}") };
        let holder = match &row.holder {
            Holder::Node(node, _) => vec![node.clone()],
            Holder::EveryNode(_) => Vec::new(),
            Holder::Nobody(_) | Holder::Unassigned => panic!("{row:?}"),
        };
        assert_eq!(holder, sim.holders(ip), "{ip}");
    }
}

#[test]
fn an_allocator_alone_makes_no_history() {
    let now = std::time::Instant::now();
    let allocator = recording::Recorded::<Allocator>::new((), "allocator", ALL, now);
    let recording = Recording::read(&allocator.file(now).unwrap()).unwrap();
    let error = History::of(&[recording]).unwrap_err();
    assert!(matches!(error, HistoryError::NoAgent));
    assert!(error.to_string().contains("purelb record --node"), "{error}");
}
