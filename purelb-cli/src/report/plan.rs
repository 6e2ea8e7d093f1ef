//! What a change of objects would do, before it is applied: the same machines, fed with the objects as
//! they would be.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::IpNet;
use purelb_core::config::{LocalSpec, select};
use purelb_core::host::{Family, LinkIndex};
use purelb_core::lease::Lease;
use purelb_core::link::{Policy, local_links, subnets};
use purelb_core::name::{NodeName, ServiceKey};
use purelb_core::node::{Exclusion, HostFacts};
use purelb_core::service::Service;
use purelb_k8s::snapshot::Snapshot;
use serde::Serialize;

use super::election;
use super::engine::{Allocation, Engine};
use super::place::{Place, by_address, nodes};
use super::story::Views;
use crate::command::output::{Report, Table, list};

/// What would be different.
#[derive(Debug, Serialize)]
pub struct PlanReport {
    /// ServiceGroups that come, go, or can be used from then on or no longer.
    pub groups: Vec<GroupChange>,
    /// Services that would stand differently.
    pub services: Vec<ServiceChange>,
    /// How many Services of ours keep exactly what they have.
    pub unchanged: usize,
    /// Nodes that would announce differently.
    pub nodes: Vec<NodeChange>,
    /// Addresses that would be elsewhere.
    pub moves: Vec<AddressMove>,
}

/// A ServiceGroup that comes, goes, or changes in whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupChange {
    /// Which.
    pub group: String,
    /// What.
    pub change: String,
    /// Whether somebody should look at it.
    pub is_harmful: bool,
}

/// A Service that would stand differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceChange {
    /// Which.
    pub service: ServiceKey,
    /// How.
    pub outcome: Outcome,
    /// Which addresses, or why none.
    pub detail: String,
}

/// How a Service would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// It would have other addresses.
    Changes,
    /// It would get addresses, which it has none of or too few.
    Gains,
    /// It asks for something that could no longer be given; what it has it keeps.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changes => "CHANGES",
            Self::Gains => "GAINS",
            Self::Refused => "REFUSED",
        })
    }
}

/// A node that would announce differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeChange {
    /// Which.
    pub node: NodeName,
    /// How it is now.
    pub before: String,
    /// How it would be.
    pub after: String,
}

/// An address that would be elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressMove {
    /// The Services that have it.
    pub services: Vec<String>,
    /// The address.
    pub ip: IpAddr,
    /// Where it is now.
    pub from: String,
    /// Where it would be.
    pub to: String,
}

impl PlanReport {
    /// Compares a cluster with what it would be; `views` say what the nodes' hosts are like, as far as
    /// they were asked.
    pub fn new(before: &Snapshot, after: &Snapshot, views: &Views) -> Self {
        let (now, then) = (Engine::new(before), Engine::new(after));
        let mut report = Self {
            groups: groups(&now, &then),
            services: Vec::new(),
            unchanged: 0,
            nodes: nodes(after)
                .into_iter()
                .filter_map(|node| node_change(node, before, after, views))
                .collect(),
            moves: moves(before, after, &now, &then, views),
        };
        for service in &after.services {
            let was = before.services.iter().find(|old| old.uid == service.uid);
            let was = was.map(|old| now.allocation(old, before));
            let is = then.allocation(service, after);
            if is == Allocation::NotOurs {
                continue;
            }
            if was.as_ref() == Some(&is) {
                report.unchanged += 1;
                continue;
            }
            let (outcome, detail) = match is {
                Allocation::NotOurs => continue,
                Allocation::Complete => {
                    report.unchanged += 1;
                    continue;
                }
                Allocation::Sidecar => {
                    (Outcome::Gains, "what the group's sidecar gives".to_owned())
                }
                Allocation::Refused(why) => (Outcome::Refused, why),
                Allocation::Due(ips) if ips.is_empty() => {
                    (Outcome::Changes, format!("it loses {}", list(&service.ingress)))
                }
                Allocation::Due(ips) => {
                    let keeps = service.ingress.iter().all(|ip| ips.contains(ip));
                    let outcome = if keeps { Outcome::Gains } else { Outcome::Changes };
                    (outcome, list(ips))
                }
            };
            report.services.push(ServiceChange { service: service.key.clone(), outcome, detail });
        }
        report
    }

    /// Whether nothing is taken away: no Service refused, no group unusable, nothing without a place.
    pub fn is_harmless(&self) -> bool {
        self.services.iter().all(|change| change.outcome == Outcome::Gains)
            && !self.groups.iter().any(|change| change.is_harmful)
            && !self.moves.iter().any(|one| one.to.starts_with(NOBODY))
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.services.is_empty()
            && self.nodes.is_empty()
            && self.moves.is_empty()
    }
}

fn groups(now: &Engine, then: &Engine) -> Vec<GroupChange> {
    let (now, then) = (now.allocator().catalog().groups(), then.allocator().catalog().groups());
    let names: BTreeSet<_> = now.keys().chain(then.keys()).collect();
    let change = |group: &&purelb_core::name::GroupName| {
        let (change, is_harmful) = match (now.get(*group), then.get(*group)) {
            (_, Some(Err(why))) if now.get(*group) != then.get(*group) => {
                (format!("cannot be used: {why}"), true)
            }
            (None, Some(Ok(_))) => ("is new".to_owned(), false),
            (Some(Err(_)), Some(Ok(_))) => ("can be used from then on".to_owned(), false),
            (Some(Ok(was)), Some(Ok(is))) if was != is => ("changes".to_owned(), false),
            (Some(_), None) => {
                ("is gone: Services keep its addresses, and none get new ones".to_owned(), true)
            }
            _ => return None,
        };
        Some(GroupChange { group: group.to_string(), change, is_harmful })
    };
    names.iter().filter_map(change).collect()
}

/// How a node announces: which LBNodeAgent governs it, and by which interfaces.
fn node_change(
    node: NodeName,
    before: &Snapshot,
    after: &Snapshot,
    views: &Views,
) -> Option<NodeChange> {
    let (was, is) = (spec_of(&node, before), spec_of(&node, after));
    let (was_config, is_config) = (election::config(&node, before), election::config(&node, after));
    if was == is && was_config == is_config {
        return None;
    }
    let host = views.get(&node).and_then(|view| view.as_ref().ok()).map(|view| &view.host);
    let tell = |config: String, spec: &Option<LocalSpec>| match spec {
        None => format!("{config}: announces nothing"),
        Some(spec) => format!("{config}: {}", interfaces(spec, host)),
    };
    let (mut before, mut after) = (tell(was_config, &was), tell(is_config, &is));
    if before == after {
        before.push_str(", settings as they are");
        after.push_str(", other settings");
    }
    Some(NodeChange { node, before, after })
}

/// The settings that govern a node's announcing, if it is to announce.
fn spec_of(node: &NodeName, snapshot: &Snapshot) -> Option<LocalSpec> {
    let object = snapshot.nodes.iter().find(|object| object.name == *node)?;
    let spec = select(&snapshot.agents, &object.labels).spec().ok();
    spec.filter(|_| Exclusion::of(object).is_none()).cloned()
}

/// By which interfaces a host would announce, or by which rule, if the host is not known.
fn interfaces(spec: &LocalSpec, host: Option<&HostFacts>) -> String {
    let policy = Policy::from(spec);
    let Some(host) = host else {
        let listed = match policy.interfaces.is_empty() {
            true => String::new(),
            false => format!(", then {}", list(&policy.interfaces)),
        };
        return format!("where {}{listed}", policy.describe());
    };
    let families = Family::BOTH.map(|family| {
        let found = local_links(family, &host.links, &host.routes, &policy);
        let names = list(found.links.iter().map(|link| host.link_name(*link)));
        match (names.is_empty(), found.unidentified) {
            (false, _) => format!("{family} {names}"),
            (true, Some(why)) if why.is_ambiguous() => {
                format!("{family} {}: {}", policy.virtual_interface, why.describe(&host.links))
            }
            (true, _) => format!("{family} none"),
        }
    });
    families.join("; ")
}

/// The live leases as they would be, as far as the hosts are known.
fn leases(before: &Snapshot, after: &Snapshot, views: &Views) -> Vec<Lease> {
    let would_be = |lease: &Lease| {
        let mut lease = lease.clone();
        let (was, is) = (spec_of(&lease.node, before), spec_of(&lease.node, after));
        let host = views.get(&lease.node).and_then(|view| view.as_ref().ok());
        match (&is, host) {
            (None, _) => lease.content.subnets.clear(),
            (Some(spec), Some(view)) if was != is => {
                lease.content.subnets = served(spec, &view.host);
            }
            (Some(_), _) => {}
        }
        lease
    };
    before.live_leases().map(would_be).collect()
}

/// The subnets that a host could serve.
fn served(spec: &LocalSpec, host: &HostFacts) -> BTreeSet<IpNet> {
    let policy = Policy::from(spec);
    let is_up = |index: &LinkIndex| {
        host.links.iter().any(|link| link.index == *index && link.is_operational())
    };
    let of = |family: Family| {
        let found = local_links(family, &host.links, &host.routes, &policy).links;
        let up = found.into_iter().filter(is_up);
        up.flat_map(move |link| subnets(family, link, &host.addresses, &host.routes))
    };
    Family::BOTH.into_iter().flat_map(of).collect()
}

const NOBODY: &str = "nobody";

fn moves(
    before: &Snapshot,
    after: &Snapshot,
    now: &Engine,
    then: &Engine,
    views: &Views,
) -> Vec<AddressMove> {
    let would_be = leases(before, after, views);
    let then_by_address = by_address(after);
    let tell = |place: Place| match place {
        Place::Elected { candidates, .. } => list(candidates.first()),
        Place::EveryNode => "every node".to_owned(),
        Place::Nobody { why } => format!("{NOBODY}: {why}"),
    };
    let live: Vec<_> = before.live_leases().collect();
    let then_live: Vec<_> = would_be.iter().collect();
    let go = |(ip, services): (IpAddr, Vec<&Service>)| {
        let from = tell(Place::of(ip, &services, now.allocator().catalog(), &live));
        let have_it = then_by_address.get(&ip).map_or(&[][..], Vec::as_slice);
        let to = tell(Place::of(ip, have_it, then.allocator().catalog(), &then_live));
        let services = services.iter().map(|service| service.key.to_string()).collect();
        (from != to).then_some(AddressMove { services, ip, from, to })
    };
    by_address(before).into_iter().filter_map(go).collect()
}

impl Report for PlanReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        for change in &self.groups {
            writeln!(to, "ServiceGroup {} {}.", change.group, change.change)?;
        }
        if !self.services.is_empty() {
            writeln!(to)?;
            let mut table = Table::new(["SERVICE", "OUTCOME", "DETAIL"]);
            for change in &self.services {
                table.row([
                    change.service.to_string(),
                    change.outcome.to_string(),
                    change.detail.clone(),
                ]);
            }
            table.print(to)?;
        }
        if !self.nodes.is_empty() {
            writeln!(to)?;
        }
        for change in &self.nodes {
            writeln!(
                to,
                "Node {}\n  now   {}\n  then  {}",
                change.node, change.before, change.after
            )?;
        }
        if !self.moves.is_empty() {
            writeln!(to)?;
            let mut table = Table::new(["SERVICE", "IP", "NOW ON", "THEN ON"]);
            for one in &self.moves {
                table.row([
                    list(&one.services),
                    one.ip.to_string(),
                    one.from.clone(),
                    one.to.clone(),
                ]);
            }
            table.print(to)?;
        }
        let nothing = if self.is_empty() { "Nothing would change: " } else { "\n" };
        writeln!(
            to,
            "{nothing}{} Services keep exactly the addresses that they have.",
            self.unchanged
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{objects, service, snapshot};
    use super::*;

    fn plan(change: Vec<Value>) -> PlanReport {
        let mut all = objects();
        all.push(service("new", None, "far", "local", None));
        let before = snapshot(all);
        let mut after = before.clone();
        after.overlay(change).unwrap();
        PlanReport::new(&before, &after, &Views::new())
    }

    fn group(name: &str, subnet: &str, pool: &str) -> Value {
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": {"name": name, "namespace": "purelb", "uid": name, "generation": 2},
            "spec": {"local": {"v4pool": {"subnet": subnet, "pool": pool}}},
        })
    }

    #[test]
    fn no_change_is_no_change() {
        let report = plan(vec![]);
        assert!(report.is_empty() && report.is_harmless());
        assert_eq!(report.unchanged, 3);
    }

    #[test]
    fn a_shrunk_group_takes_nothing_away() {
        let report = plan(vec![group("default", "192.0.2.0/24", "192.0.2.250-192.0.2.251")]);
        assert_eq!(report.services, []);
        assert_eq!(report.groups[0].change, "changes");
        assert!(report.is_harmless());
    }

    #[test]
    fn a_new_group_serves_the_service_that_waits_for_it() {
        let report = plan(vec![group("far", "203.0.113.0/24", "203.0.113.8/29")]);
        let change = &report.services[0];
        assert_eq!((change.outcome, &*change.detail), (Outcome::Gains, "203.0.113.8"));
        assert!(report.is_harmless());
    }

    #[test]
    fn a_group_that_overlaps_another_is_harmful() {
        let report = plan(vec![group("aaa", "192.0.2.0/24", "192.0.2.0/24")]);
        let refused = report.groups.iter().find(|change| change.group == "default").unwrap();
        assert!(refused.change.contains("aaa"), "{refused:?}");
        assert!(!report.is_harmless());
    }

    #[test]
    fn a_node_that_is_no_longer_selected_announces_nothing_and_its_addresses_move() {
        let report = plan(vec![json!({
            "apiVersion": "purelb.io/v2", "kind": "LBNodeAgent",
            "metadata": {"name": "default", "namespace": "purelb", "uid": "a1"},
            "spec": {"nodeSelector": {"matchLabels": {"rack": "a"}}, "local": {}},
        })]);
        assert_eq!(report.nodes.len(), 2);
        assert_eq!(report.nodes[0].after, "deselected: announces nothing");
        assert_eq!(report.moves.len(), 1);
        assert!(report.moves[0].from == "n1" && report.moves[0].to.starts_with(NOBODY));
        assert!(!report.is_harmless());
    }

    #[test]
    fn without_any_lbnodeagent_the_nodes_announce_nothing() {
        let before = snapshot(objects());
        let mut after = before.clone();
        after.agents.clear();
        let report = PlanReport::new(&before, &after, &Views::new());
        assert_eq!(report.nodes[0].after, "no LBNodeAgent: announces nothing");
        assert!(report.moves[0].to.starts_with(NOBODY), "{:?}", report.moves);
        assert!(!report.is_harmless());
    }

    #[test]
    fn another_interface_is_told_by_its_rule_where_the_host_is_not_known() {
        let report = plan(vec![json!({
            "apiVersion": "purelb.io/v2", "kind": "LBNodeAgent",
            "metadata": {"name": "default", "namespace": "purelb", "uid": "a1"},
            "spec": {"local": {"localInterface": "^eth1$"}},
        })]);
        assert_eq!(report.nodes[0].before, "purelb/default: where the default route leaves by it");
        assert!(report.nodes[0].after.contains("^eth1$"), "{:?}", report.nodes[0]);
    }
}
