//! A host, its kernel and its API as plain data, driven by a node agent.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use purelb_core::config::{LbNodeAgent, Local, LocalSpec, Node, Selector};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::{
    Address, AddressFlags, AddressKey, Family, Link, LinkConf, LinkIndex, LinkKind, Mac, OUR_MARK,
    Route, RouteKind, Scope, Sighting,
};
use purelb_core::kernel::{
    ConfKey, KernelAction, KernelError, KernelOutcome, Lifetime, NewAddress,
};
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::machine::Machine;
use purelb_core::membership::Settings;
use purelb_core::name::ServiceKey;
use purelb_core::node::{Action, ClusterAction, Event, NodeAgent, NodeNotice, Since};
use purelb_core::notice::{Level, Notice};
use purelb_core::service::{Endpoints, Service};
use purelb_core::store::{Change, Object};

/// The host's own addresses on eth0.
const HOST: [&str; 2] = ["192.0.2.11/24", "2001:db8:1::11/64"];

pub(crate) const ETH0: LinkIndex = LinkIndex(2);
pub(crate) const ETH1: LinkIndex = LinkIndex(3);
pub(crate) const LB0: LinkIndex = LinkIndex(9);

/// A host, its agent, and what stands for the cluster.
pub(crate) struct World {
    pub(crate) agent: NodeAgent,
    start: Instant,
    now: Duration,
    pub(crate) links: BTreeMap<LinkIndex, Link>,
    pub(crate) addresses: BTreeMap<AddressKey, Address>,
    pub(crate) lease: Option<Lease>,
    pub(crate) version: u64,
    /// The kernel keeps no mark of an address.
    pub(crate) drops_marks: bool,
    /// The ready endpoints, once they can be listed.
    pub(crate) endpoints: Option<Vec<Endpoints>>,
    /// The API does not answer.
    pub(crate) is_cut_off: bool,
    /// The kernel has no room for addresses.
    pub(crate) is_full: bool,
    /// The kernel removes nothing, and does not answer.
    pub(crate) is_stuck: bool,
    /// The kernel has no room for this one.
    pub(crate) refuses: Option<IpAddr>,
    /// The process was stopped before it could carry these out.
    pub(crate) stopped_before: Option<Vec<Action>>,
    /// How often all leases were to be listed anew.
    pub(crate) lists_asked_for: u32,
    /// What was asked of the kernel, in words.
    pub(crate) told: Vec<String>,
    /// What people were told as an error.
    pub(crate) errors: Vec<String>,
    /// The number of the next virtual interface that is made.
    pub(crate) next_virtual: u32,
    /// Addresses listened for.
    pub(crate) heeded: BTreeSet<(IpAddr, LinkIndex)>,
    /// What arrived on an interface, since when it was awaited, and how long it took.
    pub(crate) arrivals: Vec<(IpAddr, Since, Duration)>,
    /// What people were warned of.
    pub(crate) warnings: Vec<String>,
    /// Whatever people were told since this was last emptied.
    pub(crate) notices: Vec<NodeNotice>,
    /// The announcing annotations as last written.
    pub(crate) claims: BTreeMap<(String, Family), Option<String>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::started_as("1")
    }

    pub(crate) fn started_as(instance: &str) -> Self {
        let start = some_instant();
        let links = BTreeMap::from([(ETH0, link(ETH0, "eth0")), (ETH1, link(ETH1, "eth1"))]);
        let addresses = HOST.map(|net| host_address(ETH0, net));
        Self {
            agent: NodeAgent::new(settings(instance), start),
            start,
            now: Duration::ZERO,
            links,
            addresses: addresses.map(|address| (address.key(), address)).into(),
            lease: None,
            version: 10,
            drops_marks: false,
            endpoints: Some(vec![]),
            is_cut_off: false,
            is_full: false,
            is_stuck: false,
            refuses: None,
            stopped_before: None,
            lists_asked_for: 0,
            told: vec![],
            errors: vec![],
            arrivals: vec![],
            warnings: vec![],
            notices: vec![],
            next_virtual: LB0.0,
            heeded: BTreeSet::new(),
            claims: BTreeMap::new(),
        }
    }

    /// Lists everything, the Services last.
    pub(crate) fn boot(&mut self, services: Vec<Service>) {
        let leases = self.lease.iter().cloned().collect();
        let version = Version(self.version);
        self.feed(Event::Leases(LeaseEvent::Listed { leases, version }));
        self.feed(Event::Links(Change::Listed(self.links.values().cloned().collect())));
        self.feed(Event::Addresses(Change::Listed(self.addresses.values().cloned().collect())));
        self.feed(Event::Routes(Change::Listed(vec![
            default_route(Family::V4, ETH0, 0),
            default_route(Family::V6, ETH0, 1024),
        ])));
        self.feed(Event::Groups(Change::Listed(vec![local_group(), remote_group()])));
        self.feed(Event::Agents(Change::Listed(vec![lb_node_agent(LocalSpec::default())])));
        self.feed(Event::Node(Change::Listed(vec![Node {
            name: "node1".into(),
            uid: "n1".into(),
            labels: BTreeMap::new(),
            is_out_of_service: false,
        }])));
        assert!(self.told.is_empty(), "nothing is done before everything is listed");
        self.feed(Event::Services(Change::Listed(services)));
    }

    /// Boots, and lets the start's observation pass.
    pub(crate) fn serve(services: Vec<Service>) -> Self {
        let mut world = Self::new();
        world.boot(services);
        world.pass(Duration::from_millis(5500));
        world
    }

    pub(crate) fn feed(&mut self, event: Event) {
        self.agent.handle_event(event, self.start + self.now);
        self.settle();
    }

    /// Carries out what the agent asks for until it asks for nothing more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let Some(action) = self.agent.poll_action() else { return };
            if let Some(actions) = &mut self.stopped_before {
                actions.push(action);
                continue;
            }
            match action {
                Action::Cluster(action) => self.cluster(action),
                Action::Kernel(action) => self.kernel(action),
                Action::Notice(notice) => self.hear_out(*notice),
            }
        }
        panic!("the agent never comes to rest: {:?}", self.told);
    }

    fn hear_out(&mut self, notice: NodeNotice) {
        match notice.level() {
            Level::Debug if let NodeNotice::Arrived { ip, since, took, .. } = notice => {
                self.arrivals.push((ip, since, took));
            }
            Level::Error => self.errors.push(notice.to_string()),
            Level::Warning => self.warnings.push(notice.to_string()),
            Level::Debug | Level::Info => {}
        }
        self.notices.push(notice);
    }

    /// Another process takes the place of the one that ran, which did nothing any more; it is told what
    /// [`boot`](Self::boot) tells.
    pub(crate) fn restart(&mut self, instance: &str, services: Vec<Service>) {
        self.agent = NodeAgent::new(settings(instance), self.start);
        self.heeded.clear();
        self.told.clear();
        self.boot(services);
    }

    /// Lets time pass, stopping at every deadline.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            let due = self.agent.poll_timeout().map(|deadline| deadline.at - self.start);
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                self.expire_addresses();
                return;
            };
            self.now = self.now.max(due);
            self.expire_addresses();
            self.agent.handle_timeout(self.start + self.now);
            self.settle();
        }
        panic!("a busy loop: {:?}", self.agent.poll_timeout());
    }

    /// The kernel removes what has lived long enough. `valid` is kept as the end, in seconds.
    fn expire_addresses(&mut self) {
        if self.is_stuck {
            return;
        }
        let now = self.now.as_secs_f64();
        let is_over = |address: &&Address| address.valid.is_some_and(|end| f64::from(end) <= now);
        let over: Vec<AddressKey> =
            self.addresses.values().filter(is_over).map(Object::key).collect();
        for key in over {
            self.addresses.remove(&key);
            self.feed(Event::Addresses(Change::Deleted(key)));
        }
    }

    fn cluster(&mut self, action: ClusterAction) {
        match action {
            ClusterAction::Announce(write) => {
                for (family, value) in write.values {
                    self.claims.insert((write.service.name.to_string(), family), value);
                }
            }
            ClusterAction::ListLeases => self.lists_asked_for += 1,
            ClusterAction::UnwatchEndpoints => {}
            ClusterAction::WatchEndpoints => {
                if let Some(endpoints) = self.endpoints.clone() {
                    let listed = Event::Endpoints(Change::Listed(endpoints));
                    self.agent.handle_event(listed, self.start + self.now);
                }
            }
            ClusterAction::WriteLease(write) => self.write_lease(write),
        }
    }

    fn write_lease(&mut self, write: LeaseWrite) {
        let (attempt, now) = (write.attempt, self.start + self.now);
        let answer = |result| Event::Leases(LeaseEvent::Written { attempt, result });
        if self.is_cut_off {
            let result = WriteResult::Unknown { error: "no route to host".into() };
            return self.agent.handle_event(answer(result), now);
        }
        self.version += 1;
        let version = Version(self.version);
        let lease =
            Lease { node: "node1".into(), version, uid: "l1".into(), content: write.content };
        self.lease = Some(lease.clone());
        self.agent.handle_event(answer(WriteResult::Accepted { version }), now);
        self.agent.handle_event(Event::Leases(LeaseEvent::Updated(lease)), now);
    }

    fn kernel(&mut self, action: KernelAction) {
        let mut fact = None;
        let mut result = Ok(());
        match &action {
            KernelAction::AddAddress(new) => {
                let verb = if self.addresses.contains_key(&new.key()) { "keep" } else { "add" };
                self.told.push(format!("{verb} {} {}", new.net, self.name(new.link)));
                match self.add(new) {
                    Ok(address) => fact = Some(Event::Addresses(Change::Updated(address))),
                    Err(error) => result = Err(error),
                }
            }
            KernelAction::Advertise { ip, link, gateway, .. } => {
                let gateway = gateway.map_or("nobody".to_owned(), |ip| ip.to_string());
                self.told.push(format!("advertise {ip} {} to {gateway}", self.name(*link)));
            }
            KernelAction::CreateVirtual { name, alias } => {
                self.told.push(format!("create {name}"));
                while self.links.contains_key(&LinkIndex(self.next_virtual)) {
                    self.next_virtual += 1;
                }
                let mut made = link(LinkIndex(self.next_virtual), name);
                made.alias.clone_from(alias);
                made.kind = LinkKind::Dummy;
                self.links.insert(made.index, made.clone());
                fact = Some(Event::Links(Change::Updated(made)));
            }
            KernelAction::DeleteVirtual { link } => {
                self.told.push(format!("delete {}", self.name(*link)));
                match self.links.remove(link) {
                    // The kernel shows it going down before it is gone.
                    Some(going) => {
                        let going = Link { up: false, carrier: false, ..going };
                        let now = self.start + self.now;
                        self.agent.handle_event(Event::Links(Change::Updated(going)), now);
                        fact = Some(Event::Links(Change::Deleted(*link)));
                    }
                    None => {
                        let text = "No such device".into();
                        result = Err(KernelError::Refused { errno: 19, text });
                    }
                }
            }
            KernelAction::Heed { ip, link } => {
                self.heeded.insert((*ip, *link));
            }
            KernelAction::Probe { ip, link } => {
                self.told.push(format!("ask for {ip} on {}", self.name(*link)));
            }
            KernelAction::Unheed { ip, link } => {
                assert!(self.heeded.remove(&(*ip, *link)), "{ip} was heeded on {link}");
            }
            KernelAction::RemoveAddress(key) => {
                self.told.push(format!("remove {} {}", key.net, self.name(key.link)));
                if self.is_stuck {
                    result = Err(KernelError::Transport { text: "no answer".into() });
                } else if self.addresses.remove(key).is_some() {
                    fact = Some(Event::Addresses(Change::Deleted(*key)));
                }
            }
            KernelAction::SetAlias { link, alias } => {
                self.told.push(format!("alias {} {alias:?}", self.name(*link)));
                let link = self.links.get_mut(link).unwrap();
                link.alias.clone_from(alias);
                fact = Some(Event::Links(Change::Updated(link.clone())));
            }
            KernelAction::SetConf { link, settings } => {
                for (key, value) in settings {
                    self.told.push(format!("set {} {key:?} {value}", self.name(*link)));
                    let conf = &mut self.links.get_mut(link).unwrap().conf;
                    match key {
                        ConfKey::ArpAnnounce => conf.arp_announce = *value,
                        ConfKey::ArpIgnore => conf.arp_ignore = *value,
                        ConfKey::PromoteSecondaries => conf.promote_secondaries = *value,
                    }
                }
                fact = Some(Event::Links(Change::Updated(self.links[link].clone())));
            }
        }
        let now = self.start + self.now;
        self.agent.handle_event(Event::Kernel(KernelOutcome { action, result }), now);
        if let Some(fact) = fact {
            self.agent.handle_event(fact, now);
        }
    }

    /// The kernel's part of an addition.
    fn add(&mut self, new: &NewAddress) -> Result<Address, KernelError> {
        let elapsed = self.now.as_secs_f64();
        let valid = match new.lifetime {
            Lifetime::Forever => None,
            Lifetime::Seconds(seconds) => Some(elapsed as u32 + seconds),
            Lifetime::Until(until) => Some((until.as_nanos() as f64 / 1e9) as u32),
        };
        if valid.is_some_and(|end| f64::from(end) < elapsed + 1.0) {
            return Err(KernelError::PastDeadline);
        }
        if self.is_full || self.refuses == Some(new.net.addr()) {
            let text = "No space left on device".into();
            return Err(KernelError::Refused { errno: 28, text });
        }
        let mut address = host_address(new.link, &new.net.to_string());
        address.mark = if self.drops_marks { 0 } else { OUR_MARK };
        address.flags.secondary = new.net.addr().is_ipv4() && new.link != LB0;
        address.flags.no_dad = new.net.addr().is_ipv6();
        address.valid = valid;
        address.flags.deprecated = new.deprecated;
        address.flags.no_prefix_route = new.no_prefix_route;
        self.addresses.insert(address.key(), address.clone());
        Ok(address)
    }

    /// The process goes on after it was stopped for so long: its additions happen, and no
    /// notification of them has come yet.
    pub(crate) fn goes_on_after(&mut self, span: Duration) {
        self.now += span;
        for action in self.stopped_before.take().unwrap_or_default() {
            if let Action::Kernel(KernelAction::AddAddress(new)) = action {
                self.add(&new).unwrap();
            }
        }
    }

    fn name(&self, link: LinkIndex) -> String {
        self.links.get(&link).map_or_else(|| link.to_string(), |link| link.name.clone())
    }

    /// What of ours is where, in order.
    pub(crate) fn shown(&self) -> Vec<String> {
        let ours = self.addresses.values().filter(|address| address.is_ours());
        ours.map(|address| format!("{} {}", address.net, self.name(address.link))).collect()
    }

    /// The lease of another node on the same subnet changes, or is new.
    pub(crate) fn peer_writes(&mut self, node: &str, content: LeaseContent) -> Version {
        self.version += 1;
        let version = Version(self.version);
        let content = LeaseContent {
            duration: Duration::from_secs(5),
            subnets: ["192.0.2.0/24".parse().unwrap()].into(),
            ..content
        };
        let lease = Lease { node: node.into(), version, uid: node.into(), content };
        self.feed(Event::Leases(LeaseEvent::Updated(lease)));
        version
    }

    /// Every address but the host's own two, whosever it is.
    pub(crate) fn shown_at_all(&self) -> Vec<String> {
        let all =
            self.addresses.values().filter(|address| !HOST.contains(&&*address.net.to_string()));
        all.map(|address| format!("{} {}", address.net, self.name(address.link))).collect()
    }

    /// Another station says that it has an address.
    pub(crate) fn hear(&mut self, address: &str, link: LinkIndex, mac: [u8; 6]) {
        if self.heeded.contains(&(ip(address), link)) {
            let sighting = Sighting { ip: ip(address), link, mac: Mac(mac) };
            self.feed(Event::Sighted(sighting));
        }
    }

    /// Somebody puts an address there, or changes it.
    pub(crate) fn put_by_hand(&mut self, address: Address) {
        self.addresses.insert(address.key(), address.clone());
        self.feed(Event::Addresses(Change::Updated(address)));
    }

    /// Somebody removes an address.
    pub(crate) fn remove_by_hand(&mut self, link: LinkIndex, net: &str) {
        let key = AddressKey { link, net: net.parse().unwrap() };
        assert!(self.addresses.remove(&key).is_some(), "{key} is there");
        self.feed(Event::Addresses(Change::Deleted(key)));
    }

    pub(crate) fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub(crate) fn change_link(&mut self, link: LinkIndex, change: impl FnOnce(&mut Link)) {
        let link = self.links.get_mut(&link).unwrap();
        change(link);
        let link = link.clone();
        self.feed(Event::Links(Change::Updated(link)));
    }
}

fn settings(instance: &str) -> Settings {
    Settings {
        node: "node1".into(),
        boot_id: "boot".into(),
        instance: instance.into(),
        duration: Duration::from_secs(5),
    }
}

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn some_instant() -> Instant {
    Instant::now()
}

fn link(index: LinkIndex, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        kind: LinkKind::Other,
        up: true,
        carrier: true,
        loopback: false,
        alias: String::new(),
        conf: LinkConf::default(),
    }
}

pub(crate) fn host_address(link: LinkIndex, net: &str) -> Address {
    Address {
        link,
        net: net.parse().unwrap(),
        broadcast: None,
        flags: AddressFlags::default(),
        scope: Scope::Global,
        mark: 0,
        valid: None,
    }
}

pub(crate) fn default_route(family: Family, link: LinkIndex, metric: u32) -> Route {
    let gateway = match family {
        Family::V4 => "192.0.2.1",
        Family::V6 => "2001:db8:1::1",
    };
    Route {
        destination: family.everything(),
        kind: RouteKind::Unicast,
        link: Some(link),
        gateway: gateway.parse().ok(),
        source: None,
        metric,
        tos: 0,
        protocol: 3,
    }
}

fn pool(field: &str, pool: &str, subnet: &str, aggregation: Option<&str>) -> PoolSpec {
    PoolSpec {
        field: field.into(),
        pool: pool.into(),
        subnet: subnet.into(),
        aggregation: aggregation.map(str::to_owned),
    }
}

pub(crate) fn local_group() -> ServiceGroup {
    let pools = PoolsSpec {
        v4: vec![pool("v4pools[0]", "192.0.2.100-192.0.2.120", "192.0.2.0/24", None)],
        v6: vec![pool("v6pools[0]", "2001:db8:1::100/120", "2001:db8:1::/64", None)],
        ..PoolsSpec::default()
    };
    ServiceGroup::new("default", "g1", GroupSpec::Local { pools, skip_ipv6_dad: false })
}

pub(crate) fn remote_group() -> ServiceGroup {
    let pools = PoolsSpec {
        v4: vec![pool("v4pools[0]", "198.51.100.0/24", "198.51.100.0/24", None)],
        v6: vec![pool("v6pools[0]", "2001:db8:2::/120", "2001:db8:2::/64", Some("/128"))],
        ..PoolsSpec::default()
    };
    ServiceGroup::new("routed", "g2", GroupSpec::Remote { pools })
}

pub(crate) fn lb_node_agent(spec: LocalSpec) -> LbNodeAgent {
    LbNodeAgent {
        name: ("purelb".into(), "default".into()),
        uid: "a1".into(),
        selector: Selector::Labels(vec![]),
        local: Local::Given(Box::new(spec)),
    }
}

/// A Service of ours with these addresses.
pub(crate) fn service(name: &str, ingress: &[&str]) -> Service {
    let mut service = Service::new(ServiceKey::new("default", name), name);
    service.ingress = ingress.iter().map(|ip| ip.parse().unwrap()).collect();
    service.annotations.allocated_by = Some("PureLB".into());
    service
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
