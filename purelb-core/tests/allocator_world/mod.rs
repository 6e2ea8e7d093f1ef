//! An API server small enough to read, with an allocator that runs against it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "part of tests")]

mod build;
mod sidecar;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use purelb_core::allocator::{
    Action, Allocator, Event, IpamReply, IpamRequest, Notice, Patch, Release, Settings,
    StatusWrite, Ticket, Written,
};
use purelb_core::group::ServiceGroup;
use purelb_core::machine::Machine;
use purelb_core::name::{GroupName, ResourceVersion, ServiceKey, Uid};
use purelb_core::service::{Annotations, BRAND, Service};
use purelb_core::store::Change;
use purelb_core::usage::GroupStatus;

pub use self::build::*;
pub use self::sidecar::Sidecar;

/// The cluster as an allocator sees it: objects with versions, a watch that delivers in order, and
/// writes that can be made to fail.
#[derive(Clone)]
pub struct World {
    pub allocator: Allocator,
    pub services: BTreeMap<ServiceKey, Service>,
    pub groups: BTreeMap<GroupName, ServiceGroup>,
    pub sidecars: BTreeMap<String, Sidecar>,
    pub settings: Settings,
    pub subnets: BTreeSet<ipnet::IpNet>,
    /// Facts that the watch has yet to deliver.
    pub facts: VecDeque<Event>,
    /// What becomes of writes.
    pub writes: Writes,
    /// Everything people were told, one line each.
    pub told: Vec<String>,
    /// The same as values.
    pub notices: Vec<Notice>,
    /// Every answer that was asked for.
    pub patches: Vec<Patch>,
    /// How often a status was asked to be written.
    pub statuses: usize,
    now: Instant,
    counter: u64,
}

/// What becomes of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They fail, and nothing is written.
    Fail,
    /// They land, and the outcome is lost.
    LandUnnoticed,
    /// They land.
    Work,
}

impl World {
    /// An empty cluster in which Services without a class are ours.
    #[allow(clippy::disallowed_methods, reason = "a test needs some moment to count from")]
    pub fn new() -> Self {
        let settings = Settings { default_announcer: true, ..Settings::default() };
        let mut world = Self {
            allocator: Allocator::new(),
            services: BTreeMap::new(),
            groups: BTreeMap::new(),
            sidecars: BTreeMap::new(),
            settings,
            subnets: BTreeSet::new(),
            facts: VecDeque::new(),
            writes: Writes::Work,
            told: Vec::new(),
            notices: Vec::new(),
            patches: Vec::new(),
            statuses: 0,
            now: Instant::now(),
            counter: 0,
        };
        world.start();
        world
    }

    /// A cluster with these groups.
    pub fn with(groups: impl IntoIterator<Item = ServiceGroup>) -> Self {
        let mut world = Self::new();
        for group in groups {
            world.group(group);
        }
        world.run();
        world.told.clear();
        world
    }

    /// Starts the allocator afresh: it knows what the API shows, and nothing else.
    pub fn restart(&mut self) {
        self.allocator = Allocator::new();
        self.facts.clear();
        self.start();
    }

    fn start(&mut self) {
        self.facts.push_back(Event::Settings(self.settings.clone()));
        self.facts.push_back(Event::ActiveSubnets(self.subnets.clone()));
        self.relist();
    }

    /// The watch breaks and lists everything again.
    pub fn relist(&mut self) {
        let groups = self.groups.values().cloned().collect();
        self.facts.push_back(Event::Groups(Change::Listed(groups)));
        let services = self.services.values().cloned().collect();
        self.facts.push_back(Event::Services(Change::Listed(services)));
    }

    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Creates a group, or replaces the one of its name.
    pub fn group(&mut self, mut group: ServiceGroup) {
        match self.groups.get(&group.name) {
            Some(old) => group.uid = old.uid.clone(),
            None => group.uid = format!("group-{}", self.number()).into(),
        }
        self.groups.insert(group.name.clone(), group.clone());
        self.facts.push_back(Event::Groups(Change::Updated(group)));
    }

    pub fn delete_group(&mut self, name: &str) {
        self.groups.remove(&name.into());
        self.facts.push_back(Event::Groups(Change::Deleted(name.into())));
    }

    /// Creates a Service.
    pub fn create(&mut self, name: &str, spec: impl FnOnce(Service) -> Service) {
        let uid = format!("service-{}", self.number());
        let mut service = spec(Service::new(key(name), uid));
        service.version = self.version();
        self.services.insert(service.key.clone(), service.clone());
        self.facts.push_back(Event::Services(Change::Updated(service)));
    }

    /// Changes a Service as its owner would.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(Service) -> Service) {
        let service = self.services[&key(name)].clone();
        let mut service = change(service);
        service.version = self.version();
        self.services.insert(service.key.clone(), service.clone());
        self.facts.push_back(Event::Services(Change::Updated(service)));
    }

    /// Changes its type, as the API server does: the status goes in the same write.
    pub fn retype(&mut self, name: &str, is_load_balancer: bool) {
        self.edit(name, |service| Service {
            is_load_balancer,
            ingress: Vec::new(),
            class: None,
            ..service
        });
    }

    pub fn delete(&mut self, name: &str) {
        self.services.remove(&key(name));
        self.facts.push_back(Event::Services(Change::Deleted(key(name))));
    }

    pub fn subnets(&mut self, subnets: &[&str]) {
        self.subnets = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        self.facts.push_back(Event::ActiveSubnets(self.subnets.clone()));
    }

    fn version(&mut self) -> ResourceVersion {
        self.number().to_string().into()
    }

    /// Delivers every fact and carries out every action, until there are none.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Delivers one fact, or carries out one action; returns whether there was any.
    pub fn step(&mut self) -> bool {
        if let Some(action) = self.allocator.poll_action() {
            self.carry_out(action);
            return true;
        }
        self.deliver()
    }

    /// Delivers one fact.
    pub fn deliver(&mut self) -> bool {
        match self.facts.pop_front() {
            Some(fact) => {
                self.allocator.handle_event(fact, self.now);
                true
            }
            None => false,
        }
    }

    /// Lets time pass, with everything that falls due on the way.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        self.run();
        while let Some(deadline) = self.allocator.poll_timeout() {
            if deadline.at > end {
                break;
            }
            self.now = self.now.max(deadline.at);
            self.allocator.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    /// Lets ten minutes pass: longer than any pause.
    pub fn calm(&mut self) {
        self.pass(Duration::from_secs(600));
    }

    pub fn carry_out(&mut self, action: Action) {
        match action {
            Action::Ipam(request) => self.call(&request),
            Action::Notice(notice) => {
                if let Some((reason, _)) = notice.event() {
                    self.told.push(line(&notice, reason.as_str()));
                }
                self.notices.push(notice);
            }
            Action::Patch(patch) => {
                self.patches.push(patch.clone());
                self.write(patch.ticket, |world| world.patch(&patch));
            }
            Action::ReEvaluated { ticket, service, uid } => {
                self.write(ticket, |world| {
                    world.change(&service, &uid, None, |service| {
                        service.annotations.re_evaluate = false;
                    })
                });
            }
            Action::Release(release) => self.write(release.ticket, |world| world.release(&release)),
            Action::Status(status) => {
                self.statuses += 1;
                self.write(status.ticket, |world| world.status(&status));
            }
        }
    }

    fn write(&mut self, ticket: Ticket, write: impl FnOnce(&mut Self) -> Written) {
        let lost = || Written::Failed { error: "connection reset".to_owned() };
        let result = match self.writes {
            Writes::Fail => lost(),
            Writes::LandUnnoticed => {
                let _ = write(self);
                lost()
            }
            Writes::Work => write(self),
        };
        self.allocator.handle_event(Event::Written { ticket, result }, self.now);
    }

    fn patch(&mut self, patch: &Patch) -> Written {
        self.change(&patch.service, &patch.uid, Some(&patch.version), |service| {
            service.ingress = patch.ingress.clone();
            let annotations = &mut service.annotations;
            unmark(annotations);
            if let Some(marks) = &patch.marks {
                annotations.allocated_by = Some(BRAND.to_owned());
                annotations.allocated_from = marks.allocated_from.clone();
                annotations.pool_type = marks.pool_type.map(|kind| kind.to_string());
                annotations.skip_ipv6_dad = marks.skip_ipv6_dad;
            }
        })
    }

    fn release(&mut self, release: &Release) -> Written {
        self.change(&release.service, &release.uid, None, |service| {
            service.ingress.clear();
            unmark(&mut service.annotations);
        })
    }

    fn change(
        &mut self,
        key: &ServiceKey,
        uid: &Uid,
        version: Option<&ResourceVersion>,
        change: impl FnOnce(&mut Service),
    ) -> Written {
        let next = self.version();
        let Some(service) = self.services.get_mut(key).filter(|service| service.uid == *uid) else {
            return Written::Gone;
        };
        if version.is_some_and(|version| *version != service.version) {
            return Written::Conflict;
        }
        let mut changed = service.clone();
        change(&mut changed);
        if !changed.is_load_balancer && !changed.ingress.is_empty() {
            return Written::Failed { error: "only a LoadBalancer has a status".to_owned() };
        }
        if changed != *service {
            changed.version = next;
            *service = changed.clone();
            self.facts.push_back(Event::Services(Change::Updated(changed)));
        }
        Written::Accepted
    }

    fn status(&mut self, write: &StatusWrite) -> Written {
        let Some(group) = self.groups.get_mut(&write.group).filter(|group| group.uid == write.uid)
        else {
            return Written::Gone;
        };
        if group.status.as_ref() != Some(&write.status) {
            group.status = Some(write.status.clone());
            let group = group.clone();
            self.facts.push_back(Event::Groups(Change::Updated(group)));
        }
        Written::Accepted
    }

    fn call(&mut self, request: &IpamRequest) {
        let Some(sidecar) = self.sidecars.get_mut(&request.socket) else { return };
        if let Some(result) = sidecar.call(&request.call) {
            let reply = IpamReply { ticket: request.ticket, result };
            self.facts.push_back(Event::Ipam(reply));
        }
    }

    /// What the API shows for a Service.
    pub fn addresses(&self, name: &str) -> Vec<String> {
        let service = &self.services[&key(name)];
        service.ingress.iter().map(IpAddr::to_string).collect()
    }

    pub fn annotations(&self, name: &str) -> &Annotations {
        &self.services[&key(name)].annotations
    }

    /// Why a Service does not get all that it asks for; empty if it does.
    pub fn refusal(&self, name: &str) -> String {
        self.allocator.refusal(&key(name)).map(ToString::to_string).unwrap_or_default()
    }

    pub fn group_status(&self, name: &str) -> GroupStatus {
        self.groups[&name.into()].status.clone().expect("the group has a status")
    }

    /// What people were told since this was last asked.
    pub fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn unmark(annotations: &mut Annotations) {
    annotations.allocated_by = None;
    annotations.allocated_from = None;
    annotations.pool_type = None;
    annotations.skip_ipv6_dad = false;
}

fn line(notice: &Notice, reason: &str) -> String {
    let about = match notice {
        Notice::Group { group, .. } => format!("group {group}"),
        Notice::Service { service, .. } => service.to_string(),
        Notice::Usage { group, .. } => format!("usage of {group}"),
    };
    format!("{about}: {reason}: {notice}")
}
