//! The agents' leases, which subnets they serve, and what would move if a node went.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::IpNet;
use purelb_core::announcement::{Announcing, Slot};
use purelb_core::config::{Selection, select};
use purelb_core::group::Announce;
use purelb_core::host::Family;
use purelb_core::name::NodeName;
use purelb_core::node::Exclusion;
use purelb_core::service::Service;
use purelb_k8s::snapshot::{LeaseSight, Snapshot};
use serde::Serialize;

use super::engine::Engine;
use super::place::{Place, by_address, nodes};
use crate::command::output::{Report, Table, list};

/// Every node, every subnet, and what a drain would move.
#[derive(Debug, Serialize)]
pub struct ElectionReport {
    /// The nodes by name.
    pub nodes: Vec<NodeLine>,
    /// The subnets that live leases list.
    pub subnets: Vec<SubnetLine>,
    /// Local ranges that no node serves.
    pub uncovered: Vec<Uncovered>,
    /// What would move, if that was asked for.
    pub drain: Option<Drain>,
}

/// A node's part in elections.
#[derive(Clone, Debug, Serialize)]
pub struct NodeLine {
    /// The node.
    pub node: NodeName,
    /// How it is configured to announce: the LBNodeAgent that governs it, or why none does.
    pub config: String,
    /// The subnets that its lease lists.
    pub subnets: Vec<IpNet>,
    /// Seconds since its lease was renewed, by comparing clocks.
    pub renewed: Option<f64>,
    /// Seconds until its lease runs out, negative once it has, by comparing clocks.
    pub expires: Option<f64>,
    /// How it stands.
    pub standing: NodeStanding,
    /// How many local addresses the Services' annotations say it has.
    pub announcing: usize,
}

/// How a node stands in elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeStanding {
    /// It takes part.
    Ok,
    /// Its lease is live and lists no subnet: it takes no local address.
    Idle,
    /// Its agent has stopped and left its addresses for the next one.
    Keep,
    /// Its lease ran out.
    Expired,
    /// Its agent has no lease.
    NoLease,
}

impl fmt::Display for NodeStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Idle => "IDLE",
            Self::Keep => "KEEP",
            Self::Expired => "EXPIRED",
            Self::NoLease => "NO-LEASE",
        })
    }
}

/// A subnet that live leases list.
#[derive(Clone, Debug, Serialize)]
pub struct SubnetLine {
    /// The subnet.
    pub subnet: IpNet,
    /// The nodes that serve it.
    pub nodes: Vec<NodeName>,
    /// How many of the Services' addresses are in it.
    pub addresses: usize,
}

/// A local range that no node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uncovered {
    /// Its group.
    pub group: String,
    /// The range.
    pub range: String,
    /// The subnet that no live lease lists.
    pub subnet: IpNet,
}

/// What would move if a node went.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    /// The node.
    pub node: NodeName,
    /// Its addresses, each with where it would go.
    pub moves: Vec<Move>,
}

/// An address that would move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The Services that have it.
    pub services: Vec<String>,
    /// The address.
    pub ip: IpAddr,
    /// The node that would have it; none if nobody could.
    pub to: Option<NodeName>,
    /// Why nobody could.
    pub why: Option<String>,
}

impl ElectionReport {
    /// Looks at every node, or at `node` alone; `drain` is the node whose going is to be foreseen.
    ///
    /// # Errors
    ///
    /// If a node that was named does not exist: the text says which there are.
    pub fn new(
        snapshot: &Snapshot,
        node: Option<&NodeName>,
        drain: Option<&NodeName>,
    ) -> Result<Self, String> {
        let all = nodes(snapshot);
        for named in [node, drain].into_iter().flatten() {
            if !all.contains(named) {
                return Err(format!("there is no node {named}; there are: {}", list(&all)));
            }
        }
        let engine = Engine::new(snapshot);
        let is_shown = |line: &NodeLine| node.is_none_or(|wanted| *wanted == line.node);
        Ok(Self {
            nodes: lines(snapshot).into_iter().filter(is_shown).collect(),
            subnets: subnets(snapshot),
            uncovered: uncovered(snapshot, &engine),
            drain: drain
                .map(|node| Drain { node: node.clone(), moves: moves(node, snapshot, &engine) }),
        })
    }

    /// Whether every node takes part, and every local range is served.
    pub fn is_fine(&self) -> bool {
        let takes_part = |line: &NodeLine| match line.standing {
            // Whoever is told to announce nothing has no subnets.
            NodeStanding::Ok | NodeStanding::Keep | NodeStanding::Idle => true,
            NodeStanding::Expired | NodeStanding::NoLease => false,
        };
        let all_land = |drain: &Drain| drain.moves.iter().all(|one| one.to.is_some());
        self.nodes.iter().all(takes_part)
            && self.uncovered.is_empty()
            && self.drain.as_ref().is_none_or(all_land)
    }
}

/// Every node's part in elections, by name.
pub fn lines(snapshot: &Snapshot) -> Vec<NodeLine> {
    let announced = announced(snapshot);
    let count = |name: &NodeName| announced.get(name).copied().unwrap_or_default();
    nodes(snapshot).iter().map(|name| line(name, snapshot, count(name))).collect()
}

fn line(name: &NodeName, snapshot: &Snapshot, announcing: usize) -> NodeLine {
    let sight = snapshot.leases.iter().find(|sight| sight.lease.node == *name);
    let age =
        |sight: &LeaseSight| Some(snapshot.taken.duration_since(sight.renewed?).as_secs_f64());
    NodeLine {
        node: name.clone(),
        config: config(name, snapshot),
        subnets: sight
            .map(|sight| sight.lease.content.subnets.iter().copied().collect())
            .unwrap_or_default(),
        renewed: sight.and_then(age),
        expires: sight.and_then(|sight| sight.seconds_left(snapshot.taken)),
        standing: match sight {
            None => NodeStanding::NoLease,
            Some(sight) if !sight.is_live(snapshot.taken) => NodeStanding::Expired,
            Some(sight) if sight.lease.content.keep => NodeStanding::Keep,
            Some(sight) if sight.lease.content.subnets.is_empty() => NodeStanding::Idle,
            Some(_) => NodeStanding::Ok,
        },
        announcing,
    }
}

/// What governs a node's announcing.
pub fn config(name: &NodeName, snapshot: &Snapshot) -> String {
    let Some(node) = snapshot.nodes.iter().find(|node| node.name == *name) else {
        return "no such Node".to_owned();
    };
    let governed = match select(&snapshot.agents, &node.labels) {
        Selection::Configured(agent, _) => format!("{}/{}", agent.name.0, agent.name.1),
        Selection::Default => "no LBNodeAgent".to_owned(),
        Selection::Deselected => "deselected".to_owned(),
        Selection::Invalid(agent, _) => format!("{}/{} (invalid)", agent.name.0, agent.name.1),
    };
    match Exclusion::of(node) {
        Some(Exclusion::OutOfService) => format!("{governed}, out of service"),
        Some(Exclusion::Label) => format!("{governed}, excluded"),
        None => governed,
    }
}

/// How many addresses each node is said to have.
fn announced(snapshot: &Snapshot) -> BTreeMap<NodeName, usize> {
    let mut found: BTreeMap<NodeName, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in &snapshot.services {
        for ip in &service.ingress {
            if let Some(slot) = slot(service, *ip) {
                found.entry(slot.node).or_default().insert(*ip);
            }
        }
    }
    found.into_iter().map(|(node, ips)| (node, ips.len())).collect()
}

/// Who says that it announces an address of a Service.
pub fn slot(service: &Service, ip: IpAddr) -> Option<Slot> {
    Announcing::of(service, Family::of(ip)).slot(ip).cloned()
}

fn subnets(snapshot: &Snapshot) -> Vec<SubnetLine> {
    let mut nodes: BTreeMap<IpNet, Vec<NodeName>> = BTreeMap::new();
    for lease in snapshot.live_leases() {
        for subnet in &lease.content.subnets {
            nodes.entry(*subnet).or_default().push(lease.node.clone());
        }
    }
    let ips: BTreeSet<IpAddr> =
        snapshot.services.iter().flat_map(|service| service.ingress.iter().copied()).collect();
    nodes
        .into_iter()
        .map(|(subnet, mut nodes)| {
            nodes.sort();
            let addresses = ips.iter().filter(|ip| subnet.contains(*ip)).count();
            SubnetLine { subnet, nodes, addresses }
        })
        .collect()
}

/// The local ranges of which not one subnet that holds them is in a live lease.
pub fn uncovered(snapshot: &Snapshot, engine: &Engine) -> Vec<Uncovered> {
    let served: BTreeSet<IpNet> =
        snapshot.live_leases().flat_map(|lease| lease.content.subnets.iter().copied()).collect();
    let groups =
        engine.allocator().catalog().groups().values().filter_map(|group| group.as_ref().ok());
    groups
        .filter(|group| group.announce == Announce::Local)
        .flat_map(|group| group.pools().iter().map(move |pool| (group, pool)))
        .filter(|(_, pool)| {
            !served
                .iter()
                .any(|net| net.contains(&pool.range.first()) && net.contains(&pool.range.last()))
        })
        .map(|(group, pool)| Uncovered {
            group: group.name.to_string(),
            range: pool.text.clone(),
            subnet: pool.subnet,
        })
        .collect()
}

fn moves(node: &NodeName, snapshot: &Snapshot, engine: &Engine) -> Vec<Move> {
    let catalog = engine.allocator().catalog();
    let live: Vec<_> = snapshot.live_leases().collect();
    let stay: Vec<_> = live.iter().copied().filter(|lease| lease.node != *node).collect();
    let goes = |(ip, services): (IpAddr, Vec<&Service>)| {
        let now = Place::of(ip, &services, catalog, &live);
        if now.winner() != Some(node) {
            return None;
        }
        let (to, why) = match Place::of(ip, &services, catalog, &stay) {
            Place::Elected { candidates, .. } => (candidates.into_iter().next(), None),
            Place::EveryNode => (None, Some("on the virtual interface of every node".to_owned())),
            Place::Nobody { why } => (None, Some(why.to_string())),
        };
        let services = services.iter().map(|service| service.key.to_string()).collect();
        Some(Move { services, ip, to, why })
    };
    by_address(snapshot).into_iter().filter_map(goes).collect()
}

impl Report for ElectionReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        let headings = ["NODE", "CONFIG", "SUBNETS", "RENEWED", "EXPIRES", "STATUS", "ANNOUNCING"];
        let mut table = Table::new(headings);
        let seconds = |seconds: Option<f64>, more: &str| {
            seconds.map(|seconds| format!("{seconds:.1}s{more}")).unwrap_or_default()
        };
        for line in &self.nodes {
            table.row([
                line.node.to_string(),
                line.config.clone(),
                list(&line.subnets),
                seconds(line.renewed, " ago"),
                seconds(line.expires, ""),
                line.standing.to_string(),
                line.announcing.to_string(),
            ]);
        }
        table.print(to)?;
        if !self.subnets.is_empty() {
            writeln!(to)?;
            let mut table = Table::new(["SUBNET", "ADDRESSES", "NODES"]);
            for line in &self.subnets {
                table.row([line.subnet.to_string(), line.addresses.to_string(), list(&line.nodes)]);
            }
            table.print(to)?;
        }
        for range in &self.uncovered {
            writeln!(
                to,
                "\nNo node serves {} of ServiceGroup {}: {} is in no live lease. Its Services get \
                 addresses that nobody announces.",
                range.range, range.group, range.subnet
            )?;
        }
        if let Some(drain) = &self.drain {
            drain.print(to)?;
        }
        Ok(())
    }
}

impl Drain {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.moves.is_empty() {
            return writeln!(to, "\nIf {} goes, no address moves.", self.node);
        }
        writeln!(to, "\nIf {} goes, these move, and no others:", self.node)?;
        let mut table = Table::new(["SERVICE", "IP", "TO"]);
        for one in &self.moves {
            let nobody = || format!("nobody: {}", one.why.clone().unwrap_or_default());
            table.row([
                list(&one.services),
                one.ip.to_string(),
                one.to.as_ref().map_or_else(nobody, ToString::to_string),
            ]);
        }
        table.print(to)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{lease, objects, snapshot};
    use super::*;

    fn report(objects: Vec<serde_json::Value>, drain: Option<&str>) -> ElectionReport {
        let drain = drain.map(NodeName::from);
        ElectionReport::new(&snapshot(objects), None, drain.as_ref()).unwrap()
    }

    fn text(report: &ElectionReport) -> String {
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn each_node_has_a_line_with_its_lease_and_what_it_announces() {
        let report = report(objects(), None);
        let seen: Vec<_> = report
            .nodes
            .iter()
            .map(|line| (line.node.as_str(), line.standing, line.announcing))
            .collect();
        assert_eq!(seen, [("n1", NodeStanding::Ok, 1), ("n2", NodeStanding::Expired, 0)]);
        assert_eq!(report.nodes[0].config, "purelb/default");
        assert!(!report.is_fine(), "a lease ran out");
        assert!(
            text(&report).starts_with(
                "NODE  CONFIG          SUBNETS       RENEWED      EXPIRES   STATUS   ANNOUNCING\n\
             n1    purelb/default  192.0.2.0/24  2.0s ago     3.0s      OK       1\n"
            ),
            "{}",
            text(&report)
        );
    }

    #[test]
    fn a_drain_moves_what_the_node_wins_and_nothing_else() {
        let mut both = objects();
        both.push(lease("n2", "2026-11-25T12:00:00Z"));
        let seen = snapshot(both.clone());
        let engine = Engine::new(&seen);
        let live: Vec<_> = seen.live_leases().collect();
        let catalog = engine.allocator().catalog();
        let now = Place::of("192.0.2.240".parse().unwrap(), &[&seen.services[0]], catalog, &live);
        let holder = now.winner().unwrap().to_string();
        let other = if holder == "n1" { "n2" } else { "n1" };
        let drain = report(both.clone(), Some(&holder)).drain.unwrap();
        let seen: Vec<_> = drain.moves.iter().map(|m| (&m.services[0][..], m.to.clone())).collect();
        assert_eq!(seen, [("shop/web", Some(other.into()))]);
        assert!(report(both, Some(other)).drain.unwrap().moves.is_empty());
    }

    #[test]
    fn the_last_node_leaves_its_addresses_to_nobody_and_says_why() {
        let report = report(objects(), Some("n1"));
        assert!(text(&report).contains("nobody: none serves a subnet"), "{}", text(&report));
        assert!(!report.is_fine());
    }

    #[test]
    fn a_range_that_no_node_serves_and_a_node_kept_away_are_named() {
        let mut objects = objects();
        objects.push(json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": "far", "namespace": "purelb", "uid": "g3", "generation": 1},
            "spec": {"local": {"v4pool": {"subnet": "203.0.113.0/24", "pool": "203.0.113.8/29"}}},
        }));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "n1", "labels": {
                "node.kubernetes.io/exclude-from-external-load-balancers": "",
            }},
        }));
        let report = report(objects, None);
        assert_eq!(report.uncovered.len(), 1);
        assert_eq!(report.uncovered[0].range, "203.0.113.8/29");
        assert_eq!(report.nodes[0].config, "purelb/default, excluded");
    }

    #[test]
    fn a_node_that_does_not_exist_is_named_with_those_that_do() {
        let error =
            ElectionReport::new(&snapshot(objects()), None, Some(&"n9".into())).unwrap_err();
        assert_eq!(error, "there is no node n9; there are: n1, n2");
    }
}
