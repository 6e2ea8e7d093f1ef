//! What can go wrong.

use std::fmt;
use std::time::Duration;

use super::clock::{Nanos, SECONDS, nanos};
use super::kernel::ETH0;
use super::queue::{Happening, Stream};
use super::world::{ALLOCATOR, Simulation};
use crate::host::{Family, Route, RouteKind};
use crate::name::NodeName;
use crate::service::Endpoints;
use crate::store::Object;

/// Something that goes wrong, or that somebody does, for a while.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// To which node, by its number; which of several things, where that is to be chosen.
    pub node: usize,
    /// For how long; for what is over at once, how long it takes until the damage is undone.
    pub lasts: Duration,
}

/// What kinds of fault there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Somebody deletes an address of ours from the node.
    AddressDeleted,
    /// The allocator hangs.
    AllocatorFrozen,
    /// The allocator is killed.
    AllocatorKilled,
    /// No client reaches the API.
    ApiDown,
    /// The API turns the node's requests away.
    ApiThrottled,
    /// The pods of a Service move.
    EndpointsMoved,
    /// The node is taken out of service by its label.
    Excluded,
    /// The agent hangs.
    Frozen,
    /// The agent hangs between its next decision and the system calls.
    FrozenBeforeCall,
    /// The agent is killed.
    Killed,
    /// The kernel does not remove addresses, and does not answer.
    KernelKeeps,
    /// The kernel refuses to add addresses.
    KernelRefuses,
    /// Somebody deletes the node's Lease.
    LeaseDeleted,
    /// The node's cable is pulled.
    LinkDown,
    /// Another host starts with this node's name.
    Namesake,
    /// The kernel's notifications overrun the agent's socket.
    NetlinkOverrun,
    /// The node does not reach the API.
    Partitioned,
    /// The node reboots.
    Rebooted,
    /// Requests of the node, or their answers, are lost or late.
    RequestsLost,
    /// The node has no default route.
    RouteLost,
    /// The node has a second default route.
    SecondRoute,
    /// Frames are lost on the segment.
    SegmentLossy,
    /// A Service is deleted and another one made.
    ServiceReplaced,
    /// The node's requests and watches are slow.
    SlowApi,
    /// The agent is asked to stop, and started again.
    Stopped,
    /// Nothing comes out of the node's watches.
    WatchStalled,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::AddressDeleted,
        Self::AllocatorFrozen,
        Self::AllocatorKilled,
        Self::ApiDown,
        Self::ApiThrottled,
        Self::EndpointsMoved,
        Self::Excluded,
        Self::Frozen,
        Self::FrozenBeforeCall,
        Self::Killed,
        Self::KernelKeeps,
        Self::KernelRefuses,
        Self::LeaseDeleted,
        Self::LinkDown,
        Self::Namesake,
        Self::NetlinkOverrun,
        Self::Partitioned,
        Self::Rebooted,
        Self::RequestsLost,
        Self::RouteLost,
        Self::SecondRoute,
        Self::SegmentLossy,
        Self::ServiceReplaced,
        Self::SlowApi,
        Self::Stopped,
        Self::WatchStalled,
    ];

    /// Whether it befalls one node, and not the whole cluster.
    pub fn is_of_a_node(self) -> bool {
        match self {
            Self::AllocatorFrozen
            | Self::AllocatorKilled
            | Self::ApiDown
            | Self::EndpointsMoved
            | Self::SegmentLossy
            | Self::ServiceReplaced => false,
            Self::AddressDeleted
            | Self::ApiThrottled
            | Self::Excluded
            | Self::Frozen
            | Self::FrozenBeforeCall
            | Self::Killed
            | Self::KernelKeeps
            | Self::KernelRefuses
            | Self::LeaseDeleted
            | Self::LinkDown
            | Self::Namesake
            | Self::NetlinkOverrun
            | Self::Partitioned
            | Self::Rebooted
            | Self::RequestsLost
            | Self::RouteLost
            | Self::SecondRoute
            | Self::SlowApi
            | Self::Stopped
            | Self::WatchStalled => true,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressDeleted => "an address is deleted by hand",
            Self::AllocatorFrozen => "the allocator is frozen",
            Self::AllocatorKilled => "the allocator is killed",
            Self::ApiDown => "the API is down",
            Self::ApiThrottled => "the API turns requests away",
            Self::EndpointsMoved => "the endpoints of a Service move",
            Self::Excluded => "the node is excluded",
            Self::Frozen => "the agent is frozen",
            Self::FrozenBeforeCall => "the agent is frozen before a system call",
            Self::Killed => "the agent is killed",
            Self::KernelKeeps => "the kernel removes nothing",
            Self::KernelRefuses => "the kernel refuses additions",
            Self::LeaseDeleted => "the Lease is deleted by hand",
            Self::LinkDown => "the link is down",
            Self::Namesake => "another host has the node's name",
            Self::NetlinkOverrun => "notifications are lost",
            Self::Partitioned => "the node does not reach the API",
            Self::Rebooted => "the node reboots",
            Self::RequestsLost => "requests and answers are lost or late",
            Self::RouteLost => "the default route is lost",
            Self::SecondRoute => "there is a second default route",
            Self::SegmentLossy => "the segment loses frames",
            Self::ServiceReplaced => "a Service is replaced",
            Self::SlowApi => "the API is slow",
            Self::Stopped => "the agent is stopped",
            Self::WatchStalled => "the watches stand still",
        })
    }
}

impl Simulation {
    /// Something goes wrong after a while.
    pub fn fault_after(&mut self, after: Duration, fault: Fault) {
        let number = self.faults.len() as u32;
        self.faults.push(fault);
        self.queue.push(self.now + nanos(after), Happening::Begin { fault: number });
    }

    /// Something goes wrong now.
    pub fn fault(&mut self, kind: FaultKind, node: usize, lasts: Duration) {
        let number = self.faults.len();
        self.faults.push(Fault { kind, node, lasts });
        self.begin(number);
    }

    pub(super) fn begin(&mut self, number: usize) {
        let fault = self.faults[number];
        self.report.steps += 1;
        *self.report.faults.entry(fault.kind).or_default() += 1;
        if !self.lasting.is_empty() {
            self.report.overlapping += 1;
        }
        self.lasting.push(number);
        let span = nanos(fault.lasts);
        let until = self.now + span;
        self.tell_of(fault.node, None, || {
            format!("FAULT: {} ({:.3} s)", fault.kind, fault.lasts.as_secs_f64())
        });
        self.inflict(fault.kind, fault.node, span, until);
        self.queue.push(until, Happening::End { fault: number as u32 });
    }

    fn inflict(&mut self, kind: FaultKind, node: usize, span: Nanos, until: Nanos) {
        match kind {
            FaultKind::AddressDeleted => self.delete_address(node),
            FaultKind::AllocatorFrozen => self.freeze_allocator(span),
            FaultKind::AllocatorKilled => self.kill_allocator(),
            FaultKind::ApiDown => {
                for client in 0..self.hosts.len() {
                    let line = &mut self.hosts[client].line;
                    line.shut_until = line.shut_until.max(until);
                }
                let line = &mut self.allocator_line;
                line.shut_until = line.shut_until.max(until);
            }
            FaultKind::ApiThrottled => self.hosts[node].line.throttled_until = until,
            FaultKind::EndpointsMoved => self.move_endpoints(),
            FaultKind::Excluded => self.exclude(node, true),
            FaultKind::Frozen => self.freeze_agent(node, span),
            FaultKind::FrozenBeforeCall => {
                if let Some(process) = &mut self.hosts[node].process {
                    process.nap = Some(until);
                }
            }
            FaultKind::Killed => {
                self.hosts[node].is_down = true;
                self.kill_agent(node);
            }
            FaultKind::KernelKeeps => self.hosts[node].kernel.keeps_until = until,
            // Short and never twice in a row: after a second and a half an agent leaves its subnet to
            // others, and rightly is not where it would be otherwise.
            FaultKind::KernelRefuses => {
                let kernel = &mut self.hosts[node].kernel;
                if kernel.refuses_until + 3 * SECONDS < self.now || kernel.refuses_until == 0 {
                    kernel.refuses_until = until;
                }
            }
            FaultKind::LeaseDeleted => {
                let name = self.hosts[node].name.clone();
                // Outside of what is promised: a lease deleted whose duration is longer than what is
                // left tells a starter to wait for, as that of a node in Keep, or while two hosts
                // bear its name.
                let shortest = self.hosts.iter().map(|host| host.duration).min();
                let lease = self.api.leases.get(&name);
                let is_longer = lease.is_some_and(|lease| Some(lease.content.duration) > shortest);
                let is_twice = self.has_namesake(&name);
                if !is_longer && !is_twice && self.api.delete_lease(&name) {
                    self.changed(Stream::Leases);
                }
            }
            FaultKind::LinkDown => self.set_carrier(node, false),
            FaultKind::Namesake => self.begin_namesake(node),
            FaultKind::NetlinkOverrun => {
                if let Some(process) = &mut self.hosts[node].process {
                    process.deaf_until = until;
                }
            }
            FaultKind::Partitioned => self.hosts[node].line.shut_until = until,
            FaultKind::Rebooted => {
                self.hosts[node].is_down = true;
                self.kill_agent(node);
                self.reboot(node);
            }
            FaultKind::RequestsLost => self.hosts[node].line.lossy_until = until,
            FaultKind::RouteLost => {
                let route = self.default_route(0);
                self.set_route(node, route, false);
            }
            FaultKind::SecondRoute => {
                let route = self.default_route(100);
                self.set_route(node, route, true);
            }
            FaultKind::SegmentLossy => self.lossy_until = until,
            FaultKind::ServiceReplaced => self.replace_service(),
            FaultKind::SlowApi => self.hosts[node].line.slow_until = until,
            FaultKind::Stopped => {
                self.hosts[node].is_down = true;
                self.stop_agent(node);
            }
            FaultKind::WatchStalled => self.hosts[node].line.stalled_until = until,
        }
    }

    pub(super) fn end(&mut self, number: usize) {
        let fault = self.faults[number];
        let node = fault.node;
        self.report.steps += 1;
        self.lasting.retain(|other| *other != number);
        self.tell_of(node, None, || format!("over: {}", fault.kind));
        match fault.kind {
            FaultKind::AllocatorKilled => self.start(ALLOCATOR),
            FaultKind::Excluded => self.exclude(node, false),
            FaultKind::Killed | FaultKind::Rebooted => self.bring_up(node),
            FaultKind::Stopped => {
                if self.hosts[node].process.as_ref().is_some_and(|process| process.is_stopping) {
                    self.kill_agent(node);
                }
                self.bring_up(node);
            }
            FaultKind::FrozenBeforeCall => {
                if let Some(process) = &mut self.hosts[node].process {
                    process.nap = None;
                }
            }
            FaultKind::LinkDown => self.set_carrier(node, true),
            FaultKind::Namesake => self.end_namesake(),
            FaultKind::NetlinkOverrun => {
                if self.hosts[node].process.as_ref().is_some_and(|p| p.deaf_until <= self.now) {
                    self.dump(node);
                }
            }
            FaultKind::RouteLost => {
                let route = self.default_route(0);
                self.set_route(node, route, true);
            }
            FaultKind::SecondRoute => {
                let route = self.default_route(100);
                self.set_route(node, route, false);
            }
            FaultKind::AddressDeleted
            | FaultKind::AllocatorFrozen
            | FaultKind::ApiDown
            | FaultKind::ApiThrottled
            | FaultKind::EndpointsMoved
            | FaultKind::Frozen
            | FaultKind::KernelKeeps
            | FaultKind::KernelRefuses
            | FaultKind::LeaseDeleted
            | FaultKind::Partitioned
            | FaultKind::RequestsLost
            | FaultKind::SegmentLossy
            | FaultKind::ServiceReplaced
            | FaultKind::SlowApi
            | FaultKind::WatchStalled => {}
        }
    }

    fn bring_up(&mut self, node: usize) {
        self.hosts[node].is_down = false;
        self.start(node as u16);
    }

    fn delete_address(&mut self, node: usize) {
        let kernel = &self.hosts[node].kernel;
        let ours: Vec<usize> = (0..kernel.addresses.len())
            .filter(|position| kernel.addresses[*position].address.is_ours())
            .collect();
        if !ours.is_empty() {
            let position = ours[self.dice.index(ours.len())];
            self.drop_address(node, position, "loses by hand");
        }
    }

    /// The cable; a link without carrier keeps its IPv4 addresses and loses its IPv6 ones when it is
    /// set down as well.
    fn set_carrier(&mut self, node: usize, carrier: bool) {
        let is_set_down = !carrier && self.dice.once_in(3);
        let _ = self.change_link(node, ETH0, |link| {
            link.carrier = carrier;
            link.up = carrier || !is_set_down;
        });
        if is_set_down {
            self.flush(node, Family::V6);
        }
    }

    fn reboot(&mut self, node: usize) {
        let h = &mut self.hosts[node];
        h.boots += 1;
        let is_ours = |held: &super::kernel::Held| held.address.is_ours();
        let gone: Vec<_> = h
            .kernel
            .addresses
            .iter()
            .filter(|held| is_ours(held))
            .map(|h| h.address.key())
            .collect();
        h.kernel.addresses.retain(|held| !is_ours(held));
        h.kernel.links.retain(|link| link.index == ETH0);
        for key in gone {
            if key.link == ETH0 {
                self.segment.disappears(key.net.addr(), node as u16, self.now);
            }
        }
    }

    pub(super) fn default_route(&self, metric: u32) -> Route {
        Route {
            destination: Family::V4.everything(),
            kind: RouteKind::Unicast,
            link: Some(ETH0),
            gateway: Some(super::build::gateway(self.layout)),
            source: None,
            metric,
            tos: 0,
            protocol: 3,
        }
    }

    fn exclude(&mut self, node: usize, is_excluded: bool) {
        let name = self.hosts[node].name.clone();
        let Some(mut object) = self.api.nodes.get(&name).cloned() else { return };
        let label = "node.kubernetes.io/exclude-from-external-load-balancers";
        if is_excluded {
            object.labels.insert(label.to_owned(), String::new());
        } else {
            object.labels.remove(label);
        }
        self.api.put_node(object);
        self.changed(Stream::Objects);
    }

    fn move_endpoints(&mut self) {
        let keys: Vec<_> = self.api.endpoints.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let service = keys[self.dice.index(keys.len())].clone();
        let mut nodes = std::collections::BTreeSet::new();
        for host in 0..self.hosts.len() {
            if !self.hosts[host].is_namesake && self.dice.once_in(2) {
                nodes.insert(self.hosts[host].name.clone());
            }
        }
        self.tell("api", None, || format!("endpoints of {service}: {nodes:?}"));
        self.api.put_endpoints(Endpoints { service, nodes });
        self.changed(Stream::Endpoints);
    }

    fn replace_service(&mut self) {
        let keys: Vec<_> = self.api.services.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[self.dice.index(keys.len())].clone();
        let kind = super::build::kind_of(&self.api.services[&key]);
        self.tell("api", None, || format!("{key} is deleted"));
        self.api.delete_service(&key);
        self.asked.remove(&key);
        self.create_service(kind);
        self.changed(Stream::Endpoints);
    }

    fn begin_namesake(&mut self, node: usize) {
        let name = self.hosts[node].name.clone();
        let Some(spare) = self.hosts.iter().position(|host| host.is_namesake) else { return };
        if self.hosts[spare].process.is_some() || !self.api.leases.contains_key(&name) {
            return;
        }
        self.hosts[spare].name = name;
        self.hosts[spare].is_down = false;
        self.hosts[spare].boots += 1;
        self.start(spare as u16);
    }

    /// Whether two hosts bear this name now.
    fn has_namesake(&self, name: &NodeName) -> bool {
        self.hosts.iter().any(|h| h.is_namesake && h.process.is_some() && h.name == *name)
    }

    fn end_namesake(&mut self) {
        let Some(spare) = self.hosts.iter().position(|host| host.is_namesake) else { return };
        self.hosts[spare].is_down = true;
        self.kill_agent(spare);
        // It is taken off the network as well.
        let ours = |sim: &Self| {
            sim.hosts[spare].kernel.addresses.iter().position(|held| held.address.is_ours())
        };
        while let Some(position) = ours(self) {
            self.drop_address(spare, position, "goes with");
        }
    }
}
