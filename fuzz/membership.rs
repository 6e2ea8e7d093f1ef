//! One agent told arbitrary things about leases: it never holds without a right that still runs, and
//! never has more than one write under way.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, Version, WriteResult};
use purelb_core::membership::{HostReport, Leaving, Membership, Settings, Standing};
use purelb_core::time::Tick;

#[derive(Arbitrary, Debug)]
enum Step {
    Answer { kind: u8, version: u16 },
    Bookmark(u16),
    Delete { node: u8, version: u16 },
    Host { serves: bool, is_occupied: bool, is_settled: bool },
    Leave { keeps: bool },
    List { nodes: Vec<Peer>, version: u16 },
    Pass { millis: u16 },
    Sleep,
    Update(Peer),
}

#[derive(Arbitrary, Debug)]
struct Peer {
    node: u8,
    version: u16,
    serves: bool,
    join: Option<u8>,
    seen: Option<u16>,
    seconds: u8,
    is_mine: bool,
    attempt: u8,
    keep: bool,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut agent = Membership::new(Settings {
        node: "node0".into(),
        boot_id: "boot".into(),
        instance: "me".into(),
        duration: Duration::from_secs(5),
    });
    let mut now = Tick::START;
    let mut under_way = None;
    for step in steps {
        let _ = match step {
            Step::Answer { kind, version } => {
                let Some(attempt) = under_way.take() else { continue };
                let result = match kind % 3 {
                    0 => WriteResult::Accepted { version: Version(version.into()) },
                    1 => WriteResult::Conflict,
                    _ => WriteResult::Unknown { error: String::new() },
                };
                agent.handle_lease(LeaseEvent::Written { attempt, result }, now)
            }
            Step::Bookmark(version) => {
                agent.handle_lease(LeaseEvent::Bookmark(Version(version.into())), now)
            }
            Step::Delete { node, version } => {
                let version = Version(version.into());
                agent.handle_lease(LeaseEvent::Deleted { node: name(node), version }, now)
            }
            Step::Host { serves, is_occupied, is_settled } => {
                let report = HostReport {
                    serving: serves.then(subnet).into_iter().collect(),
                    occupied: is_occupied.then(subnet).into_iter().collect(),
                    is_settled,
                    ..HostReport::default()
                };
                agent.handle_host(report, now)
            }
            Step::Leave { keeps } => {
                let how =
                    if keeps { Leaving::Keep(Duration::from_secs(30)) } else { Leaving::Release };
                agent.leave(how, now)
            }
            Step::List { nodes, version } => {
                let leases = nodes.iter().map(lease).collect();
                let version = Version(version.into());
                agent.handle_lease(LeaseEvent::Listed { leases, version }, now)
            }
            Step::Pass { millis } => {
                now = now + Duration::from_millis(millis.into());
                agent.handle_timeout(now)
            }
            Step::Sleep => agent.fence_now(now),
            Step::Update(peer) => agent.handle_lease(LeaseEvent::Updated(lease(&peer)), now),
        };
        if let Standing::Mine { until } = agent.standing([192, 0, 2, 1].into(), false) {
            assert!(until > now, "a right that is over");
            assert_eq!(agent.right(), Some(until));
        }
        if let Some(write) = agent.poll_write() {
            assert_eq!(under_way, None, "two writes under way");
            under_way = Some(write.attempt);
        }
        assert_eq!(agent.poll_write(), None);
    }
});

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
        join: peer.join.map(Into::into),
        seen: peer.seen.map(|seen| Version(seen.into())),
        boot_id: peer.is_mine.then(|| "boot".into()),
        instance: if peer.is_mine { "me".into() } else { "other".into() },
        attempt: peer.attempt.into(),
        keep: peer.keep,
        ..LeaseContent::default()
    };
    let version = Version(peer.version.into());
    Lease { node: name(peer.node), version, uid: "uid".into(), content }
}
