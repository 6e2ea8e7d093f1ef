//! Can one machine do without Kubernetes? A YAML file of ServiceGroups, LBNodeAgents and Services is all
//! that there is: the allocator gives each Service its addresses, the node agent puts them on this host,
//! and Ctrl-C takes them off again. Needs `CAP_NET_ADMIN` and `CAP_NET_RAW`.
//!
//! ```console
//! $ cargo run -p purelb-examples --example one_node -- examples/one_node.yaml
//! group default: in use, announced local
//! group routed: in use, announced remote
//! default/web: assigned 192.0.2.240 from group default
//! default/web-routed: assigned 198.51.100.0 from group routed
//! this-node is configured by LBNodeAgent purelb/default
//! IPv4 addresses go to eth0
//! IPv6 addresses go to eth0
//! 192.0.2.240 is not here: no node serves a subnet that holds it
//! this-node has 198.51.100.0 on kube-lb0 for routing
//! this-node announces 192.0.2.240 on eth0
//! ^C
//! 192.0.2.240 is not here: the agent is stopping
//! 198.51.100.0 is not here: the agent is stopping
//! ```

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use purelb_core::allocator::{self, Allocator, Notice, Patch, Written};
use purelb_core::config::Node;
use purelb_core::lease::{Lease, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::machine::Machine;
use purelb_core::membership::Settings;
use purelb_core::name::ServiceKey;
use purelb_core::node::{self, ClusterAction, NodeAgent, NodeNotice};
use purelb_core::service::{BRAND, Service};
use purelb_core::store::Change;
use purelb_core::time::Origin;
use purelb_k8s::snapshot::Snapshot;
use purelb_netlink::{HostChange, Kernel};
use tokio::signal::unix::{SignalKind, signal};

const NODE: &str = "this-node";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: one_node FILE.yaml")?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let mut objects = Snapshot::default();
    objects.overlay(serde_saphyr::from_multiple(&text)?)?;
    // An API server gives each object an identity of its own.
    for service in &mut objects.services {
        service.uid = service.key.to_string().into();
    }
    let mut stop = signal(SignalKind::interrupt())?;
    let mut machine = OneNode::start(objects)?;
    while !machine.agent.is_stopped() {
        machine.act();
        let due = machine.agent.poll_timeout().map(|deadline| deadline.at);
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => machine.agent.handle_timeout(Instant::now()),
            change = machine.kernel.next() => machine.seen(change?),
            _ = stop.recv() => machine.tell(node::Event::Stop),
        }
    }
    Ok(())
}

/// The two machines, the kernel, and what a Kubernetes API would keep.
struct OneNode {
    allocator: Allocator,
    agent: NodeAgent,
    kernel: Kernel,
    services: BTreeMap<ServiceKey, Service>,
    version: u64,
}

impl OneNode {
    fn start(objects: Snapshot) -> Result<Self, Box<dyn Error>> {
        let start = Instant::now();
        let settings = Settings {
            node: NODE.into(),
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().into(),
            instance: std::process::id().to_string(),
            duration: Duration::from_secs(10),
        };
        let mut machine = Self {
            allocator: Allocator::new(),
            agent: NodeAgent::new(settings, start),
            kernel: Kernel::open(Origin::new(start))?,
            services: objects.services.iter().map(|s| (s.key.clone(), s.clone())).collect(),
            version: 1,
        };
        let settings = allocator::Settings { default_announcer: true, ..Default::default() };
        let (groups, services) = (objects.groups, objects.services);
        machine.allocate(allocator::Event::Settings(settings));
        machine.allocate(allocator::Event::ActiveSubnets(Default::default()));
        machine.allocate(allocator::Event::Groups(Change::Listed(groups.clone())));
        machine.allocate(allocator::Event::Services(Change::Listed(services.clone())));
        let this = Node {
            name: NODE.into(),
            uid: NODE.into(),
            labels: Default::default(),
            is_out_of_service: false,
        };
        let nobody = LeaseEvent::Listed { leases: vec![], version: Version(1) };
        machine.tell(node::Event::Leases(nobody));
        machine.tell(node::Event::Agents(Change::Listed(objects.agents)));
        machine.tell(node::Event::Node(Change::Listed(vec![this])));
        machine.tell(node::Event::Groups(Change::Listed(groups)));
        machine.tell(node::Event::Services(Change::Listed(services)));
        Ok(machine)
    }

    fn allocate(&mut self, event: allocator::Event) {
        self.allocator.handle_event(event, Instant::now());
    }

    fn tell(&mut self, event: node::Event) {
        self.agent.handle_event(event, Instant::now());
    }

    /// The kernel has changed.
    fn seen(&mut self, change: HostChange) {
        self.tell(match change {
            HostChange::Addresses(change) => node::Event::Addresses(change),
            HostChange::Links(change) => node::Event::Links(change),
            HostChange::Routes(change) => node::Event::Routes(change),
            HostChange::Sighted(sighting) => node::Event::Sighted(sighting),
        });
    }

    /// Carries out what the machines ask for until neither asks for anything.
    fn act(&mut self) {
        while let Some(action) = self.allocator.poll_action() {
            match action {
                allocator::Action::Patch(patch) => self.patch(patch),
                allocator::Action::Notice(Notice::Service { service, what, .. }) => {
                    println!("{service}: {what}");
                }
                allocator::Action::Notice(Notice::Group { group, what, .. }) => {
                    println!("group {group}: {what}");
                }
                // There is neither a status to write nor a sidecar to ask.
                allocator::Action::Notice(Notice::Usage { .. })
                | allocator::Action::Ipam(_)
                | allocator::Action::ReEvaluated { .. }
                | allocator::Action::Release(_)
                | allocator::Action::Status(_) => {}
            }
        }
        while let Some(action) = self.agent.poll_action() {
            match action {
                node::Action::Kernel(action) => {
                    for outcome in self.kernel.apply(vec![action]) {
                        self.tell(node::Event::Kernel(outcome));
                    }
                }
                node::Action::Cluster(ClusterAction::WriteLease(write)) => self.write(write),
                node::Action::Cluster(ClusterAction::WatchEndpoints) => {
                    self.tell(node::Event::Endpoints(Change::Listed(vec![])));
                }
                node::Action::Cluster(_) => {}
                // How long it took is for measurements.
                node::Action::Notice(notice) if matches!(*notice, NodeNotice::Arrived { .. }) => {}
                node::Action::Notice(notice) => println!("{notice}"),
            }
        }
    }

    /// What an API would do with the allocator's write, and tell those who watch.
    fn patch(&mut self, patch: Patch) {
        let Some(service) = self.services.get_mut(&patch.service) else { return };
        service.ingress = patch.ingress;
        service.annotations.allocated_by = patch.marks.is_some().then(|| BRAND.to_owned());
        if let Some(marks) = patch.marks {
            service.annotations.allocated_from = marks.allocated_from;
            service.annotations.pool_type = marks.pool_type.map(|kind| kind.as_str().to_owned());
        }
        let service = service.clone();
        self.allocate(allocator::Event::Written {
            ticket: patch.ticket,
            result: Written::Accepted,
        });
        self.allocate(allocator::Event::Services(Change::Updated(service.clone())));
        self.tell(node::Event::Services(Change::Updated(service)));
    }

    /// There is nobody else: every write of the lease is accepted.
    fn write(&mut self, write: LeaseWrite) {
        self.version += 1;
        let version = Version(self.version);
        let result = WriteResult::Accepted { version };
        self.tell(node::Event::Leases(LeaseEvent::Written { attempt: write.attempt, result }));
        let lease = Lease { node: NODE.into(), version, uid: NODE.into(), content: write.content };
        self.tell(node::Event::Leases(LeaseEvent::Updated(lease)));
    }
}
