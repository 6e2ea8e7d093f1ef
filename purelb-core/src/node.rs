//! The agent of one node: puts the addresses of Services on the right interface of its host.

mod advertise;
mod agenda;
mod announce;
mod arrival;
mod conflict;
mod contact;
mod decide;
mod facts;
mod guard;
mod hold;
mod local;
mod notice;
mod ownership;
mod prolong;
mod queue;
mod reconcile;
mod report;
mod restore;
mod surrender;
mod unserved;
mod verdict;
mod view;
mod virtual_link;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

#[cfg(feature = "serde")]
use crate::config::Pattern;
use crate::config::{LbNodeAgent, LocalSpec, Node, OnStop};
use crate::few::Few;
use crate::group::ServiceGroup;
use crate::host::{Address, AddressKey, Family, Link, LinkIndex, Ownership, Route, Sighting};
use crate::kernel::{KernelAction, KernelOutcome};
use crate::lease::{LeaseEvent, LeaseWrite};
use crate::machine::{Deadline, Machine};
use crate::membership::{Elections, Leaving, Membership, Pace, Settings, Standings};
use crate::name::{NodeName, ResourceVersion, ServiceKey};
use crate::place::PoolIndex;
use crate::service::{Endpoints, Service};
use crate::store::{Change, Store};
use crate::time::{Origin, Tick};

pub use guard::{Maker, Note, changes as guard_changes, is_guarded};
pub use notice::{AgentRef, NodeNotice, Restoring, ServiceRef, Since};
pub use unserved::Unserved;
pub use verdict::{Exclusion, NotConfigured, Verdict, Withheld};
pub use view::{AddressView, ConfigView, HostFacts, LeaseView, LocalView, View};

/// For how long the addresses of an agent that stops with `onStop: Keep` outlive it.
const KEEP: Duration = Duration::from_secs(30);

/// A fact for a [`NodeAgent`].
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Addresses of this host.
    Addresses(Change<Address>),
    /// LBNodeAgents of the install namespace.
    Agents(Change<LbNodeAgent>),
    /// A write of announcing annotations failed, and not because the Service has changed.
    AnnounceFailed {
        /// Whose annotation.
        service: ServiceKey,
        /// What went wrong.
        error: String,
    },
    /// Ready endpoints, asked for by [`ClusterAction::WatchEndpoints`].
    Endpoints(Change<Endpoints>),
    /// ServiceGroups of the install namespace.
    Groups(Change<ServiceGroup>),
    /// The kernel's answer to an action.
    Kernel(KernelOutcome),
    /// Leases of all agents, in the API's order, and answers to writes of ours.
    Leases(LeaseEvent),
    /// Links of this host.
    Links(Change<Link>),
    /// This node's own Node object.
    Node(Change<Node>),
    /// Routes of this host.
    Routes(Change<Route>),
    /// Services of the cluster.
    Services(Change<Service>),
    /// Another station said that it has an address that is heeded ([`KernelAction::Heed`]).
    Sighted(Sighting),
    /// The host has slept: its boot clock ran ahead of its monotonic one.
    Slept,
    /// The process is to stop.
    Stop,
}

/// Something for the host of a [`NodeAgent`] to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Something to tell Kubernetes.
    Cluster(ClusterAction),
    /// Something to do on this host. Its [`KernelOutcome`] comes back as [`Event::Kernel`].
    Kernel(KernelAction),
    /// Something to tell people.
    Notice(Box<NodeNotice>),
}

/// Something to tell or ask Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAction {
    /// Write announcing annotations of a Service.
    Announce(Announcement),
    /// List all leases anew: their history is another than the one that was seen.
    ListLeases,
    /// Stop watching endpoints.
    UnwatchEndpoints,
    /// Watch endpoints: some Service needs them.
    WatchEndpoints,
    /// Write this node's lease. The answer comes back as [`LeaseEvent::Written`].
    WriteLease(LeaseWrite),
}

/// A write of a Service's announcing annotations, on the condition that it has not changed: where it
/// has, the change that is on its way leads to another write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whose.
    pub service: ServiceKey,
    /// The version of the Service that it was computed from.
    pub version: ResourceVersion,
    /// The new values of `purelb.io/announcing-IPv4` and `-IPv6`; `None` removes one, and one that is
    /// not there stays as it is.
    pub values: BTreeMap<Family, Option<String>>,
}

/// The agent of one node.
///
/// A [`Machine`]: facts about the cluster and the host go in, actions on both come out. The Service
/// is authoritative: what is wanted is computed from Services, groups, configuration, leases and the
/// host's own links and routes, compared with the addresses that the kernel *shows*, and the
/// difference is what is asked for. So a lost message, a failed request and somebody's `ip addr del`
/// all heal the same way. Nothing is decided before every kind has been listed once.
///
/// [`verdict`](Self::verdict) tells what was decided about an address, and why.
///
/// With the feature `serde` one can be kept as a checkpoint while it has no actions to hand out; what is read
/// back goes on as the first would, once it was told where to `count_from` and has its patterns again
/// (`complete_patterns`).
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug)]
pub struct NodeAgent {
    #[cfg_attr(feature = "serde", serde(skip))]
    origin: Option<Origin>,
    me: NodeName,
    now: Tick,
    ownership: Ownership,

    addresses: facts::Addresses,
    agents: Store<LbNodeAgent>,
    endpoints: Store<Endpoints>,
    groups: Store<ServiceGroup>,
    links: Store<Link>,
    node: Store<Node>,
    routes: Store<Route>,
    services: Store<Service>,
    membership: Membership,
    /// Of the addresses that are wanted, as they were last elected: what makes elections cheap, not what
    /// decides them.
    #[cfg_attr(feature = "serde", serde(skip))]
    elections: Elections,

    config: Option<Config>,
    pools: PoolIndex,
    local: BTreeMap<Family, local::LocalElection>,
    wants: BTreeMap<IpAddr, Want>,
    /// The addresses for which it matters where endpoints are.
    narrowed: BTreeSet<IpAddr>,
    watches_endpoints: bool,
    /// The virtual interface, if it is there.
    virtual_index: Option<LinkIndex>,
    /// The IPv4 subnets of the host's own addresses, by link.
    cards: Vec<(LinkIndex, IpNet)>,
    contact: contact::Contact,
    surrendered: surrender::Surrendered,

    dirty: Dirty,
    hold: hold::Hold,
    bursts: advertise::Bursts,
    claims: announce::Claims,
    conflicts: conflict::Conflicts,
    losses: restore::Losses,
    silence: unserved::Silence,
    awaited: arrival::Awaited,
    /// The addresses of others that people were told of, with their link's name and the Services.
    foreign: BTreeMap<IpAddr, BTreeMap<AddressKey, (String, Vec<ServiceRef>)>>,
    stopping: Option<OnStop>,
    #[cfg_attr(feature = "serde", serde(skip))]
    actions: queue::Queue,
}

/// How this node is configured to announce.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq)]
struct Config {
    spec: Result<LocalSpec, NotConfigured>,
    agent: Option<AgentRef>,
    exclusion: Option<Exclusion>,
}

/// An address that Services ask for.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
struct Want {
    services: Few<ServiceKey>,
    verdict: Option<Verdict>,
}

/// What has to be looked at again.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
struct Dirty {
    /// Every address.
    all: bool,
    /// These addresses.
    ips: BTreeSet<IpAddr>,
    /// Which LBNodeAgent governs.
    config: bool,
    /// What the local interfaces are.
    local: bool,
    /// Whose the addresses are.
    ownership: bool,
    /// The virtual interface and the guards.
    virtual_link: bool,
}

impl NodeAgent {
    /// The agent of `settings.node`, started at `start`: the moment that ticks count from.
    pub fn new(settings: Settings, start: Instant) -> Self {
        Self {
            origin: Some(Origin::new(start)),
            me: settings.node.clone(),
            now: Tick::START,
            ownership: Ownership::Mark,
            addresses: facts::Addresses::default(),
            agents: Store::default(),
            endpoints: Store::default(),
            groups: Store::default(),
            links: Store::default(),
            node: Store::default(),
            routes: Store::default(),
            services: Store::default(),
            membership: Membership::new(settings),
            elections: Elections::default(),
            config: None,
            pools: PoolIndex::default(),
            local: Family::BOTH.map(|family| (family, local::LocalElection::default())).into(),
            wants: BTreeMap::new(),
            narrowed: BTreeSet::new(),
            watches_endpoints: false,
            virtual_index: None,
            cards: Vec::new(),
            contact: contact::Contact::default(),
            surrendered: surrender::Surrendered::default(),
            dirty: Dirty::default(),
            hold: hold::Hold::default(),
            bursts: advertise::Bursts::default(),
            claims: announce::Claims::default(),
            conflicts: conflict::Conflicts::default(),
            losses: restore::Losses::default(),
            silence: unserved::Silence::default(),
            awaited: arrival::Awaited::default(),
            foreign: BTreeMap::new(),
            stopping: None,
            actions: queue::Queue::default(),
        }
    }

    /// Keeps its lease as the operator asked for, who names its duration as well.
    pub fn keep_pace(&mut self, pace: Pace) {
        self.membership.keep_pace(pace);
    }

    /// Ticks count from `start`: for one that was a checkpoint, the moment at which its recording began.
    pub fn count_from(&mut self, start: Instant) {
        self.origin = Some(Origin::new(start));
    }

    /// Gives each pattern its matcher, made from its text: data has the text alone.
    #[cfg(feature = "serde")]
    pub fn complete_patterns(&mut self, make: &dyn Fn(&str) -> Option<Pattern>) {
        self.agents.iter_mut().for_each(|agent| agent.complete_patterns(make));
        if let Some(Config { spec: Ok(spec), .. }) = &mut self.config {
            spec.local_interface.complete_pattern(make);
        }
    }

    /// Breaks a rule on purpose.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutation: crate::mutation::Mutation) {
        self.membership.mutate(mutation);
    }

    /// With another way of telling its own addresses from those of others.
    #[must_use]
    pub fn with_ownership(self, ownership: Ownership) -> Self {
        Self { ownership, ..self }
    }

    /// What was decided about `ip`; `None` if no Service of ours asks for it, or before everything
    /// has been listed.
    pub fn verdict(&self, ip: IpAddr) -> Option<&Verdict> {
        self.wants.get(&ip)?.verdict.as_ref()
    }

    /// Every address that Services ask for, with what was decided.
    pub fn verdicts(&self) -> impl Iterator<Item = (IpAddr, &Verdict)> {
        self.wants.iter().filter_map(|(ip, want)| Some((*ip, want.verdict.as_ref()?)))
    }

    /// The Services that it was told of.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// The groups that it was told of.
    pub fn groups(&self) -> impl Iterator<Item = &ServiceGroup> {
        self.groups.iter()
    }

    /// The LBNodeAgents that it was told of.
    pub fn agents(&self) -> impl Iterator<Item = &LbNodeAgent> {
        self.agents.iter()
    }

    /// Where the kernel shows an address.
    pub fn shown(&self, ip: IpAddr) -> impl Iterator<Item = &Address> {
        self.addresses.of(ip)
    }

    /// The agent's view of the leases.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether everything has been listed once, so that decisions are made.
    pub fn is_ready(&self) -> bool {
        self.config.is_some()
    }

    /// Whether decisions are made and this node may hold and take whatever it wins. One that stops, or
    /// whose lease is not confirmed, is not able to; one that has nothing to serve is.
    pub fn is_able(&self) -> bool {
        self.is_ready() && self.is_listed() && self.stopping.is_none() && self.membership.is_able()
    }

    /// Whether [`Event::Stop`] was taken in and nothing is left to do for it.
    pub fn is_stopped(&self) -> bool {
        match self.stopping {
            None => false,
            Some(_) if !self.is_ready() => true,
            Some(OnStop::Keep) => self.membership.has_left() && self.hold.is_extended(self.right()),
            Some(OnStop::Release) => {
                self.membership.has_left()
                    && self.addresses.has_none_of_ours()
                    && self.has_left_virtual()
            }
        }
    }

    fn right(&self) -> Option<Tick> {
        self.membership.right()
    }

    fn is_listed(&self) -> bool {
        self.addresses.is_listed()
            && self.agents.is_listed()
            && self.groups.is_listed()
            && self.links.is_listed()
            && self.node.is_listed()
            && self.routes.is_listed()
            && self.services.is_listed()
            && self.membership.is_listed()
    }

    fn tell(&mut self, notice: NodeNotice) {
        self.actions.push_back(Action::Notice(Box::new(notice)));
    }

    fn ask_kernel(&mut self, action: KernelAction) {
        self.actions.push_back(Action::Kernel(action));
    }

    fn pass_time(&mut self, now: Instant) {
        let then = self.now;
        self.now = self.now.max(self.origin.get_or_insert_with(|| Origin::new(now)).tick(now));
        self.hold.carried_out(then, self.now);
        let right = self.right();
        if self.membership.handle_timeout(self.now) == Standings::Changed {
            self.dirty.all = true;
        }
        if self.right() != right {
            self.prolong();
        }
    }

    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let how = self.spec().map_or(OnStop::Release, |spec| spec.on_stop);
        self.stopping = Some(how);
        let leaving = match how {
            OnStop::Keep => Leaving::Keep(KEEP),
            OnStop::Release => Leaving::Release,
        };
        let _ = self.membership.leave(leaving, self.now);
        self.dirty.all = true;
        self.dirty.virtual_link = true;
    }

    /// The Services on an address, to tell about.
    fn refs(&self, want: &Want) -> Vec<ServiceRef> {
        let refs = self.services_of(want);
        refs.map(|s| ServiceRef { key: s.key.clone(), uid: s.uid.clone() }).collect()
    }

    /// The name of a link, or its number if it is gone.
    pub fn link_name(&self, link: LinkIndex) -> String {
        self.links.get(&link).map_or_else(|| link.to_string(), |link| link.name.clone())
    }

    /// How to announce, if this node is configured to.
    fn spec(&self) -> Option<&LocalSpec> {
        self.config.as_ref()?.spec.as_ref().ok()
    }

    /// Brings everything up to date with the facts: configuration, local interfaces, each address,
    /// the virtual interface, what the leases are told.
    fn advance(&mut self) {
        if !self.is_listed() {
            return;
        }
        if self.config.is_none() {
            // What a previous process left for want of nothing must not go for want of endpoints.
            if self.wants.values().any(|want| !want.services.is_empty() && self.is_narrowed(want))
                && !self.endpoints.is_listed()
            {
                if !std::mem::replace(&mut self.watches_endpoints, true) {
                    let action = Action::Cluster(ClusterAction::WatchEndpoints);
                    self.actions.push_back(action);
                }
                return;
            }
            self.find_virtual_link();
            self.dirty = Dirty { all: true, config: true, ownership: true, ..Dirty::default() };
        }
        let is_start = self.config.is_none();
        self.refresh_config();
        self.refresh_local();
        self.refresh_ownership();
        if is_start {
            self.hold.start(&self.addresses, &self.membership, &self.links);
        }
        self.expire();
        self.ask_again();
        self.end_pauses();
        // Reporting what is served, or what was taken off, can change whose an address is.
        loop {
            self.reconcile_dirty();
            if self.hold.must_tidy() {
                break;
            }
            let report = self.host_report();
            if self.membership.handle_host(report, self.now) == Standings::Same && !self.dirty.all {
                break;
            }
            self.dirty.all = true;
        }
        self.refresh_virtual_link();
        self.extend();
        self.advertise();
        self.watch_endpoints();
        self.break_silence();
        self.tell_contact();
        while let Some(write) = self.membership.poll_write() {
            self.actions.push_back(Action::Cluster(ClusterAction::WriteLease(write)));
        }
    }

    fn watch_endpoints(&mut self) {
        let needed = !self.narrowed.is_empty();
        if needed == self.watches_endpoints {
            return;
        }
        self.watches_endpoints = needed;
        let action = if needed {
            ClusterAction::WatchEndpoints
        } else {
            self.endpoints = Store::default();
            ClusterAction::UnwatchEndpoints
        };
        self.actions.push_back(Action::Cluster(action));
    }
}

impl Machine for NodeAgent {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, event: Event, now: Instant) {
        self.pass_time(now);
        self.take_in(event);
        self.advance();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.pass_time(now);
        self.advance();
    }

    fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        if let Action::Kernel(action) = &action {
            self.hold.handed_out(action);
        }
        Some(action)
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if !self.is_ready() || !self.is_listed() {
            return None;
        }
        let membership = self.membership.poll_timeout();
        let local = self.local.values().filter_map(local::LocalElection::deadline);
        let local = local.min().map(|at| (at, "second default route"));
        let (at, why) = [
            membership,
            local,
            self.hold.deadline(),
            self.bursts.deadline(),
            self.claims.deadline(),
            self.surrendered.deadline(),
            self.conflicts.deadline(),
            self.losses.deadline(),
            self.silence.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()?;
        Some(Deadline { at: self.origin?.instant(at), why })
    }
}
