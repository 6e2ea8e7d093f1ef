//! The way from a client to the API and back.

use super::clock::{MILLIS, Nanos, NodeClock, nanos};
use super::queue::{Happening, Stream};
use super::report::Invariant;
use super::story::EntryKind;
use super::world::{ALLOCATOR, Fact, Simulation};
use crate::allocator::{self, Ticket, Written};
use crate::lease::{LeaseEvent, LeaseWrite, WriteResult};
use crate::node::{Announcement, Event};

/// How long a request that is no lease write may take.
const PATIENCE: Nanos = 5_000 * MILLIS;

/// The state of one client's way to the API.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Nothing gets through before this.
    pub(super) shut_until: Nanos,
    /// Watches deliver nothing before this; requests pass.
    pub(super) stalled_until: Nanos,
    /// Everything is slow before this.
    pub(super) slow_until: Nanos,
    /// Requests, answers or both are lost or late before this.
    pub(super) lossy_until: Nanos,
    /// The API turns requests away before this.
    pub(super) throttled_until: Nanos,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Request {
    client: u16,
    life: u32,
    what: What,
    /// How long its answer takes; `None` if that is lost or comes too late.
    answer: Option<Nanos>,
}

/// What is asked of the API.
#[derive(Debug)]
pub(super) enum What {
    Announce(Announcement),
    Lease(LeaseWrite),
    Patch(allocator::Patch),
    ReEvaluated(Ticket),
    Release(allocator::Release),
    Status(allocator::StatusWrite),
}

/// What becomes of a request.
enum Fate {
    Lost,
    /// It lands after so long, and is answered so much later, if at all.
    Lands(Nanos, Option<Nanos>),
    /// The API turns it away.
    TurnedAway(Nanos),
}

impl Simulation {
    /// How long something takes one way at this moment.
    pub(super) fn delay(&mut self, client: u16) -> Nanos {
        let usual = 3 * MILLIS / 10 + self.dice.below(3 * MILLIS);
        if self.is_calm {
            return usual;
        }
        let is_slow = self.line_mut(client).slow_until > self.now;
        if is_slow {
            return usual + self.dice.below(900 * MILLIS);
        }
        if !self.lasting.is_empty() && self.dice.once_in(40) {
            return usual + self.dice.below(150 * MILLIS);
        }
        usual
    }

    fn fate(&mut self, client: u16) -> Fate {
        let now = self.now;
        let line = *self.line_mut(client);
        let there = self.delay(client);
        let back = self.delay(client);
        if line.shut_until > now {
            // What was sent may be delivered once the way is open again.
            return match self.dice.below(3) {
                0 => {
                    let late = line.shut_until - now + self.dice.below(3_000 * MILLIS);
                    Fate::Lands(late, None)
                }
                _ => Fate::Lost,
            };
        }
        if line.throttled_until > now {
            return Fate::TurnedAway(there + back);
        }
        let is_lossy = line.lossy_until > now;
        if is_lossy || (!self.lasting.is_empty() && self.dice.once_in(100)) {
            return match self.dice.below(4) {
                0 => Fate::Lost,
                1 => Fate::Lands(there, None),
                2 => Fate::Lands(self.dice.below(15_000 * MILLIS), None),
                _ => Fate::Lands(there, Some(back)),
            };
        }
        Fate::Lands(there, Some(back))
    }

    /// Sends a request. Its answer comes as a fact; if none came in time, that comes as one.
    pub(super) fn send(&mut self, client: u16, what: What) {
        let Some(life) = self.life(client) else { return };
        match &what {
            What::Lease(_) => {
                self.report.lease_writes += 1;
                self.hosts[usize::from(client)].counts.lease_writes += 1;
            }
            What::Announce(_) => {
                self.report.service_writes += 1;
                self.hosts[usize::from(client)].counts.service_writes += 1;
            }
            What::Patch(_) | What::ReEvaluated(_) | What::Release(_) | What::Status(_) => {
                self.report.service_writes += 1;
            }
        }
        let timeout = match &what {
            What::Lease(write) => self.clock(client).lasts(nanos(write.timeout)),
            What::Announce(_)
            | What::Patch(_)
            | What::ReEvaluated(_)
            | What::Release(_)
            | What::Status(_) => PATIENCE,
        };
        let (lands, answer) = match self.fate(client) {
            Fate::Lost => (None, None),
            Fate::Lands(there, back) => (Some(there), back.filter(|back| there + back < timeout)),
            Fate::TurnedAway(after) => {
                return self.fail(client, life, &what, after);
            }
        };
        if answer.is_none() {
            if client == ALLOCATOR {
                self.allocator_unsure_until = self.now + timeout;
            }
            self.fail(client, life, &what, timeout);
        }
        // What a fault delays is over with it.
        let is_over = |there: &Nanos| answer.is_none() && self.now + there > self.horizon;
        if let Some(there) = lands.filter(|there| !is_over(there)) {
            let slot = self.requests.put(Request { client, life, what, answer });
            self.queue.push(self.now + there, Happening::Land { slot });
        }
    }

    /// Tells a client after a while that nobody knows what became of its request.
    fn fail(&mut self, client: u16, life: u32, what: &What, after: Nanos) {
        let error = || "no answer".to_owned();
        let failed = |ticket: Ticket| {
            let result = Written::Failed { error: error() };
            Fact::Allocator(allocator::Event::Written { ticket, result })
        };
        let fact = match what {
            What::Announce(write) => {
                let service = write.service.clone();
                Fact::Agent(Event::AnnounceFailed { service, error: error() })
            }
            What::Lease(write) => {
                let result = WriteResult::Unknown { error: error() };
                let attempt = write.attempt;
                Fact::Agent(Event::Leases(LeaseEvent::Written { attempt, result }))
            }
            What::Patch(patch) => failed(patch.ticket),
            What::Release(release) => failed(release.ticket),
            What::ReEvaluated(ticket) => failed(*ticket),
            What::Status(status) => failed(status.ticket),
        };
        self.answer(client, life, fact, after);
    }

    fn answer(&mut self, client: u16, life: u32, fact: Fact, after: Nanos) {
        let slot = self.facts.put(fact);
        self.queue.push(self.now + after, Happening::Fact { client, life, slot });
    }

    /// A request reaches the API, which carries it out.
    pub(super) fn land(&mut self, slot: u32) {
        let Some(Request { client, life, what, answer }) = self.requests.take(slot) else { return };
        self.report.steps += 1;
        let fact = match what {
            What::Announce(write) => {
                if self.api.announce(&write) {
                    self.changed(Stream::Objects);
                }
                return;
            }
            What::Lease(write) => self.land_lease(client, write),
            What::Patch(patch) => {
                let (result, before) = self.api.patch(&patch);
                if let Some(before) = before {
                    self.assigned(&patch.service, &before);
                    self.changed(Stream::Objects);
                }
                written(patch.ticket, result)
            }
            What::Release(release) => {
                let result = self.api.release(&release);
                if result == Written::Accepted {
                    self.changed(Stream::Objects);
                }
                written(release.ticket, result)
            }
            What::ReEvaluated(ticket) => written(ticket, Written::Accepted),
            What::Status(status) => {
                let result = self.api.write_status(&status);
                self.changed(Stream::Objects);
                written(status.ticket, result)
            }
        };
        if let Some(after) = answer {
            self.answer(client, life, fact, after);
        }
    }

    fn land_lease(&mut self, client: u16, write: LeaseWrite) -> Fact {
        let host = usize::from(client);
        let name = self.hosts[host].name.clone();
        let attempt = write.attempt;
        let before = self.api.leases.get(&name).filter(|_| self.story.is_some()).cloned();
        let told = self.story.is_some().then(|| write.content.clone());
        let result = self.api.write_lease(&name, write);
        if let Some(content) = told {
            let text = super::tale::lease_write(&content, &result);
            self.tell_of(host, None, || text);
            if before.is_some_and(|lease| content.is_renewal_of(&lease.content)) {
                self.mark(EntryKind::Routine);
            }
        }
        if let WriteResult::Accepted { .. } = result {
            self.changed(Stream::Leases);
        }
        Fact::Agent(Event::Leases(LeaseEvent::Written { attempt, result }))
    }

    /// A Service was given something: invariants 1 and 4.
    fn assigned(&mut self, key: &crate::name::ServiceKey, before: &[std::net::IpAddr]) {
        let Some(service) = self.api.services.get(key).cloned() else { return };
        self.tell("allocator", None, || format!("gives {key} {:?}", service.ingress));
        if let Some(asked) = self.asked.get(key)
            && !before.is_empty()
            && service.ingress != before
            && super::expect::asks_for_the_same(asked, &service)
        {
            let text = format!("{key} had {before:?} and has {:?}", service.ingress);
            self.violate(Invariant::Assignment, text);
        }
        for other in self.api.services.values().filter(|other| other.key != *key) {
            let shared = other.ingress.iter().find(|ip| service.ingress.contains(ip));
            if let Some(ip) = shared
                && !super::expect::may_share(other, &service)
            {
                let text = format!("{ip} is of {key} and of {}", other.key);
                self.violate(Invariant::SingleOwner, text);
                break;
            }
        }
        self.asked.insert(key.clone(), service);
    }

    /// The clock of a client's machine.
    pub(super) fn clock(&self, client: u16) -> NodeClock {
        match client {
            ALLOCATOR => NodeClock::new(self.epoch, 0),
            host => self.hosts[usize::from(host)].clock,
        }
    }
}

fn written(ticket: Ticket, result: Written) -> Fact {
    Fact::Allocator(allocator::Event::Written { ticket, result })
}
