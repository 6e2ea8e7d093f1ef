//! What is wrong with LBNodeAgents.

use std::collections::BTreeSet;

use purelb_core::config::{LbNodeAgent, Local, LocalInterface, Node, Selection, Selector, select};
use purelb_k8s::snapshot::Snapshot;

use super::{Status, ValidateReport};

impl ValidateReport {
    pub(super) fn agents(&mut self, snapshot: &Snapshot) {
        if snapshot.agents.is_empty() {
            let text = "there is no LBNodeAgent, so no node announces anything";
            self.add(Status::Warn, text.to_owned());
        }
        let mut fine = 0;
        let mut blamed = BTreeSet::new();
        for node in &snapshot.nodes {
            match select(&snapshot.agents, &node.labels) {
                Selection::Configured(..) => fine += 1,
                Selection::Default if snapshot.agents.is_empty() => {}
                Selection::Default => self.add(
                    Status::Warn,
                    format!(
                        "no LBNodeAgent that selects node {} has spec.local, so it announces nothing",
                        node.name
                    ),
                ),
                Selection::Deselected => self.add(
                    Status::Warn,
                    format!("no LBNodeAgent selects node {}, so it announces nothing", node.name),
                ),
                Selection::Invalid(agent, error) => {
                    blamed.insert(&agent.name);
                    let text =
                        format!("LBNodeAgent {}, for node {}: {error}", name(agent), node.name);
                    self.add(Status::Fail, text);
                }
            }
            self.contest(snapshot, node);
        }
        if fine > 0 {
            self.add(Status::Pass, format!("{fine} nodes know how to announce"));
        }
        for agent in &snapshot.agents {
            self.agent(snapshot, agent, blamed.contains(&agent.name));
        }
    }

    /// Several that each mean this node: only the first is heeded.
    fn contest(&mut self, snapshot: &Snapshot, node: &Node) {
        let mut specific: Vec<_> = snapshot
            .agents
            .iter()
            .filter(|agent| !agent.selector.is_catch_all() && agent.local != Local::Absent)
            .filter(|agent| agent.selector.selects(&node.labels))
            .map(|agent| &agent.name)
            .collect();
        specific.sort();
        if let [(_, first), others @ ..] = &specific[..]
            && !others.is_empty()
        {
            let others: Vec<_> = others.iter().map(|(_, other)| &**other).collect();
            let text = format!(
                "node {} is selected by several LBNodeAgents: {first} is heeded, {} not",
                node.name,
                others.join(", ")
            );
            self.add(Status::Warn, text);
        }
    }

    fn agent(&mut self, snapshot: &Snapshot, agent: &LbNodeAgent, is_blamed: bool) {
        let name = name(agent);
        match (&agent.selector, &agent.local) {
            (Selector::Unreadable { error }, _) => {
                let text = format!("LBNodeAgent {name} selects no node: {error}");
                return self.add(Status::Fail, text);
            }
            // It governs no node, and would do so in vain.
            (Selector::Labels(_), Local::Invalid { error }) if !is_blamed => {
                self.add(Status::Fail, format!("LBNodeAgent {name}: {error}"));
            }
            (Selector::Labels(_), Local::Absent | Local::Given(_) | Local::Invalid { .. }) => {}
        }
        let count = snapshot.nodes.len();
        if !snapshot.nodes.iter().any(|node| agent.selector.selects(&node.labels)) && count > 0 {
            let text = format!("the nodeSelector of LBNodeAgent {name} matches 0 of {count} nodes");
            self.add(Status::Warn, text);
        }
        let Local::Given(local) = &agent.local else { return };
        let LocalInterface::Matching(pattern) = &local.local_interface else { return };
        let text = pattern.as_str();
        if !(text.starts_with('^') && text.ends_with('$')) {
            let text = format!(
                "LBNodeAgent {name}: localInterface {text:?} matches every interface that has such a \
                 name as a part of its own; \"^{}$\" would not",
                text.trim_start_matches('^').trim_end_matches('$')
            );
            self.add(Status::Warn, text);
        }
    }
}

fn name(agent: &LbNodeAgent) -> String {
    format!("{}/{}", agent.name.0, agent.name.1)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::fixture;
    use super::super::RoutesByNode;
    use super::*;

    fn agent(name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "purelb.io/v2", "kind": "LBNodeAgent",
            "metadata": { "name": name, "namespace": "purelb", "uid": name }, "spec": spec,
        })
    }

    fn node(name: &str, rack: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "uid": name, "labels": { "rack": rack } },
        })
    }

    /// The warnings and failures about these, beside two nodes in the racks `a` and `b`.
    fn said(agents: &[Value]) -> Vec<String> {
        let mut objects = fixture::objects();
        objects.retain(|object| object["kind"] != "LBNodeAgent");
        objects.extend([node("n1", "a"), node("n2", "b")]);
        objects.extend(agents.iter().cloned());
        let report = ValidateReport::new(&fixture::snapshot(objects), &RoutesByNode::new());
        let about_agents =
            |text: &String| text.contains("LBNodeAgent") && !text.contains("may not be seen");
        let bad = report.checks.into_iter().filter(|check| check.status != Status::Pass);
        bad.map(|check| format!("{:?}: {}", check.status, check.message))
            .filter(about_agents)
            .collect()
    }

    fn rack(name: &str) -> Value {
        json!({ "matchLabels": { "rack": name } })
    }

    #[test]
    fn agents_that_share_the_nodes_among_them_are_fine() {
        let spec = |name: &str| json!({ "nodeSelector": rack(name), "local": {} });
        assert_eq!(said(&[agent("a", &spec("a")), agent("b", &spec("b"))]), [""; 0]);
        assert_eq!(said(&[agent("all", &json!({ "local": {} }))]), [""; 0]);
        let anchored = json!({ "local": { "localInterface": "^eth[01]$" } });
        assert_eq!(said(&[agent("all", &anchored)]), [""; 0]);
    }

    #[test]
    fn a_selector_that_matches_no_node_and_nodes_that_none_selects_are_named() {
        let spec = json!({ "nodeSelector": rack("c"), "local": {} });
        assert_eq!(
            said(&[agent("c", &spec)]),
            [
                "Warn: no LBNodeAgent selects node n1, so it announces nothing",
                "Warn: no LBNodeAgent selects node n2, so it announces nothing",
                "Warn: the nodeSelector of LBNodeAgent purelb/c matches 0 of 2 nodes",
            ]
        );
    }

    #[test]
    fn nodes_that_nothing_tells_how_to_announce_are_named() {
        let text = "Warn: there is no LBNodeAgent, so no node announces anything";
        assert_eq!(said(&[]), [text]);
        assert_eq!(
            said(&[agent("all", &json!({}))]),
            ["n1", "n2"].map(|node| format!(
                "Warn: no LBNodeAgent that selects node {node} has spec.local, so it announces nothing"
            ))
        );
    }

    #[test]
    fn nodes_that_several_mean_are_named_with_the_one_that_is_heeded() {
        let spec = |name: &str| json!({ "nodeSelector": rack(name), "local": {} });
        let anybody = json!({ "local": {} });
        assert_eq!(
            said(&[agent("y", &spec("a")), agent("x", &spec("a")), agent("all", &anybody)]),
            ["Warn: node n1 is selected by several LBNodeAgents: x is heeded, y not"]
        );
    }

    #[test]
    fn a_pattern_that_is_not_anchored_is_named() {
        let spec = json!({ "local": { "localInterface": "eth0" } });
        let said = said(&[agent("all", &spec)]);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].starts_with("Warn: LBNodeAgent purelb/all: localInterface \"eth0\""));
        assert!(said[0].contains("\"^eth0$\""), "{said:#?}");
    }

    #[test]
    fn a_pattern_that_is_none_fails_for_each_node_or_by_itself_if_it_governs_none() {
        let broken = json!({ "local": { "localInterface": "eth(" } });
        let all = said(&[agent("all", &broken)]);
        assert_eq!(all.len(), 2, "{all:#?}");
        assert!(all[0].starts_with("Fail: LBNodeAgent purelb/all, for node n1: "), "{all:#?}");
        let governing = json!({ "nodeSelector": {}, "local": {} });
        let behind = said(&[agent("a", &governing), agent("b", &broken)]);
        assert_eq!(behind.len(), 1, "{behind:#?}");
        assert!(behind[0].starts_with("Fail: LBNodeAgent purelb/b: "), "{behind:#?}");
    }

    #[test]
    fn a_selector_that_cannot_be_read_fails() {
        let selector = json!({ "matchExpressions": [{ "key": "rack", "operator": "Sometimes" }] });
        let governing = agent("all", &json!({ "local": {} }));
        let said =
            said(&[governing, agent("x", &json!({ "nodeSelector": selector, "local": {} }))]);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].starts_with("Fail: LBNodeAgent purelb/x selects no node: "), "{said:#?}");
    }
}
