//! The Kubernetes API: objects with one history, and writes that are conditional.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::log::Log;
use crate::allocator::{Patch, Release, StatusWrite, Written};
use crate::config::{LbNodeAgent, Node};
use crate::group::ServiceGroup;
use crate::host::Family;
use crate::lease::{Base, Lease, LeaseEvent, LeaseWrite, Version, WriteResult};
use crate::name::{NodeName, ResourceVersion, ServiceKey, Uid};
use crate::node::Announcement;
use crate::service::{BRAND, Endpoints, Service};
use crate::store::Change;

/// How many changes are kept for watches that lag; who is further behind lists anew.
const KEPT: usize = 4096;

/// Everything that the API server stores, and the changes that it made.
#[derive(Clone, Debug)]
pub(super) struct Api {
    version: u64,
    pub(super) leases: BTreeMap<NodeName, Lease>,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    pub(super) groups: Vec<ServiceGroup>,
    pub(super) agents: Vec<LbNodeAgent>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    pub(super) endpoints: BTreeMap<ServiceKey, Endpoints>,
    pub(super) lease_log: Log<LeaseEvent>,
    pub(super) object_log: Log<Object>,
    pub(super) endpoint_log: Log<Change<Endpoints>>,
    /// Writes of leases land whatever they are conditional on.
    pub(super) is_unconditional: bool,
}

/// A change of an object that is watched beside the leases.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Group(ServiceGroup),
    Node(Node),
    Service(Change<Service>),
}

impl Api {
    pub(super) fn new() -> Self {
        Self {
            // Other objects were there before.
            version: 1000,
            leases: BTreeMap::new(),
            services: BTreeMap::new(),
            groups: Vec::new(),
            agents: Vec::new(),
            nodes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            lease_log: Log::new(KEPT),
            object_log: Log::new(KEPT),
            endpoint_log: Log::new(KEPT),
            is_unconditional: false,
        }
    }

    /// The latest version that is given out.
    pub(super) fn version(&self) -> Version {
        Version(self.version)
    }

    fn next(&mut self) -> Version {
        self.version += 1;
        Version(self.version)
    }

    fn next_text(&mut self) -> ResourceVersion {
        self.next().to_string().into()
    }

    /// A number that nothing else has.
    pub(super) fn uid(&mut self, kind: &str) -> Uid {
        format!("{kind}-{}", self.next()).into()
    }

    /// A write of the lease of `node`.
    pub(super) fn write_lease(&mut self, node: &NodeName, write: LeaseWrite) -> WriteResult {
        let found = self.leases.get(node);
        let fits = match (&write.base, found) {
            (Base::Absent, None) => true,
            (Base::Exactly { uid, version }, Some(lease)) => {
                lease.uid == *uid && (lease.version == *version || self.is_unconditional)
            }
            (Base::Absent, Some(_)) | (Base::Exactly { .. }, None) => false,
        };
        if !fits {
            return WriteResult::Conflict;
        }
        let uid = found.map(|lease| lease.uid.clone());
        let uid = uid.unwrap_or_else(|| self.uid("lease"));
        let version = self.next();
        let lease = Lease { node: node.clone(), version, uid, content: write.content };
        self.leases.insert(node.clone(), lease.clone());
        self.lease_log.push(LeaseEvent::Updated(lease));
        WriteResult::Accepted { version }
    }

    /// Somebody deletes the lease of `node`; returns whether there was one.
    pub(super) fn delete_lease(&mut self, node: &NodeName) -> bool {
        if self.leases.remove(node).is_none() {
            return false;
        }
        let version = self.next();
        self.lease_log.push(LeaseEvent::Deleted { node: node.clone(), version });
        true
    }

    /// The subnets that leases publish.
    pub(super) fn subnets(&self) -> BTreeSet<IpNet> {
        self.leases.values().flat_map(|lease| &lease.content.subnets).copied().collect()
    }

    /// Creates or changes a Service.
    pub(super) fn put_service(&mut self, mut service: Service) {
        service.version = self.next_text();
        self.services.insert(service.key.clone(), service.clone());
        self.object_log.push(Object::Service(Change::Updated(service)));
    }

    pub(super) fn delete_service(&mut self, key: &ServiceKey) {
        if self.services.remove(key).is_some() {
            let _ = self.next();
            self.object_log.push(Object::Service(Change::Deleted(key.clone())));
        }
        if self.endpoints.remove(key).is_some() {
            self.endpoint_log.push(Change::Deleted(key.clone()));
        }
    }

    pub(super) fn put_endpoints(&mut self, endpoints: Endpoints) {
        let _ = self.next();
        self.endpoints.insert(endpoints.service.clone(), endpoints.clone());
        self.endpoint_log.push(Change::Updated(endpoints));
    }

    pub(super) fn put_node(&mut self, node: Node) {
        let _ = self.next();
        self.nodes.insert(node.name.clone(), node.clone());
        self.object_log.push(Object::Node(node));
    }

    /// The allocator's status of a group.
    pub(super) fn write_status(&mut self, write: &StatusWrite) -> Written {
        let _ = self.next();
        let is_it = |group: &&mut ServiceGroup| group.name == write.group && group.uid == write.uid;
        let Some(group) = self.groups.iter_mut().find(is_it) else { return Written::Gone };
        group.status = Some(write.status.clone());
        self.object_log.push(Object::Group(group.clone()));
        Written::Accepted
    }

    /// The allocator's answer for a Service; returns what it had before if it was changed.
    pub(super) fn patch(&mut self, patch: &Patch) -> (Written, Option<Vec<IpAddr>>) {
        let Some(found) = self.services.get(&patch.service).filter(|s| s.uid == patch.uid) else {
            return (Written::Gone, None);
        };
        if found.version != patch.version {
            return (Written::Conflict, None);
        }
        let mut service = found.clone();
        let before = std::mem::replace(&mut service.ingress, patch.ingress.clone());
        let annotations = &mut service.annotations;
        annotations.allocated_by = None;
        annotations.allocated_from = None;
        annotations.pool_type = None;
        annotations.skip_ipv6_dad = false;
        if let Some(marks) = &patch.marks {
            annotations.allocated_by = Some(BRAND.to_owned());
            annotations.allocated_from.clone_from(&marks.allocated_from);
            annotations.pool_type = marks.pool_type.map(|kind| kind.to_string());
            annotations.skip_ipv6_dad = marks.skip_ipv6_dad;
        }
        self.put_service(service);
        (Written::Accepted, Some(before))
    }

    pub(super) fn release(&mut self, release: &Release) -> Written {
        match self.services.get(&release.service).filter(|s| s.uid == release.uid).cloned() {
            None => Written::Gone,
            Some(mut service) => {
                service.ingress.clear();
                service.annotations.allocated_by = None;
                service.annotations.allocated_from = None;
                service.annotations.pool_type = None;
                self.put_service(service);
                Written::Accepted
            }
        }
    }

    /// An agent's announcing annotations; whether the Service was still what they were computed from.
    pub(super) fn announce(&mut self, write: &Announcement) -> bool {
        let found = self.services.get(&write.service).filter(|s| s.version == write.version);
        let Some(mut service) = found.cloned() else { return false };
        for (family, value) in &write.values {
            match family {
                Family::V4 => service.annotations.announcing_v4.clone_from(value),
                Family::V6 => service.annotations.announcing_v6.clone_from(value),
            }
        }
        self.put_service(service);
        true
    }
}
