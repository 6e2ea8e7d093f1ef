use super::*;

const DURATION: Duration = Duration::from_secs(5);

#[allow(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn candidate(identity: &str) -> Leadership {
    Leadership::new(Settings { identity: identity.to_owned(), duration: DURATION })
}

fn lease(version: u64, holder: Option<&str>, attempt: u64) -> LeaderLease {
    LeaderLease {
        version: Version(version),
        uid: "uid".into(),
        content: LeaderContent {
            holder: holder.map(str::to_owned),
            duration: DURATION,
            transitions: 3,
            attempt,
            late_writes: false,
        },
    }
}

fn listed(lease: LeaderLease) -> Event {
    Event::Listed { version: lease.version, lease: Some(lease) }
}

fn accepted(attempt: u64, version: u64) -> Event {
    Event::Written { attempt, result: WriteResult::Accepted { version: Version(version) } }
}

/// A candidate that took a free lease, sent at `start`, answered at once as version 11.
fn leader(start: Instant) -> Leadership {
    let mut leader = candidate("a");
    leader.handle_event(listed(lease(10, None, 0)), start);
    let write = leader.poll_action().unwrap();
    assert!(write.is_acquisition);
    leader.handle_event(accepted(1, 11), start);
    leader
}

fn is_leader(machine: &Leadership) -> bool {
    matches!(machine.role(), Role::Leader(_))
}

#[test]
fn a_free_lease_is_taken_at_once_and_led_from_its_answer_on() {
    let start = start();
    let mut a = candidate("a");
    a.handle_event(listed(lease(10, None, 0)), start);
    let write = a.poll_action().unwrap();
    assert_eq!(write.base, Base::Exactly { uid: "uid".into(), version: Version(10) });
    assert_eq!((write.content.transitions, write.content.holder.as_deref()), (4, Some("a")));
    assert_eq!(a.role(), Role::Follower(None));
    a.handle_event(accepted(1, 11), start + secs(0.5));
    let until = start + secs(4.5);
    assert_eq!(a.role(), Role::Leader(Term { number: 4, takeover: Takeover::Clean, until }));
    a.handle_timeout(until);
    assert!(!is_leader(&a));
}

#[test]
fn anothers_lease_is_taken_only_after_it_stood_still_for_its_duration() {
    let start = start();
    let mut b = candidate("b");
    b.handle_event(listed(lease(10, Some("a"), 7)), start);
    b.handle_event(Event::Updated(lease(12, Some("a"), 8)), start + secs(3.0));
    // The same again is no change.
    b.handle_event(listed(lease(12, Some("a"), 8)), start + secs(4.0));
    b.handle_timeout(start + secs(7.9));
    assert_eq!(b.poll_action(), None);
    assert_eq!(b.poll_timeout().unwrap().at, start + secs(8.0));
    b.handle_timeout(start + secs(8.0));
    let write = b.poll_action().unwrap();
    assert_eq!(write.base, Base::Exactly { uid: "uid".into(), version: Version(12) });
    b.handle_event(accepted(1, 13), start + secs(8.1));
    let Role::Leader(term) = b.role() else { panic!("it leads") };
    assert_eq!(term.takeover, Takeover::Unclean);
}

#[test]
fn somebody_leads_while_a_lease_is_seen_to_change() {
    let start = start();
    let mut machine = candidate("b");
    assert!(!machine.is_led(), "nothing was seen");
    machine.handle_event(listed(lease(1, None, 1)), start);
    assert!(!machine.is_led(), "it is free");
    for (version, holder) in [(2, "a"), (3, NOBODY_YET), (4, "a"), (5, "a")] {
        machine.handle_event(Event::Updated(lease(version, Some(holder), version)), start);
        assert_eq!(machine.is_led(), holder == "a", "{version}");
    }
    machine.handle_timeout(start + secs(4.9));
    assert!(machine.is_led());
    machine.handle_timeout(start + secs(5.0));
    assert!(!machine.is_led(), "it stands still, as it does for who cannot reach the API");
    assert!(leader(start).is_led());
}

#[test]
fn a_missing_lease_is_created_as_nobodys_and_taken_after_a_duration() {
    let start = start();
    let mut a = candidate("a");
    a.handle_event(Event::Listed { lease: None, version: Version(5) }, start);
    let create = a.poll_action().unwrap();
    assert_eq!((&create.base, create.content.holder.as_deref()), (&Base::Absent, Some(NOBODY_YET)));
    a.handle_event(accepted(1, 6), start);
    assert!(!is_leader(&a));
    // Its uid is not known until the watch shows it.
    a.handle_timeout(start + secs(1.0));
    assert_eq!(a.poll_action(), None);
    a.handle_event(Event::Updated(lease(6, Some(NOBODY_YET), 1)), start + secs(1.0));
    a.handle_timeout(start + secs(5.9));
    assert_eq!(a.poll_action(), None);
    a.handle_timeout(start + secs(6.0));
    assert!(a.poll_action().unwrap().is_acquisition);
    a.handle_event(accepted(2, 7), start + secs(6.0));
    let Role::Leader(term) = a.role() else { panic!("it leads") };
    assert_eq!(term.takeover, Takeover::Unclean);
}

#[test]
fn a_leader_creates_its_lost_lease_again_and_goes_on() {
    let start = start();
    let mut a = leader(start);
    a.handle_event(Event::Deleted(Version(12)), start + secs(1.0));
    let write = a.poll_action().unwrap();
    assert_eq!((&write.base, write.content.holder.as_deref()), (&Base::Absent, Some("a")));
    a.handle_event(accepted(2, 13), start + secs(1.0));
    a.handle_timeout(start + secs(5.0));
    assert!(is_leader(&a));
}

#[test]
fn a_renewal_prolongs_only_a_right_that_still_runs() {
    let start = start();
    let mut a = leader(start);
    a.handle_timeout(start + secs(2.0));
    let renewal = a.poll_action().unwrap();
    assert!(!renewal.is_acquisition);
    let mut late = a.clone();
    a.handle_event(accepted(2, 12), start + secs(2.1));
    a.handle_timeout(start + secs(6.0));
    assert!(is_leader(&a), "until 4.5 s after the renewal was sent");
    late.handle_event(accepted(2, 12), start + secs(4.6));
    assert!(!is_leader(&late), "the answer came after the end");
}

#[test]
fn an_answer_that_was_lost_is_made_up_for_by_the_watch() {
    let start = start();
    let mut a = leader(start);
    a.handle_timeout(start + secs(2.0));
    assert!(a.poll_action().is_some());
    let lost = WriteResult::Unknown { error: "timed out".into() };
    a.handle_event(Event::Written { attempt: 2, result: lost }, start + secs(3.0));
    let mut own = lease(12, Some("a"), 2);
    own.content.transitions = 4;
    a.handle_event(Event::Updated(own), start + secs(3.2));
    a.handle_timeout(start + secs(6.0));
    assert!(is_leader(&a));
}

#[test]
fn a_lease_that_another_holds_ends_the_right_at_once() {
    let start = start();
    let mut a = leader(start);
    // What a watch that lags shows is what we have replaced.
    a.handle_event(Event::Updated(lease(10, Some("b"), 1)), start + secs(0.1));
    assert!(is_leader(&a));
    a.handle_event(Event::Updated(lease(12, Some("b"), 1)), start + secs(0.2));
    assert!(!is_leader(&a));
}

#[test]
fn versions_that_go_back_are_another_history() {
    let start = start();
    let mut a = leader(start);
    let mut own = lease(11, Some("a"), 1);
    own.content.transitions = 4;
    a.handle_event(Event::Updated(own), start + secs(0.1));
    assert!(is_leader(&a));
    a.handle_event(listed(lease(7, Some("z"), 1)), start + secs(0.2));
    assert!(!is_leader(&a));
    a.handle_timeout(start + secs(5.1));
    assert_eq!(a.poll_action(), None);
    a.handle_timeout(start + secs(5.3));
    assert!(a.poll_action().unwrap().is_acquisition);
}

#[test]
fn one_that_resigns_frees_the_lease_and_says_whether_requests_may_still_arrive() {
    for late_writes in [false, true] {
        let start = start();
        let mut a = leader(start);
        a.handle_event(Event::Resigned { late_writes }, start + secs(1.0));
        let write = a.poll_action().unwrap();
        assert_eq!((&write.content.holder, write.content.late_writes), (&None, late_writes));
        assert_eq!(a.role(), Role::Retiring);
        a.handle_event(accepted(2, 12), start + secs(1.1));
        assert_eq!(a.role(), Role::Retired);

        let mut b = candidate("b");
        let content = write.content;
        b.handle_event(
            listed(LeaderLease { version: Version(12), uid: "uid".into(), content }),
            start,
        );
        assert!(b.poll_action().is_some(), "taken at once");
        b.handle_event(accepted(1, 13), start);
        let Role::Leader(term) = b.role() else { panic!("it leads") };
        assert_eq!(term.takeover == Takeover::Unclean, late_writes);
    }
}

#[test]
fn a_failed_write_is_not_repeated_at_once() {
    let start = start();
    let mut a = candidate("a");
    a.handle_event(listed(lease(10, None, 0)), start);
    assert!(a.poll_action().is_some());
    a.handle_event(Event::Written { attempt: 1, result: WriteResult::Conflict }, start);
    assert_eq!(a.poll_action(), None);
    assert_eq!(a.poll_timeout().unwrap().at, start + DURATION / 12);
}

/// An API with one lease, and candidates whose requests, answers and watches are late or lost.
mod histories {
    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }

        fn one_in(&mut self, bound: u64) -> bool {
            self.below(bound) == 0
        }
    }

    struct Candidate {
        machine: Leadership,
        name: String,
        /// How many changes of the lease it has been told of.
        told: usize,
        asleep_until: Instant,
        cut_off_until: Instant,
    }

    struct Api {
        log: Vec<(u64, Option<LeaderLease>)>,
        version: u64,
        uids: u64,
    }

    impl Api {
        fn now(&self) -> Option<&LeaderLease> {
            self.log.last().and_then(|(_, lease)| lease.as_ref())
        }

        fn push(&mut self, lease: Option<LeaderLease>) {
            self.log.push((self.version, lease));
        }

        fn write(&mut self, write: &LeaderWrite) -> WriteResult {
            let uid = match (&write.base, self.now()) {
                (Base::Absent, None) => {
                    self.uids += 1;
                    format!("uid-{}", self.uids).as_str().into()
                }
                (Base::Exactly { uid, version }, Some(lease))
                    if lease.uid == *uid && lease.version == *version =>
                {
                    uid.clone()
                }
                (Base::Absent | Base::Exactly { .. }, _) => return WriteResult::Conflict,
            };
            self.version += 1;
            let version = Version(self.version);
            self.push(Some(LeaderLease { version, uid, content: write.content.clone() }));
            WriteResult::Accepted { version }
        }
    }

    /// Something on its way: a request, or its answer.
    enum Mail {
        Answer { to: String, attempt: u64, result: WriteResult },
        Request { from: String, write: LeaderWrite },
    }

    fn run(seed: u64) -> usize {
        let mut random = Random(seed);
        let start = start();
        let mut now = start;
        let mut api = Api { log: Vec::new(), version: 1, uids: 0 };
        api.push(None);
        let mut names = 0;
        let mut born = |now| {
            names += 1;
            let name = format!("c{names}");
            let machine = candidate(&name);
            Candidate { machine, name, told: 0, asleep_until: now, cut_off_until: now }
        };
        let mut all: Vec<_> = (0..3).map(|_| born(now)).collect();
        let mut mail: Vec<(Instant, Mail)> = Vec::new();
        let mut terms = 0;
        let mut leading: Option<String> = None;
        for _ in 0..3000 {
            now += Duration::from_millis(random.below(150));
            if random.one_in(400) && api.now().is_some() {
                api.version += 1;
                api.push(None);
            }
            for candidate in &mut all {
                if random.one_in(300) {
                    candidate.asleep_until = now + Duration::from_millis(random.below(9000));
                }
                if random.one_in(300) {
                    candidate.cut_off_until = now + Duration::from_millis(random.below(12000));
                }
                if random.one_in(800) {
                    // Killed; its requests live on.
                    *candidate = born(now);
                }
                if candidate.asleep_until > now {
                    continue;
                }
                if candidate.cut_off_until <= now && random.one_in(2) {
                    // One change, or sometimes a listing of all there is.
                    let (version, lease) = if candidate.told == 0 || random.one_in(50) {
                        candidate.told = api.log.len();
                        let (version, lease) = api.log.last().unwrap().clone();
                        candidate
                            .machine
                            .handle_event(Event::Listed { lease, version: Version(version) }, now);
                        (version, None)
                    } else if let Some((version, lease)) = api.log.get(candidate.told).cloned() {
                        candidate.told += 1;
                        (version, Some(lease))
                    } else {
                        (0, None)
                    };
                    match lease {
                        Some(Some(lease)) => {
                            candidate.machine.handle_event(Event::Updated(lease), now);
                        }
                        Some(None) => {
                            candidate.machine.handle_event(Event::Deleted(Version(version)), now);
                        }
                        None => {}
                    }
                }
                if random.one_in(2000) && is_leader(&candidate.machine) {
                    candidate.machine.handle_event(Event::Resigned { late_writes: false }, now);
                }
                candidate.machine.handle_timeout(now);
                while let Some(write) = candidate.machine.poll_action() {
                    let delay = if random.one_in(10) { 8000 } else { 200 };
                    let at = now + Duration::from_millis(random.below(delay));
                    mail.push((at, Mail::Request { from: candidate.name.clone(), write }));
                }
            }
            mail.sort_by_key(|(at, _)| *at);
            let due = mail.iter().take_while(|(at, _)| *at <= now).count();
            let later = mail.split_off(due);
            for (_, item) in std::mem::replace(&mut mail, later) {
                match item {
                    Mail::Answer { to, attempt, result } => {
                        let awake = all.iter_mut().find(|candidate| candidate.name == to);
                        if let Some(candidate) = awake.filter(|awake| awake.asleep_until <= now) {
                            candidate.machine.handle_event(Event::Written { attempt, result }, now);
                        }
                    }
                    Mail::Request { from, write } => {
                        let result = api.write(&write);
                        let result = if random.one_in(8) {
                            WriteResult::Unknown { error: "lost".into() }
                        } else {
                            result
                        };
                        let at = now + Duration::from_millis(random.below(300));
                        let attempt = write.content.attempt;
                        mail.push((at, Mail::Answer { to: from, attempt, result }));
                    }
                }
            }
            for candidate in &mut all {
                if matches!(candidate.machine.role(), Role::Retired) {
                    *candidate = born(now);
                }
            }
            // One asleep may wake at any moment, and its right is what its own clock says.
            let leaders: Vec<_> = all
                .iter()
                .filter(|candidate| match candidate.machine.role() {
                    Role::Leader(term) => term.until > now,
                    Role::Follower(_) | Role::Retired | Role::Retiring => false,
                })
                .map(|candidate| candidate.name.clone())
                .collect();
            assert!(leaders.len() <= 1, "seed {seed}: {leaders:?} lead at once");
            if let Some(leader) = leaders.into_iter().next()
                && leading.as_ref() != Some(&leader)
            {
                leading = Some(leader);
                terms += 1;
            }
        }
        terms
    }

    #[test]
    fn two_never_lead_at_once() {
        let terms: usize = (0..1000).map(run).sum();
        assert!(terms > 1500, "leadership moved {terms} times");
    }
}
