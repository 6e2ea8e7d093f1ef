//! A small cluster as plain data: agents with the real rules, an API, and kernels with lifetimes.
//!
//! One address is at stake, in one subnet that every node serves. Nothing happens by itself: each
//! [`Action`] is one step of one part, and whichever is possible may come next. A part that is not
//! chosen for a while is one that is slow, frozen, or cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use purelb_core::election;
use purelb_core::lease::{Base, Lease, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::membership::{
    DEFAULT_DURATION, HostReport, Leaving, Membership, NotYet, Rename, Settings, Standing,
    Standings,
};
use purelb_core::mutation::Mutation;
use purelb_core::name::NodeName;
use purelb_core::time::Tick;

/// How late a kernel may remove an address at most.
const LATENESS: Duration = Duration::from_millis(1250);

/// What a process that stops with `onStop: Keep` asks for.
const KEEP: Duration = Duration::from_secs(30);

/// No more requests of one node are on their way at once; the oldest is lost.
const MOST_REQUESTS: usize = 2;

/// Nothing that is older than this matters to any rule.
const LONG_AGO: Duration = Duration::from_secs(40);

pub(crate) fn address() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

fn subnet() -> IpNet {
    "192.0.2.0/24".parse().expect("a well-formed subnet")
}

/// The index of a node: 0 wins the address over 1, and 1 over 2.
pub(crate) type Index = usize;

/// One step of one part of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Time passes by one quantum.
    Tick,
    /// The agent is told of the next change, or of all leases if it knows none yet.
    Deliver(Index),
    /// A deadline of the agent is due.
    Timer(Index),
    /// The answer to the agent's request arrives.
    Answer(Index),
    /// The agent gives its request up.
    GiveUp(Index),
    /// The agent makes the system call that it has decided on.
    Call(Index),
    /// This request of the node reaches the API.
    Land(Index, usize),
    /// The process has left, and ends.
    Exit(Index),
    /// A fault, or something that an operator does.
    Fault(Index, Fault),
}

impl Action {
    /// Whether it is a step of this node or of its requests.
    pub(crate) fn is_of(self, node: Index) -> bool {
        match self {
            Self::Tick => false,
            Self::Deliver(n)
            | Self::Timer(n)
            | Self::Answer(n)
            | Self::GiveUp(n)
            | Self::Call(n)
            | Self::Land(n, _)
            | Self::Exit(n)
            | Self::Fault(n, _) => n == node,
        }
    }
}

/// What happens a bounded number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Crash,
    /// Somebody deletes the node's lease.
    DeleteLease,
    /// The process is told to stop, and to leave its addresses for the next.
    Keep,
    /// The link loses its carrier, or has it back.
    Link,
    /// The watch breaks: all leases are listed instead of what was still to come.
    Relist,
    /// The host is started anew; nothing is left on its links.
    Reboot,
    /// The process is told to stop.
    Leave,
    /// A process is started.
    Start,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Crash,
        Self::DeleteLease,
        Self::Keep,
        Self::Link,
        Self::Relist,
        Self::Reboot,
        Self::Leave,
        Self::Start,
    ];
}

/// Where the story of a run goes, if anybody wants it.
pub(crate) type Story<'a> = Option<&'a mut Vec<String>>;

/// The whole cluster.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Tick,
    quantum: Duration,
    mutation: Option<Mutation>,
    /// Every change of a lease, in the API's order.
    log: Rc<Vec<LeaseEvent>>,
    version: Version,
    leases: Rc<BTreeMap<NodeName, Lease>>,
    created: u32,
    pub(crate) hosts: Vec<Rc<Host>>,
    /// How many quanta may still pass, and how many faults may still come.
    pub(crate) ticks_left: u32,
    pub(crate) faults_left: u32,
    /// The very first write of the first node is kept back.
    pub(crate) is_first_write_late: bool,
}

#[derive(Clone, Hash)]
pub(crate) struct Host {
    pub(crate) node: NodeName,
    starts: u32,
    boots: u32,
    has_link: bool,
    pub(crate) process: Option<Process>,
    /// The latest moment at which the kernel may still have the address.
    pub(crate) kernel: Option<Tick>,
    /// On their way to the API.
    requests: Vec<LeaseWrite>,
}

#[derive(Clone, Hash)]
pub(crate) struct Process {
    pub(crate) agent: Membership,
    /// How much of the log it has been told.
    cursor: Option<usize>,
    in_flight: Option<InFlight>,
    /// The system call that it is about to make.
    call: Option<Call>,
    /// Until when the kernel was last asked to keep the address.
    granted: Option<Tick>,
    /// The address is there by the right of the process before.
    has_adopted: Option<bool>,
    stopping: Option<Leaving>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct InFlight {
    attempt: u64,
    give_up_at: Tick,
    answer: Option<WriteResult>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    /// Keep the address until then; how many seconds that was when it was decided.
    Add {
        until: Tick,
        seconds: u64,
    },
    Remove,
}

impl World {
    /// So many nodes, none of them with an agent.
    pub(crate) fn new(nodes: usize, quantum: Duration, mutation: Option<Mutation>) -> Self {
        let names: Vec<NodeName> =
            ["a", "b", "c"].into_iter().take(nodes).map(Into::into).collect();
        let host = |node: &NodeName| Host {
            node: node.clone(),
            starts: 0,
            boots: 0,
            has_link: true,
            process: None,
            kernel: None,
            requests: vec![],
        };
        Self {
            now: Tick::START,
            quantum,
            mutation,
            log: Rc::default(),
            version: Version(1),
            leases: Rc::default(),
            created: 0,
            hosts: election::ranking(address(), &names)
                .into_iter()
                .map(|node| Rc::new(host(node)))
                .collect(),
            ticks_left: 0,
            faults_left: 0,
            is_first_write_late: false,
        }
    }

    fn host(&mut self, n: Index) -> &mut Host {
        Rc::make_mut(&mut self.hosts[n])
    }

    fn process(&mut self, n: Index) -> &mut Process {
        self.host(n).process.as_mut().expect("only offered for a node with a process")
    }

    /// The nodes whose kernels may have the address at this moment.
    pub(crate) fn holders(&self) -> Vec<&NodeName> {
        let holding = self.hosts.iter().filter(|h| h.kernel.is_some_and(|until| until > self.now));
        holding.map(|host| &host.node).collect()
    }

    /// Everything that may happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = vec![];
        for (n, host) in self.hosts.iter().enumerate() {
            let requests = 0..host.requests.len();
            actions.extend(requests.filter(|i| !self.is_dead(n, *i)).map(|i| Action::Land(n, i)));
            if let Some(process) = &host.process {
                self.turns(n, process, &mut actions);
            }
            if self.faults_left > 0 {
                let faults = Fault::ALL.into_iter().filter(|fault| self.is_possible(n, *fault));
                actions.extend(faults.map(|fault| Action::Fault(n, fault)));
            }
        }
        if self.ticks_left > 0 {
            actions.push(Action::Tick);
        }
        actions
    }

    /// What the process of node `n` may do. One that has decided on a system call does nothing else
    /// before it has made it.
    fn turns(&self, n: Index, process: &Process, actions: &mut Vec<Action>) {
        if process.call.is_some() {
            actions.push(Action::Call(n));
            return;
        }
        if process.cursor.is_none_or(|cursor| cursor < self.log.len()) {
            actions.push(Action::Deliver(n));
        }
        if process.agent.poll_timeout().is_some_and(|(due, _)| due <= self.now) {
            actions.push(Action::Timer(n));
        }
        if let Some(in_flight) = &process.in_flight {
            if in_flight.answer.is_some() {
                actions.push(Action::Answer(n));
            }
            if in_flight.give_up_at <= self.now {
                actions.push(Action::GiveUp(n));
            }
        }
        let is_off = self.hosts[n].kernel.is_none();
        let has_left = process.agent.has_left();
        if has_left && (matches!(process.stopping, Some(Leaving::Keep(_))) || is_off) {
            actions.push(Action::Exit(n));
        }
    }

    fn is_possible(&self, n: Index, fault: Fault) -> bool {
        let host = &self.hosts[n];
        let process = host.process.as_ref();
        match fault {
            Fault::Crash => process.is_some(),
            Fault::DeleteLease => self.leases.contains_key(&host.node),
            Fault::Keep | Fault::Leave => process
                .is_some_and(|p| p.stopping.is_none() && p.call.is_none() && p.cursor.is_some()),
            Fault::Link => true,
            Fault::Relist => process.is_some_and(|process| {
                process.call.is_none() && process.cursor.is_some_and(|c| c < self.log.len())
            }),
            Fault::Reboot => true,
            Fault::Start => process.is_none(),
        }
    }

    /// Whether a beginning keeps this request for later.
    pub(crate) fn is_kept_back(&self, n: Index, request: usize) -> bool {
        self.is_first_write_late && n == 0 && self.hosts[n].requests[request].attempt == 1
    }

    /// Whether this request can change nothing any more and nobody waits for its answer.
    fn is_dead(&self, n: Index, request: usize) -> bool {
        let host = &self.hosts[n];
        let write = &host.requests[request];
        let awaited = host.process.as_ref().and_then(|process| process.in_flight.as_ref());
        let is_awaited = write.content.instance == host.instance()
            && awaited.is_some_and(|in_flight| in_flight.attempt == write.attempt);
        let can_land = match &write.base {
            Base::Absent => true,
            Base::Exactly { .. } => self.accepts(&host.node, write),
        };
        !is_awaited && !can_land
    }

    fn accepts(&self, node: &NodeName, write: &LeaseWrite) -> bool {
        if self.mutation == Some(Mutation::UnconditionalWrites) {
            return true;
        }
        match (&write.base, self.leases.get(node)) {
            (Base::Absent, None) => true,
            (Base::Exactly { uid, version }, Some(lease)) => {
                lease.uid == *uid && lease.version == *version
            }
            (Base::Absent, Some(_)) | (Base::Exactly { .. }, None) => false,
        }
    }

    /// Carries out what [`actions`](Self::actions) offered.
    pub(crate) fn step(&mut self, action: Action, mut story: Story<'_>) {
        let now = self.now;
        match action {
            Action::Tick => self.pass_time(story),
            Action::Deliver(n) => {
                let (leases, log) = (Rc::clone(&self.leases), Rc::clone(&self.log));
                let version = self.version;
                let process = self.process(n);
                let event = match process.cursor {
                    None => {
                        LeaseEvent::Listed { leases: leases.values().cloned().collect(), version }
                    }
                    Some(cursor) => log[cursor].clone(),
                };
                process.cursor = Some(process.cursor.map_or(log.len(), |cursor| cursor + 1));
                self.say(n, &mut story, || format!("is told {}", told(&event)));
                self.turn(n, story, |agent| agent.handle_lease(event, now));
            }
            Action::Timer(n) => {
                let due = self.process(n).agent.poll_timeout();
                let why = due.map_or("", |(_, why)| why);
                self.say(n, &mut story, || format!("wakes for its {why}"));
                self.turn(n, story, |agent| agent.handle_timeout(now));
            }
            Action::Answer(n) => {
                let answered = self.process(n).in_flight.take();
                let Some(InFlight { attempt, answer: Some(result), .. }) = answered else {
                    unreachable!("only offered with an answer")
                };
                self.say(n, &mut story, || format!("has the answer to write {attempt}"));
                let event = LeaseEvent::Written { attempt, result };
                self.turn(n, story, |agent| agent.handle_lease(event, now));
            }
            Action::GiveUp(n) => {
                let Some(InFlight { attempt, .. }) = self.process(n).in_flight.take() else {
                    unreachable!("only offered with a request")
                };
                self.say(n, &mut story, || format!("gives write {attempt} up"));
                let result = WriteResult::Unknown { error: "timeout".into() };
                let event = LeaseEvent::Written { attempt, result };
                self.turn(n, story, |agent| agent.handle_lease(event, now));
            }
            Action::Call(n) => self.call(n, story),
            Action::Land(n, request) => self.land(n, request, story),
            Action::Exit(n) => {
                self.host(n).process = None;
                self.say(n, &mut story, || "has left: its process ends".to_owned());
            }
            Action::Fault(n, fault) => self.fault(n, fault, story),
        }
    }

    fn pass_time(&mut self, mut story: Story<'_>) {
        self.now = self.now + self.quantum;
        self.ticks_left = self.ticks_left.saturating_sub(1);
        for n in 0..self.hosts.len() {
            if self.hosts[n].kernel.is_some_and(|until| until <= self.now) {
                self.host(n).kernel = None;
                self.say(n, &mut story, || "the kernel has removed the address by now".to_owned());
            }
        }
    }

    /// A fact for an agent, and all that follows from it before it waits again.
    fn turn(
        &mut self,
        n: Index,
        mut story: Story<'_>,
        fact: impl FnOnce(&mut Membership) -> Standings,
    ) {
        let now = self.now;
        let host = Rc::make_mut(&mut self.hosts[n]);
        let Some(process) = &mut host.process else { return };
        let _ = fact(&mut process.agent);
        let _ = process.agent.handle_timeout(now);
        if !process.agent.is_listed() {
            return;
        }
        loop {
            let report = process.decide(host.kernel, host.has_link, now);
            if process.agent.handle_host(report, now) == Standings::Same {
                break;
            }
        }
        let mut writes = vec![];
        while let Some(write) = process.agent.poll_write() {
            process.in_flight = Some(InFlight {
                attempt: write.attempt,
                give_up_at: now + write.timeout,
                answer: None,
            });
            writes.push(write);
        }
        let call = process.call;
        for write in &writes {
            self.say(n, &mut story, || format!("sends write {}: {}", write.attempt, said(write)));
        }
        match call {
            Some(Call::Add { until, .. }) => {
                self.say(n, &mut story, || format!("decides to hold the address until {until}"));
            }
            Some(Call::Remove) => {
                self.say(n, &mut story, || "decides to let the address go".to_owned());
            }
            None => {}
        }
        let requests = &mut self.host(n).requests;
        requests.extend(writes);
        while requests.len() > MOST_REQUESTS {
            requests.remove(0);
        }
    }

    /// The system call: the deadline is looked at when it is made.
    fn call(&mut self, n: Index, mut story: Story<'_>) {
        let now = self.now;
        let is_early = self.mutation == Some(Mutation::EarlyLifetime);
        let Some(call) = self.process(n).call.take() else { return };
        match call {
            Call::Remove => {
                self.host(n).kernel = None;
                self.process(n).granted = None;
                self.say(n, &mut story, || "takes the address off its interface".to_owned());
            }
            Call::Add { until, seconds } => {
                self.process(n).granted = Some(until);
                let seconds = if is_early { seconds } else { until.since(now).as_secs() };
                if seconds == 0 {
                    self.say(n, &mut story, || "is too late to hold the address".to_owned());
                } else {
                    let latest = now + Duration::from_secs(seconds) + LATENESS;
                    self.host(n).kernel = Some(latest);
                    self.say(n, &mut story, || {
                        format!("has its kernel hold the address for {seconds} s: {latest} at the latest")
                    });
                }
            }
        }
        self.turn(n, story, |agent| agent.handle_timeout(now));
    }

    fn land(&mut self, n: Index, request: usize, mut story: Story<'_>) {
        let write = self.host(n).requests.remove(request);
        let node = self.hosts[n].node.clone();
        let attempt = write.attempt;
        let instance = write.content.instance.clone();
        let result = if self.accepts(&node, &write) {
            self.version = Version(self.version.0 + 1);
            let version = self.version;
            let uid = match self.leases.get(&node) {
                Some(lease) => lease.uid.clone(),
                None => {
                    self.created += 1;
                    format!("{node}-{}", self.created).into()
                }
            };
            let lease = Lease { node: node.clone(), version, uid, content: write.content };
            Rc::make_mut(&mut self.leases).insert(node, lease.clone());
            Rc::make_mut(&mut self.log).push(LeaseEvent::Updated(lease));
            self.say(n, &mut story, || {
                format!("the API takes write {attempt} as version {version}")
            });
            WriteResult::Accepted { version }
        } else {
            self.say(n, &mut story, || {
                format!("the API refuses write {attempt}: it comes too late")
            });
            WriteResult::Conflict
        };
        let host = self.host(n);
        let is_from_here = instance == host.instance();
        if let Some(process) = host.process.as_mut().filter(|_| is_from_here)
            && let Some(in_flight) = process.in_flight.as_mut().filter(|f| f.attempt == attempt)
        {
            in_flight.answer = Some(result);
        }
    }

    fn fault(&mut self, n: Index, fault: Fault, mut story: Story<'_>) {
        let now = self.now;
        self.faults_left = self.faults_left.saturating_sub(1);
        match fault {
            Fault::Crash => {
                self.host(n).process = None;
                self.say(n, &mut story, || "is killed".to_owned());
            }
            Fault::DeleteLease => {
                self.version = Version(self.version.0 + 1);
                let (node, version) = (self.hosts[n].node.clone(), self.version);
                Rc::make_mut(&mut self.leases).remove(&node);
                Rc::make_mut(&mut self.log).push(LeaseEvent::Deleted { node, version });
                self.say(n, &mut story, || {
                    format!("somebody deletes its lease: version {version}")
                });
            }
            Fault::Keep | Fault::Leave => {
                let how = if fault == Fault::Keep { Leaving::Keep(KEEP) } else { Leaving::Release };
                self.process(n).stopping = Some(how);
                self.say(n, &mut story, || format!("is told to stop: {how:?}"));
                self.turn(n, story, |agent| agent.leave(how, now));
            }
            Fault::Link => {
                let host = self.host(n);
                host.has_link = !host.has_link;
                let has_link = host.has_link;
                self.say(n, &mut story, || format!("has carrier: {has_link}"));
                if self.hosts[n].process.as_ref().is_some_and(|process| process.call.is_none()) {
                    self.turn(n, story, |agent| agent.handle_timeout(now));
                }
            }
            Fault::Relist => {
                let event = LeaseEvent::Listed {
                    leases: self.leases.values().cloned().collect(),
                    version: self.version,
                };
                self.process(n).cursor = Some(self.log.len());
                self.say(n, &mut story, || {
                    format!("its watch breaks; it is told {}", told(&event))
                });
                self.turn(n, story, |agent| agent.handle_lease(event, now));
            }
            Fault::Reboot => {
                let host = self.host(n);
                (host.process, host.kernel) = (None, None);
                host.boots += 1;
                self.say(n, &mut story, || "reboots".to_owned());
            }
            Fault::Start => {
                let mutation = self.mutation;
                let host = self.host(n);
                host.starts += 1;
                let mut agent = Membership::new(Settings {
                    node: host.node.clone(),
                    boot_id: format!("{}-{}", host.node, host.boots).into(),
                    instance: host.instance(),
                    duration: DEFAULT_DURATION,
                });
                if let Some(mutation) = mutation {
                    agent.mutate(mutation);
                }
                let _ = agent.handle_timeout(now);
                host.process = Some(Process {
                    agent,
                    cursor: None,
                    in_flight: None,
                    call: None,
                    granted: None,
                    has_adopted: None,
                    stopping: None,
                });
                let instance = self.hosts[n].instance();
                self.say(n, &mut story, || format!("starts as process {instance}"));
            }
        }
    }

    fn say(&self, n: Index, story: &mut Story<'_>, text: impl FnOnce() -> String) {
        if let Some(lines) = story {
            lines.push(format!("{}  {}  {}", self.now, self.hosts[n].node, text()));
        }
    }

    /// One number for all states that behave alike: moments count from now, versions, writes and
    /// joins are numbered anew in their order.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut names = Collected { now: self.now, ..Collected::default() };
        let mut copy = Shape::of(self);
        copy.rename(&mut names);
        copy.rename(&mut names.numbered());
        let mut hasher = DefaultHasher::new();
        (copy, self.created, self.ticks_left, self.faults_left).hash(&mut hasher);
        hasher.finish()
    }
}

impl Host {
    /// Whether its agent has nothing left to do about its own right to hold.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.process.as_ref().is_none_or(|process| process.agent.right().is_some())
    }

    fn instance(&self) -> String {
        format!("{}{}", self.node, self.starts)
    }
}

impl Process {
    /// What the node agent does with the address, and what it reports to the leases: the same rules
    /// for one address as in `node`.
    fn decide(&mut self, kernel: Option<Tick>, has_link: bool, now: Tick) -> HostReport {
        let is_first = self.has_adopted.is_none();
        let inherits = self.agent.inherits() && kernel.is_some();
        let has_adopted = *self.has_adopted.get_or_insert(inherits);
        let is_releasing = self.stopping == Some(Leaving::Release);
        let standing = self.agent.standing(address(), false);
        let can_serve = has_link && !is_releasing;
        let (wanted, is_tolerated) = match standing {
            Standing::Mine { until } if self.agent.may_take() || kernel.is_some() => {
                (Some(until), false)
            }
            Standing::Mine { .. } => (None, false),
            Standing::NotYet(NotYet::Fenced | NotYet::Joining { .. }) => {
                (None, has_adopted && self.agent.is_first_join())
            }
            Standing::NotYet(NotYet::NotServed) | Standing::Nobody | Standing::Theirs { .. } => {
                (None, false)
            }
        };
        let wanted = wanted.filter(|_| can_serve);
        let is_tolerated = is_tolerated && can_serve;
        if !is_first {
            self.has_adopted = Some(is_tolerated);
        }
        self.call = match wanted {
            Some(until) if self.granted < Some(until) => {
                Some(Call::Add { until, seconds: until.since(now).as_secs() })
            }
            Some(_) => None,
            None if kernel.is_some() && !is_tolerated => Some(Call::Remove),
            None => None,
        };
        let is_occupied = kernel.is_some() || matches!(self.call, Some(Call::Add { .. }));
        let promised = match self.call {
            Some(Call::Add { until, .. }) => Some(until),
            Some(Call::Remove) | None => None,
        };
        HostReport {
            serving: can_serve.then(subnet).into_iter().collect(),
            occupied: is_occupied.then(subnet).into_iter().collect(),
            is_settled: self.call != Some(Call::Remove),
            holds_until: kernel.max(promised),
            is_adopting: inherits && is_first,
            ..HostReport::default()
        }
    }
}

fn said(write: &LeaseWrite) -> String {
    let content = &write.content;
    let what = if content.subnets.is_empty() { "serves nothing" } else { "serves the subnet" };
    let seen = content.seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
    let join = content.join.unwrap_or_default();
    let keep = if content.keep { ", keep" } else { "" };
    format!("{what}, join {join}, has seen {seen}{keep}")
}

fn told(event: &LeaseEvent) -> String {
    match event {
        LeaseEvent::Bookmark(version) => format!("that nothing is missing up to {version}"),
        LeaseEvent::Deleted { node, version } => {
            format!("of {version}: the lease of {node} is gone")
        }
        LeaseEvent::Listed { leases, version } => {
            let nodes: Vec<&str> = leases.iter().map(|lease| lease.node.as_str()).collect();
            format!("of all leases as of {version}: {}", nodes.join(", "))
        }
        LeaseEvent::Updated(lease) => format!("of {}: {}", lease.version, lease.node),
        LeaseEvent::Written { attempt, .. } => format!("what became of write {attempt}"),
    }
}

/// What there is to tell states apart by.
#[derive(Hash)]
struct Shape {
    leases: Vec<Lease>,
    version: Version,
    hosts: Vec<Host>,
    /// What each process has not been told yet.
    untold: Vec<Vec<LeaseEvent>>,
}

impl Shape {
    fn of(world: &World) -> Self {
        let hosts = world.hosts.iter().enumerate().map(|(n, host)| {
            let mut host = Host::clone(host);
            host.requests = (0..host.requests.len())
                .filter(|request| !world.is_dead(n, *request))
                .map(|request| host.requests[request].clone())
                .collect();
            if let Some(process) = &mut host.process {
                process.cursor = process.cursor.map(|_| 0);
            }
            host
        });
        let cursors = world.hosts.iter().map(|host| host.process.as_ref()?.cursor);
        Self {
            leases: world.leases.values().cloned().collect(),
            version: world.version,
            hosts: hosts.collect(),
            untold: cursors
                .map(|cursor| cursor.map_or_else(Vec::new, |cursor| world.log[cursor..].to_vec()))
                .collect(),
        }
    }

    fn rename(&mut self, names: &mut impl Rename) {
        names.version(&mut self.version);
        self.leases.iter_mut().for_each(|lease| lease.rename(names));
        for (host, untold) in self.hosts.iter_mut().zip(&mut self.untold) {
            let node = host.node.clone();
            untold.iter_mut().for_each(|event| event.rename(&node, names));
            host.requests.iter_mut().for_each(|write| write.rename(&node, names));
            host.kernel.iter_mut().for_each(|until| names.tick(until));
            let Some(process) = &mut host.process else { continue };
            process.agent.rename(names);
            process.granted.iter_mut().for_each(|until| names.tick(until));
            if let Some(Call::Add { until, .. }) = &mut process.call {
                names.tick(until);
            }
            if let Some(in_flight) = &mut process.in_flight {
                names.attempt(&node, &mut in_flight.attempt);
                names.tick(&mut in_flight.give_up_at);
                if let Some(WriteResult::Accepted { version }) = &mut in_flight.answer {
                    names.version(version);
                }
            }
        }
    }
}

/// Every number that occurs.
#[derive(Default)]
struct Collected {
    now: Tick,
    versions: BTreeSet<u64>,
    attempts: BTreeSet<(NodeName, u64)>,
    joins: BTreeSet<(NodeName, u64)>,
}

impl Collected {
    fn numbered(self) -> Numbered {
        let rank =
            |set: BTreeSet<(NodeName, u64)>| (0..).zip(set).map(|(n, key)| (key, n)).collect();
        Numbered {
            now: self.now,
            versions: (0..).zip(self.versions).map(|(n, version)| (version, n)).collect(),
            attempts: rank(self.attempts),
            joins: rank(self.joins),
        }
    }
}

impl Rename for Collected {
    fn tick(&mut self, _: &mut Tick) {}

    fn version(&mut self, version: &mut Version) {
        self.versions.insert(version.0);
    }

    fn attempt(&mut self, node: &NodeName, attempt: &mut u64) {
        self.attempts.insert((node.clone(), *attempt));
    }

    fn join(&mut self, node: &NodeName, join: &mut u64) {
        self.joins.insert((node.clone(), *join));
    }
}

/// The new name of each.
struct Numbered {
    now: Tick,
    versions: BTreeMap<u64, u64>,
    attempts: BTreeMap<(NodeName, u64), u64>,
    joins: BTreeMap<(NodeName, u64), u64>,
}

impl Rename for Numbered {
    fn tick(&mut self, tick: &mut Tick) {
        let age = self.now.since(*tick).min(LONG_AGO);
        *tick = Tick::START + tick.since(self.now) - age;
    }

    fn version(&mut self, version: &mut Version) {
        version.0 = self.versions[&version.0];
    }

    fn attempt(&mut self, node: &NodeName, attempt: &mut u64) {
        *attempt = self.attempts[&(node.clone(), *attempt)];
    }

    fn join(&mut self, node: &NodeName, join: &mut u64) {
        *join = self.joins[&(node.clone(), *join)];
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held by {:?}", self.now, self.holders())
    }
}
