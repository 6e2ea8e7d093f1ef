//! A whole cluster on a virtual clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::api::{Api, Object};
use super::clock::{MILLIS, NEVER, Nanos, NodeClock, epoch, nanos};
use super::dice::Dice;
use super::fault::Fault;
use super::kernel::Kernel;
use super::network::{Line, Request};
use super::queue::{Happening, Queue, Slots, Stream};
use super::report::{Invariant, Report, Violation};
use super::segment::Segment;
use super::setup::{Layout, Passage, Setup};
use super::story::{EntryKind, Story};
use super::transcript::Told;
use crate::allocator::{self, Allocator};
use crate::lease::{LeaseContent, LeaseEvent};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::name::{NodeName, ServiceKey};
use crate::node::{Action, Event, NodeAgent};
use crate::service::Service;
use crate::store::Change;

/// The client of the API that is the allocator; the others are hosts, by their number.
pub(super) const ALLOCATOR: u16 = u16::MAX;

/// A cluster of agents and an allocator, with their kernels, their API and their network.
///
/// Single-threaded and without any clock but its own: the same [`Setup`] and the same calls lead to
/// the same history, to the nanosecond.
#[derive(Debug)]
pub struct Simulation {
    pub(super) now: Nanos,
    pub(super) queue: Queue,
    pub(super) dice: Dice,
    pub(super) epoch: Instant,
    pub(super) layout: Layout,
    pub(super) mutation: Option<Mutation>,
    pub(super) passage: Option<Passage>,
    pub(super) is_calm: bool,

    pub(super) api: Api,
    pub(super) segment: Segment,
    pub(super) hosts: Vec<Host>,
    pub(super) allocator: Option<Process<Allocator>>,
    pub(super) allocator_line: Line,
    pub(super) allocator_starts: u32,

    pub(super) facts: Slots<Fact>,
    pub(super) requests: Slots<Request>,
    pub(super) frames: Slots<(IpAddr, u16)>,
    pub(super) faults: Vec<Fault>,
    /// The faults that last at this moment, by their numbers, in the order in which they began.
    pub(super) lasting: Vec<usize>,
    /// Requests that would land later than this are lost.
    pub(super) horizon: Nanos,
    /// Frames are lost before this.
    pub(super) lossy_until: Nanos,
    /// Until when the allocator waits for the answer to a request that has none.
    pub(super) allocator_unsure_until: Nanos,
    /// What each Service asked for when it was last given something.
    pub(super) asked: BTreeMap<ServiceKey, Service>,
    pub(super) subnets: BTreeSet<IpNet>,
    pub(super) service_count: u32,

    pub(super) report: Report,
    pub(super) story: Option<Story>,
    pub(super) transcript: Option<Vec<Told>>,
    pub(super) violation: Option<Violation>,
}

/// A fact on its way to a process.
#[derive(Debug)]
pub(super) enum Fact {
    Agent(Event),
    Allocator(allocator::Event),
}

/// A node: its kernel, its line to the API, and its agent.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: NodeName,
    /// How stories call it.
    pub(super) label: String,
    pub(super) clock: NodeClock,
    pub(super) duration: Duration,
    pub(super) kernel: Kernel,
    pub(super) line: Line,
    pub(super) boots: u32,
    pub(super) starts: u32,
    pub(super) process: Option<Process<NodeAgent>>,
    /// It is to be started when the last fault that keeps it down ends.
    pub(super) is_down: bool,
    /// Bears the name of another host, and runs only while a fault makes it.
    pub(super) is_namesake: bool,
    /// What it did since the last count.
    pub(super) counts: Counts,
}

/// What one host did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) lease_writes: u64,
    pub(super) service_writes: u64,
    pub(super) wakes: u64,
    /// Wake-ups that led to nothing.
    pub(super) idle_wakes: u64,
    pub(super) removals: u64,
    pub(super) additions: u64,
}

/// A running program.
#[derive(Debug)]
pub(super) struct Process<M: Machine> {
    pub(super) machine: M,
    /// Tells it from those before it in the same place.
    pub(super) life: u32,
    /// What its node's clock showed when it started.
    pub(super) origin: Nanos,
    /// The moment of its next deadline, as far as one is queued.
    pub(super) armed: Nanos,
    /// Does nothing before this.
    pub(super) frozen_until: Nanos,
    /// Until when it freezes after its next decision, before the system calls.
    pub(super) nap: Option<Nanos>,
    /// Actions taken and not carried out, and when they were taken, by its node's clock.
    pub(super) held: Vec<M::Action>,
    pub(super) held_since: Nanos,
    /// Facts that came while it was frozen.
    pub(super) inbox: VecDeque<M::Event>,
    pub(super) watches: [Watch; Stream::COUNT],
    /// Notifications of the kernel come in order: none before this.
    pub(super) notify_at: Nanos,
    /// Notifications are lost before this.
    pub(super) deaf_until: Nanos,
    pub(super) is_stopping: bool,
    /// How often in a row it was called at one moment for a deadline.
    pub(super) spins: (Nanos, u32),
}

/// A watch of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    pub(super) is_open: bool,
    pub(super) is_scheduled: bool,
    /// Nobody wants it: what is still on its way is dropped, and the next one begins with a listing.
    pub(super) is_given_up: bool,
    /// The next change to deliver.
    pub(super) position: u64,
    /// Deliveries come in order: none before this.
    pub(super) next_at: Nanos,
}

impl<M: Machine> Process<M> {
    pub(super) fn new(machine: M, life: u32, origin: Nanos, now: Nanos) -> Self {
        Self {
            machine,
            life,
            origin,
            armed: NEVER,
            frozen_until: 0,
            nap: None,
            held: Vec::new(),
            held_since: 0,
            inbox: VecDeque::new(),
            watches: [Watch::default(); Stream::COUNT],
            notify_at: now,
            deaf_until: 0,
            is_stopping: false,
            spins: (0, 0),
        }
    }

    pub(super) fn is_frozen(&self, now: Nanos) -> bool {
        self.frozen_until > now
    }
}

impl Simulation {
    /// A cluster whose processes start within the first two seconds.
    pub fn new(setup: &Setup) -> Self {
        let mut sim = Self {
            now: 0,
            queue: Queue::default(),
            dice: Dice::new(setup.seed),
            epoch: epoch(),
            layout: setup.layout,
            mutation: setup.mutation,
            passage: setup.passage,
            is_calm: setup.is_calm,
            allocator_unsure_until: 0,
            api: Api::new(),
            segment: Segment::default(),
            hosts: Vec::new(),
            allocator: None,
            allocator_line: Line::default(),
            allocator_starts: 0,
            facts: Slots::default(),
            requests: Slots::default(),
            frames: Slots::default(),
            faults: Vec::new(),
            lasting: Vec::new(),
            horizon: NEVER,
            lossy_until: 0,
            asked: BTreeMap::new(),
            subnets: BTreeSet::new(),
            service_count: 0,
            report: Report::default(),
            story: setup.is_told.then(Story::default),
            transcript: None,
            violation: None,
        };
        sim.api.is_unconditional = setup.mutation == Some(Mutation::UnconditionalWrites);
        sim.build(setup);
        sim
    }

    /// Lets time pass until everything up to `end` has happened, or an invariant is broken.
    pub fn run_until(&mut self, end: Nanos) {
        while self.violation.is_none() {
            let Some((at, what)) = self.queue.pop(end) else { break };
            self.now = at;
            self.happen(what);
        }
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
        self.report.time = self.now;
    }

    /// The same for a span from now.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + nanos(span));
    }

    /// The moment.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// What was counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The invariant that was broken, after which nothing more happens.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// What happened, if the [`Setup`] asked for it.
    pub fn story(&self) -> Option<&Story> {
        self.story.as_ref()
    }

    /// The nodes that have `ip` on their local interface now.
    pub fn holders(&self, ip: IpAddr) -> Vec<NodeName> {
        let holders = self.segment.get(ip).map(|presence| presence.holders.as_slice());
        let holders = holders.unwrap_or_default().iter();
        holders.map(|host| self.hosts[usize::from(*host)].name.clone()).collect()
    }

    /// Every address that was ever on a local interface, with how often it moved to another node.
    pub fn moves(&self) -> BTreeMap<IpAddr, u64> {
        self.segment.iter().map(|(ip, presence)| (ip, presence.moves)).collect()
    }

    /// Every address that a Service has now.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.api.services.values().flat_map(|service| service.ingress.iter().copied()).collect()
    }

    /// What the lease of a node says.
    pub fn lease(&self, node: usize) -> Option<&LeaseContent> {
        self.api.leases.get(&self.hosts[node].name).map(|lease| &lease.content)
    }

    /// The name of a node.
    pub fn name(&self, node: usize) -> &NodeName {
        &self.hosts[node].name
    }

    /// From its next start on, the agent of a node has another lease duration.
    pub fn set_duration(&mut self, node: usize, duration: Duration) {
        self.hosts[node].duration = duration;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arp { slot } => self.hear(slot),
            Happening::Begin { fault } => self.begin(fault as usize),
            Happening::End { fault } => self.end(fault as usize),
            Happening::Expire { host, address } => self.expire(usize::from(host), address),
            Happening::Fact { client, life, slot } => self.arrive(client, life, slot),
            Happening::Land { slot } => self.land(slot),
            Happening::List { client, life, stream } => self.list(client, life, stream),
            Happening::Start { client } => self.start(client),
            Happening::Thaw { client, life } => self.thaw(client, life),
            Happening::Wake { client, life } => self.wake(client, life),
            Happening::Watch { client, life, stream } => self.watch(client, life, stream),
        }
    }

    /// Notes an invariant that does not hold. The first one counts; where a rule is switched off, only
    /// a double does.
    pub(super) fn violate(&mut self, invariant: Invariant, text: String) {
        if self.mutation.is_some() && invariant != Invariant::SingleHolder {
            return;
        }
        self.tell("", None, || format!("BROKEN: {invariant}: {text}"));
        self.violation.get_or_insert(Violation { at: self.now, invariant, text });
    }

    /// Adds to the story.
    pub(super) fn tell(&mut self, who: &str, about: Option<IpAddr>, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.add(self.now, who, about, text());
        }
    }

    /// Adds to the story of a host.
    pub(super) fn tell_of(
        &mut self,
        host: usize,
        about: Option<IpAddr>,
        text: impl FnOnce() -> String,
    ) {
        if let Some(story) = &mut self.story {
            story.add(self.now, &self.hosts[host].label, about, text());
        }
    }

    /// Says what the latest entry of the story is.
    pub(super) fn mark(&mut self, kind: EntryKind) {
        if let Some(story) = &mut self.story {
            story.mark(kind);
        }
    }

    pub(super) fn line_mut(&mut self, client: u16) -> &mut Line {
        match client {
            ALLOCATOR => &mut self.allocator_line,
            host => &mut self.hosts[usize::from(host)].line,
        }
    }

    pub(super) fn life(&self, client: u16) -> Option<u32> {
        match client {
            ALLOCATOR => self.allocator.as_ref().map(|process| process.life),
            host => self.hosts[usize::from(host)].process.as_ref().map(|process| process.life),
        }
    }

    fn watch_mut(&mut self, client: u16, life: u32, stream: Stream) -> Option<&mut Watch> {
        let (watches, now_life) = match client {
            ALLOCATOR => self.allocator.as_mut().map(|p| (&mut p.watches, p.life))?,
            host => {
                let process = self.hosts[usize::from(host)].process.as_mut();
                process.map(|p| (&mut p.watches, p.life))?
            }
        };
        (now_life == life).then(|| &mut watches[stream.index()])
    }

    /// Something was added to the log of a stream: idle watches have something to deliver.
    pub(super) fn changed(&mut self, stream: Stream) {
        for host in 0..self.hosts.len() {
            let host = host as u16;
            if let Some(life) = self.life(host) {
                self.schedule(host, life, stream, 0);
            }
        }
        match (stream, self.life(ALLOCATOR)) {
            (Stream::Objects, Some(life)) => self.schedule(ALLOCATOR, life, stream, 0),
            (Stream::Leases, Some(life)) => self.tell_subnets(life),
            (Stream::Endpoints | Stream::Objects | Stream::Leases, _) => {}
        }
    }

    fn schedule(&mut self, client: u16, life: u32, stream: Stream, not_before: Nanos) {
        let Some(watch) = self.watch_mut(client, life, stream) else { return };
        if !watch.is_open || watch.is_scheduled {
            return;
        }
        watch.is_scheduled = true;
        let earliest = watch.next_at.max(not_before);
        let at = earliest.max(self.now + self.delay(client));
        self.queue.push(at, Happening::Watch { client, life, stream });
    }

    /// The next change of a watch arrives, if the line is open.
    fn watch(&mut self, client: u16, life: u32, stream: Stream) {
        let now = self.now;
        let line = *self.line_mut(client);
        let Some(watch) = self.watch_mut(client, life, stream) else { return };
        watch.is_scheduled = false;
        if !watch.is_open {
            return;
        }
        let shut = line.shut_until.max(line.stalled_until);
        if shut > now {
            if line.shut_until > now && self.dice.once_in(2) {
                return self.reconnect(client, life, stream);
            }
            return self.schedule(client, life, stream, shut);
        }
        let (position, is_last) = (watch.position, watch.position + 1);
        let (fact, is_last) = match stream {
            Stream::Leases => {
                let log = &self.api.lease_log;
                if !log.remembers(position) {
                    return self.reconnect(client, life, stream);
                }
                let change = log.get(position).cloned();
                (change.map(|c| Fact::Agent(Event::Leases(c))), is_last == log.end())
            }
            Stream::Endpoints => {
                let log = &self.api.endpoint_log;
                if !log.remembers(position) {
                    return self.reconnect(client, life, stream);
                }
                let change = log.get(position).cloned();
                (change.map(|c| Fact::Agent(Event::Endpoints(c))), is_last == log.end())
            }
            Stream::Objects => {
                let log = &self.api.object_log;
                if !log.remembers(position) {
                    return self.reconnect(client, life, stream);
                }
                let change = log.get(position).cloned();
                let is_last = is_last == log.end();
                match change {
                    Some(change) => match self.object_fact(client, change) {
                        Some(fact) => (Some(fact), is_last),
                        // Not watched by this client.
                        None => {
                            if let Some(watch) = self.watch_mut(client, life, stream) {
                                watch.position += 1;
                            }
                            if !is_last {
                                self.schedule(client, life, stream, 0);
                            }
                            return;
                        }
                    },
                    None => (None, true),
                }
            }
        };
        let Some(fact) = fact else { return };
        if let Some(watch) = self.watch_mut(client, life, stream) {
            watch.position += 1;
            watch.next_at = now + 1;
        }
        self.report.watch_events += 1;
        if !is_last {
            // What is behind it in the same packet.
            if let Some(watch) = self.watch_mut(client, life, stream) {
                watch.is_scheduled = true;
            }
            let gap = self.dice.below(MILLIS / 10) + 1;
            self.queue.push(now + gap, Happening::Watch { client, life, stream });
        }
        self.hand_over(client, fact);
        if is_last && stream == Stream::Leases && self.dice.once_in(64) {
            let bookmark = LeaseEvent::Bookmark(self.api.version());
            self.hand_over(client, Fact::Agent(Event::Leases(bookmark)));
        }
    }

    fn object_fact(&self, client: u16, change: Object) -> Option<Fact> {
        if client == ALLOCATOR {
            return match change {
                Object::Service(change) => {
                    Some(Fact::Allocator(allocator::Event::Services(change)))
                }
                Object::Group(group) => {
                    Some(Fact::Allocator(allocator::Event::Groups(Change::Updated(group))))
                }
                Object::Node(_) => None,
            };
        }
        match change {
            Object::Group(group) => Some(Fact::Agent(Event::Groups(Change::Updated(group)))),
            Object::Node(node) => {
                let is_own = self.hosts[usize::from(client)].name == node.name;
                is_own.then(|| Fact::Agent(Event::Node(Change::Updated(node))))
            }
            Object::Service(change) => Some(Fact::Agent(Event::Services(change))),
        }
    }

    /// A watch broke: it is begun anew within a third of the lease duration.
    pub(super) fn reconnect(&mut self, client: u16, life: u32, stream: Stream) {
        let Some(watch) = self.watch_mut(client, life, stream) else { return };
        watch.is_open = false;
        let line = *self.line_mut(client);
        let pause = if self.lasting.is_empty() { 20 * MILLIS } else { 1600 * MILLIS };
        let at = self.now.max(line.shut_until) + self.dice.below(pause);
        self.queue.push(at, Happening::List { client, life, stream });
    }

    /// A watch broke, and is taken up again where it was, or from a new listing.
    fn list(&mut self, client: u16, life: u32, stream: Stream) {
        let now = self.now;
        let line = *self.line_mut(client);
        if line.shut_until > now {
            return self.reconnect(client, life, stream);
        }
        let arrives = now + self.delay(client) + self.delay(client);
        let Some(watch) = self.watch_mut(client, life, stream) else { return };
        if watch.is_given_up {
            return;
        }
        let arrives = arrives.max(watch.next_at);
        let is_first = watch.next_at == 0 || watch.position == NEVER;
        let resumes = !is_first && self.dice.once_in(3);
        let end = match stream {
            Stream::Endpoints => self.api.endpoint_log.end(),
            Stream::Leases => self.api.lease_log.end(),
            Stream::Objects => self.api.object_log.end(),
        };
        let Some(watch) = self.watch_mut(client, life, stream) else { return };
        watch.is_open = true;
        watch.next_at = arrives + 1;
        if resumes {
            if watch.position < end {
                self.schedule(client, life, stream, 0);
            }
            return;
        }
        watch.position = end;
        for fact in self.listing(client, stream) {
            let slot = self.facts.put(fact);
            self.queue.push(arrives, Happening::Fact { client, life, slot });
        }
    }

    /// Everything of a stream, as it is now.
    fn listing(&self, client: u16, stream: Stream) -> Vec<Fact> {
        let services = || Change::Listed(self.api.services.values().cloned().collect());
        let groups = || Change::Listed(self.api.groups.clone());
        match stream {
            Stream::Endpoints => {
                let all = self.api.endpoints.values().cloned().collect();
                vec![Fact::Agent(Event::Endpoints(Change::Listed(all)))]
            }
            Stream::Leases => {
                let leases = self.api.leases.values().cloned().collect();
                let listed = LeaseEvent::Listed { leases, version: self.api.version() };
                vec![Fact::Agent(Event::Leases(listed))]
            }
            Stream::Objects if client == ALLOCATOR => vec![
                Fact::Allocator(allocator::Event::Groups(groups())),
                Fact::Allocator(allocator::Event::Services(services())),
            ],
            Stream::Objects => {
                let name = &self.hosts[usize::from(client)].name;
                let node = self.api.nodes.get(name).cloned();
                vec![
                    Fact::Agent(Event::Groups(groups())),
                    Fact::Agent(Event::Agents(Change::Listed(self.api.agents.clone()))),
                    Fact::Agent(Event::Node(Change::Listed(node.into_iter().collect()))),
                    Fact::Agent(Event::Services(services())),
                ]
            }
        }
    }

    fn arrive(&mut self, client: u16, life: u32, slot: u32) {
        let Some(fact) = self.facts.take(slot) else { return };
        let is_for_nobody = matches!(fact, Fact::Agent(Event::Endpoints(_)))
            && self.watch_mut(client, life, Stream::Endpoints).is_none_or(|w| w.is_given_up);
        if self.life(client) == Some(life) && !is_for_nobody {
            self.hand_over(client, fact);
        }
    }

    pub(super) fn hand_over(&mut self, client: u16, fact: Fact) {
        match fact {
            Fact::Agent(event) => self.hand_to_agent(usize::from(client), event),
            Fact::Allocator(event) => self.hand_to_allocator(event),
        }
    }

    fn thaw(&mut self, client: u16, life: u32) {
        if self.life(client) != Some(life) {
            return;
        }
        match client {
            ALLOCATOR => self.thaw_allocator(),
            host => self.thaw_agent(usize::from(host)),
        }
    }

    fn wake(&mut self, client: u16, life: u32) {
        if self.life(client) != Some(life) {
            return;
        }
        match client {
            ALLOCATOR => self.wake_allocator(),
            host => self.wake_agent(usize::from(host)),
        }
    }

    pub(super) fn start(&mut self, client: u16) {
        match client {
            ALLOCATOR => self.start_allocator(),
            host => self.start_agent(usize::from(host)),
        }
    }

    /// An agent's action on the cluster or on people is none of the kernel's.
    pub(super) fn is_of_kernel(action: &Action) -> bool {
        match action {
            Action::Kernel(_) => true,
            Action::Cluster(_) | Action::Notice(_) => false,
        }
    }
}
