//! Taking in ServiceGroups, and writing how full they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::allocator::Allocator;
use crate::allocator::action::{Action, StatusWrite};
use crate::allocator::attempt::{self, Attempt, Step};
use crate::allocator::catalog::Catalog;
use crate::allocator::event::{Ticket, Written};
use crate::allocator::ipam::{IpamAnswer, IpamCall, IpamError, IpamRequest};
use crate::allocator::ledger::Ledger;
use crate::allocator::notice::{GroupNotice, Notice};
use crate::allocator::outbox::{Purpose, Wake};
use crate::allocator::refusal::GroupRefusal;
use crate::allocator::reserved::reserved;
use crate::group::{Announce, Group, GroupSpec, ServiceGroup, Source};
use crate::host::Family;
use crate::name::{GroupName, Namespace, ResourceVersion, Uid};
use crate::store::Change;
use crate::time::Tick;
use crate::usage::{FamilyUsage, GroupStatus, Usage};

/// The least time between two writes of one group's status.
const STATUS_GAP: Duration = Duration::from_millis(500);

/// What the allocator remembers of a ServiceGroup.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub(crate) struct GroupRecord {
    spec: Spec,
    verdict: Option<GroupRefusal>,
    warned: BTreeSet<Overlap>,
    usage: Option<Usage>,
    status: Attempt<GroupStatus>,
    figures: Figures,
}

/// All of a ServiceGroup that a decision stands on.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    uid: Uid,
    kind: GroupSpec,
    namespaces: Vec<Namespace>,
    enforce_namespaces: bool,
    namespace_default: bool,
}

impl From<&ServiceGroup> for Spec {
    fn from(group: &ServiceGroup) -> Self {
        Self {
            uid: group.uid.clone(),
            kind: group.kind.clone(),
            namespaces: group.namespaces.clone(),
            enforce_namespaces: group.enforce_namespaces,
            namespace_default: group.namespace_default,
        }
    }
}

#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Overlap {
    Cluster(String, ipnet::IpNet),
    Node(String, IpAddr),
}

/// What a sidecar says of itself.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default)]
struct Figures {
    known: Option<(Usage, Vec<String>)>,
    is_fresh: bool,
    is_out: bool,
    tries: u32,
    not_before: Option<Tick>,
}

impl Allocator {
    /// Takes in ServiceGroups. Only a change of what they say, not of their status, makes every
    /// Service be looked at again.
    pub(super) fn take_in_groups(&mut self, change: Change<ServiceGroup>) {
        let changed = self.groups.apply(change);
        if !self.is_ready {
            return;
        }
        let is_new = |name: &GroupName| {
            let spec = self.groups.get(name).map(Spec::from);
            spec.as_ref() != self.group_records.get(name).map(|record| &record.spec)
        };
        if changed.iter().any(is_new) {
            self.rebuild_catalog();
        }
        self.dirty_groups.extend(changed);
    }

    /// Makes the catalog anew, says what became of each group, and looks at every Service again.
    /// Who has which address is not touched.
    pub(super) fn rebuild_catalog(&mut self) {
        self.catalog = Catalog::new(self.groups.iter());
        self.ledger.track(self.catalog.ranges());
        let gone: Vec<_> =
            self.group_records.keys().filter(|n| self.groups.get(n).is_none()).cloned().collect();
        for name in gone {
            self.group_records.remove(&name);
            self.out.push(Action::Notice(Notice::Usage { group: name, usage: None }));
        }
        for group in self.groups.iter() {
            let spec = Spec::from(group);
            let verdict = self.catalog.groups().get(&group.name);
            let refusal = verdict.and_then(|verdict| verdict.as_ref().err().cloned());
            let is_known = self
                .group_records
                .get(&group.name)
                .is_some_and(|record| record.spec == spec && record.verdict == refusal);
            if is_known {
                continue;
            }
            let what = match verdict {
                Some(Ok(group)) => GroupNotice::Parsed { announce: group.announce },
                Some(Err(why)) => GroupNotice::ParseFailed(why.clone()),
                None => continue,
            };
            self.out.tell_group(&group.name, &group.uid, what);
            let fresh = GroupRecord {
                spec,
                verdict: refusal,
                warned: BTreeSet::new(),
                usage: None,
                status: Attempt::default(),
                figures: Figures::default(),
            };
            let old = self.group_records.insert(group.name.clone(), fresh);
            if let Some(old) = old.filter(|old| old.spec.uid == group.uid)
                && let Some(record) = self.group_records.get_mut(&group.name)
            {
                record.status = old.status;
                record.usage = old.usage;
                record.warned = old.warned;
            }
        }
        self.warn_of_overlaps();
        self.advance_all_lines();
        self.dirty_groups.extend(self.group_records.keys().cloned());
        self.reconsider_all();
    }

    /// Says once where a range holds addresses that the cluster or a node uses.
    pub(super) fn warn_of_overlaps(&mut self) {
        let Some(settings) = &self.settings else { return };
        for (name, record) in &mut self.group_records {
            let mut found = BTreeSet::new();
            let pools = self.catalog.group(name).map(Group::pools).unwrap_or_default();
            for pool in pools {
                let range = || pool.text.clone();
                for (net, what) in &settings.cluster_ranges {
                    if pool.range.overlaps(&(*net).into()) {
                        let overlap = Overlap::Cluster(range(), *net);
                        if !record.warned.contains(&overlap) {
                            let what = GroupNotice::OverlapsCluster {
                                range: range(),
                                net: *net,
                                what: *what,
                            };
                            self.out.tell_group(name, &record.spec.uid, what);
                        }
                        found.insert(overlap);
                    }
                }
                let nodes = settings.node_addresses.range(pool.range.first()..=pool.range.last());
                for (ip, node) in nodes {
                    let overlap = Overlap::Node(range(), *ip);
                    if !record.warned.contains(&overlap) {
                        let (range, ip, node) = (range(), *ip, node.clone());
                        let what = GroupNotice::OverlapsNode { range, ip, node };
                        self.out.tell_group(name, &record.spec.uid, what);
                    }
                    found.insert(overlap);
                }
            }
            record.warned = found;
        }
    }

    pub(super) fn mark_touched_groups(&mut self) {
        for first in self.ledger.take_touched() {
            if let Some((group, _)) = self.catalog.find(first) {
                self.dirty_groups.insert(group.name.clone());
            }
        }
    }

    /// Says how full a group is, if that has changed.
    pub(super) fn decide_group(&mut self, name: &GroupName, now: Tick) {
        let Some(group) = self.catalog.group(name) else {
            if let Some(record) = self.group_records.get_mut(name)
                && record.usage.take().is_some()
            {
                let group = name.clone();
                self.out.push(Action::Notice(Notice::Usage { group, usage: None }));
            }
            self.clear_status(name, now);
            return;
        };
        let (usage, ipam, addresses) = match &group.source {
            Source::Pools { pools, .. } => {
                let texts = pools.iter().map(|pool| pool.text.clone()).collect();
                (usage(group, &self.ledger), "Cluster".to_owned(), texts)
            }
            Source::External { provider, socket } => {
                let (provider, socket) = (provider.clone(), socket.clone());
                self.ask_for_figures(name, socket, now);
                let record = self.group_records.get(name);
                let Some((usage, addresses)) = record.and_then(|r| r.figures.known.clone()) else {
                    return;
                };
                (usage, provider, addresses)
            }
        };
        let Some(observed) = self.groups.get(name) else { return };
        let Some(group) = self.catalog.group(name) else { return };
        let Some(record) = self.group_records.get_mut(name) else { return };
        if record.usage != Some(usage) {
            record.usage = Some(usage);
            let notice = Notice::Usage { group: name.clone(), usage: Some(usage) };
            self.out.push(Action::Notice(notice));
        }
        let announce = match group.announce {
            Announce::Local => "Local",
            Announce::Remote => "Remote",
        };
        let status = GroupStatus {
            announce: announce.to_owned(),
            ipam,
            addresses,
            bound_namespaces: observed.namespaces.clone(),
            ..GroupStatus::default()
        };
        self.write_status(name, status.with_usage(&usage), now);
    }

    /// A group that cannot be used gives nothing: a status that still says otherwise is taken back.
    fn clear_status(&mut self, name: &GroupName, now: Tick) {
        let Some(observed) = self.groups.get(name) else { return };
        if observed.status.is_none() {
            return;
        }
        let status = GroupStatus {
            available_v4: Some(0),
            available_v6: Some(0),
            bound_namespaces: observed.namespaces.clone(),
            ..GroupStatus::default()
        };
        self.write_status(name, status, now);
    }

    fn write_status(&mut self, name: &GroupName, status: GroupStatus, now: Tick) {
        let Some(observed) = self.groups.get(name) else { return };
        let Some(record) = self.group_records.get_mut(name) else { return };
        let shows = observed.status.as_ref() == Some(&status);
        let version = ResourceVersion::default();
        match record.status.step(&status, shows, &version, STATUS_GAP, now) {
            Step::Rest => {}
            Step::Wait(at) => self.out.wake(at, Wake::Group(name.clone())),
            Step::Send => {
                let uid = observed.uid.clone();
                let ticket = self.out.ticket(Purpose::Status(name.clone(), uid.clone()));
                record.status.sent(ticket, status.clone(), now);
                let group = name.clone();
                self.out.push(Action::Status(StatusWrite { ticket, group, uid, status }));
            }
        }
    }

    pub(super) fn wrote_status(
        &mut self,
        group: &GroupName,
        uid: &Uid,
        ticket: Ticket,
        result: &Written,
        now: Tick,
    ) {
        let record = self.group_records.get_mut(group).filter(|record| record.spec.uid == *uid);
        let Some(record) = record else { return };
        let _ = record.status.finished(ticket, result, &ResourceVersion::default(), now);
        self.dirty_groups.insert(group.clone());
    }

    /// A sidecar's figures are probably others now.
    pub(super) fn figures_changed(&mut self, group: &GroupName) {
        if let Some(record) = self.group_records.get_mut(group) {
            record.figures.is_fresh = false;
            self.dirty_groups.insert(group.clone());
        }
    }

    fn ask_for_figures(&mut self, name: &GroupName, socket: String, now: Tick) {
        let Some(record) = self.group_records.get_mut(name) else { return };
        let figures = &mut record.figures;
        let is_early = figures.not_before.is_some_and(|not_before| now < not_before);
        if figures.is_fresh || figures.is_out || is_early {
            return;
        }
        figures.is_out = true;
        figures.is_fresh = true;
        let ticket = self.out.ticket(Purpose::Stats(name.clone()));
        let group = name.clone();
        let call = IpamCall::Stats;
        self.out.push(Action::Ipam(IpamRequest { ticket, group, socket, call }));
    }

    pub(super) fn took_stats(
        &mut self,
        group: &GroupName,
        result: Result<IpamAnswer, IpamError>,
        now: Tick,
    ) {
        let Some(record) = self.group_records.get_mut(group) else { return };
        let figures = &mut record.figures;
        figures.is_out = false;
        match result {
            Ok(IpamAnswer::Stats { usage, addresses }) => {
                figures.known = Some((usage, addresses));
                figures.tries = 0;
                figures.not_before = None;
            }
            Ok(IpamAnswer::Allocated(_) | IpamAnswer::Released) | Err(_) => {
                let until = now + attempt::pause(figures.tries);
                figures.tries = figures.tries.saturating_add(1);
                figures.is_fresh = false;
                figures.not_before = Some(until);
                self.out.wake(until, Wake::Stats(group.clone()));
            }
        }
        self.dirty_groups.insert(group.clone());
    }
}

/// How full a group of our own ranges is.
fn usage(group: &Group, ledger: &Ledger) -> Usage {
    let of = |family: Family| {
        let mut usage = FamilyUsage { allocated: 0, available: Some(0) };
        for pool in group.pools_of(family) {
            let allocated = ledger.allocated(&pool.range);
            let kept = reserved(pool, group.announce).filter(|(ip, _)| !ledger.is_taken(*ip));
            let left = pool.range.size() - allocated - kept.count() as u128;
            usage.allocated += allocated;
            usage.available = usage.available.map(|sum| sum.saturating_add(left));
        }
        usage
    };
    Usage { v4: of(Family::V4), v6: of(Family::V6) }
}
