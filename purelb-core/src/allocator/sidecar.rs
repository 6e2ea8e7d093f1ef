//! Asking the sidecars of external groups, each Service's requests in their order.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::allocator::Allocator;
use crate::allocator::action::Action;
use crate::allocator::assign::Ask;
use crate::allocator::attempt;
use crate::allocator::ipam::{IpamAnswer, IpamCall, IpamError, IpamRequest, MOST_ADDRESSES};
use crate::allocator::ledger::{Held, Obstacle};
use crate::allocator::notice::{Cause, How, ServiceNotice};
use crate::allocator::outbox::{Purpose, Wake};
use crate::allocator::refusal::Refusal;
use crate::host::Family;
use crate::name::{GroupName, ServiceKey, Uid};
use crate::service::{FamilyPolicy, Service};
use crate::time::Tick;

/// After a sidecar's final no, ask again this much later.
const SLOW: Duration = Duration::from_secs(300);

/// What the sidecars are yet to be asked.
///
/// A sidecar knows a Service by namespace and name, not by uid. So the requests for one name form a
/// line, and the next is made when the one before was answered: the release of a Service that is gone
/// can never take the addresses of the one that came after it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Sidecars {
    lines: BTreeMap<(GroupName, ServiceKey), VecDeque<Job>>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
struct Job {
    uid: Uid,
    work: Work,
    is_out: bool,
    tries: u32,
    not_before: Option<Tick>,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Allocate(Ask),
    Release(Option<IpAddr>),
}

/// What a Service's sidecar was asked for, and what came of it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    state: State,
    tries: u32,
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It has not answered yet.
    Pending,
    /// It gave what it gave.
    Given,
    /// It gave nothing that can be used.
    Refused { refusal: Refusal, until: Tick },
}

impl Asked {
    pub(crate) fn is_pending(&self) -> bool {
        self.state == State::Pending
    }
}

impl Allocator {
    /// Asks the sidecar of a group for a Service's addresses, unless it was just asked; returns why
    /// the Service does not have them, as far as that is known.
    pub(super) fn ask_sidecar(&mut self, key: &ServiceKey, ask: Ask, now: Tick) -> Option<Refusal> {
        let record = self.records.get_mut(key)?;
        let mut tries = 0;
        if let Some(asked) = &record.asked {
            match &asked.state {
                State::Pending => return record.refusal.as_deref().cloned(),
                State::Given if asked.ask == ask => return None,
                State::Refused { refusal, until } if asked.ask == ask => {
                    if now < *until {
                        self.out.wake(*until, Wake::Service(key.clone()));
                        return Some(refusal.clone());
                    }
                    tries = asked.tries + 1;
                }
                State::Given | State::Refused { .. } => {}
            }
            if asked.ask.group != ask.group {
                self.ask_no_sidecar(key);
            }
        }
        let record = self.records.get_mut(key)?;
        record.asked = Some(Box::new(Asked { ask: ask.clone(), state: State::Pending, tries }));
        let refusal = record.refusal.as_deref().cloned();
        let uid = record.uid.clone();
        let group = ask.group.clone();
        self.join_line(&group, key, &uid, Work::Allocate(ask));
        refusal.filter(|refusal| refusal.group() == Some(&group))
    }

    /// No sidecar is wanted for a Service now. One that was asked and has given nothing that is held
    /// may have put something aside all the same: it is told to let go.
    pub(super) fn ask_no_sidecar(&mut self, key: &ServiceKey) {
        let Some(record) = self.records.get_mut(key) else { return };
        let Some(asked) = record.asked.take_if(|asked| !asked.is_pending()) else { return };
        let uid = record.uid.clone();
        let group = asked.ask.group;
        let is_held = self.ledger.owner(&uid).is_some_and(|owner| {
            owner.has_leaving()
                || owner.held().iter().any(|held| held.group.as_ref() == Some(&group))
        });
        if !is_held && asked.state != State::Given {
            self.release_from_sidecar(&group, key, &uid, None);
        }
    }

    /// Tells a sidecar that a Service no longer has `ip`, or nothing at all of it.
    pub(super) fn release_from_sidecar(
        &mut self,
        group: &GroupName,
        key: &ServiceKey,
        uid: &Uid,
        ip: Option<IpAddr>,
    ) {
        self.join_line(group, key, uid, Work::Release(ip));
    }

    fn join_line(&mut self, group: &GroupName, key: &ServiceKey, uid: &Uid, work: Work) {
        let line = self.sidecars.lines.entry((group.clone(), key.clone())).or_default();
        let job = Job { uid: uid.clone(), work, is_out: false, tries: 0, not_before: None };
        line.push_back(job);
        if let Some(now) = self.now {
            self.advance_line(group, key, now);
        }
    }

    /// Makes the request at the head of a line, if it is not made yet and may be.
    pub(super) fn advance_line(&mut self, group: &GroupName, key: &ServiceKey, now: Tick) {
        let at = (group.clone(), key.clone());
        let Some(line) = self.sidecars.lines.get_mut(&at) else { return };
        let Some(job) = line.front_mut() else {
            self.sidecars.lines.remove(&at);
            return;
        };
        let is_early = job.not_before.is_some_and(|not_before| now < not_before);
        if job.is_out || is_early {
            return;
        }
        // Without a socket the line waits for the group to come back.
        let Some(socket) = self.catalog.external(group) else { return };
        job.is_out = true;
        let call = match &job.work {
            Work::Allocate(ask) => IpamCall::Allocate {
                service: key.clone(),
                sharing: self.services.get(key).and_then(|s| s.annotations.sharing.clone()),
                families: ask.families.clone(),
            },
            Work::Release(ip) => IpamCall::Release { service: key.clone(), ip: *ip },
        };
        let ticket = self.out.ticket(Purpose::Line(group.clone(), key.clone()));
        let socket = socket.to_owned();
        self.out.push(Action::Ipam(IpamRequest { ticket, group: group.clone(), socket, call }));
    }

    /// Makes the requests that waited for their group to come back.
    pub(super) fn advance_all_lines(&mut self) {
        let Some(now) = self.now else { return };
        let lines: Vec<_> = self.sidecars.lines.keys().cloned().collect();
        for (group, key) in lines {
            self.advance_line(&group, &key, now);
        }
    }

    /// A sidecar answered the request at the head of a line.
    pub(super) fn answered(
        &mut self,
        group: &GroupName,
        key: &ServiceKey,
        result: Result<IpamAnswer, IpamError>,
        now: Tick,
    ) {
        let at = (group.clone(), key.clone());
        let Some(line) = self.sidecars.lines.get_mut(&at) else { return };
        let Some(mut job) = line.pop_front() else { return };
        match (&job.work, result) {
            (Work::Allocate(ask), Ok(IpamAnswer::Allocated(ips))) => {
                let ask = ask.clone();
                self.given(key, &job.uid, &ask, &ips, now);
                self.figures_changed(group);
            }
            (Work::Allocate(ask), other) => {
                let group = ask.group.clone();
                let error = other.err().unwrap_or(IpamError::Unreadable);
                self.not_given(key, &job.uid, Refusal::IpamFailed { group, error }, now);
            }
            (Work::Release(_), Ok(IpamAnswer::Released)) => self.figures_changed(group),
            (Work::Release(_), other) => {
                let error = other.err().unwrap_or(IpamError::Unreadable);
                let until = now + attempt::pause(job.tries);
                if job.tries == 0 {
                    let what = ServiceNotice::ReleaseFailed { group: group.clone(), error };
                    self.out.tell_service(key, &job.uid, what);
                }
                job.tries = job.tries.saturating_add(1);
                job.is_out = false;
                job.not_before = Some(until);
                self.out.wake(until, Wake::Line(group.clone(), key.clone()));
                line.push_front(job);
            }
        }
        self.advance_line(group, key, now);
    }

    /// A sidecar gave no address that can be used.
    fn not_given(&mut self, key: &ServiceKey, uid: &Uid, refusal: Refusal, now: Tick) {
        let Some(record) = self.records.get_mut(key).filter(|record| record.uid == *uid) else {
            return;
        };
        let Some(asked) = &mut record.asked else { return };
        let is_soon = matches!(&refusal, Refusal::IpamFailed { error, .. } if error.is_transient());
        let pause = if is_soon { attempt::pause(asked.tries) } else { SLOW };
        asked.state = State::Refused { refusal, until: now + pause };
        self.dirty_services.insert(key.clone());
    }

    /// A sidecar gave addresses: takes those that are wanted and gives the others back.
    fn given(&mut self, key: &ServiceKey, uid: &Uid, ask: &Ask, ips: &[IpAddr], now: Tick) {
        let Some(service) = self.services.get(key).filter(|service| service.uid == *uid) else {
            // It went meanwhile: its release stands in line behind this.
            return;
        };
        let group = ask.group.clone();
        if let Some(record) = self.records.get_mut(key).filter(|record| record.is_foreign) {
            // It became somebody else's affair meanwhile.
            record.asked = None;
            self.release_from_sidecar(&group, key, uid, None);
            return;
        }
        let owner = self.ledger.owner(uid);
        let before = owner.map(|owner| owner.held().to_vec()).unwrap_or_default();
        let kept = if ask.replaces { Vec::new() } else { before.clone() };
        let mut wanted = kept.clone();
        let mut surplus = Vec::new();
        let mut refusal =
            (ips.len() > MOST_ADDRESSES).then(|| Refusal::IpamTooMany { group: group.clone() });
        for ip in ips.iter().map(IpAddr::to_canonical) {
            if wanted.iter().any(|held| held.ip == ip) {
                continue;
            }
            let family = Family::of(ip);
            let is_wanted = ask.families.contains(&family)
                && kept.iter().all(|held| Family::of(held.ip) != family);
            match self.ledger.obstacle(ip, uid) {
                Some(Obstacle::Held { holder } | Obstacle::Port { holder, .. }) => {
                    let group = group.clone();
                    refusal.get_or_insert(Refusal::IpamConflict { group, ip, holder });
                    surplus.push(ip);
                }
                None if is_wanted => wanted.push(Held { ip, group: Some(group.clone()) }),
                None => surplus.push(ip),
            }
        }
        let refusal = refusal.or_else(|| lacking(service, &wanted, &group, &ask.families));
        if refusal.is_some() {
            let new = wanted.iter().filter(|held| kept.iter().all(|old| old.ip != held.ip));
            surplus.extend(new.map(|held| held.ip));
            wanted = before.clone();
        }
        surplus.retain(|ip| before.iter().all(|held| held.ip != *ip));
        surplus.sort();
        surplus.dedup();
        self.take_given(key, uid, wanted);
        match refusal {
            Some(refusal) => self.not_given(key, uid, refusal, now),
            None => {
                if let Some(asked) =
                    self.records.get_mut(key).and_then(|record| record.asked.as_mut())
                {
                    asked.state = State::Given;
                }
            }
        }
        for ip in surplus {
            self.release_from_sidecar(&group, key, uid, Some(ip));
        }
        self.dirty_services.insert(key.clone());
    }

    fn take_given(&mut self, key: &ServiceKey, uid: &Uid, wanted: Vec<Held>) {
        let Some(record) = self.records.get_mut(key) else { return };
        if let Ok(settled) = self.ledger.settle(uid, wanted) {
            for gained in settled.gained {
                record.how.insert(gained.ip, How::External);
            }
            for lost in settled.lost {
                record.causes.insert(lost.ip, Cause::Moved);
            }
        }
    }
}

/// Why what a sidecar gave does not do.
fn lacking(
    service: &Service,
    held: &[Held],
    group: &GroupName,
    families: &[Family],
) -> Option<Refusal> {
    let has = |family: &Family| held.iter().any(|held| Family::of(held.ip) == *family);
    let family = families.iter().copied().find(|family| !has(family))?;
    let suffices = match service.family_policy {
        FamilyPolicy::PreferDualStack => !held.is_empty(),
        FamilyPolicy::RequireDualStack | FamilyPolicy::SingleStack => false,
    };
    (!suffices).then(|| Refusal::IpamIncomplete { group: group.clone(), family })
}
