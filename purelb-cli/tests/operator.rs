//! What an operator sees: the built `purelb` command against a lab of real programs.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::env::{join_paths, split_paths};
use std::path::Path;
use std::process::{Command, Output};

use common::lab::{eventually, holder, serve, with_agents};
use purelb_cli::lab::cluster::Cluster;
use serde_json::Value;

/// Runs the command as one who has `kubectl` in the path, if it is anywhere.
fn purelb(cluster: &Cluster, arguments: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_purelb")).args(arguments), cluster, None)
}

fn run(command: &mut Command, cluster: &Cluster, more: Option<&Path>) -> Output {
    let kubectl = common::kubectl::program();
    let folder = kubectl.as_deref().and_then(Path::parent);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folder.into_iter().chain(more).map(Path::to_owned).chain(split_paths(&path));
    command
        .env("PATH", join_paths(folders).unwrap())
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .expect("the program can be started")
}

fn text(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{}{err}", String::from_utf8_lossy(&output.stdout))
}

fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = purelb(cluster, &[arguments, &["-o", "json"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// Writes `manifest` and asks what it would do.
fn plan(cluster: &Cluster, manifest: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest).unwrap();
    purelb(cluster, &["plan", "--offline", "-f", &file.path().display().to_string()])
}

#[test]
fn one_command_says_what_is_where_why_and_what_a_change_would_do() {
    with_agents("", |cluster| {
        serve(cluster, "web", &["192.0.2.240"]);
        let holding = holder(cluster, "192.0.2.240");
        let node = cluster.topology().nodes()[holding].name().to_owned();
        let announced = || json(cluster, &["inspect", "default/web"])["addresses"][0].clone();
        let address = eventually(|| match announced() {
            address if address["matches"] == true => Ok(address),
            other => Err(format!("not announced as it should be: {other}")),
        });
        assert_eq!(address["announced"], format!("{node} eth0"));
        assert_eq!(address["place"]["candidates"][0], *node);
        assert_eq!(address["place"]["candidates"].as_array().unwrap().len(), 3);

        let told = text(&purelb(cluster, &["explain", "default/web", "--offline"]));
        for fact in [
            "group      default: nothing names another",
            &format!("node       {node}, of the nodes that serve a subnet with it"),
            &format!("announced  by {node} eth0, as it should be"),
        ] {
            assert!(told.contains(fact), "{fact:?} is not in:\n{told}");
        }

        if common::kubectl::program().is_some() {
            agents_are_asked(cluster, &node);
        }

        // What a drain foresees comes true.
        let drain = json(cluster, &["election", "--drain", &node]);
        let next = drain["drain"]["moves"][0]["to"].as_str().unwrap().to_owned();
        assert_ne!(next, node);
        cluster.stop_agent(holding).unwrap();
        eventually(|| match holder(cluster, "192.0.2.240") {
            now if cluster.topology().nodes()[now].name() == next => Ok(()),
            now => Err(format!("node {now} has it")),
        });

        // What a plan foresees comes true.
        let other = "{apiVersion: purelb.io/v2, kind: ServiceGroup, metadata: {name: other}, spec: \
            {remote: {v4pool: {subnet: 198.51.100.0/24, pool: 198.51.100.0/24}}}}";
        let asking = "{apiVersion: v1, kind: Service, metadata: {name: far, namespace: default, \
            annotations: {purelb.io/service-group: other}}, spec: {type: LoadBalancer, \
            ports: [{port: 80}]}}";
        cluster.api().client().apply(asking).unwrap();
        let refused = eventually(|| {
            let told = text(&purelb(cluster, &["inspect", "default/far"]));
            told.contains("lacks ").then_some(told).ok_or_else(|| "unknown yet".to_owned())
        });
        assert!(refused.contains("other"), "{refused}");
        let foreseen = plan(cluster, other);
        let told = text(&foreseen);
        assert!(foreseen.status.success(), "{told}");
        assert!(told.contains("default/far  GAINS    198.51.100.1"), "{told}");
        let placed = other.replace("{name: other}", "{name: other, namespace: purelb}");
        cluster.api().client().apply(&placed).unwrap();
        eventually(|| {
            let story = json(cluster, &["inspect", "default/far"]);
            let ip = &story["addresses"][0]["ip"];
            if ip == "198.51.100.1" { Ok(()) } else { Err(format!("it has {ip}")) }
        });

        // Its agent is gone, and that is the first thing to look at.
        let status = purelb(cluster, &["status"]);
        let told = text(&status);
        assert_eq!(status.status.code(), Some(1), "{told}");
        assert!(told.contains("Look first at this: "), "{told}");
        assert!(told.contains(&node), "{told}");
    });
}

/// What the agent decided and its kernel shows, by `kubectl exec`; and the command as a plugin.
fn agents_are_asked(cluster: &Cluster, node: &str) {
    let told = text(&purelb(cluster, &["explain", "default/web"]));
    for fact in [
        &*format!(
            "on {node}   eth0 is the local interface for IPv4: the default route leaves by it"
        ),
        "decided: 192.0.2.240/24 on eth0, having won it",
        "the kernel shows 192.0.2.240/24 on eth0, for ",
    ] {
        assert!(told.contains(fact), "{fact:?} is not in:\n{told}");
    }
    let other = ["node1", "node2", "node3"].into_iter().find(|name| *name != node).unwrap();
    let told = text(&purelb(cluster, &["explain", "default/web", "--node", other]));
    assert!(told.contains(&format!("decided: not here: {node} won it")), "{told}");

    let shown = text(&purelb(cluster, &["ip", "--", "-br", "addr", "show", "dev", "eth0"]));
    let (_, of_node) = shown.split_once(&format!("=== {node} ===\n")).unwrap();
    assert!(of_node.lines().next().unwrap().contains("192.0.2.240/24"), "{shown}");

    // Another interface for every node, which none of them has a subnet on: nobody is left.
    let change = "{apiVersion: purelb.io/v2, kind: LBNodeAgent, metadata: {name: default}, \
        spec: {local: {localInterface: ^nothing$}}}";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), change).unwrap();
    let foreseen = purelb(cluster, &["plan", "-f", &file.path().display().to_string()]);
    let told = text(&foreseen);
    assert_eq!(foreseen.status.code(), Some(1), "{told}");
    assert!(told.contains("IPv4 eth0") && told.contains("IPv4 none"), "{told}");
    assert!(told.contains("nobody: none serves a subnet"), "{told}");

    let plugins = tempfile::tempdir().unwrap();
    let plugin = plugins.path().join("kubectl-purelb");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_purelb"), plugin).unwrap();
    let mut kubectl = common::kubectl::kubectl(cluster).unwrap();
    let said = text(&run(kubectl.args(["purelb", "services"]), cluster, Some(plugins.path())));
    assert!(said.contains("192.0.2.240"), "{said}");
}

#[test]
fn a_wrong_question_gets_an_answer_that_helps() {
    with_agents("", |cluster| {
        for (arguments, code, says) in [
            (&["inspect", "web"][..], 2, "write NAMESPACE/NAME"),
            (&["inspect", "default/none"], 1, "purelb services lists all"),
            (&["election", "--drain", "node9"], 1, "there are: node1, node2, node3"),
            (&["plan"], 2, "-f FILE"),
            (&["plan", "-f", "/nonexistent"], 2, "No such file"),
            (&["plan", "--delete", "sg/none"], 2, "there is none of that name"),
            (&["status", "--kubeconfig", "/nonexistent"], 3, "/nonexistent"),
        ] {
            let output = purelb(cluster, arguments);
            let told = text(&output);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
            assert!(told.contains(says), "{arguments:?}: {told}");
        }
        let script = text(&purelb(cluster, &["completions", "bash"]));
        assert!(script.contains("--drain") && script.contains("complete -F"), "{script}");
        let version = text(&purelb(cluster, &["version"]));
        assert!(version.starts_with(&format!("purelb {}", env!("CARGO_PKG_VERSION"))), "{version}");
        assert!(version.contains("servicegroups") && version.contains("lbnodeagents"), "{version}");
    });
}
