//! What is shown, made of facts.
//!
//! Sans-IO: facts come in by [`Model::handle_fact`], each with its moment; time passes by
//! [`Model::handle_time`]; [`Model::refresh`] makes rows of what is known, by the functions that the
//! other reports are made with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::config::{LbNodeAgent, Node};
use purelb_core::group::ServiceGroup;
use purelb_core::lease::{Lease, LeaseEvent};
use purelb_core::name::NodeName;
use purelb_core::service::Service;
use purelb_core::store::{Change, Object, Store};
use purelb_k8s::snapshot::{LeaseSight, Snapshot};

use super::holdings::{Holdings, Move};
use crate::report::election;
use crate::report::engine::Engine;
use crate::report::place::{Place, by_address, kept_away};
use crate::report::pools::{PoolReport, PoolsReport, RefusedGroup};
use crate::report::services::{Filter, ServiceLine, ServicesReport, Standing};

pub use crate::report::election::{NodeLine, NodeStanding};

/// Something that is so now.
#[derive(Clone, Debug)]
pub enum Fact {
    /// About LBNodeAgents.
    Agents(Change<LbNodeAgent>),
    /// The API answers.
    Alive,
    /// About ServiceGroups.
    Groups(Change<ServiceGroup>),
    /// About the agents' leases.
    Leases(LeaseEvent),
    /// Everything, as it was before anybody looked.
    Looked(Box<Snapshot>),
    /// About Nodes.
    Nodes(Change<Node>),
    /// What goes on that no object shows.
    Ongoing(Vec<String>),
    /// About Services.
    Services(Change<Service>),
}

/// Everything that can be shown of a cluster.
#[derive(Clone, Debug)]
pub struct Model {
    services: Store<Service>,
    groups: Store<ServiceGroup>,
    agents: Store<LbNodeAgent>,
    nodes: Store<Node>,
    leases: BTreeMap<NodeName, LeaseSight>,
    /// Whether Services without a class are ours.
    default_announcer: bool,
    holdings: Holdings,
    ongoing: Vec<String>,
    began: Timestamp,
    now: Timestamp,
    heard: Timestamp,
    /// Whether the rows are not those of what is known.
    is_stale: bool,
    rows: Rows,
}

/// What the panels show.
#[derive(Clone, Debug, Default)]
struct Rows {
    nodes: Vec<NodeRow>,
    addresses: Vec<AddressRow>,
    pools: Vec<PoolReport>,
    refused: Vec<RefusedGroup>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Its part in elections.
    pub line: NodeLine,
    /// How many local addresses it holds.
    pub holds: usize,
    /// What keeps it from announcing.
    pub reason: Option<String>,
}

/// An address of a Service, or a Service that asks for one and has none.
#[derive(Clone, Debug)]
pub struct AddressRow {
    /// The address and how it stands.
    pub line: ServiceLine,
    /// Who holds it.
    pub holder: Holder,
    /// Since when, if that was seen.
    pub since: Option<Timestamp>,
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// So many nodes, on their virtual interface.
    EveryNode(usize),
    /// A node, on this interface.
    Node(NodeName, String),
    /// Nobody; with the node that is to have it, if one is.
    Nobody(Option<NodeName>),
    /// There is no address.
    Unassigned,
}

impl Model {
    /// Of a cluster of which nothing is known yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            services: Store::default(),
            groups: Store::default(),
            agents: Store::default(),
            nodes: Store::default(),
            leases: BTreeMap::new(),
            default_announcer: true,
            holdings: Holdings::default(),
            ongoing: Vec::new(),
            began: now,
            now,
            heard: now,
            is_stale: true,
            rows: Rows::default(),
        }
    }

    /// Takes in what is so since `at`.
    pub fn handle_fact(&mut self, fact: Fact, at: Timestamp) {
        if !matches!(fact, Fact::Ongoing(_)) {
            self.heard = self.heard.max(at);
        }
        self.handle_time(at);
        match fact {
            Fact::Agents(change) => self.is_stale |= !self.agents.apply(change).is_empty(),
            Fact::Alive => {}
            Fact::Groups(change) => self.is_stale |= !self.groups.apply(change).is_empty(),
            Fact::Leases(event) => self.take_leases(event, at),
            Fact::Looked(snapshot) => self.take_all(*snapshot, at),
            Fact::Nodes(change) => self.is_stale |= !self.nodes.apply(change).is_empty(),
            Fact::Ongoing(ongoing) => self.ongoing = ongoing,
            Fact::Services(change) => self.take_services(change, at),
        }
    }

    /// It is `now`: leases run out.
    pub fn handle_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        // A lease of which nothing is heard because nothing at all is heard may well be renewed.
        let judged = self.now.min(self.heard);
        for sight in self.leases.values() {
            let duration = sight.lease.content.duration;
            let end = sight.renewed.and_then(|renewed| renewed.checked_add(duration).ok());
            if let Some(end) = end.filter(|end| *end <= judged)
                && !self.holdings.dead().contains_key(&sight.lease.node)
            {
                self.holdings.handle_loss(&sight.lease.node, end);
                self.is_stale = true;
            }
        }
    }

    /// Whether more than renewals came since this was asked last, or rows were made.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_stale)
    }

    /// Makes rows of what is known, if that has changed.
    pub fn refresh(&mut self) {
        if self.take_news() {
            self.rows = Rows::new(&self.snapshot(), &self.holdings);
        }
    }

    /// The moment that is shown.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When looking began: what has been so since then may have been so for longer.
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// What goes on that no object shows.
    pub fn ongoing(&self) -> &[String] {
        &self.ongoing
    }

    /// The nodes by name.
    pub fn nodes(&self) -> &[NodeRow] {
        &self.rows.nodes
    }

    /// Addresses and Services without one, by Service.
    pub fn addresses(&self) -> &[AddressRow] {
        &self.rows.addresses
    }

    /// The Services by name.
    pub fn services(&self) -> &Store<Service> {
        &self.services
    }

    /// Who holds which address.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// The moves, the latest first.
    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.holdings.moves()
    }

    /// The ranges of every group.
    pub fn pools(&self) -> &[PoolReport] {
        &self.rows.pools
    }

    /// Groups that cannot be used.
    pub fn refused(&self) -> &[RefusedGroup] {
        &self.rows.refused
    }

    /// The seconds that are left of a node's lease, negative once it has run out, and those that it
    /// lasts.
    pub fn lease(&self, node: &NodeName) -> Option<(f64, f64)> {
        let sight = self.leases.get(node)?;
        Some((sight.seconds_left(self.now)?, sight.lease.content.duration.as_secs_f64()))
    }

    /// The nodes that have a lease, run out or not.
    pub fn leased(&self) -> impl Iterator<Item = &NodeName> {
        self.leases.keys()
    }

    /// For how long nothing has been heard of the API.
    pub fn silence(&self) -> Duration {
        Duration::try_from(self.now.duration_since(self.heard)).unwrap_or_default()
    }

    fn take_all(&mut self, snapshot: Snapshot, at: Timestamp) {
        self.default_announcer = snapshot.is_default_announcer();
        self.groups.apply(Change::Listed(snapshot.groups));
        self.agents.apply(Change::Listed(snapshot.agents));
        self.nodes.apply(Change::Listed(snapshot.nodes));
        self.leases =
            snapshot.leases.into_iter().map(|sight| (sight.lease.node.clone(), sight)).collect();
        self.handle_time(at);
        self.take_services(Change::Listed(snapshot.services), at);
        self.is_stale = true;
    }

    fn take_services(&mut self, change: Change<Service>, at: Timestamp) {
        let was_so = !self.services.is_listed();
        for key in self.services.apply(change) {
            self.holdings.handle_service(&key, self.services.get(&key), at, was_so);
            self.is_stale = true;
        }
    }

    fn take_leases(&mut self, event: LeaseEvent, at: Timestamp) {
        match event {
            LeaseEvent::Deleted { node, .. } => self.drop_lease(&node, at),
            LeaseEvent::Listed { leases, .. } => {
                let is_gone = |node: &&NodeName| !leases.iter().any(|lease| lease.node == **node);
                let gone: Vec<NodeName> = self.leases.keys().filter(is_gone).cloned().collect();
                for node in gone {
                    self.drop_lease(&node, at);
                }
                for lease in leases {
                    self.take_lease(lease, at);
                }
            }
            LeaseEvent::Updated(lease) => self.take_lease(lease, at),
            LeaseEvent::Bookmark(_) | LeaseEvent::Written { .. } => {}
        }
    }

    fn take_lease(&mut self, lease: Lease, at: Timestamp) {
        let node = lease.node.clone();
        let known = self.leases.get(&node).map(|sight| &sight.lease);
        if known.is_some_and(|known| (&known.uid, known.version) == (&lease.uid, lease.version)) {
            return;
        }
        // A renewal alone changes no row.
        let told = |lease: &Lease| {
            let content = &lease.content;
            (content.subnets.clone(), content.lists.clone(), content.keep, content.duration)
        };
        self.is_stale |= known.map(told) != Some(told(&lease));
        self.leases.insert(node.clone(), LeaseSight { lease, renewed: Some(at) });
        self.is_stale |= self.holdings.handle_life(&node, at);
    }

    fn drop_lease(&mut self, node: &NodeName, at: Timestamp) {
        if self.leases.remove(node).is_some() {
            self.holdings.handle_loss(node, at);
            self.is_stale = true;
        }
    }

    fn snapshot(&self) -> Snapshot {
        fn all<T: Object>(store: &Store<T>) -> Vec<T> {
            store.iter().cloned().collect()
        }
        Snapshot {
            services: all(&self.services),
            groups: all(&self.groups),
            agents: all(&self.agents),
            nodes: all(&self.nodes),
            leases: self.leases.values().cloned().collect(),
            default_announcer: self.default_announcer,
            taken: self.now.min(self.heard),
            ..Snapshot::default()
        }
    }
}

impl Rows {
    fn new(snapshot: &Snapshot, holdings: &Holdings) -> Self {
        let engine = Engine::new(snapshot);
        let pools = PoolsReport::by(&engine, snapshot, None, false);
        let counts = holdings.counts();
        let nodes: Vec<NodeRow> = election::lines(snapshot)
            .into_iter()
            .map(|line| NodeRow {
                holds: counts.get(&line.node).copied().unwrap_or_default(),
                reason: kept_away(&line.node, snapshot).map(|why| why.to_string()),
                line,
            })
            .collect();
        let announcing = nodes.iter().filter(|row| row.announces()).count();
        Self {
            addresses: address_rows(snapshot, &engine, holdings, announcing),
            nodes,
            pools: pools.pools,
            refused: pools.refused,
        }
    }
}

impl NodeRow {
    /// Whether its agent lives and nothing keeps it from announcing.
    fn announces(&self) -> bool {
        self.reason.is_none()
            && match self.line.standing {
                NodeStanding::Ok | NodeStanding::Idle | NodeStanding::Keep => true,
                NodeStanding::Expired | NodeStanding::NoLease => false,
            }
    }
}

fn address_rows(
    snapshot: &Snapshot,
    engine: &Engine,
    holdings: &Holdings,
    announcing: usize,
) -> Vec<AddressRow> {
    let users = by_address(snapshot);
    let live: Vec<&Lease> = snapshot.live_leases().collect();
    let belongs = |ip: IpAddr| {
        let services = users.get(&ip).map(Vec::as_slice).unwrap_or_default();
        Place::of(ip, services, engine.allocator().catalog(), &live).winner().cloned()
    };
    let row = |line: ServiceLine| {
        let holding = line.ip.and_then(|ip| holdings.get(ip));
        let slot = holding.and_then(|holding| holding.holder.clone());
        let holder = match (line.ip, slot) {
            (None, _) => Holder::Unassigned,
            (Some(_), Some(slot)) => Holder::Node(slot.node, slot.interface),
            (Some(_), None) if line.status == Standing::Ok => Holder::EveryNode(announcing),
            (Some(ip), None) => Holder::Nobody(belongs(ip)),
        };
        AddressRow { holder, since: holding.and_then(|holding| holding.since), line }
    };
    let report = ServicesReport::by(engine, snapshot, &Filter::default());
    report.services.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use purelb_core::name::ServiceKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::report::fixture::{lease, objects, service, snapshot};

    const LOOKED: &str = "2026-11-25T12:00:02Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn model(objects: Vec<Value>) -> Model {
        let mut model = Model::new(at(LOOKED));
        model.handle_fact(Fact::Looked(Box::new(snapshot(objects))), at(LOOKED));
        model.refresh();
        model
    }

    fn renewal(version: u64) -> Fact {
        let mut lease = snapshot(objects()).leases[0].lease.clone();
        lease.version.0 = version;
        Fact::Leases(LeaseEvent::Updated(lease))
    }

    fn holder_of(model: &Model, name: &str) -> Holder {
        let row = model.addresses().iter().find(|row| row.line.name == name);
        row.unwrap().holder.clone()
    }

    #[test]
    fn what_is_there_at_first_is_shown_with_its_holders_and_is_no_move() {
        let model = model(objects());
        assert_eq!(holder_of(&model, "web"), Holder::Node("n1".into(), "eth0".to_owned()));
        assert_eq!(holder_of(&model, "api"), Holder::EveryNode(1), "n2 has no live lease");
        assert_eq!(model.moves().count(), 0);
        let nodes: Vec<_> =
            model.nodes().iter().map(|row| (row.line.standing, row.holds)).collect();
        assert_eq!(nodes, [(NodeStanding::Ok, 1), (NodeStanding::Expired, 0)]);
        assert_eq!(model.pools().len(), 2);
        assert_eq!(model.lease(&"n1".into()), Some((3.0, 5.0)));
    }

    #[test]
    fn a_renewal_moves_the_end_of_a_lease_and_no_row() {
        let mut model = model(objects());
        model.handle_fact(renewal(6), at("2026-11-25T12:00:04Z"));
        assert!(!model.is_stale);
        assert_eq!(model.lease(&"n1".into()), Some((5.0, 5.0)));
        model.handle_fact(renewal(6), at("2026-11-25T12:00:05Z"));
        assert_eq!(model.lease(&"n1".into()), Some((4.0, 5.0)), "the same lease is no renewal");
    }

    #[test]
    fn a_lease_runs_out_by_what_was_heard_and_not_by_silence() {
        let mut model = model(objects());
        model.handle_time(at("2026-11-25T12:00:20Z"));
        model.refresh();
        assert_eq!(model.nodes()[0].line.standing, NodeStanding::Ok);
        assert_eq!(model.silence(), Duration::from_secs(18));
        model.handle_fact(Fact::Alive, at("2026-11-25T12:00:21Z"));
        model.refresh();
        assert_eq!(model.nodes()[0].line.standing, NodeStanding::Expired);
        assert_eq!(holder_of(&model, "web"), Holder::Nobody(None));
        let left = model.moves().next().unwrap().left;
        assert_eq!(left, Some(at("2026-11-25T12:00:05Z")), "when the lease ended");
        model.handle_fact(renewal(7), at("2026-11-25T12:00:22Z"));
        model.refresh();
        assert_eq!(holder_of(&model, "web"), Holder::Node("n1".into(), "eth0".to_owned()));
        assert_eq!(model.moves().count(), 1);
    }

    #[test]
    fn an_address_that_nobody_has_names_the_node_whose_turn_it_is() {
        let mut objects = objects();
        objects.push(service("web", Some("192.0.2.240"), "default", "local", None));
        let model = model(objects);
        assert_eq!(holder_of(&model, "web"), Holder::Nobody(Some("n1".into())));
    }

    #[test]
    fn a_service_without_an_address_is_shown_with_the_reason() {
        let mut objects = objects();
        objects.push(service("asks", None, "missing", "local", None));
        let model = model(objects);
        assert_eq!(holder_of(&model, "asks"), Holder::Unassigned);
        let row = model.addresses().iter().find(|row| row.line.name == "asks").unwrap();
        assert!(row.line.detail.as_deref().unwrap().contains("missing"));
    }

    #[test]
    fn an_excluded_node_says_so() {
        let mut objects = objects();
        let label = "node.kubernetes.io/exclude-from-external-load-balancers";
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "uid": "n1", "labels": {label: ""}},
        }));
        let model = model(objects);
        assert!(model.nodes()[0].reason.as_deref().unwrap().contains("exclude"));
        assert_eq!(holder_of(&model, "api"), Holder::EveryNode(0));
    }

    #[test]
    fn listed_leases_are_all_there_are() {
        let mut objects = objects();
        objects.push(lease("n2", "2026-11-25T12:00:01Z"));
        let mut model = model(objects);
        let lease = snapshot(vec![lease("n2", LOOKED)]).leases[0].lease.clone();
        let listed = LeaseEvent::Listed { leases: vec![lease], version: Default::default() };
        model.handle_fact(Fact::Leases(listed), at("2026-11-25T12:00:03Z"));
        model.refresh();
        let standings: Vec<_> = model.nodes().iter().map(|row| row.line.standing).collect();
        assert_eq!(standings, [NodeStanding::NoLease, NodeStanding::Ok]);
        assert_eq!(model.moves().next().unwrap().from, Some("n1".into()));
    }

    #[test]
    fn a_deleted_service_takes_its_row_along() {
        let mut model = model(objects());
        let key = ServiceKey::new("shop", "web");
        model.handle_fact(Fact::Services(Change::Deleted(key)), at("2026-11-25T12:00:03Z"));
        model.refresh();
        assert_eq!(model.addresses().len(), 1);
        assert_eq!(model.nodes()[0].holds, 0);
    }
}
