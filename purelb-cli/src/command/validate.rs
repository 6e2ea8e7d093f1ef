//! `purelb validate`: what is wrong with the configuration, and what would change.

use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use purelb_core::name::NodeName;
use serde_json::Value;

use super::cluster::Cluster;
use super::output::Output;
use crate::report::routes::DefaultRoutes;
use crate::report::validate::{RoutesByNode, ValidateReport};

/// Checks the configuration, and names what PureLB would change in this cluster
///
/// Before a move from the Go PureLB: `purelb validate -n purelb-system --routes`.
/// Exit status: 1 if a check fails, or with --strict if anything is to be looked at.
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    cluster: Cluster,
    /// Warnings count as failures
    #[arg(long)]
    strict: bool,
    /// Ask each node for its default routes, with `ip` in the pods of its agent, by `kubectl exec`
    #[arg(long)]
    routes: bool,
    /// Look at Services without a loadBalancerClass too, as an allocator with
    /// DEFAULT_ANNOUNCER=PureLB does, even if none runs here
    #[arg(long)]
    default_announcer: bool,
    #[command(flatten)]
    output: Output,
}

/// Runs `purelb validate`.
pub fn run(args: &Validate) -> ExitCode {
    args.cluster.show(|snapshot| {
        let routes = if args.routes { ask_nodes(&args.cluster) } else { RoutesByNode::new() };
        let mut snapshot = snapshot.clone();
        snapshot.default_announcer |= args.default_announcer;
        let report = ValidateReport::new(&snapshot, &routes);
        args.output.show(&report);
        let is_fine = report.fail == 0 && !(args.strict && report.warn > 0);
        if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

/// The default routes of every node with a pod of an agent's, be it ours or the Go PureLB's.
fn ask_nodes(cluster: &Cluster) -> RoutesByNode {
    let kubectl = |arguments: &[&str]| -> Result<String, String> {
        let mut command = Command::new("kubectl");
        if let Some(kubeconfig) = cluster.kubeconfig() {
            command.arg("--kubeconfig").arg(Path::new(kubeconfig));
        }
        command.args(["--namespace", cluster.namespace()]).args(arguments);
        let output = command.output().map_err(|error| format!("cannot run kubectl: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text.trim().lines().last().unwrap_or("kubectl failed").to_owned())
        }
    };
    let pods = match kubectl(&["get", "pods", "-o", "json"]) {
        Ok(text) => pods(&text),
        Err(error) => {
            eprintln!("purelb: cannot ask the nodes for their routes: {error}");
            return RoutesByNode::new();
        }
    };
    let ask = |pod: &AgentPod| -> Result<DefaultRoutes, String> {
        let show = |family: &str| {
            let ip = ["ip", "-j", family, "route", "show", "default"];
            kubectl(&[&["exec", &pod.name, "-c", &pod.container, "--"], &ip[..]].concat())
        };
        DefaultRoutes::parse(&show("-4")?, &show("-6")?).map_err(|error| error.to_string())
    };
    pods.into_iter().map(|pod| (pod.node.clone(), ask(&pod))).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct AgentPod {
    name: String,
    node: NodeName,
    container: String,
}

/// The agents' pods are known by the names of their containers; the Go PureLB's agent has no `ip`, but
/// the container of routing software beside it has.
fn pods(list: &str) -> Vec<AgentPod> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let pod = |pod: &Value| {
        let containers = pod["spec"]["containers"].as_array()?;
        let has = |name: &str| containers.iter().any(|container| container["name"] == name);
        let container = if has("k8gobgp") { "k8gobgp" } else { "lbnodeagent" };
        has("lbnodeagent").then_some(())?;
        Some(AgentPod {
            name: pod["metadata"]["name"].as_str()?.to_owned(),
            node: pod["spec"]["nodeName"].as_str()?.into(),
            container: container.to_owned(),
        })
    };
    list["items"].as_array().into_iter().flatten().filter_map(pod).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_either_agent_are_found_by_their_containers() {
        let list = r#"{"items":[
            {"metadata":{"name":"allocator-1"},"spec":{"nodeName":"n1","containers":[{"name":"allocator"}]}},
            {"metadata":{"name":"ours"},"spec":{"nodeName":"n1","containers":[{"name":"lbnodeagent"}]}},
            {"metadata":{"name":"go"},"spec":{"nodeName":"n2","containers":[{"name":"lbnodeagent"},{"name":"k8gobgp"}]}},
            {"metadata":{"name":"pending"},"spec":{"containers":[{"name":"lbnodeagent"}]}}]}"#;
        let found = pods(list);
        let seen: Vec<_> =
            found.iter().map(|pod| (&*pod.name, pod.node.as_str(), &*pod.container)).collect();
        assert_eq!(seen, [("ours", "n1", "lbnodeagent"), ("go", "n2", "k8gobgp")]);
        assert_eq!(pods("nonsense"), []);
    }
}
