//! One agent told arbitrary things about leases: it never holds without a right that still runs, never has more
//! than one write under way, never waits for a moment that is over, and does not depend on what time it is or
//! on how far the API has counted.

#![no_main]

#[path = "membership/twin.rs"]
mod twin;

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::config::ApiOutage;
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, Version, WriteResult};
use purelb_core::membership::{HostReport, Leaving, Membership, Pace, Settings, Standing};
use purelb_core::time::Tick;

use twin::{Fact, Twins};

/// More deadlines than there are in the longest [`Step::Pass`], which is 65 s.
const WAKES_PER_PASS: usize = 1000;

#[derive(Arbitrary, Debug)]
enum Step {
    Answer { kind: u8, version: u16 },
    Bookmark(u16),
    Delete { node: u8, version: u16 },
    Host { serves: bool, lists: bool, is_occupied: bool, is_settled: bool, holds: Option<u8> },
    Leave { keeps: bool },
    List { nodes: Vec<Peer>, version: u16 },
    Outage { holds: bool },
    Pace { seconds: u8, deadline: Option<u8>, period: Option<u8> },
    Pass { millis: u16 },
    Sleep,
    Split,
    Update(Peer),
}

#[derive(Arbitrary, Debug)]
struct Peer {
    node: u8,
    version: u16,
    serves: bool,
    lists: bool,
    join: Option<u8>,
    seen: Option<u16>,
    seconds: u8,
    is_mine: bool,
    attempt: u8,
    keep: bool,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut twins = Twins::of(Membership::new(Settings {
        node: "node0".into(),
        boot_id: "boot".into(),
        instance: "me".into(),
        duration: Duration::from_secs(5),
    }));
    let mut under_way = None;
    check(&mut twins, &mut under_way);
    for step in steps {
        match step {
            Step::Pass { millis } => {
                pass(&mut twins, Duration::from_millis(millis.into()), &mut under_way);
            }
            Step::Split => twins.split(),
            step => {
                if let Some(fact) = fact(step, twins.now, &mut under_way) {
                    twins.tell(fact);
                }
            }
        }
        check(&mut twins, &mut under_way);
    }
});

fn fact(step: Step, now: Tick, under_way: &mut Option<u64>) -> Option<Fact> {
    Some(match step {
        Step::Answer { kind, version } => {
            let attempt = under_way.take()?;
            let result = match kind % 3 {
                0 => WriteResult::Accepted { version: Version(version.into()) },
                1 => WriteResult::Conflict,
                _ => WriteResult::Unknown { error: String::new() },
            };
            Fact::Lease(LeaseEvent::Written { attempt, result })
        }
        Step::Bookmark(version) => Fact::Lease(LeaseEvent::Bookmark(Version(version.into()))),
        Step::Delete { node, version } => {
            let version = Version(version.into());
            Fact::Lease(LeaseEvent::Deleted { node: name(node), version })
        }
        Step::Host { serves, lists, is_occupied, is_settled, holds } => Fact::Host(HostReport {
            serving: serves.then(subnet).into_iter().collect(),
            lists: lists.then_some(VIP.into()).into_iter().collect(),
            occupied: is_occupied.then(subnet).into_iter().collect(),
            occupied_lists: (is_occupied && lists).then_some(VIP.into()).into_iter().collect(),
            is_settled,
            holds_until: holds.map(|seconds| now + Duration::from_secs(seconds.into())),
            is_adopting: is_occupied && !serves,
        }),
        Step::Leave { keeps: true } => Fact::Leave(Leaving::Keep(Duration::from_secs(30))),
        Step::Leave { keeps: false } => Fact::Leave(Leaving::Release),
        Step::List { nodes, version } => {
            let leases = nodes.iter().map(lease).collect();
            Fact::Lease(LeaseEvent::Listed { leases, version: Version(version.into()) })
        }
        Step::Outage { holds: true } => Fact::Outage(ApiOutage::Hold),
        Step::Outage { holds: false } => Fact::Outage(ApiOutage::Withdraw),
        Step::Pace { seconds, deadline, period } => {
            let seconds_of = |number: u8| Duration::from_secs(number.into());
            let tenths = |number: u8| Duration::from_millis(100 * u64::from(number));
            let pace = Pace::new(seconds_of(seconds), deadline.map(seconds_of), period.map(tenths));
            match pace {
                Ok(pace) => {
                    assert!(
                        pace.request_limit() <= pace.period() && pace.period() < pace.duration()
                    );
                    Fact::Pace(pace)
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return None;
                }
            }
        }
        Step::Pass { .. } | Step::Split => return None,
        Step::Sleep => Fact::Sleep,
        Step::Update(peer) => Fact::Lease(LeaseEvent::Updated(lease(&peer))),
    })
}

/// Lets time pass, waking at every deadline.
fn pass(twins: &mut Twins, span: Duration, under_way: &mut Option<u64>) {
    let end = twins.now + span;
    for _ in 0..WAKES_PER_PASS {
        let due = twins.agent().poll_timeout().map(|(at, _)| at).filter(|at| *at <= end);
        let Some(due) = due else {
            twins.now = end;
            return;
        };
        twins.now = due.max(twins.now);
        twins.tell(Fact::Timeout);
        check(twins, under_way);
    }
    panic!("it wakes again and again for {:?}", twins.agent().poll_timeout());
}

fn check(twins: &mut Twins, under_way: &mut Option<u64>) {
    let now = twins.now;
    let write = twins.poll_write();
    let agent = twins.agent();
    let standing = agent.standing(VIP.into(), false);
    if let Standing::Mine { until } = standing {
        assert!(until > now, "a right that is over");
        assert_eq!(agent.right(), Some(until));
        let ranking = agent.ranking(VIP.into(), false);
        assert_eq!(ranking.first().map(|node| node.as_str()), Some("node0"));
        let (subnets, _) = agent.published();
        assert!(subnets.contains(&subnet()), "others do not know that it may hold");
    }
    assert_eq!(agent.has_candidates(VIP.into(), false), standing != Standing::Nobody);
    assert!(!agent.is_able() || agent.right().is_some());
    assert!(!agent.is_holding_on() || agent.right().is_some());
    assert!(agent.is_listed() || agent.leases().all(|(node, ..)| node.as_str() == "node0"));
    if let Some(attempt) = write {
        assert_eq!(*under_way, None, "two writes under way");
        *under_way = Some(attempt);
    }
    assert_eq!(twins.poll_write(), None);
}

const VIP: [u8; 4] = [192, 0, 2, 1];

fn subnet() -> ipnet::IpNet {
    ipnet::IpNet::new_assert([192, 0, 2, 0].into(), 24)
}

fn name(node: u8) -> purelb_core::name::NodeName {
    format!("node{}", node % 3).into()
}

fn lease(peer: &Peer) -> Lease {
    let content = LeaseContent {
        duration: Duration::from_secs(peer.seconds.into()),
        subnets: peer.serves.then(subnet).into_iter().collect(),
        lists: peer.lists.then_some(VIP.into()).into_iter().collect(),
        join: peer.join.map(Into::into),
        seen: peer.seen.map(|seen| Version(seen.into())),
        boot_id: peer.is_mine.then(|| "boot".into()),
        instance: if peer.is_mine { "me".into() } else { "other".into() },
        attempt: peer.attempt.into(),
        keep: peer.keep,
    };
    let version = Version(peer.version.into());
    Lease { node: name(peer.node), version, uid: "uid".into(), content }
}
