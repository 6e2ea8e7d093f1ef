//! Whether everything is as it should be, and if not, what to look at first.

use std::collections::BTreeSet;
use std::io::{self, Write};

use purelb_core::name::NodeName;
use purelb_core::service::Service;
use purelb_k8s::snapshot::{Pod, Snapshot};
use serde::Serialize;

use super::election::{self, NodeStanding};
use super::engine::Engine;
use super::place::{Place, by_address};
use super::pools::PoolsReport;
use super::services::{Filter, ServicesReport, Standing};
use crate::command::output::{Report, list};

/// A summary, and the problems in the order in which to look at them.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// The allocator's pods.
    pub allocator: Component,
    /// The agents' pods.
    pub agents: Component,
    /// Groups and ranges.
    pub pools: Pools,
    /// Leases.
    pub election: Election,
    /// Services and their addresses.
    pub services: Services,
    /// What is wrong, the first thing to look at first.
    pub problems: Vec<Problem>,
}

/// The pods of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Those that are ready.
    pub ready: usize,
    /// All there are.
    pub pods: usize,
}

/// Groups and ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pools {
    /// ServiceGroups that can be used.
    pub groups: usize,
    /// Their ranges.
    pub ranges: usize,
    /// Those with no address left.
    pub full: usize,
}

/// Leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Election {
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Leases that have not run out.
    pub live: usize,
}

/// Services and their addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Services {
    /// LoadBalancer Services that are PureLB's to serve.
    pub services: usize,
    /// Their addresses.
    pub addresses: usize,
    /// Of those, how many are as they should be.
    pub ok: usize,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What.
    pub what: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub to_do: String,
}

/// How many objects one line names before it says how many more there are.
const NAMED: usize = 5;

impl StatusReport {
    /// Looks at everything.
    pub fn new(snapshot: &Snapshot) -> Self {
        let engine = Engine::new(snapshot);
        let pools = PoolsReport::by(&engine, snapshot, None, false);
        let services = ServicesReport::by(&engine, snapshot, &Filter::default());
        let all: BTreeSet<_> =
            services.services.iter().map(|line| (&line.namespace, &line.name)).collect();
        let addresses = services.services.iter().filter(|line| line.ip.is_some());
        let mut report = Self {
            allocator: Component::of("allocator", snapshot),
            agents: Component::of("lbnodeagent", snapshot),
            pools: Pools {
                groups: pools.pools.iter().map(|pool| &pool.group).collect::<BTreeSet<_>>().len(),
                ranges: pools.pools.len(),
                full: pools.pools.iter().filter(|pool| pool.is_full()).count(),
            },
            election: Election {
                nodes: snapshot.nodes.len(),
                live: snapshot.live_leases().count(),
            },
            services: Services {
                services: all.len(),
                addresses: addresses.clone().count(),
                ok: addresses.filter(|line| line.status == Standing::Ok).count(),
            },
            problems: Vec::new(),
        };
        report.judge_components(snapshot);
        report.judge_leases(snapshot);
        report.judge_pools(&pools, snapshot, &engine);
        report.judge_services(&services);
        report.judge_places(snapshot, &engine);
        report
    }

    fn add(&mut self, what: impl Into<String>, to_do: impl Into<String>) {
        self.problems.push(Problem { what: what.into(), to_do: to_do.into() });
    }

    fn judge_components(&mut self, snapshot: &Snapshot) {
        if self.allocator.pods == 0 {
            self.add(
                "no allocator runs, so no Service gets an address",
                "install it: docs/install.md; or name the namespace that it is in with -n",
            );
        } else if self.allocator.ready == 0 {
            let pods = unready("allocator", snapshot);
            self.add(
                format!("the allocator is not ready: {}", some(pods.iter())),
                "read its log: kubectl logs -n NAMESPACE deploy/allocator",
            );
        }
        let has_agent = |name: &NodeName| snapshot.agent_of(name).is_some();
        let without: Vec<_> =
            snapshot.nodes.iter().map(|node| &node.name).filter(|name| !has_agent(name)).collect();
        if !without.is_empty() && self.agents.pods < snapshot.nodes.len() {
            self.add(
                format!("no agent runs on {}", some(without.into_iter())),
                "if they are to announce, look at the DaemonSet's node selector and tolerations: \
                 kubectl describe ds lbnodeagent",
            );
        }
        let pods = unready("lbnodeagent", snapshot);
        if !pods.is_empty() {
            self.add(
                format!("agents are not ready: {}", some(pods.iter())),
                "read the log of one: kubectl logs -n NAMESPACE POD",
            );
        }
    }

    fn judge_leases(&mut self, snapshot: &Snapshot) {
        let nodes = election::lines(snapshot);
        let of = |wanted: NodeStanding| {
            let lines = nodes.iter().filter(move |line| line.standing == wanted);
            lines.map(|line| line.node.clone()).collect::<Vec<_>>()
        };
        let expired = of(NodeStanding::Expired);
        if !expired.is_empty() {
            self.add(
                format!("the lease of {} has run out: it holds no local address", some(expired.iter())),
                "is the node up, and does its agent reach the API? Its log says; a lease whose node is \
                 gone for good goes with the Node object",
            );
        }
        // One without an agent's pod has been told of already.
        let missing = of(NodeStanding::NoLease);
        let missing: Vec<_> =
            missing.iter().filter(|name| snapshot.agent_of(name).is_some()).collect();
        if !missing.is_empty() {
            self.add(
                format!("the agent of {} has no lease", some(missing.into_iter())),
                "it may have started this moment; if not, its log says what keeps it from writing one",
            );
        }
        let kept_away =
            nodes.iter().filter(|line| line.config.ends_with("(invalid)")).map(|line| &line.node);
        let kept_away: Vec<_> = kept_away.collect();
        if !kept_away.is_empty() {
            self.add(
                format!("the LBNodeAgent of {} is invalid", some(kept_away.into_iter())),
                "purelb validate says what is wrong with it",
            );
        }
    }

    fn judge_pools(&mut self, pools: &PoolsReport, snapshot: &Snapshot, engine: &Engine) {
        for group in &pools.refused {
            self.add(
                format!("ServiceGroup {} cannot be used: {}", group.group, group.why),
                "correct its spec; Services that have addresses of it keep them",
            );
        }
        for range in election::uncovered(snapshot, engine) {
            self.add(
                format!("no node serves {} of ServiceGroup {}", range.range, range.group),
                format!(
                    "{} is in no live lease: compare it with the nodes' local interfaces (purelb \
                     election), or make the group remote",
                    range.subnet
                ),
            );
        }
        let full: Vec<_> = pools.pools.iter().filter(|pool| pool.is_full()).collect();
        if !full.is_empty() {
            let names = full.iter().map(|pool| format!("{} of {}", pool.range, pool.group));
            self.add(
                format!("no address is left in {}", some(names)),
                "extend the ServiceGroup by a range, or free addresses: purelb pools --show-services",
            );
        }
    }

    fn judge_services(&mut self, services: &ServicesReport) {
        for (standing, what, to_do) in [
            (
                Standing::Pending,
                "do not have what they ask for",
                "purelb services --problems gives each one's reason",
            ),
            (
                Standing::NoAnnouncer,
                "have a local address that no node says it has",
                "purelb explain NAMESPACE/NAME says which node should have it, and why it may not",
            ),
            (
                Standing::AnnouncerUnhealthy,
                "have an address that was last announced by a node whose lease ran out",
                "another node takes over within seconds if any serves the subnet: purelb election",
            ),
        ] {
            let lines = services.services.iter().filter(|line| line.status == standing);
            let names: BTreeSet<String> =
                lines.map(|line| format!("{}/{}", line.namespace, line.name)).collect();
            if !names.is_empty() {
                self.add(format!("Services {what}: {}", some(names.iter())), to_do);
            }
        }
    }

    /// The annotations against the election.
    fn judge_places(&mut self, snapshot: &Snapshot, engine: &Engine) {
        let live: Vec<_> = snapshot.live_leases().collect();
        let mut elsewhere = Vec::new();
        for (ip, services) in by_address(snapshot) {
            let place = Place::of(ip, &services, engine.allocator().catalog(), &live);
            let Some(winner) = place.winner() else { continue };
            let is_ours =
                |service: &&Service| engine.held(service).iter().any(|held| held.ip == ip);
            for service in services.into_iter().filter(is_ours) {
                let Some(slot) = election::slot(service, ip) else { continue };
                if *winner != slot.node && live.iter().any(|lease| lease.node == slot.node) {
                    elsewhere
                        .push(format!("{ip} of {} on {}, not {winner}", service.key, slot.node));
                }
            }
        }
        if !elsewhere.is_empty() {
            self.add(
                format!("announced by another node than the election names: {}", some(elsewhere.iter())),
                "normal for seconds after a change; if it stays, purelb explain NAMESPACE/NAME --node NODE",
            );
        }
    }
}

impl Component {
    fn of(component: &str, snapshot: &Snapshot) -> Self {
        let pods: Vec<&Pod> =
            snapshot.pods.iter().filter(|pod| pod.component == component).collect();
        Self { ready: pods.iter().filter(|pod| pod.is_ready).count(), pods: pods.len() }
    }
}

fn unready(component: &str, snapshot: &Snapshot) -> Vec<String> {
    let pods = snapshot.pods.iter().filter(|pod| pod.component == component && !pod.is_ready);
    let tell = |pod: &Pod| match &pod.node {
        Some(node) => format!("{} on {node}", pod.name),
        None => format!("{}, on no node", pod.name),
    };
    pods.map(tell).collect()
}

/// The first few, and how many more there are.
fn some<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(NAMED);
    let named = list(items.take(NAMED));
    if more == 0 { named } else { format!("{named} and {more} more") }
}

impl Report for StatusReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { allocator, agents, pools, election, services, problems } = self;
        writeln!(to, "Allocator  {} of {} ready", allocator.ready, allocator.pods)?;
        writeln!(to, "Agents     {} of {} ready", agents.ready, agents.pods)?;
        writeln!(to, "Election   {} live leases, {} nodes", election.live, election.nodes)?;
        writeln!(
            to,
            "Pools      {} groups, {} ranges, {} full",
            pools.groups, pools.ranges, pools.full
        )?;
        writeln!(
            to,
            "Services   {}, with {} addresses, {} of them as they should be",
            services.services, services.addresses, services.ok
        )?;
        let Some((first, rest)) = problems.split_first() else {
            return writeln!(to, "\nEverything is as it should be.");
        };
        writeln!(to, "\nLook first at this: {}.\n  {}.", first.what, first.to_do)?;
        for problem in rest {
            writeln!(to, "\nThen: {}.\n  {}.", problem.what, problem.to_do)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::fixture::{lease, objects, service, snapshot};
    use super::*;

    fn healthy() -> Vec<Value> {
        let mut objects = objects();
        objects.push(lease("n2", "2026-11-25T12:00:01Z"));
        // Whoever wins 192.0.2.240 among both announces it.
        let seen = snapshot(objects.clone());
        let engine = Engine::new(&seen);
        let live: Vec<_> = seen.live_leases().collect();
        let (ip, services) = ("192.0.2.240".parse().unwrap(), [&seen.services[0]]);
        let place = Place::of(ip, &services, engine.allocator().catalog(), &live);
        let says = format!("{},eth0,192.0.2.240", place.winner().unwrap());
        objects.push(service("web", Some("192.0.2.240"), "default", "local", Some(&says)));
        objects
    }

    fn text(objects: Vec<Value>) -> String {
        let mut text = Vec::new();
        StatusReport::new(&snapshot(objects)).print(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_healthy_cluster_says_so() {
        assert_eq!(
            text(healthy()),
            "Allocator  1 of 1 ready\n\
             Agents     2 of 2 ready\n\
             Election   2 live leases, 2 nodes\n\
             Pools      2 groups, 2 ranges, 0 full\n\
             Services   2, with 2 addresses, 2 of them as they should be\n\
             \n\
             Everything is as it should be.\n"
        );
    }

    #[test]
    fn a_cause_comes_before_what_follows_from_it() {
        let mut objects = healthy();
        objects.retain(|object| object["metadata"]["name"] != "allocator-1");
        objects.push(service("new", None, "default", "local", None));
        let text = text(objects);
        let (first, then) = text.split_once("Then: ").unwrap();
        assert!(first.contains("Look first at this: no allocator runs"), "{text}");
        assert!(then.contains("shop/new"), "{text}");
    }

    #[test]
    fn a_lease_that_ran_out_is_named() {
        let text = text(objects());
        assert!(text.contains("the lease of n2 has run out"), "{text}");
    }

    #[test]
    fn an_address_on_another_node_than_the_elected_one_is_told_with_both() {
        let mut objects = healthy();
        let says = |node: &str| format!("{node},eth0,192.0.2.240");
        objects.push(service("web", Some("192.0.2.240"), "default", "local", Some(&says("n1"))));
        let one = text(objects.clone());
        objects.push(service("web", Some("192.0.2.240"), "default", "local", Some(&says("n2"))));
        let other = text(objects);
        let wrong =
            [one, other].into_iter().filter(|text| text.contains("than the election names"));
        assert_eq!(wrong.count(), 1);
    }

    #[test]
    fn a_long_list_names_five() {
        assert_eq!(some([1, 2, 3, 4, 5, 6, 7].iter()), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(some([1, 2].iter()), "1, 2");
    }
}
