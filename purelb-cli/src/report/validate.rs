//! What is wrong with a configuration, and what these programs would change in a cluster that others
//! have served until now.

use std::collections::BTreeMap;
use std::io::{self, Write};

use purelb_core::config::{LocalInterface, MultipleDefaultRoutes, select};
use purelb_core::group::Announce;
use purelb_core::name::NodeName;
use purelb_k8s::snapshot::{Elsewhere, Snapshot};
use serde::Serialize;

use super::engine::{Allocation, Engine};
use super::routes::DefaultRoutes;
use crate::command::output::Report;

mod agents;

/// Every check, with what came of it.
#[derive(Debug, Default, Serialize)]
pub struct ValidateReport {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// How many passed.
    pub pass: usize,
    /// How many are to be looked at.
    pub warn: usize,
    /// How many failed.
    pub fail: usize,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What came of it.
    pub status: Status,
    /// About what, and why.
    pub message: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Something does not work, or would stop to.
    Fail,
    /// All is well.
    Pass,
    /// Something would change, or looks as if it was not meant.
    Warn,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Pass => "PASS",
            Self::Warn => "WARN",
        }
    }
}

/// What was found out of each node's default routes, or why nothing was.
pub type RoutesByNode = BTreeMap<NodeName, Result<DefaultRoutes, String>>;

impl ValidateReport {
    /// Checks what a snapshot shows; `routes` are those of the nodes that were asked.
    pub fn new(snapshot: &Snapshot, routes: &RoutesByNode) -> Self {
        let engine = Engine::new(snapshot);
        let mut report = Self::default();
        report.groups(snapshot, &engine);
        report.namespaces(snapshot, &engine);
        report.agents(snapshot);
        report.services(snapshot, &engine);
        report.routes(snapshot, routes);
        report
    }

    fn add(&mut self, status: Status, message: String) {
        match status {
            Status::Fail => self.fail += 1,
            Status::Pass => self.pass += 1,
            Status::Warn => self.warn += 1,
        }
        self.checks.push(Check { status, message });
    }

    fn groups(&mut self, snapshot: &Snapshot, engine: &Engine) {
        let served: Vec<_> =
            snapshot.live_leases().flat_map(|lease| lease.content.subnets.iter()).collect();
        for (name, group) in engine.allocator().catalog().groups() {
            match group {
                Err(refusal) => {
                    self.add(
                        Status::Fail,
                        format!("ServiceGroup {name} cannot be used: {refusal}"),
                    );
                }
                Ok(group) => {
                    self.add(Status::Pass, format!("ServiceGroup {name} can be used"));
                    let lonely = group.pools().iter().filter(|pool| {
                        group.announce == Announce::Local && !served.contains(&&pool.subnet)
                    });
                    for pool in lonely {
                        let subnet = pool.subnet;
                        self.add(
                            Status::Warn,
                            format!(
                                "ServiceGroup {name}: the subnet {subnet} is in no live lease, so no \
                                 node would announce its addresses"
                            ),
                        );
                    }
                }
            }
        }
        if snapshot.groups.is_empty() {
            self.add(Status::Warn, "there is no ServiceGroup, so nothing is given out".to_owned());
        }
    }

    fn namespaces(&mut self, snapshot: &Snapshot, engine: &Engine) {
        for (namespace, groups) in engine.allocator().catalog().ambiguous() {
            let names: Vec<_> = groups.iter().map(ToString::to_string).collect();
            let text = format!(
                "namespace {namespace} is served by {}: exactly one must have namespaceDefault",
                names.join(", ")
            );
            self.add(Status::Fail, text);
        }
        match &snapshot.elsewhere {
            None => {
                let text = "whether there are ServiceGroups and LBNodeAgents in other namespaces, which \
                            would count for nothing, may not be seen";
                self.add(Status::Warn, text.to_owned());
            }
            Some(objects) => {
                for Elsewhere { kind, namespace, name } in objects {
                    let text = format!(
                        "{kind} {namespace}/{name} counts for nothing: {namespace} is not the PureLB \
                         install namespace"
                    );
                    self.add(Status::Fail, text);
                }
            }
        }
        let mut groups = engine.allocator().catalog().groups().values().flatten();
        if snapshot.has_bgp_sidecar && groups.any(|group| group.announce == Announce::Remote) {
            let text = "k8gobgp in the agents' pods tells the routers of remote addresses; our agents bring \
                        no routing software, so let one of your own run on the nodes first";
            self.add(Status::Warn, text.to_owned());
        }
    }

    fn services(&mut self, snapshot: &Snapshot, engine: &Engine) {
        let mut kept = 0;
        for service in &snapshot.services {
            let (key, has) = (&service.key, list(&service.ingress));
            match engine.allocation(service, snapshot) {
                Allocation::NotOurs => {}
                Allocation::Complete if service.ingress.is_empty() => {}
                Allocation::Complete | Allocation::Sidecar => kept += 1,
                Allocation::Due(ips) if service.ingress.is_empty() => {
                    self.add(Status::Warn, format!("Service {key} would get {}", list(&ips)));
                }
                Allocation::Due(ips) => {
                    let text = format!("Service {key} would have {} instead of {has}", list(&ips));
                    self.add(Status::Fail, text);
                }
                Allocation::Refused(why) if service.ingress.is_empty() => {
                    self.add(Status::Warn, format!("Service {key} gets no address: {why}"));
                }
                Allocation::Refused(why) => {
                    let text = format!("Service {key} has {has}, and asks for more: {why}");
                    self.add(Status::Warn, text);
                }
            }
        }
        self.add(Status::Pass, format!("{kept} Services keep the addresses that they have"));
    }

    fn routes(&mut self, snapshot: &Snapshot, routes: &RoutesByNode) {
        let mut fine = 0;
        for node in &snapshot.nodes {
            let Some(found) = routes.get(&node.name) else { continue };
            let Ok(local) = select(&snapshot.agents, &node.labels).spec() else { continue };
            let rule = local.multiple_default_routes;
            let by_route = local.local_interface == LocalInterface::DefaultRoute;
            match found {
                Err(why) => self.add(
                    Status::Warn,
                    format!(
                        "the default routes of node {} are not known: {why}; run `purelb host` there",
                        node.name
                    ),
                ),
                Ok(routes) if by_route && rule == MultipleDefaultRoutes::VirtualInterface => {
                    let several = routes.several();
                    if several.is_empty() {
                        fine += 1;
                    }
                    for (family, routes) in several {
                        self.add(
                            Status::Fail,
                            format!(
                                "node {} has more than one {family} default route ({}): its local \
                                 addresses would move to kube-lb0; the Go PureLB takes the lowest \
                                 metric, which spec.local.multipleDefaultRoutes: LowestMetric of the \
                                 LBNodeAgent does too",
                                node.name,
                                routes.join("; ")
                            ),
                        );
                    }
                }
                Ok(_) => fine += 1,
            }
        }
        if fine > 0 {
            let text = format!("{fine} nodes find their local interface as the Go PureLB does");
            self.add(Status::Pass, text);
        }
    }
}

impl Report for ValidateReport {
    fn print(&self, to: &mut dyn Write) -> io::Result<()> {
        for check in &self.checks {
            writeln!(to, "{}  {}", check.status.as_str(), check.message)?;
        }
        writeln!(to, "{} passed, {} to look at, {} failed", self.pass, self.warn, self.fail)
    }
}

fn list(ips: &[std::net::IpAddr]) -> String {
    let texts: Vec<_> = ips.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "no address".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture;
    use super::*;

    fn messages(report: &ValidateReport, status: Status) -> Vec<&str> {
        let found = report.checks.iter().filter(|check| check.status == status);
        found.map(|check| &*check.message).collect()
    }

    /// What the Go PureLB wrote into a cluster.
    fn go_objects() -> Vec<Value> {
        let mut objects = Vec::new();
        for file in ["services.yaml", "purelb-resources.yaml", "leases.yaml"] {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../purelb-k8s/tests/fixtures/");
            let text = std::fs::read_to_string(format!("{path}{file}")).unwrap();
            let list: Value = serde_saphyr::from_str(&text).unwrap();
            objects.extend(list["items"].as_array().unwrap().iter().cloned());
        }
        objects
    }

    #[test]
    fn a_cluster_of_the_go_purelb_keeps_every_address() {
        let mut snapshot = fixture::snapshot(go_objects());
        snapshot.default_announcer = true;
        let report = ValidateReport::new(&snapshot, &RoutesByNode::new());
        assert_eq!(messages(&report, Status::Fail), [""; 0]);
        let kept = messages(&report, Status::Pass).join("\n");
        assert!(kept.contains(" Services keep the addresses"), "{kept}");
        assert!(!messages(&report, Status::Warn).iter().any(|text| text.contains("instead of")));
    }

    fn group(name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": { "name": name, "namespace": "purelb", "uid": name, "generation": 1 },
            "spec": spec,
        })
    }

    fn pool(range: &str, subnet: &str) -> Value {
        json!({ "v4pools": [{ "pool": range, "subnet": subnet, "aggregation": "default" }] })
    }

    /// What fails with one more group beside those of the fixture.
    fn failing(spec: &Value) -> Vec<String> {
        let mut objects = fixture::objects();
        objects.push(group("x", spec));
        let mut snapshot = fixture::snapshot(objects);
        snapshot.elsewhere = Some(Vec::new());
        let report = ValidateReport::new(&snapshot, &RoutesByNode::new());
        messages(&report, Status::Fail).into_iter().map(str::to_owned).collect()
    }

    /// What `validate` of the Go PureLB takes for a failure in a group is one here.
    #[test]
    fn a_group_that_cannot_be_used_fails_with_the_reason() {
        let sound = pool("10.0.0.1-10.0.0.9", "10.0.0.0/24");
        assert_eq!(failing(&json!({ "local": sound })), [""; 0]);
        let mut both = sound;
        both["multiPool"] = true.into();
        both["balancePools"] = true.into();
        for (why, spec) in [
            ("an empty one", json!({})),
            ("no kind", json!({ "namespaces": ["shop"] })),
            ("multiPool and balancePools", json!({ "local": both })),
            ("a bad range", json!({ "local": pool("10.0.0.9-10.0.0.1", "10.0.0.0/24") })),
            ("a bad subnet", json!({ "local": pool("10.0.0.1-10.0.0.9", "10.0.0.0/99") })),
            ("a range outside", json!({ "local": pool("10.0.1.1-10.0.1.9", "10.0.0.0/24") })),
            ("an overlap", json!({ "remote": pool("192.0.2.241-192.0.2.242", "192.0.2.0/24") })),
        ] {
            let said = failing(&spec);
            assert_eq!(said.len(), 1, "{why}: {said:#?}");
            assert!(said[0].starts_with("ServiceGroup x cannot be used: "), "{why}: {said:#?}");
        }
    }

    #[test]
    fn a_namespace_that_several_groups_serve_without_one_default_fails() {
        let group = |name: &str, net: u8, is_default: bool| {
            let mut spec =
                json!({ "remote": pool(&format!("10.0.{net}.0/24"), &format!("10.0.{net}.0/24")) });
            spec["namespaces"] = json!(["shop"]);
            spec["namespaceDefault"] = is_default.into();
            group(name, &spec)
        };
        let failed = |a: bool, b: bool| {
            let mut objects = fixture::objects();
            objects.extend([group("a", 1, a), group("b", 2, b)]);
            let report = ValidateReport::new(&fixture::snapshot(objects), &RoutesByNode::new());
            messages(&report, Status::Fail).join("\n")
        };
        assert_eq!(failed(true, false), "");
        let text = "namespace shop is served by a, b: exactly one must have namespaceDefault";
        assert_eq!(failed(false, false), text);
        assert_eq!(failed(true, true), text);
    }

    #[test]
    fn what_is_in_another_namespace_fails_and_where_nobody_may_look_is_said() {
        let mut snapshot = fixture::snapshot(fixture::objects());
        let unseen = ValidateReport::new(&snapshot, &RoutesByNode::new());
        assert!(messages(&unseen, Status::Warn).join("\n").contains("may not be seen"));
        let other = |kind| Elsewhere { kind, namespace: "shop".into(), name: "x".into() };
        snapshot.elsewhere = Some(vec![other("LBNodeAgent"), other("ServiceGroup")]);
        let report = ValidateReport::new(&snapshot, &RoutesByNode::new());
        let text = "shop/x counts for nothing: shop is not the PureLB install namespace";
        assert_eq!(
            messages(&report, Status::Fail),
            [format!("LBNodeAgent {text}"), format!("ServiceGroup {text}")]
        );
    }

    #[test]
    fn routes_that_a_sidecar_tells_of_are_named() {
        let mut snapshot = fixture::snapshot(fixture::objects());
        for has_bgp_sidecar in [false, true] {
            snapshot.has_bgp_sidecar = has_bgp_sidecar;
            let report = ValidateReport::new(&snapshot, &RoutesByNode::new());
            let warned = messages(&report, Status::Warn).join("\n");
            assert_eq!(warned.contains("k8gobgp"), has_bgp_sidecar, "{warned}");
        }
    }

    #[test]
    fn what_would_change_is_named() {
        let mut objects = fixture::objects();
        objects.push(json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": { "name": "broken", "namespace": "purelb", "uid": "g3", "generation": 1 },
            "spec": { "local": { "v4pool": { "subnet": "192.0.2.0/24", "pool": "10.0.0.0/24" } } },
        }));
        let mut wish = fixture::service("moves", Some("192.0.2.241"), "default", "local", None);
        wish["metadata"]["annotations"]["purelb.io/addresses"] = "198.51.100.9".into();
        objects.push(wish);
        let snapshot = fixture::snapshot(objects);
        let two = DefaultRoutes::parse(
            r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},
                {"dst":"default","gateway":"192.0.2.9","dev":"eth1","metric":100}]"#,
            "[]",
        );
        let routes = RoutesByNode::from([
            ("n1".into(), Ok(two.unwrap())),
            ("n2".into(), Err("no pod".to_owned())),
        ]);
        let report = ValidateReport::new(&snapshot, &routes);
        let failed = messages(&report, Status::Fail);
        assert_eq!(failed.len(), 3, "{failed:#?}");
        assert!(failed[0].starts_with("ServiceGroup broken cannot be used"), "{failed:#?}");
        assert_eq!(failed[1], "Service shop/moves would have 198.51.100.9 instead of 192.0.2.241");
        assert!(
            failed[2].starts_with("node n1 has more than one IPv4 default route"),
            "{failed:#?}"
        );
        let warned = messages(&report, Status::Warn).join("\n");
        assert!(warned.contains("the default routes of node n2 are not known: no pod"), "{warned}");
    }
}
