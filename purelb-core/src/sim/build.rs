//! Putting a cluster together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::clock::{NodeClock, SECONDS};
use super::kernel::{ETH0, Kernel, host_address, link};
use super::network::Line;
use super::queue::{Happening, Stream};
use super::setup::{Layout, NodeSetup, ServiceKind, Setup};
use super::world::{ALLOCATOR, Counts, Host, Simulation};
use crate::config::{LbNodeAgent, Local, LocalSpec, Node, Selector};
use crate::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use crate::host::{Family, LinkKind, Route, RouteKind};
use crate::name::{NodeName, ServiceKey};
use crate::service::{Endpoints, FamilyPolicy, Port, Protocol, Service, TrafficPolicy};

impl Simulation {
    pub(super) fn build(&mut self, setup: &Setup) {
        self.api.groups = groups(setup.layout);
        let spec = LocalSpec { on_stop: setup.on_stop, ..LocalSpec::default() };
        self.api.agents = vec![LbNodeAgent {
            name: ("purelb".into(), "default".into()),
            uid: "agent".into(),
            selector: Selector::Labels(Vec::new()),
            local: Local::Given(Box::new(spec)),
        }];
        for (number, node) in setup.nodes.iter().enumerate() {
            let name: NodeName = format!("node-{}", number + 1).into();
            self.api.nodes.insert(
                name.clone(),
                Node {
                    uid: name.as_str().into(),
                    labels: BTreeMap::new(),
                    is_out_of_service: false,
                    name: name.clone(),
                },
            );
            let label = name.as_str().to_owned();
            self.add_host(name, label, number, *node, setup.layout);
            let at = self.dice.below(2 * SECONDS);
            self.queue.push(at, Happening::Start { client: number as u16 });
        }
        // One more stands by to be started under another's name.
        let number = setup.nodes.len();
        self.add_host(
            "spare".into(),
            "namesake".into(),
            number,
            NodeSetup::default(),
            setup.layout,
        );
        if let Some(spare) = self.hosts.last_mut() {
            spare.is_namesake = true;
            spare.is_down = true;
        }
        for kind in &setup.services {
            self.create_service(*kind);
        }
        let at = self.dice.below(SECONDS);
        self.queue.push(at, Happening::Start { client: ALLOCATOR });
    }

    fn add_host(
        &mut self,
        name: NodeName,
        label: String,
        number: usize,
        setup: NodeSetup,
        layout: Layout,
    ) {
        let mut kernel = Kernel {
            links: vec![link(ETH0, "eth0", LinkKind::Other)],
            routes: Family::BOTH.map(|family| default_route(family, layout)).into(),
            addresses: Vec::new(),
            next_link: ETH0.0,
            next_address: 0,
            keeps_until: 0,
            refuses_until: 0,
        };
        for net in host_nets(layout, number, setup.has_half_subnet) {
            kernel.configure(host_address(net));
        }
        self.hosts.push(Host {
            name,
            label,
            clock: NodeClock::new(self.epoch, setup.drift),
            duration: setup.duration,
            kernel,
            line: Line::default(),
            boots: 1,
            starts: 0,
            process: None,
            is_down: false,
            is_namesake: false,
            counts: Counts::default(),
        });
    }

    /// Somebody creates a Service; returns its name.
    pub fn create_service(&mut self, kind: ServiceKind) -> ServiceKey {
        self.service_count += 1;
        let number = self.service_count;
        let key = ServiceKey::new("shop", format!("{}-{number}", word(kind)));
        let uid = self.api.uid("service");
        let mut service = Service::new(key.clone(), uid);
        service.annotations.service_group = Some("default".into());
        match kind {
            ServiceKind::DualStack => {
                service.families = Family::BOTH.into();
                service.family_policy = FamilyPolicy::PreferDualStack;
            }
            ServiceKind::LocalTraffic => service.traffic_policy = TrafficPolicy::Local,
            ServiceKind::Plain => {}
            ServiceKind::Remote => service.annotations.service_group = Some("routed".into()),
            ServiceKind::Shared => {
                service.annotations.sharing = Some("shared".into());
                let number = 1000 + number as u16 % 60_000;
                service.ports = BTreeSet::from([Port { protocol: Protocol::Tcp, number }]);
            }
        }
        self.api.put_service(service);
        if kind == ServiceKind::LocalTraffic {
            let mut nodes = BTreeSet::new();
            for host in 0..self.hosts.len() {
                if !self.hosts[host].is_namesake && self.dice.once_in(2) {
                    nodes.insert(self.hosts[host].name.clone());
                }
            }
            self.api.put_endpoints(Endpoints { service: key.clone(), nodes });
            self.changed(Stream::Endpoints);
        }
        self.changed(Stream::Objects);
        key
    }
}

fn word(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::DualStack => "dual",
        ServiceKind::LocalTraffic => "local",
        ServiceKind::Plain => "plain",
        ServiceKind::Remote => "remote",
        ServiceKind::Shared => "shared",
    }
}

/// What kind of Service this was made as.
pub(super) fn kind_of(service: &Service) -> ServiceKind {
    let kinds = [
        ServiceKind::DualStack,
        ServiceKind::LocalTraffic,
        ServiceKind::Remote,
        ServiceKind::Shared,
    ];
    let is_of = |kind: &ServiceKind| service.key.name.as_str().starts_with(word(*kind));
    kinds.into_iter().find(is_of).unwrap_or(ServiceKind::Plain)
}

fn groups(layout: Layout) -> Vec<ServiceGroup> {
    let pool = |pool: &str, subnet: &str| {
        vec![PoolSpec {
            field: "pool".into(),
            pool: pool.into(),
            subnet: subnet.into(),
            aggregation: None,
        }]
    };
    let (v4, v6) = match layout {
        Layout::Large => (pool("10.128.0.0/16", "10.0.0.0/8"), Vec::new()),
        Layout::Small => (
            pool("192.0.2.100-192.0.2.120", "192.0.2.0/24"),
            pool("2001:db8:1::100/124", "2001:db8:1::/64"),
        ),
    };
    let pools = PoolsSpec { v4, v6, ..PoolsSpec::default() };
    let local = GroupSpec::Local { pools, skip_ipv6_dad: false };
    let pools =
        PoolsSpec { v4: pool("198.51.100.0/24", "198.51.100.0/24"), ..PoolsSpec::default() };
    let remote = GroupSpec::Remote { pools };
    vec![
        ServiceGroup::new("default", "group-1", local),
        ServiceGroup::new("routed", "group-2", remote),
    ]
}

/// The addresses that a host has of its own.
fn host_nets(layout: Layout, number: usize, is_half: bool) -> Vec<IpNet> {
    match layout {
        Layout::Large => {
            let ip = Ipv4Addr::from_bits((10 << 24) + 256 + number as u32);
            Ipv4Net::new(ip, 8).into_iter().map(IpNet::V4).collect()
        }
        Layout::Small => {
            let last = 11 + number as u8;
            let v4 = Ipv4Net::new(Ipv4Addr::new(192, 0, 2, last), if is_half { 25 } else { 24 });
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last.into());
            let v6 = Ipv6Net::new(ip, 64);
            v4.into_iter().map(IpNet::V4).chain(v6.into_iter().map(IpNet::V6)).collect()
        }
    }
}

/// The default gateway of IPv4.
pub(super) fn gateway(layout: Layout) -> IpAddr {
    match layout {
        Layout::Large => IpAddr::from([10, 0, 0, 1]),
        Layout::Small => IpAddr::from([192, 0, 2, 1]),
    }
}

fn default_route(family: Family, layout: Layout) -> Route {
    let gateway = match family {
        Family::V4 => gateway(layout),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
    };
    Route {
        destination: family.everything(),
        kind: RouteKind::Unicast,
        link: Some(ETH0),
        gateway: Some(gateway),
        source: None,
        metric: 0,
        tos: 0,
        protocol: 3,
    }
}
