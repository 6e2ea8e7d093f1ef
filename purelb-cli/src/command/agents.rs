//! Asking the agents on the nodes: `kubectl exec` into their pods, so that whatever an operator's
//! kubeconfig can do works here too.

use std::path::Path;
use std::process::{Command, Output};

use purelb_core::name::NodeName;
use purelb_core::node::View;
use serde_json::Value;

use super::cluster::Cluster;
use crate::report::story::Views;

/// The pod of an agent, be it ours or the Go PureLB's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub node: NodeName,
    /// The container that has `ip`.
    pub container: String,
}

/// The pod of one of our programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub node: NodeName,
    /// Whether it is an agent's; else it is an allocator's.
    pub is_agent: bool,
}

/// Every pod of our programs, by node.
///
/// # Errors
///
/// With what `kubectl` said, or why it could not be run.
pub fn programs(cluster: &Cluster) -> Result<Vec<Pod>, String> {
    let output = kubectl(cluster, &["get", "pods", "-o", "json"])?;
    let list: Value = serde_json::from_slice(stdout(&output)?.as_bytes()).unwrap_or_default();
    let pod = |pod: &Value| {
        let containers = pod["spec"]["containers"].as_array()?;
        let has = |name: &str| containers.iter().any(|container| container["name"] == name);
        let is_agent = has("lbnodeagent");
        (is_agent || has("allocator")).then_some(())?;
        Some(Pod {
            name: pod["metadata"]["name"].as_str()?.to_owned(),
            node: pod["spec"]["nodeName"].as_str()?.into(),
            is_agent,
        })
    };
    let items = list["items"].as_array().into_iter().flatten();
    let mut pods: Vec<Pod> = items.filter_map(pod).collect();
    pods.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(pods)
}

/// Runs a command in the pod of one of our programs; returns the bytes that it wrote.
///
/// # Errors
///
/// With the last line of what it complained of, or why it could not be run.
pub fn exec_bytes(cluster: &Cluster, pod: &Pod, command: &[&str]) -> Result<Vec<u8>, String> {
    let container = if pod.is_agent { "lbnodeagent" } else { "allocator" };
    let exec = ["exec", &pod.name, "-c", container, "--"];
    let output = kubectl(cluster, &[&exec, command].concat())?;
    stdout(&output)?;
    Ok(output.stdout)
}

/// Every agent's pod, by node.
///
/// # Errors
///
/// With what `kubectl` said, or why it could not be run.
pub fn pods(cluster: &Cluster) -> Result<Vec<AgentPod>, String> {
    let output = kubectl(cluster, &["get", "pods", "-o", "json"])?;
    let mut pods = read(&stdout(&output)?);
    pods.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(pods)
}

/// Runs a command in a pod; returns what it printed.
///
/// # Errors
///
/// With the last line of what it complained of, or why it could not be run.
pub fn exec(cluster: &Cluster, pod: &AgentPod, command: &[&str]) -> Result<String, String> {
    stdout(&run(cluster, pod, command)?)
}

/// Runs a command in a pod, and returns all that came of it.
///
/// # Errors
///
/// If `kubectl` could not be run.
pub fn run(cluster: &Cluster, pod: &AgentPod, command: &[&str]) -> Result<Output, String> {
    kubectl(cluster, &[&["exec", &pod.name, "-c", &pod.container, "--"], command].concat())
}

/// What the agents of these nodes know and have decided.
pub fn views(cluster: &Cluster, nodes: impl IntoIterator<Item = NodeName>) -> Views {
    let mut nodes = nodes.into_iter().peekable();
    if nodes.peek().is_none() {
        return Views::new();
    }
    let pods = pods(cluster);
    let ask = |node: &NodeName| -> Result<View, String> {
        let pods = pods.as_ref().map_err(Clone::clone)?;
        let pod = pods.iter().find(|pod| pod.node == *node);
        let pod = pod.ok_or_else(|| format!("no agent's pod on {node}"))?;
        let json = exec(cluster, pod, &["purelb", "view"])?;
        serde_json::from_str(&json).map_err(|error| format!("its agent speaks otherwise: {error}"))
    };
    nodes.map(|node| (node.clone(), ask(&node))).collect()
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new("kubectl");
    if let Some(kubeconfig) = cluster.kubeconfig() {
        command.arg("--kubeconfig").arg(Path::new(kubeconfig));
    }
    command.args(["--namespace", cluster.namespace()]).args(arguments);
    command.output().map_err(|error| format!("cannot run kubectl: {error}"))
}

fn stdout(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.trim().lines().last().unwrap_or("kubectl failed").to_owned())
    }
}

/// The agents' pods are known by the names of their containers; the Go PureLB's agent has no `ip`, but
/// the container of routing software beside it has.
fn read(list: &str) -> Vec<AgentPod> {
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
        let found = read(list);
        let seen: Vec<_> =
            found.iter().map(|pod| (&*pod.name, pod.node.as_str(), &*pod.container)).collect();
        assert_eq!(seen, [("ours", "n1", "lbnodeagent"), ("go", "n2", "k8gobgp")]);
        assert_eq!(read("nonsense"), []);
    }
}
