//! Named cases, then random histories of a small cluster with real kernels' and networks' habits.

use super::*;
use crate::lease::{Base, Lease, LeaseEvent, LeaseWrite, WriteResult};

const SUBNET: &str = "192.0.2.0/24";

fn subnet() -> IpNet {
    SUBNET.parse().unwrap()
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn at(millis: i64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

fn settings(node: &str, instance: &str) -> Settings {
    Settings {
        node: node.into(),
        boot_id: format!("boot-of-{node}").into(),
        instance: instance.into(),
        duration: DEFAULT_DURATION,
    }
}

fn serving() -> HostReport {
    HostReport { serving: [subnet()].into(), is_settled: true, ..HostReport::default() }
}

fn lease(node: &str, version: u64, content: LeaseContent) -> Lease {
    Lease { node: node.into(), version: Version(version), uid: node.into(), content }
}

fn peer_content(join: u64, seen: u64) -> LeaseContent {
    LeaseContent {
        duration: DEFAULT_DURATION,
        subnets: [subnet()].into(),
        join: Some(join),
        seen: Some(Version(seen)),
        ..LeaseContent::default()
    }
}

/// An agent with its lease landed and come back, and one peer that has not seen its join.
struct Alone {
    agent: Membership,
    version: u64,
}

impl Alone {
    /// Watches for one duration, then joins at version 20 and sees it come back.
    fn joined_beside(peers: &[(&str, LeaseContent)]) -> Self {
        let mut agent = Membership::new(settings("a", "1"));
        let leases = peers.iter().map(|(node, content)| lease(node, 10, content.clone())).collect();
        let _ = agent.handle_lease(LeaseEvent::Listed { leases, version: Version(10) }, at(0));
        let _ = agent.handle_host(serving(), at(0));
        let mut alone = Self { agent, version: 10 };
        alone.write(at(0)).unwrap();
        for (n, (node, content)) in peers.iter().enumerate() {
            // The peer is alive: its lease changes once more before the wait is over.
            let version = 12 + n as u64;
            let event = LeaseEvent::Updated(lease(node, version, content.clone()));
            let _ = alone.agent.handle_lease(event, at(4900));
            alone.version = version;
        }
        let _ = alone.agent.handle_host(serving(), at(5000));
        alone.version = 19;
        alone.write(at(5000)).unwrap();
        alone
    }

    /// Lets the next write land and come back at once.
    fn write(&mut self, now: Tick) -> Option<LeaseWrite> {
        let _ = self.agent.handle_timeout(now);
        let write = self.agent.poll_write()?;
        self.version += 1;
        let version = Version(self.version);
        let answer = WriteResult::Accepted { version };
        let written = LeaseEvent::Written { attempt: write.attempt, result: answer };
        let _ = self.agent.handle_lease(written, now);
        let update = LeaseEvent::Updated(lease("a", self.version, write.content.clone()));
        let _ = self.agent.handle_lease(update, now);
        Some(write)
    }
}

#[test]
fn a_starter_publishes_nothing_until_it_has_watched_for_a_duration() {
    let mut agent = Membership::new(settings("a", "1"));
    assert_eq!(agent.poll_write(), None, "nothing is listed");
    let _ = agent.handle_lease(LeaseEvent::Listed { leases: vec![], version: Version(7) }, at(0));
    assert_eq!(agent.poll_write(), None, "the host has not reported");
    let _ = agent.handle_host(serving(), at(0));
    let first = agent.poll_write().unwrap();
    assert_eq!((first.base, first.content.subnets.len()), (Base::Absent, 0));
    let mut alone = Alone { agent, version: 7 };
    alone.agent.writer = publish::Writer::default();
    assert!(alone.write(at(4999)).unwrap().content.subnets.is_empty());
    assert_eq!(alone.write(at(5000)).unwrap().content.subnets, [subnet()].into());
}

#[test]
fn a_join_without_peers_is_done_when_it_comes_back() {
    let alone = Alone::joined_beside(&[]);
    let until = fence(at(5000), DEFAULT_DURATION);
    assert_eq!(alone.agent.standing(ip(1), false), Standing::Mine { until });
    assert_eq!(until, at(5000 + 3600));
}

#[test]
fn a_joiner_waits_until_its_peer_has_seen_the_join() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 10))]);
    let mine = (1..50)
        .map(ip)
        .find(|ip| alone.agent.standing(*ip, false) != Standing::Theirs { node: "zzz".into() });
    let mine = mine.unwrap();
    let unconfirmed = vec![NodeName::from("zzz")];
    assert_eq!(
        alone.agent.standing(mine, false),
        Standing::NotYet(NotYet::Joining { unconfirmed })
    );
    let seen = LeaseEvent::Updated(lease("zzz", 21, peer_content(1, 20)));
    assert_eq!(alone.agent.handle_lease(seen, at(5100)), Standings::Changed);
    assert!(matches!(alone.agent.standing(mine, false), Standing::Mine { .. }));
}

#[test]
fn a_joiner_waits_no_longer_than_its_peers_duration() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 10))]);
    for millis in [6700, 8400] {
        assert!(alone.write(at(millis)).is_some());
        // It goes on renewing, but never says that it has seen the join.
        alone.version += 1;
        let event = LeaseEvent::Updated(lease("zzz", alone.version, peer_content(1, 10)));
        let _ = alone.agent.handle_lease(event, at(millis));
    }
    let mine = (1..50).map(ip).find(|ip| {
        matches!(alone.agent.standing(*ip, false), Standing::NotYet(NotYet::Joining { .. }))
    });
    let mine = mine.unwrap();
    let _ = alone.agent.handle_timeout(at(9999));
    assert!(matches!(alone.agent.standing(mine, false), Standing::NotYet(_)));
    let _ = alone.agent.handle_timeout(at(10_000));
    assert!(matches!(alone.agent.standing(mine, false), Standing::Mine { .. }));
}

#[test]
fn a_silent_peer_expires_only_by_a_write_that_came_back_later() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 20))]);
    let theirs = (1..50)
        .map(ip)
        .find(|ip| alone.agent.standing(*ip, false) == Standing::Theirs { node: "zzz".into() });
    let theirs = theirs.unwrap();
    alone.write(at(6700)).unwrap();
    alone.write(at(8400)).unwrap();
    let _ = alone.agent.handle_timeout(at(9899));
    assert_eq!(alone.agent.poll_write(), None);
    // Its last change was seen at 4.9 s: the write that expires it is due at once at 9.9 s.
    assert_eq!(alone.agent.poll_timeout().unwrap().0, at(9900));
    alone.write(at(9900)).unwrap();
    assert!(matches!(alone.agent.standing(theirs, false), Standing::Mine { .. }));
}

#[test]
fn a_peer_that_a_list_misses_may_have_renewed_until_then() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 20))]);
    let theirs = (1..50)
        .map(ip)
        .find(|ip| alone.agent.standing(*ip, false) == Standing::Theirs { node: "zzz".into() });
    let theirs = theirs.unwrap();
    alone.write(at(6700)).unwrap();
    alone.write(at(8400)).unwrap();
    // The watch broke; meanwhile the peer renewed, and then its lease was deleted.
    let own = lease("a", alone.version, alone.agent.own_lease().unwrap().clone());
    let listed = LeaseEvent::Listed { leases: vec![own], version: Version(40) };
    let _ = alone.agent.handle_lease(listed, at(9000));
    alone.version = 40;
    for millis in [10_100, 11_700, 13_300] {
        let _ = alone.write(at(millis));
        let peer = Standing::Theirs { node: "zzz".into() };
        assert_eq!(alone.agent.standing(theirs, false), peer, "{millis}");
    }
    alone.write(at(14_000)).unwrap();
    assert!(matches!(alone.agent.standing(theirs, false), Standing::Mine { .. }));
}

#[test]
fn a_renewal_that_comes_back_after_the_lapse_revives_nothing() {
    let mut alone = Alone::joined_beside(&[]);
    let _ = alone.agent.handle_timeout(at(6700));
    let late = alone.agent.poll_write().unwrap();
    assert_eq!(alone.agent.handle_timeout(at(8600)), Standings::Changed, "the right is over");
    assert_eq!(alone.agent.standing(ip(1), false), Standing::NotYet(NotYet::Fenced));
    let event = LeaseEvent::Updated(lease("a", 30, late.content));
    let _ = alone.agent.handle_lease(event, at(8601));
    assert_eq!(alone.agent.right(), None);
}

#[test]
fn a_join_that_comes_back_too_late_is_followed_by_another() {
    let mut agent = Membership::new(settings("a", "1"));
    let _ = agent.handle_lease(LeaseEvent::Listed { leases: vec![], version: Version(10) }, at(0));
    let _ = agent.handle_host(serving(), at(0));
    let mut alone = Alone { agent, version: 10 };
    alone.write(at(0)).unwrap();
    let _ = alone.agent.handle_timeout(at(5000));
    let late = alone.agent.poll_write().unwrap();
    assert_eq!(late.content.subnets, [subnet()].into());
    let result = WriteResult::Unknown { error: "timeout".into() };
    let event = LeaseEvent::Written { attempt: late.attempt, result };
    let _ = alone.agent.handle_lease(event, at(5833));
    let event = LeaseEvent::Updated(lease("a", 30, late.content));
    let _ = alone.agent.handle_lease(event, at(9000));
    let _ = alone.agent.handle_host(serving(), at(9000));
    alone.version = 30;
    assert_eq!(alone.agent.right(), None);
    alone.write(at(9400)).unwrap();
    alone.write(at(9410)).unwrap();
    assert!(matches!(alone.agent.standing(ip(1), false), Standing::Mine { .. }));
}

#[test]
fn a_created_lease_that_is_not_in_view_yet_leaves_nothing_due() {
    let mut agent = Membership::new(settings("a", "1"));
    let _ = agent.handle_lease(LeaseEvent::Listed { leases: vec![], version: Version(10) }, at(0));
    let _ = agent.handle_host(serving(), at(0));
    let write = agent.poll_write().unwrap();
    let result = WriteResult::Accepted { version: Version(11) };
    let event = LeaseEvent::Written { attempt: write.attempt, result };
    let _ = agent.handle_lease(event, at(10));
    let _ = agent.handle_timeout(at(20_000));
    assert_eq!(agent.poll_write(), None);
    assert!(agent.poll_timeout().is_none_or(|(due, _)| due > at(20_000)));
}

#[test]
fn a_lapsed_agent_first_proves_that_it_can_write_then_joins() {
    let mut alone = Alone::joined_beside(&[]);
    let _ = alone.agent.handle_timeout(at(9000));
    let _ = alone.agent.handle_host(serving(), at(9000));
    let blind = alone.write(at(9000)).unwrap();
    assert!(blind.content.subnets.is_empty());
    let join = alone.write(at(9010)).unwrap();
    assert_eq!(join.content.subnets, [subnet()].into());
    assert_eq!(join.content.join, blind.content.join.map(|join| join + 1));
    assert!(matches!(alone.agent.standing(ip(1), false), Standing::Mine { .. }));
}

#[test]
fn a_subnet_leaves_the_lease_only_when_nothing_is_left_on_the_interface() {
    let mut alone = Alone::joined_beside(&[]);
    let gone = HostReport {
        occupied: [subnet()].into(),
        holds_until: Some(at(8600)),
        ..HostReport::default()
    };
    let _ = alone.agent.handle_host(gone, at(6000));
    assert_eq!(alone.agent.standing(ip(1), false), Standing::NotYet(NotYet::NotServed));
    assert_eq!(alone.agent.poll_write(), None, "the lease still says what is on the interface");
    let off = HostReport { is_settled: true, ..HostReport::default() };
    let _ = alone.agent.handle_host(off, at(6010));
    assert!(alone.write(at(6010)).unwrap().content.subnets.is_empty());
}

#[test]
fn what_was_seen_is_said_only_when_what_it_costs_is_off() {
    let mut alone = Alone::joined_beside(&[]);
    let join = LeaseEvent::Updated(lease("b", 25, peer_content(1, 20)));
    assert_eq!(alone.agent.handle_lease(join, at(6000)), Standings::Changed);
    let losing = HostReport { is_settled: false, ..serving() };
    let _ = alone.agent.handle_host(losing, at(6000));
    assert_eq!(alone.agent.poll_write(), None, "an address is still on the interface");
    let _ = alone.agent.handle_host(serving(), at(6001));
    assert_eq!(alone.agent.poll_write().unwrap().content.seen, Some(Version(25)));
}

#[test]
fn an_older_history_fences() {
    let mut alone = Alone::joined_beside(&[]);
    let event = LeaseEvent::Listed { leases: vec![], version: Version(3) };
    assert_eq!(alone.agent.handle_lease(event, at(6000)), Standings::Changed);
    assert_eq!(alone.agent.right(), None);
}

#[test]
fn a_lease_of_another_boot_is_taken_over_once_it_stays_unchanged() {
    let mut agent = Membership::new(settings("a", "1"));
    let mut content = peer_content(3, 5);
    content.boot_id = Some("another".into());
    let leases = vec![lease("a", 9, content.clone())];
    let _ = agent.handle_lease(LeaseEvent::Listed { leases, version: Version(9) }, at(0));
    let _ = agent.handle_host(serving(), at(0));
    assert_eq!(agent.poll_write(), None);
    let event = LeaseEvent::Updated(lease("a", 11, content));
    let _ = agent.handle_lease(event, at(2000));
    assert!(agent.is_contested());
    let _ = agent.handle_timeout(at(6999));
    assert_eq!(agent.poll_write(), None);
    let _ = agent.handle_timeout(at(7000));
    let base = Base::Exactly { uid: "a".into(), version: Version(11) };
    assert_eq!(agent.poll_write().unwrap().base, base);
}

#[test]
fn a_failed_write_is_tried_again_with_the_same_condition() {
    let mut alone = Alone::joined_beside(&[]);
    let _ = alone.agent.handle_timeout(at(6700));
    let first = alone.agent.poll_write().unwrap();
    let result = WriteResult::Unknown { error: "timeout".into() };
    let event = LeaseEvent::Written { attempt: first.attempt, result };
    let _ = alone.agent.handle_lease(event, at(7533));
    let again = alone.agent.poll_write().unwrap();
    assert_eq!((again.base, again.attempt), (first.base, first.attempt + 1));
}

#[test]
fn a_create_that_lands_late_takes_nothing_out_of_a_deleted_lease() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 20))]);
    let theirs = (1..50)
        .map(ip)
        .find(|ip| alone.agent.standing(*ip, false) == Standing::Theirs { node: "zzz".into() });
    let theirs = theirs.unwrap();
    let gone = LeaseEvent::Deleted { node: "zzz".into(), version: Version(21) };
    let _ = alone.agent.handle_lease(gone, at(5100));
    let idle = LeaseContent { subnets: BTreeSet::new(), ..peer_content(0, 1) };
    let created = Lease { uid: "another".into(), ..lease("zzz", 22, idle) };
    let _ = alone.agent.handle_lease(LeaseEvent::Updated(created), at(5100));
    alone.version = 22;
    assert_eq!(alone.agent.standing(theirs, false), Standing::Theirs { node: "zzz".into() });
    for millis in [6700, 8400, 9900] {
        assert_eq!(alone.agent.standing(theirs, false), Standing::Theirs { node: "zzz".into() });
        alone.write(at(millis)).unwrap();
    }
    assert!(matches!(alone.agent.standing(theirs, false), Standing::Mine { .. }));
}

#[test]
fn a_deletion_takes_nothing_from_an_earlier_lease_that_outlives_the_deleted_one() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 20))]);
    let theirs = Standing::Theirs { node: "zzz".into() };
    let ip = (1..50).map(ip).find(|ip| alone.agent.standing(*ip, false) == theirs).unwrap();
    let long = LeaseContent { duration: Duration::from_secs(30), ..peer_content(1, 20) };
    let _ = alone.agent.handle_lease(LeaseEvent::Updated(lease("zzz", 21, long)), at(5100));
    let idle = LeaseContent { subnets: BTreeSet::new(), ..peer_content(0, 1) };
    let created = Lease { uid: "another".into(), ..lease("zzz", 22, idle) };
    let _ = alone.agent.handle_lease(LeaseEvent::Updated(created), at(5100));
    alone.version = 22;
    let mut millis = 5100;
    let mut renew_until = |alone: &mut Alone, end| {
        while millis < end {
            millis += 100;
            let _ = alone.write(at(millis));
        }
    };
    renew_until(&mut alone, 20_000);
    let gone = LeaseEvent::Deleted { node: "zzz".into(), version: Version(alone.version + 1) };
    alone.version += 1;
    let _ = alone.agent.handle_lease(gone, at(20_000));
    assert_eq!(alone.agent.standing(ip, false), theirs, "its right of 30 s still runs");
    renew_until(&mut alone, 34_800);
    assert_eq!(alone.agent.standing(ip, false), theirs);
    renew_until(&mut alone, 36_000);
    assert!(matches!(alone.agent.standing(ip, false), Standing::Mine { .. }));
}

#[test]
fn a_joiner_whose_writes_do_not_come_back_for_a_duration_publishes_nothing() {
    let mut agent = Membership::new(settings("a", "1"));
    let _ = agent.handle_lease(LeaseEvent::Listed { leases: vec![], version: Version(10) }, at(0));
    let _ = agent.handle_host(serving(), at(0));
    let mut alone = Alone { agent, version: 10 };
    alone.write(at(0)).unwrap();
    let _ = alone.agent.handle_timeout(at(5000));
    let join = alone.agent.poll_write().unwrap();
    assert_eq!(join.content.subnets, [subnet()].into());
    let result = WriteResult::Accepted { version: Version(12) };
    let event = LeaseEvent::Written { attempt: join.attempt, result };
    let _ = alone.agent.handle_lease(event, at(5010));
    let _ = alone.agent.handle_timeout(at(10_000));
    let _ = alone.agent.handle_host(serving(), at(10_000));
    assert!(alone.agent.poll_write().unwrap().content.subnets.is_empty());
}

#[test]
fn an_edited_lease_is_joined_for_again() {
    let mut alone = Alone::joined_beside(&[]);
    let mut content = alone.agent.own_lease().unwrap().clone();
    let join = content.join;
    content.subnets.clear();
    let _ = alone.agent.handle_lease(LeaseEvent::Updated(lease("a", 25, content)), at(5500));
    let _ = alone.agent.handle_host(serving(), at(5500));
    let write = alone.agent.poll_write().unwrap();
    assert_eq!(write.content.subnets, [subnet()].into());
    assert_eq!(write.content.join, join.map(|join| join + 1));
}

#[test]
fn what_the_process_before_published_counts_as_published() {
    let mut agent = Membership::new(settings("a", "2"));
    let mut content = peer_content(3, 5);
    content.boot_id = Some("boot-of-a".into());
    content.instance = "1".into();
    let leases = vec![lease("a", 9, content)];
    let _ = agent.handle_lease(LeaseEvent::Listed { leases, version: Version(9) }, at(0));
    assert_eq!(agent.published().0, [subnet()].into());
    let report = HostReport { occupied: [subnet()].into(), ..HostReport::default() };
    let _ = agent.handle_host(report, at(0));
    assert_eq!(agent.poll_write().unwrap().content.subnets, [subnet()].into());
}

#[test]
fn a_list_with_an_older_lease_is_another_history() {
    let mut alone = Alone::joined_beside(&[("zzz", peer_content(1, 20))]);
    let leases = vec![lease("zzz", 3, peer_content(1, 2))];
    let event = LeaseEvent::Listed { leases, version: Version(90) };
    assert_eq!(alone.agent.handle_lease(event, at(6000)), Standings::Changed);
    assert_eq!(alone.agent.right(), None);
}

#[test]
fn a_lease_kept_for_the_next_process_says_so_and_for_how_long() {
    let mut alone = Alone::joined_beside(&[]);
    let _ = alone.agent.leave(Leaving::Keep(Duration::from_secs(30)), at(6000));
    let _ = alone.agent.handle_host(serving(), at(6000));
    let write = alone.write(at(6000)).unwrap();
    assert!(write.content.keep && write.content.duration == Duration::from_secs(30));
    assert_eq!(write.timeout, DEFAULT_DURATION / 6, "it is in a hurry all the same");
    assert!(alone.agent.has_left());
    assert_eq!(alone.agent.right(), Some(fence(at(6000), Duration::from_secs(30))));
}

#[test]
fn a_joiner_waits_for_a_go_agent_that_never_says_what_it_has_seen_for_its_duration() {
    let go = LeaseContent {
        duration: Duration::from_secs(10),
        join: None,
        seen: None,
        ..peer_content(0, 0)
    };
    let mut alone = Alone::joined_beside(&[("go", go)]);
    // It had to be watched for its whole duration, too.
    alone.write(at(10_000)).unwrap();
    let waiting = (1..50).map(ip).any(|ip| {
        matches!(alone.agent.standing(ip, false), Standing::NotYet(NotYet::Joining { .. }))
    });
    assert!(waiting);
}

mod histories {
    use super::*;
    use std::collections::VecDeque;

    /// Everything random comes from here, so that a failing seed replays.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % n
        }

        fn once_in(&mut self, n: u64) -> bool {
            self.below(n) == 0
        }
    }

    /// A process: none of it survives a kill.
    struct Process {
        agent: Membership,
        /// How much of the log it has been told.
        cursor: Option<usize>,
        /// Does nothing before this.
        frozen_until: Tick,
        /// What it decided to put on the interface and has not asked the kernel for yet.
        decided: Vec<(IpAddr, Tick)>,
        answers: Vec<(Tick, u64, WriteResult)>,
        is_adopting: Option<bool>,
    }

    struct Host {
        node: String,
        starts: u32,
        link: bool,
        process: Option<Process>,
        /// What the kernel keeps, and until when (its lateness included).
        kernel: BTreeMap<IpAddr, Tick>,
    }

    struct World {
        dice: Dice,
        now: Tick,
        version: u64,
        log: Vec<LeaseEvent>,
        leases: BTreeMap<NodeName, Lease>,
        /// Requests that are on their way: when they land, whose, and what.
        requests: Vec<(Tick, usize, LeaseWrite)>,
        hosts: Vec<Host>,
        /// How often an address was held at all, so that an idle world cannot pass for a safe one.
        held: u64,
    }

    impl World {
        fn new(seed: u64, nodes: usize) -> Self {
            let host = |n| Host {
                node: format!("node{n}"),
                starts: 0,
                link: true,
                process: None,
                kernel: BTreeMap::new(),
            };
            Self {
                dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
                now: at(0),
                version: 1,
                log: vec![],
                leases: BTreeMap::new(),
                requests: vec![],
                hosts: (0..nodes).map(host).collect(),
                held: 0,
            }
        }

        fn step(&mut self) {
            self.now = self.now + Duration::from_millis(self.dice.below(120));
            self.land_requests();
            for n in 0..self.hosts.len() {
                self.disturb(n);
                self.run(n);
            }
            self.check();
        }

        fn disturb(&mut self, n: usize) {
            let now = self.now;
            if self.hosts[n].process.is_none() {
                if self.dice.once_in(40) {
                    self.start(n);
                }
                return;
            }
            match self.dice.below(2500) {
                0..4 => self.hosts[n].process = None,
                4..12 => {
                    let nap = Duration::from_millis(self.dice.below(9000));
                    let process = self.hosts[n].process.as_mut().unwrap();
                    process.frozen_until = now + nap;
                }
                12..18 => self.hosts[n].link = !self.hosts[n].link,
                18..20 => {
                    let process = self.hosts[n].process.as_mut().unwrap();
                    let _ = process.agent.leave(Leaving::Release, now);
                }
                20..21 => {
                    // Somebody deletes the lease by hand.
                    let node = NodeName::from(self.hosts[n].node.as_str());
                    if self.leases.remove(&node).is_some() {
                        self.version += 1;
                        let version = Version(self.version);
                        self.log.push(LeaseEvent::Deleted { node, version });
                    }
                }
                _ => {}
            }
        }

        fn start(&mut self, n: usize) {
            let host = &mut self.hosts[n];
            host.starts += 1;
            let agent = Membership::new(settings(&host.node, &host.starts.to_string()));
            host.process = Some(Process {
                agent,
                cursor: None,
                frozen_until: self.now,
                decided: vec![],
                answers: vec![],
                is_adopting: None,
            });
        }

        fn land_requests(&mut self) {
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.requests)
                .into_iter()
                .partition::<Vec<_>, _>(|(at, ..)| *at <= now);
            self.requests = later;
            for (_, n, write) in due {
                let node = NodeName::from(self.hosts[n].node.as_str());
                let found = self.leases.get(&node);
                let fits = match (&write.base, found) {
                    (Base::Absent, None) => true,
                    (Base::Exactly { uid, version }, Some(lease)) => {
                        lease.uid == *uid && lease.version == *version
                    }
                    (Base::Absent, Some(_)) | (Base::Exactly { .. }, None) => false,
                };
                let attempt = write.attempt;
                let instance = write.content.instance.clone();
                let result = if fits {
                    self.version += 1;
                    let version = Version(self.version);
                    let uid = found.map_or_else(
                        || format!("{node}-{version}").into(),
                        |lease| lease.uid.clone(),
                    );
                    let lease = Lease { node: node.clone(), version, uid, content: write.content };
                    self.leases.insert(node, lease.clone());
                    self.log.push(LeaseEvent::Updated(lease));
                    WriteResult::Accepted { version }
                } else {
                    WriteResult::Conflict
                };
                let lost = self.dice.once_in(20);
                let back = now + Duration::from_millis(self.dice.below(200));
                let host = &mut self.hosts[n];
                if host.starts.to_string() == instance
                    && !lost
                    && let Some(process) = &mut host.process
                {
                    process.answers.push((back, attempt, result));
                }
            }
        }

        fn run(&mut self, n: usize) {
            let now = self.now;
            let frozen = match &self.hosts[n].process {
                None => return,
                Some(process) => process.frozen_until > now,
            };
            if frozen {
                return;
            }
            self.carry_out(n);
            self.deliver(n);
            self.decide(n);
        }

        /// The system calls: the deadline is looked at when they are made.
        fn carry_out(&mut self, n: usize) {
            let (now, host) = (self.now, &mut self.hosts[n]);
            let process = host.process.as_mut().unwrap();
            for (ip, until) in std::mem::take(&mut process.decided) {
                let seconds = until.since(now).as_secs();
                if seconds >= 1 {
                    let late = Duration::from_millis(self.dice.below(1250));
                    host.kernel.insert(ip, now + Duration::from_secs(seconds) + late);
                }
            }
        }

        fn deliver(&mut self, n: usize) {
            let now = self.now;
            let process = self.hosts[n].process.as_mut().unwrap();
            let (due, later) = std::mem::take(&mut process.answers)
                .into_iter()
                .partition::<Vec<_>, _>(|(at, ..)| *at <= now);
            process.answers = later;
            for (_, attempt, result) in due {
                let _ = process.agent.handle_lease(LeaseEvent::Written { attempt, result }, now);
            }
            match process.cursor {
                None => {
                    process.cursor = Some(self.log.len());
                    let leases = self.leases.values().cloned().collect();
                    let version = Version(self.version);
                    let _ = process.agent.handle_lease(LeaseEvent::Listed { leases, version }, now);
                }
                // A watch that lags, and now and then is listed again instead.
                Some(cursor) if cursor < self.log.len() => {
                    if self.dice.once_in(4) {
                        return;
                    }
                    if self.dice.once_in(50) {
                        process.cursor = None;
                        return;
                    }
                    let event = self.log[cursor].clone();
                    process.cursor = Some(cursor + 1);
                    let _ = process.agent.handle_lease(event, now);
                }
                Some(_) => {
                    let bookmark = LeaseEvent::Bookmark(Version(self.version));
                    let _ = process.agent.handle_lease(bookmark, now);
                }
            }
        }

        fn decide(&mut self, n: usize) {
            let now = self.now;
            let host = &mut self.hosts[n];
            host.kernel.retain(|_, until| *until > now);
            let process = host.process.as_mut().unwrap();
            let agent = &mut process.agent;
            let _ = agent.handle_timeout(now);
            if !agent.is_listed() {
                return;
            }
            let is_adopting = *process.is_adopting.get_or_insert_with(|| {
                let boot = format!("boot-of-{}", host.node).into();
                !host.kernel.is_empty()
                    && agent.own_lease().is_some_and(|lease| lease.boot_id == Some(boot))
            });
            let mut kept = BTreeSet::new();
            for ip in (1..5).map(ip) {
                match agent.standing(ip, false) {
                    Standing::Mine { until }
                        if agent.may_take() || host.kernel.contains_key(&ip) =>
                    {
                        process.decided.push((ip, until));
                    }
                    Standing::Mine { .. } => {}
                    // The previous process's addresses stay while the join is under way.
                    Standing::NotYet(NotYet::Joining { .. } | NotYet::Fenced)
                        if is_adopting && agent.right().is_none() && !agent.is_blind =>
                    {
                        kept.insert(ip);
                    }
                    Standing::NotYet(NotYet::Joining { .. }) if is_adopting => {
                        kept.insert(ip);
                    }
                    Standing::NotYet(_) | Standing::Nobody | Standing::Theirs { .. } => {
                        host.kernel.remove(&ip);
                    }
                }
            }
            let may: BTreeSet<IpAddr> =
                process.decided.iter().map(|(ip, _)| *ip).chain(kept).collect();
            let is_occupied = !host.kernel.is_empty() || !process.decided.is_empty();
            let decided = process.decided.iter().map(|(_, until)| *until);
            let report = HostReport {
                serving: host.link.then(subnet).into_iter().collect(),
                occupied: is_occupied.then(subnet).into_iter().collect(),
                is_settled: host.kernel.keys().all(|ip| may.contains(ip)),
                holds_until: host.kernel.values().copied().chain(decided).max(),
                is_adopting,
                ..HostReport::default()
            };
            let _ = agent.handle_host(report, now);
            if let Some(write) = agent.poll_write() {
                self.send(n, write);
            }
            // Now and then the process is stopped between its decision and the system call.
            if self.dice.once_in(200) {
                let nap = Duration::from_millis(self.dice.below(8000));
                self.hosts[n].process.as_mut().unwrap().frozen_until = now + nap;
            }
        }

        fn send(&mut self, n: usize, write: LeaseWrite) {
            let (now, timeout, attempt) = (self.now, write.timeout, write.attempt);
            match self.dice.below(20) {
                0 => {}
                // Landing long after it was given up.
                1 => {
                    let late = Duration::from_millis(self.dice.below(15_000));
                    self.requests.push((now + late, n, write));
                }
                _ => {
                    let soon = Duration::from_millis(self.dice.below(150));
                    self.requests.push((now + soon, n, write));
                }
            }
            let unknown = WriteResult::Unknown { error: "timeout".into() };
            let process = self.hosts[n].process.as_mut().unwrap();
            process.answers.push((now + timeout, attempt, unknown));
        }

        fn check(&mut self) {
            for ip in (1..5).map(ip) {
                let holders: VecDeque<&str> = self
                    .hosts
                    .iter()
                    .filter(|host| host.kernel.get(&ip).is_some_and(|until| *until > self.now))
                    .map(|host| host.node.as_str())
                    .collect();
                self.held += holders.len() as u64;
                assert!(holders.len() <= 1, "{ip} is on {holders:?} at {}", self.now);
            }
        }
    }

    fn run(seeds: std::ops::Range<u64>, nodes: usize, steps: u32) {
        let mut held = 0;
        for seed in seeds {
            let mut world = World::new(seed, nodes);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..steps).for_each(|_| world.step());
            }));
            assert!(outcome.is_ok(), "seed {seed} with {nodes} nodes");
            held += world.held;
        }
        assert!(held > 0, "nobody ever held anything");
    }

    #[test]
    fn no_address_is_ever_held_twice_by_two_nodes() {
        run(0..60, 2, 6000);
    }

    #[test]
    fn no_address_is_ever_held_twice_by_three_nodes() {
        run(0..60, 3, 6000);
    }
}
