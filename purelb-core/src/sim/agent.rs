//! The processes of node agents: started, told, frozen between decision and system call, stopped.

use std::iter;
use std::time::Duration;

use super::clock::{MILLIS, NEVER, Nanos, SECONDS};
use super::network::What;
use super::queue::{Happening, Stream};
use super::report::Invariant;
use super::transcript::Input;
use super::world::{Process, Simulation};
use crate::kernel::{KernelAction, KernelOutcome};
use crate::machine::Machine;
use crate::membership::Settings;
use crate::node::{Action, ClusterAction, Event, NodeAgent};

/// How often at one moment a machine may call for itself.
const MOST_SPINS: u32 = 50;

impl Simulation {
    /// Starts the agent of a host, unless one runs or it is to stay down.
    pub(super) fn start_agent(&mut self, host: usize) {
        let now = self.now;
        let h = &mut self.hosts[host];
        if h.process.is_some() || h.is_down {
            return;
        }
        h.starts += 1;
        let settings = Settings {
            node: h.name.clone(),
            boot_id: format!("{}-boot-{}", h.label, h.boots).into(),
            instance: format!("{}-{}", h.label, h.starts),
            duration: h.duration,
        };
        let mut machine = NodeAgent::new(settings.clone(), h.clock.instant(now));
        if let Some(mutation) = self.mutation {
            machine.mutate(mutation);
        }
        let life = h.starts;
        h.process = Some(Process::new(machine, life, h.clock.shows(now), now));
        let (boots, drift) = (h.boots, h.clock.drift());
        self.transcribe(host, || Input::Started(settings));
        self.tell_of(host, None, || {
            format!("starts (process {life}, boot {boots}, clock {drift:+} ppm)")
        });
        self.dump(host);
        for stream in [Stream::Leases, Stream::Objects] {
            let at = now + self.dice.below(5 * MILLIS);
            self.queue.push(at, Happening::List { client: host as u16, life, stream });
        }
    }

    /// The process of a host is gone, with all that it knew.
    pub(super) fn kill_agent(&mut self, host: usize) {
        if self.hosts[host].process.take().is_some() {
            self.tell_of(host, None, || "is killed".to_owned());
        }
    }

    /// A fact reaches the agent, or waits until it runs again.
    pub(super) fn hand_to_agent(&mut self, host: usize, event: Event) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let Some(process) = &mut h.process else { return };
        if process.is_frozen(now) {
            process.inbox.push_back(event);
            return;
        }
        self.tell_agent(host, event);
        self.settle_agent(host);
    }

    /// A deadline of the agent is due, unless it has put that off.
    pub(super) fn wake_agent(&mut self, host: usize) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let Some(process) = &mut h.process else { return };
        if process.armed > now || process.is_frozen(now) {
            return;
        }
        process.armed = NEVER;
        let due = process.machine.poll_timeout();
        if due.is_none_or(|deadline| h.clock.when(deadline.at) > now) {
            return self.arm_agent(host);
        }
        let spins = if process.spins.0 == now { process.spins.1 + 1 } else { 0 };
        process.spins = (now, spins);
        if spins > MOST_SPINS {
            let text = format!("{} is called again and again: {due:?}", h.label);
            return self.violate(Invariant::Quiescence, text);
        }
        self.report.steps += 1;
        self.report.wakes += 1;
        h.counts.wakes += 1;
        self.tell_agent_the_time(host);
        if !self.settle_agent(host) {
            self.hosts[host].counts.idle_wakes += 1;
        }
    }

    /// The agent runs again: first what it was about to do, then what is due, then what came.
    pub(super) fn thaw_agent(&mut self, host: usize) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let Some(process) = &mut h.process else { return };
        if process.is_frozen(now) {
            return;
        }
        self.report.steps += 1;
        let held = std::mem::take(&mut process.held);
        let decided = process.held_since;
        let clock = h.clock;
        self.tell_of(host, None, || "runs again".to_owned());
        if !held.is_empty() {
            self.perform(host, held, decided);
            self.settle_agent(host);
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        process.armed = NEVER;
        if process.machine.poll_timeout().is_some_and(|due| clock.when(due.at) <= now) {
            self.tell_agent_the_time(host);
            self.settle_agent(host);
        }
        // Facts that are there are taken in together, as many as the loop takes.
        let batch = 1 + self.dice.below(8);
        loop {
            let Some(process) = &mut self.hosts[host].process else { return };
            if process.is_frozen(now) || process.inbox.is_empty() {
                break;
            }
            for _ in 0..batch {
                let process = self.hosts[host].process.as_mut();
                let Some(event) = process.and_then(|process| process.inbox.pop_front()) else {
                    break;
                };
                self.tell_agent(host, event);
            }
            self.settle_agent(host);
        }
        self.arm_agent(host);
    }

    /// Carries out what the agent asks for until it asks for nothing more; returns whether it asked
    /// for anything.
    fn settle_agent(&mut self, host: usize) -> bool {
        let mut has_asked = false;
        for round in 0.. {
            let Some(process) = &mut self.hosts[host].process else { return has_asked };
            let actions: Vec<_> = iter::from_fn(|| process.machine.poll_action()).collect();
            self.transcribe(host, || Input::Drained);
            if actions.is_empty() {
                break;
            }
            has_asked = true;
            let now = self.now;
            let h = &mut self.hosts[host];
            if let Some(process) = &mut h.process
                && let Some(nap) = process.nap
                && actions.iter().any(Self::is_of_kernel)
            {
                process.nap = None;
                process.held = actions;
                process.held_since = h.clock.shows(now);
                self.tell_of(host, None, || "freezes before its next system call".to_owned());
                self.freeze_agent(host, nap.saturating_sub(now));
                return true;
            }
            let shown = h.clock.shows(now);
            if !self.perform(host, actions, shown) {
                break;
            }
            if round > MOST_SPINS {
                let text = format!("{} never has enough", self.hosts[host].label);
                self.violate(Invariant::Quiescence, text);
                return true;
            }
        }
        if self.hosts[host].process.as_ref().is_some_and(|p| p.machine.is_stopped()) {
            self.hosts[host].process = None;
            self.tell_of(host, None, || "has stopped".to_owned());
            return has_asked;
        }
        self.pass_agent(host);
        self.arm_agent(host);
        has_asked
    }

    /// The agent goes through what machines go through.
    fn pass_agent(&mut self, host: usize) {
        let Some(passage) = self.passage else { return };
        let Some(process) = &mut self.hosts[host].process else { return };
        process.machine = (passage.agent)(&process.machine);
        process.machine.count_from(self.epoch + Duration::from_nanos(process.origin));
    }

    /// The kernel's part first, in its order; returns whether the machine was told something.
    fn perform(&mut self, host: usize, actions: Vec<Action>, decided: Nanos) -> bool {
        let mut facts = Vec::new();
        let mut cluster = Vec::new();
        for action in actions {
            match action {
                Action::Cluster(action) => cluster.push(action),
                Action::Kernel(action) => {
                    let result = self.call_kernel(host, &action, decided);
                    let matters =
                        result.is_err() || matches!(action, KernelAction::RemoveAddress(_));
                    if matters {
                        facts.push(Event::Kernel(KernelOutcome { action, result }));
                    }
                }
                Action::Notice(notice) => {
                    if self.story.is_some() {
                        self.tell_of(host, notice.ip(), || notice.to_string());
                    }
                }
            }
        }
        for action in cluster {
            self.ask_cluster(host, action);
        }
        let has_news = !facts.is_empty();
        for fact in facts {
            self.tell_agent(host, fact);
        }
        has_news
    }

    fn ask_cluster(&mut self, host: usize, action: ClusterAction) {
        let client = host as u16;
        let Some(life) = self.life(client) else { return };
        match action {
            ClusterAction::Announce(write) => self.send(client, What::Announce(write)),
            ClusterAction::ListLeases => {
                if let Some(process) = &mut self.hosts[host].process {
                    let watch = &mut process.watches[Stream::Leases.index()];
                    watch.is_open = false;
                    watch.next_at = 0;
                }
                let at = self.now + MILLIS;
                self.queue.push(at, Happening::List { client, life, stream: Stream::Leases });
            }
            ClusterAction::UnwatchEndpoints => {
                if let Some(process) = &mut self.hosts[host].process {
                    let watch = &mut process.watches[Stream::Endpoints.index()];
                    (watch.is_open, watch.is_given_up, watch.position) = (false, true, NEVER);
                }
            }
            ClusterAction::WatchEndpoints => {
                if let Some(process) = &mut self.hosts[host].process {
                    process.watches[Stream::Endpoints.index()].is_given_up = false;
                }
                let at = self.now + MILLIS;
                self.queue.push(at, Happening::List { client, life, stream: Stream::Endpoints });
            }
            ClusterAction::WriteLease(write) => self.send(client, What::Lease(write)),
        }
    }

    /// The process does nothing for so long.
    pub(super) fn freeze_agent(&mut self, host: usize, span: Nanos) {
        let until = self.now + span;
        if let Some(process) = &mut self.hosts[host].process {
            process.frozen_until = process.frozen_until.max(until);
            let (client, life, until) = (host as u16, process.life, process.frozen_until);
            self.queue.push(until, Happening::Thaw { client, life });
        }
    }

    /// The agent is asked to stop; it is killed if it takes too long.
    pub(super) fn stop_agent(&mut self, host: usize) {
        let Some(process) = &mut self.hosts[host].process else { return };
        process.is_stopping = true;
        self.tell_of(host, None, || "is asked to stop".to_owned());
        self.hand_to_agent(host, Event::Stop);
    }

    /// Queues the agent's next deadline, if it is sooner than the one that is queued.
    fn arm_agent(&mut self, host: usize) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let Some(process) = &mut h.process else { return };
        if process.is_frozen(now) {
            return;
        }
        let Some(deadline) = process.machine.poll_timeout() else { return };
        let at = h.clock.when(deadline.at).max(now);
        if at < process.armed && at < now + 3600 * SECONDS {
            process.armed = at;
            self.queue.push(at, Happening::Wake { client: host as u16, life: process.life });
        }
    }
}
