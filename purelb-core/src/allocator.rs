//! Gives `LoadBalancer` Services their addresses.
//!
//! Three layers, usable on their own from the bottom up:
//!
//! * facts: [`Catalog`] (which groups there are and who may use them) and [`Ledger`] (who has which
//!   address, the only thing that gives one out or takes one back);
//! * the decision: [`assign`], a pure function of one Service and those facts;
//! * [`Allocator`], the [`Machine`] that is told of Services, groups and outcomes, and asks for the
//!   writes that make the API say what was decided.

mod action;
mod answer;
mod assign;
mod attempt;
mod catalog;
mod event;
mod groups;
mod intake;
mod intervals;
mod ipam;
mod ledger;
mod notice;
mod outbox;
mod pick;
mod record;
mod refusal;
mod request;
mod reserved;
mod services;
mod sidecar;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ipnet::IpNet;

pub use self::action::{
    ALLOCATED_BY, ALLOCATED_FROM, Action, Marks, POOL_TYPE, Patch, RE_EVALUATE, Release,
    SKIP_IPV6_DAD, StatusWrite,
};
pub use self::assign::{Ask, Assignment, Facts, assign};
pub use self::catalog::{Catalog, Choice, DEFAULT_GROUP, Provenance};
pub use self::event::{ClusterRange, Event, Settings, Ticket, Written};
pub use self::ipam::{IpamAnswer, IpamCall, IpamError, IpamReply, IpamRequest, MOST_ADDRESSES};
pub use self::ledger::{Held, Ledger, Obstacle, Owner, Settled};
pub use self::notice::{Cause, GroupNotice, How, Notice, Reason, Remark, ServiceNotice, Severity};
pub use self::refusal::{Fence, GroupRefusal, Ranges, Refusal};
pub use self::request::{Origin, Request};
pub use self::reserved::{Reserved, reserved};

use self::groups::GroupRecord;
use self::outbox::{Outbox, Purpose, Wake};
use self::record::Record;
use self::sidecar::Sidecars;
use crate::group::ServiceGroup;
use crate::machine::{Deadline, Machine};
use crate::name::{GroupName, ServiceKey};
use crate::service::Service;
use crate::store::Store;
use crate::time::{self, Tick};

/// Gives `LoadBalancer` Services their addresses.
///
/// State lives in the Services alone: a new `Allocator` that is told of them has the same
/// assignments. While it runs, its own decisions count until the API shows them, so a list or watch
/// that lags takes nothing back.
///
/// * in: [`handle_event`](Machine::handle_event), [`handle_timeout`](Machine::handle_timeout);
/// * out: [`poll_action`](Machine::poll_action), [`poll_timeout`](Machine::poll_timeout);
/// * questions: [`ledger`](Self::ledger), [`catalog`](Self::catalog), [`refusal`](Self::refusal).
///
/// With the feature `serde` one can be kept as a checkpoint while it has no actions to hand out; what is
/// read back goes on as the first would, once it was told where to [count from](Self::count_from).
///
/// Run one at a time, behind a lease: two at once decide on different facts. One that becomes leader
/// starts afresh.
///
/// ```
/// use std::time::Instant;
///
/// use purelb_core::allocator::{Action, Allocator, Event, Settings};
/// use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
/// use purelb_core::machine::Machine;
/// use purelb_core::name::ServiceKey;
/// use purelb_core::service::Service;
/// use purelb_core::store::Change;
///
/// let v4 = vec![PoolSpec {
///     field: "v4pool".into(),
///     pool: "192.0.2.100-192.0.2.120".into(),
///     subnet: "192.0.2.0/24".into(),
///     aggregation: None,
/// }];
/// let pools = PoolsSpec { v4, ..PoolsSpec::default() };
/// let group = GroupSpec::Local { pools, skip_ipv6_dad: false };
///
/// let now = Instant::now();
/// let mut allocator = Allocator::new();
/// let settings = Settings { default_announcer: true, ..Settings::default() };
/// allocator.handle_event(Event::Settings(settings), now);
/// allocator.handle_event(Event::ActiveSubnets(Default::default()), now);
/// let groups = vec![ServiceGroup::new("default", "uid-1", group)];
/// allocator.handle_event(Event::Groups(Change::Listed(groups)), now);
/// let web = Service::new(ServiceKey::new("shop", "web"), "uid-2");
/// allocator.handle_event(Event::Services(Change::Listed(vec![web])), now);
///
/// let patch = std::iter::from_fn(|| allocator.poll_action()).find_map(|action| match action {
///     Action::Patch(patch) => Some(patch),
///     _ => None,
/// });
/// assert_eq!(patch.unwrap().ingress, ["192.0.2.100".parse::<std::net::IpAddr>().unwrap()]);
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    services: Store<Service>,
    groups: Store<ServiceGroup>,
    settings: Option<Settings>,
    active_subnets: Option<BTreeSet<IpNet>>,
    is_ready: bool,
    catalog: Catalog,
    ledger: Ledger,
    /// Boxed: a map of large values is half empty.
    records: BTreeMap<ServiceKey, Box<Record>>,
    group_records: BTreeMap<GroupName, GroupRecord>,
    sidecars: Sidecars,
    /// Services that wait for something of a group to become free.
    waiting: BTreeMap<GroupName, BTreeSet<ServiceKey>>,
    /// Services of others that show an address which somebody else had first.
    contenders: BTreeSet<ServiceKey>,
    /// Services to decide about before all others.
    dirty_first: BTreeSet<ServiceKey>,
    dirty_services: BTreeSet<ServiceKey>,
    dirty_groups: BTreeSet<GroupName>,
    out: Outbox,
    now: Option<Tick>,
    #[cfg_attr(feature = "serde", serde(skip))]
    origin: Option<time::Origin>,
}

impl Allocator {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ticks count from `start` on: for one that is to be recorded, and for one that was a checkpoint, whose
    /// start is where its recording began. Without it they count from its first fact.
    pub fn count_from(&mut self, start: Instant) {
        self.origin = Some(time::Origin::new(start));
    }

    /// Whether every kind of fact has come once, so that decisions are made.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The Services that it was told of.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// The groups that it was told of.
    pub fn groups(&self) -> impl Iterator<Item = &ServiceGroup> {
        self.groups.iter()
    }

    /// Who has which address.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Which groups there are.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Why a Service does not have all that it asks for, if it does not.
    pub fn refusal(&self, service: &ServiceKey) -> Option<&Refusal> {
        self.records.get(service)?.refusal.as_deref()
    }

    /// Takes in `now`; returns the latest moment known. Ticks count from the first.
    fn tick(&mut self, now: Instant) -> Tick {
        let now = self.origin.get_or_insert_with(|| time::Origin::new(now)).tick(now);
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        now
    }

    /// Begins to decide once every kind of fact has come.
    fn start_when_ready(&mut self) {
        let has_all = self.services.is_listed()
            && self.groups.is_listed()
            && self.settings.is_some()
            && self.active_subnets.is_some();
        if self.is_ready || !has_all {
            return;
        }
        self.is_ready = true;
        self.rebuild_catalog();
        let all = self.services.iter().map(|service| service.key.clone()).collect();
        self.take_in(all);
    }

    fn reconsider_all(&mut self) {
        self.dirty_services.extend(self.records.keys().cloned());
    }

    fn redeem(&mut self, ticket: Ticket, result: &Written, now: Tick) {
        match self.out.redeem(ticket) {
            Some(Purpose::Patch(key, uid, version)) => {
                self.patched(&key, &uid, &version, ticket, result, now);
            }
            Some(Purpose::ReEvaluated(key, uid)) => {
                self.removed_re_evaluate(&key, &uid, ticket, result, now);
            }
            Some(Purpose::Release(gone)) => self.released(gone, result, now),
            Some(Purpose::Status(group, uid)) => {
                self.wrote_status(&group, &uid, ticket, result, now);
            }
            Some(Purpose::Line(..) | Purpose::Stats(_)) | None => {}
        }
    }
}

impl Machine for Allocator {
    type Event = Event;
    type Action = Action;

    fn handle_event(&mut self, event: Event, now: Instant) {
        let now = self.tick(now);
        match event {
            Event::ActiveSubnets(subnets) => {
                let subnets = Some(subnets.iter().map(IpNet::trunc).collect());
                if self.active_subnets != subnets {
                    self.active_subnets = subnets;
                    self.reconsider_all();
                }
            }
            Event::Groups(change) => self.take_in_groups(change),
            Event::Ipam(reply) => match self.out.redeem(reply.ticket) {
                Some(Purpose::Line(group, key)) => self.answered(&group, &key, reply.result, now),
                Some(Purpose::Stats(group)) => self.took_stats(&group, reply.result, now),
                Some(
                    Purpose::Patch(..)
                    | Purpose::ReEvaluated(..)
                    | Purpose::Release(..)
                    | Purpose::Status(..),
                )
                | None => {}
            },
            Event::Services(change) => {
                let changed = self.services.apply(change);
                if self.is_ready {
                    self.take_in(changed);
                }
            }
            Event::Settings(settings) => {
                if self.settings.as_ref() != Some(&settings) {
                    self.settings = Some(settings);
                    if self.is_ready {
                        self.warn_of_overlaps();
                        let all = self.services.iter().map(|service| service.key.clone()).collect();
                        self.take_in(all);
                    }
                }
            }
            Event::Written { ticket, result } => self.redeem(ticket, &result, now),
        }
        self.start_when_ready();
    }

    fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        while let Some(wake) = self.out.due(now) {
            match wake {
                Wake::Group(group) | Wake::Stats(group) => {
                    self.dirty_groups.insert(group);
                }
                Wake::Line(group, key) => self.advance_line(&group, &key, now),
                Wake::Release(gone) => self.release(gone),
                Wake::Service(key) => {
                    self.dirty_services.insert(key);
                }
            }
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.out.pop() {
                return Some(action);
            }
            let now = self.now.filter(|_| self.is_ready)?;
            let next = self.dirty_first.pop_first();
            if let Some(key) = next.or_else(|| self.dirty_services.pop_first()) {
                self.decide(&key, now);
            } else if self.ledger.has_touched() {
                self.mark_touched_groups();
            } else if let Some(group) = self.dirty_groups.pop_first() {
                self.decide_group(&group, now);
            } else {
                return None;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let (at, why) = self.out.deadline()?;
        Some(Deadline { at: self.origin?.instant(at), why })
    }
}
