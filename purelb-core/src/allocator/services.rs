//! Deciding about one Service, and writing the answer until it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::allocator::action::{Action, Patch, Release};
use crate::allocator::answer::Answer;
use crate::allocator::assign::{self, Assignment, Facts, group_of};
use crate::allocator::attempt::{self, Step};
use crate::allocator::event::{Ticket, Written};
use crate::allocator::intake::is_foreign;
use crate::allocator::notice::{Cause, How, Remark, ServiceNotice};
use crate::allocator::outbox::{Departed, Purpose, Wake};
use crate::allocator::record::Record;
use crate::allocator::refusal::Refusal;
use crate::allocator::{Allocator, Catalog, Owner};
use crate::name::{GroupName, ResourceVersion, ServiceKey, Uid};
use crate::service::Service;
use crate::time::Tick;

impl Allocator {
    /// Decides about a Service and asks for what follows.
    pub(super) fn decide(&mut self, key: &ServiceKey, now: Tick) {
        let Some(service) = self.services.get(key) else { return };
        let Some(record) = self.records.get_mut(key) else { return };
        if !service.is_load_balancer {
            let answer = Answer::default();
            let shows = answer.shows(service);
            self.write(key, answer, shows, now);
            return;
        }
        record.is_foreign = is_foreign(service, record, self.settings.as_ref(), &self.catalog);
        if service.is_deleting {
            return;
        }
        let default_announcer = self.settings.as_ref().is_some_and(|s| s.default_announcer);
        if record.is_foreign {
            let remark = service
                .is_ours(default_announcer)
                .then(|| Remark::Foreign { addresses: service.ingress.clone() });
            self.remark(key, remark.into_iter().collect());
            if self.contenders.contains(key) {
                self.adopt(key);
            }
            return;
        }
        let none = BTreeSet::new();
        let active_subnets = self.active_subnets.as_ref().unwrap_or(&none);
        let facts = Facts { catalog: &self.catalog, ledger: &self.ledger, active_subnets };
        let assignment = assign::assign(service, facts);
        let owner = self.ledger.owner(&service.uid);
        if owner.is_some_and(|owner| is_done(service, record, owner, &assignment, &self.catalog)) {
            record.is_managed = true;
            record.note_lack(true, now);
            return;
        }
        self.apply(key, assignment, now);
    }

    /// Makes a decision so: in the ledger, in what people are told, and in the API.
    fn apply(&mut self, key: &ServiceKey, assignment: Assignment, now: Tick) {
        let Assignment { held, how, dropped, refusal, remarks, ask, scarce } = assignment;
        let Some(record) = self.records.get_mut(key) else { return };
        record.is_managed = true;
        let uid = record.uid.clone();
        // The decision was made on this very ledger, so nothing stands in its way.
        if let Ok(settled) = self.ledger.settle(&uid, held) {
            for lost in &settled.lost {
                let cause = dropped.iter().find(|(ip, _)| *ip == lost.ip);
                record.causes.insert(lost.ip, cause.map_or(Cause::Moved, |(_, cause)| *cause));
            }
            for gained in &settled.gained {
                record.causes.remove(&gained.ip);
                record.how.insert(gained.ip, how);
            }
            // Those that wait may share what they could not find before.
            let shares = self.services.get(key).is_some_and(|s| s.annotations.sharing.is_some());
            for gained in settled.gained.iter().filter(|_| shares) {
                self.wake_waiting(gained);
            }
        }
        let refusal = match ask {
            Some(ask) => self.ask_sidecar(key, ask, now),
            None => {
                self.ask_no_sidecar(key);
                refusal
            }
        };
        self.wait_for_cure(key, refusal.as_ref(), scarce);
        self.refuse(key, refusal);
        self.remark(key, remarks);
        let Some(service) = self.services.get(key) else { return };
        let Some(owner) = self.ledger.owner(&uid) else { return };
        let answer = Answer::new(service, owner.held(), &self.catalog);
        let shows = answer.shows(service) && !owner.has_leaving();
        if let Some(record) = self.records.get_mut(key) {
            record.note_lack(shows, now);
        }
        self.write(key, answer, shows, now);
        if shows {
            self.remove_re_evaluate(key, now);
        }
    }

    /// Notes what has to become free before the Service can get more.
    fn wait_for_cure(
        &mut self,
        key: &ServiceKey,
        refusal: Option<&Refusal>,
        scarce: Option<GroupName>,
    ) {
        let Some(record) = self.records.get(key) else { return };
        let of = |ip: IpAddr| self.catalog.find(ip).map(|(group, _)| group.name.clone());
        let group = match refusal {
            Some(Refusal::Exhausted { group, .. }) => Some(group.clone()),
            Some(Refusal::PortConflict { ip, .. } | Refusal::RequestHeld { ip, .. }) => of(*ip),
            Some(_) => None,
            None => scarce,
        };
        let old = record.waits_for.clone();
        self.wait_for(key, &old, group.as_ref());
        if let Some(record) = self.records.get_mut(key) {
            record.waits_for = group;
        }
    }

    fn refuse(&mut self, key: &ServiceKey, refusal: Option<Refusal>) {
        let Some(record) = self.records.get_mut(key) else { return };
        if record.refusal.as_deref() == refusal.as_ref() {
            return;
        }
        record.refusal = refusal.clone().map(Box::new);
        if let Some(refusal) = refusal {
            let uid = record.uid.clone();
            self.out.tell_service(key, &uid, ServiceNotice::Refused(refusal));
        }
    }

    fn remark(&mut self, key: &ServiceKey, remarks: Vec<Remark>) {
        let Some(record) = self.records.get_mut(key) else { return };
        if remarks.is_empty() && record.remarks.is_empty() {
            return;
        }
        let remarks: BTreeSet<_> = remarks.into_iter().collect();
        for remark in remarks.difference(&record.remarks) {
            self.out.tell_service(key, &record.uid, ServiceNotice::Remark(remark.clone()));
        }
        record.remarks = remarks;
    }

    /// Writes an answer that does not show, unless that was just tried.
    fn write(&mut self, key: &ServiceKey, answer: Answer, shows: bool, now: Tick) {
        let Some(service) = self.services.get(key) else { return };
        let Some(record) = self.records.get_mut(key) else { return };
        match record.answer.step(&answer, shows, &service.version, Duration::ZERO, now) {
            Step::Rest => {}
            Step::Wait(at) => self.out.wake(at, Wake::Service(key.clone())),
            Step::Send => {
                let purpose =
                    Purpose::Patch(key.clone(), service.uid.clone(), service.version.clone());
                let ticket = self.out.ticket(purpose);
                record.answer.sent(ticket, answer.clone(), now);
                self.out.push(Action::Patch(Patch {
                    ticket,
                    service: key.clone(),
                    uid: service.uid.clone(),
                    version: service.version.clone(),
                    remove: answer.remove(service),
                    ingress: answer.ingress,
                    marks: answer.marks,
                }));
            }
        }
    }

    /// An answer was written, or was not.
    pub(super) fn patched(
        &mut self,
        key: &ServiceKey,
        uid: &Uid,
        version: &ResourceVersion,
        ticket: Ticket,
        result: &Written,
        now: Tick,
    ) {
        let Some(record) = self.records.get_mut(key).filter(|record| record.uid == *uid) else {
            return;
        };
        if let Some(answer) = record.answer.finished(ticket, result, version, now) {
            let freed = self.ledger.confirm(uid, &answer.ingress);
            for held in &freed {
                self.let_go(held, key, uid);
            }
            self.tell_of(key, &answer, now);
        }
        self.dirty_services.insert(key.clone());
    }

    /// Tells people what the API shows now and did not before.
    fn tell_of(&mut self, key: &ServiceKey, answer: &Answer, now: Tick) {
        let Some(record) = self.records.get_mut(key) else { return };
        // It was noted before the write.
        let lacks_since = record.lacks_since.take().unwrap_or(now);
        let took = now.since(lacks_since);
        let told = std::mem::replace(&mut record.told, answer.ingress.clone());
        let new: Vec<IpAddr> =
            answer.ingress.iter().filter(|ip| !told.contains(ip)).copied().collect();
        let gone: Vec<IpAddr> =
            told.into_iter().filter(|ip| !answer.ingress.contains(ip)).collect();
        let how = new.first().and_then(|ip| record.how.get(ip).copied());
        for ip in &new {
            record.how.remove(ip);
        }
        if record.how.is_empty() {
            // One that was emptied keeps room for eleven.
            record.how = BTreeMap::new();
        }
        let causes = gone.iter().map(|ip| record.causes.remove(ip).unwrap_or(Cause::Moved));
        let cause = causes.min();
        let uid = record.uid.clone();
        let held = self.ledger.owner(&uid).map(|owner| owner.held()).unwrap_or_default();
        let group = |ip: &IpAddr| {
            let held = held.iter().find(|held| held.ip == *ip);
            let group = held.and_then(|held| group_of(held, &self.catalog));
            group.unwrap_or_else(|| GroupName::from(""))
        };
        let addresses: Vec<_> = new.iter().map(|ip| (*ip, group(ip))).collect();
        if let Some(cause) = cause {
            let what = ServiceNotice::Released { addresses: gone, cause };
            self.out.tell_service(key, &uid, what);
        }
        if let Some(how) = how {
            self.out.tell_service(key, &uid, ServiceNotice::Assigned { addresses, how, took });
        }
    }

    /// Removes `re-evaluate` once all that it asked for is done and shows.
    fn remove_re_evaluate(&mut self, key: &ServiceKey, now: Tick) {
        let Some(service) = self.services.get(key) else { return };
        let Some(record) = self.records.get_mut(key) else { return };
        let is_busy = record.answer.is_outstanding()
            || record.asked.as_ref().is_some_and(|asked| asked.is_pending());
        if !service.annotations.re_evaluate || is_busy {
            return;
        }
        match record.re_evaluated.step(&(), false, &service.version, Duration::ZERO, now) {
            Step::Rest => {}
            Step::Wait(at) => self.out.wake(at, Wake::Service(key.clone())),
            Step::Send => {
                let uid = service.uid.clone();
                let ticket = self.out.ticket(Purpose::ReEvaluated(key.clone(), uid.clone()));
                record.re_evaluated.sent(ticket, (), now);
                self.out.push(Action::ReEvaluated { ticket, service: key.clone(), uid });
            }
        }
    }

    pub(super) fn removed_re_evaluate(
        &mut self,
        key: &ServiceKey,
        uid: &Uid,
        ticket: Ticket,
        result: &Written,
        now: Tick,
    ) {
        let Some(record) = self.records.get_mut(key).filter(|record| record.uid == *uid) else {
            return;
        };
        let version = ResourceVersion::default();
        let _ = record.re_evaluated.finished(ticket, result, &version, now);
        self.dirty_services.insert(key.clone());
    }

    /// Asks for the answer of a Service that is gone to be taken back, unless it is here again.
    pub(super) fn release(&mut self, gone: Departed) {
        if self.services.get(&gone.service).is_some_and(|service| service.uid == gone.uid) {
            return;
        }
        let ticket = self.out.ticket(Purpose::Release(gone.clone()));
        let Departed { service, uid, remove, .. } = gone;
        self.out.push(Action::Release(Release { ticket, service, uid, remove }));
    }

    /// The answer of a Service that is gone was taken back, or was not. If it could be, the Service
    /// was not deleted: its type has changed.
    pub(super) fn released(&mut self, gone: Departed, result: &Written, now: Tick) {
        match result {
            Written::Accepted if gone.showed.is_empty() => {}
            Written::Accepted => {
                let Departed { service, uid, showed: addresses, .. } = gone;
                let what = ServiceNotice::Released { addresses, cause: Cause::NotLoadBalancer };
                self.out.tell_service(&service, &uid, what);
            }
            Written::Conflict | Written::Gone => {}
            Written::Failed { .. } => {
                let at = now + attempt::pause(gone.tries);
                let tries = gone.tries.saturating_add(1);
                self.out.wake(at, Wake::Release(Departed { tries, ..gone }));
            }
        }
    }
}

/// Whether a decision changes nothing, is known, and shows: what nearly every look at a Service finds.
fn is_done(
    service: &Service,
    record: &Record,
    owner: &Owner,
    assignment: &Assignment,
    catalog: &Catalog,
) -> bool {
    let is_quiet = assignment.refusal.is_none()
        && assignment.remarks.is_empty()
        && assignment.ask.is_none()
        && assignment.how == How::InOrder
        && record.refusal.is_none()
        && record.remarks.is_empty()
        && record.asked.is_none()
        && record.waits_for.is_none();
    is_quiet
        && !service.annotations.re_evaluate
        && !owner.has_leaving()
        && assignment.held == owner.held()
        && Answer::new(service, owner.held(), catalog).shows(service)
}
