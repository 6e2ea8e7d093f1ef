//! The process of the allocator.

use std::time::Duration;

use super::clock::{MILLIS, NEVER, Nanos};
use super::network::What;
use super::queue::{Happening, Stream};
use super::report::Invariant;
use super::world::{ALLOCATOR, Fact, Process, Simulation};
use crate::allocator::{Action, Allocator, Event, Settings};
use crate::machine::Machine;

/// How often at one moment it may ask for something.
const MOST_ACTIONS: u32 = 100_000;

impl Simulation {
    pub(super) fn start_allocator(&mut self) {
        if self.allocator.is_some() {
            return;
        }
        let now = self.now;
        self.allocator_starts += 1;
        let life = self.allocator_starts;
        let mut machine = Allocator::new();
        machine.count_from(self.clock(ALLOCATOR).instant(now));
        self.allocator = Some(Process::new(machine, life, now, now));
        self.tell("allocator", None, || "starts".to_owned());
        let settings = Settings { default_announcer: true, ..Settings::default() };
        self.hand_to_allocator(Event::Settings(settings));
        self.subnets = self.api.subnets();
        self.hand_to_allocator(Event::ActiveSubnets(self.subnets.clone()));
        let at = now + self.dice.below(5 * MILLIS);
        self.queue.push(at, Happening::List { client: ALLOCATOR, life, stream: Stream::Objects });
    }

    pub(super) fn kill_allocator(&mut self) {
        if self.allocator.take().is_some() {
            self.tell("allocator", None, || "is killed".to_owned());
        }
    }

    /// Which subnets are published has perhaps changed.
    pub(super) fn tell_subnets(&mut self, life: u32) {
        let subnets = self.api.subnets();
        if subnets != self.subnets {
            self.subnets.clone_from(&subnets);
            let slot = self.facts.put(Fact::Allocator(Event::ActiveSubnets(subnets)));
            let at = self.now + self.delay(ALLOCATOR);
            self.queue.push(at, Happening::Fact { client: ALLOCATOR, life, slot });
        }
    }

    pub(super) fn hand_to_allocator(&mut self, event: Event) {
        let instant = self.clock(ALLOCATOR).instant(self.now);
        let Some(process) = &mut self.allocator else { return };
        if process.is_frozen(self.now) {
            process.inbox.push_back(event);
            return;
        }
        self.report.steps += 1;
        process.machine.handle_event(event, instant);
        self.settle_allocator();
    }

    pub(super) fn wake_allocator(&mut self) {
        let (now, clock) = (self.now, self.clock(ALLOCATOR));
        let Some(process) = &mut self.allocator else { return };
        if process.armed > now || process.is_frozen(now) {
            return;
        }
        process.armed = NEVER;
        if process.machine.poll_timeout().is_some_and(|due| clock.when(due.at) <= now) {
            self.report.steps += 1;
            process.machine.handle_timeout(clock.instant(now));
        }
        self.settle_allocator();
    }

    pub(super) fn freeze_allocator(&mut self, span: Nanos) {
        let Some(process) = &mut self.allocator else { return };
        process.frozen_until = process.frozen_until.max(self.now + span);
        let (life, until) = (process.life, process.frozen_until);
        self.queue.push(until, Happening::Thaw { client: ALLOCATOR, life });
    }

    pub(super) fn thaw_allocator(&mut self) {
        let now = self.now;
        let Some(process) = &mut self.allocator else { return };
        if process.is_frozen(now) {
            return;
        }
        process.armed = now;
        let inbox = std::mem::take(&mut process.inbox);
        self.wake_allocator();
        for event in inbox {
            self.hand_to_allocator(event);
        }
    }

    /// The allocator goes through what machines go through.
    fn pass_allocator(&mut self) {
        let clock = self.clock(ALLOCATOR);
        let (Some(passage), Some(process)) = (self.passage, &mut self.allocator) else { return };
        process.machine = (passage.allocator)(&process.machine);
        process.machine.count_from(clock.instant(process.origin));
    }

    fn settle_allocator(&mut self) {
        for _ in 0..MOST_ACTIONS {
            let Some(process) = &mut self.allocator else { return };
            let Some(action) = process.machine.poll_action() else {
                self.pass_allocator();
                return self.arm_allocator();
            };
            match action {
                // No group of a simulated cluster has a sidecar.
                Action::Ipam(_) => {}
                Action::Notice(notice) => self.tell("allocator", None, || notice.to_string()),
                Action::Patch(patch) => self.send(ALLOCATOR, What::Patch(patch)),
                Action::ReEvaluated { ticket, .. } => {
                    self.send(ALLOCATOR, What::ReEvaluated(ticket));
                }
                Action::Release(release) => self.send(ALLOCATOR, What::Release(release)),
                Action::Status(status) => self.send(ALLOCATOR, What::Status(status)),
            }
        }
        self.violate(Invariant::Quiescence, "the allocator never has enough".to_owned());
    }

    /// How long the allocator waits from now until it learns that a write of its was lost, or writes an
    /// answer anew, if it does.
    pub(super) fn allocator_waits(&self) -> Option<Duration> {
        let due = self.allocator.as_ref()?.machine.poll_timeout();
        let due = due.filter(|due| due.why == "service");
        let again = due.map_or(0, |due| self.clock(ALLOCATOR).when(due.at));
        let until = again.max(self.allocator_unsure_until);
        (until > self.now).then(|| Duration::from_nanos(until - self.now))
    }

    fn arm_allocator(&mut self) {
        let (now, clock) = (self.now, self.clock(ALLOCATOR));
        let Some(process) = &mut self.allocator else { return };
        let Some(deadline) = process.machine.poll_timeout() else { return };
        let at = clock.when(deadline.at).max(now);
        if at < process.armed {
            process.armed = at;
            let life = process.life;
            self.queue.push(at, Happening::Wake { client: ALLOCATOR, life });
        }
    }
}
