//! The allocator's own machine, fed with what a cluster shows: what it would do, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use purelb_core::allocator::{Action, Allocator, Event, Held, IpamCall, Settings};
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;
use purelb_core::store::Change;
use purelb_k8s::snapshot::Snapshot;

/// An allocator that has been told of everything in a snapshot, and what it asked for at once.
#[derive(Debug)]
pub struct Engine {
    allocator: Allocator,
    asked: BTreeMap<ServiceKey, Vec<IpAddr>>,
    waiting: BTreeSet<ServiceKey>,
}

/// How a Service stands with the allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// It asks nothing of this allocator: another class, or another type.
    NotOurs,
    /// It has all that it asks for.
    Complete,
    /// It could have these: the running allocator has not written them yet.
    Due(Vec<IpAddr>),
    /// The sidecar of its group has to be asked.
    Sidecar,
    /// It does not get what it asks for.
    Refused(String),
}

impl Engine {
    /// Tells an allocator of all that `snapshot` shows.
    pub fn new(snapshot: &Snapshot) -> Self {
        let settings =
            Settings { default_announcer: snapshot.is_default_announcer(), ..Settings::default() };
        let leases = snapshot.live_leases();
        let subnets = leases.flat_map(|lease| lease.content.subnets.iter().copied()).collect();
        let mut allocator = Allocator::new();
        let now = Instant::now();
        for event in [
            Event::Settings(settings),
            Event::ActiveSubnets(subnets),
            Event::Groups(Change::Listed(snapshot.groups.clone())),
            Event::Services(Change::Listed(snapshot.services.clone())),
        ] {
            allocator.handle_event(event, now);
        }
        let mut asked = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        while let Some(action) = allocator.poll_action() {
            match action {
                Action::Patch(patch) => {
                    asked.insert(patch.service, patch.ingress);
                }
                Action::Ipam(request) => {
                    if let IpamCall::Allocate { service, .. } = request.call {
                        waiting.insert(service);
                    }
                }
                Action::Notice(_)
                | Action::ReEvaluated { .. }
                | Action::Release(_)
                | Action::Status(_) => {}
            }
        }
        Self { allocator, asked, waiting }
    }

    /// The machine itself: its ledger and catalog.
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// What a Service has by the ledger.
    pub fn held(&self, service: &Service) -> &[Held] {
        self.allocator.ledger().owner(&service.uid).map(|owner| owner.held()).unwrap_or_default()
    }

    /// How `service` stands.
    pub fn allocation(&self, service: &Service, snapshot: &Snapshot) -> Allocation {
        if !service.is_ours(snapshot.is_default_announcer()) {
            return Allocation::NotOurs;
        }
        if let Some(refusal) = self.allocator.refusal(&service.key) {
            return Allocation::Refused(refusal.to_string());
        }
        if self.waiting.contains(&service.key) {
            return Allocation::Sidecar;
        }
        match self.asked.get(&service.key) {
            Some(ips) if *ips != service.ingress => Allocation::Due(ips.clone()),
            Some(_) | None => Allocation::Complete,
        }
    }
}
