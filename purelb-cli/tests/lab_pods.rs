//! The lab's programs as pods, for `kubectl`: what is shown of them, their logs, and commands in them.
//!
//! Needs the right to make network namespaces, `kubectl`, and for terminals `script` (util-linux).

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::env::{join_paths, split_paths};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::ip::ip;
use purelb_cli::lab::manifest::Component;

mod common;

use common::kubectl::kubectl;
use common::lab::{eventually, holder, serve, with_agents};

/// What a command prints; it must succeed.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// `kubectl -n purelb`.
fn ours(cluster: &Cluster, arguments: &[&str]) -> Option<Command> {
    let mut command = kubectl(cluster)?;
    command.args(["--namespace", "purelb"]).args(arguments);
    Some(command)
}

/// The columns of a pod's row, but for its age.
fn row(cluster: &Cluster, pod: &str) -> Option<[String; 4]> {
    let table = said(ours(cluster, &["get", "pod", pod, "--no-headers"])?);
    let mut columns = table.split_whitespace().map(str::to_owned);
    Some(std::array::from_fn(|_| columns.next().unwrap_or_default()))
}

fn shows(cluster: &Cluster, pod: &str, wanted: [&str; 4]) {
    eventually(|| match row(cluster, pod) {
        Some(row) if row != wanted => Err(format!("{row:?}")),
        Some(_) | None => Ok(()),
    });
}

#[test]
fn the_programs_are_pods_with_logs_and_commands() {
    with_agents("", |cluster| {
        let Some(mut table) = ours(cluster, &["get", "pods", "-o", "wide"]) else { return };
        let pods = [0, 1, 2].map(|node| Component::NodeAgent.pod(cluster.node(node).name()));
        let allocator = Component::Allocator.pod("hub");
        for pod in pods.iter().chain([&allocator]) {
            shows(cluster, pod, [pod, "1/1", "Running", "0"]);
        }
        let table = said({
            table.stdin(Stdio::null());
            table
        });
        assert!(table.contains("NOMINATED NODE"), "{table}");
        let node2 = table.lines().find(|line| line.starts_with(&pods[1])).unwrap();
        assert!(node2.contains("192.0.2.12") && node2.contains("node2"), "{table}");

        serve(cluster, "web", &["192.0.2.245"]);
        let holder = holder(cluster, "192.0.2.245");
        let pod = &*pods[holder];
        let show = ["exec", pod, "--", "ip", "-br", "addr", "show", "dev", "eth0"];
        let shown = said(ours(cluster, &show).unwrap());
        assert!(shown.contains("192.0.2.245/24"), "{shown}");
        let links = said(ours(cluster, &["exec", pod, "--", "ls", "/sys/class/net"]).unwrap());
        assert!(links.contains("eth0") && links.contains("kube-lb0"), "{links}");
        let environment = said(ours(cluster, &["exec", pod, "--", "env"]).unwrap());
        let own = format!("PURELB_NODE_NAME=node{}\n", holder + 1);
        assert!(environment.contains(&own), "{environment}");
        let version = said(ours(cluster, &["exec", pod, "--", "purelb", "--version"]).unwrap());
        assert!(version.starts_with("purelb "), "{version}");
        let failed = ours(cluster, &["exec", pod, "--", "sh", "-c", "echo no >&2; exit 7"]);
        let Output { status, stderr, .. } = failed.unwrap().output().unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(stderr.starts_with(b"no\n"), "{}", String::from_utf8_lossy(&stderr));

        routes_are_asked_for(cluster, holder);
        on_a_terminal(cluster, pod);
        follow_and_restart(cluster, holder, pod);
    });
}

/// `purelb validate --routes` asks the pods of all nodes, and finds the one with two default routes.
fn routes_are_asked_for(cluster: &Cluster, node: usize) {
    let second = "route add default via 192.0.2.1 dev eth0 metric 77";
    ip(cluster.node(node), second).unwrap();
    let kubectl = common::kubectl::program().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = kubectl.parent().into_iter().map(Path::to_owned).chain(split_paths(&path));
    let mut validate = Command::new(env!("CARGO_BIN_EXE_purelb"));
    validate
        .args(["validate", "--namespace", "purelb", "--routes", "-o", "json", "--kubeconfig"])
        .arg(cluster.kubeconfig())
        .env("PATH", join_paths(folders).unwrap());
    let report = String::from_utf8(validate.output().unwrap().stdout).unwrap();
    let name = cluster.node(node).name();
    assert!(report.contains("metric 77") && report.contains(name), "{report}");
    ip(cluster.node(node), &second.replace("add", "del")).unwrap();
}

/// `kubectl exec -it` gives the command a terminal where there is one, of the same size, and passes on what
/// is typed.
fn on_a_terminal(cluster: &Cluster, pod: &str) {
    let script = "test -t 0 && test -t 1 && stty size && read word && echo \"got $word\"";
    let inner = ours(cluster, &["exec", "-it", pod, "--", "sh", "-c"]).unwrap();
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let line = format!("stty rows 33 cols 77; {} '{script}'", words.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains(wanted));
        assert!(found.is_some(), "no line has {wanted:?}");
    };
    next("33 77");
    std::io::Write::write_all(&mut stdin, b"hello\n").unwrap();
    next("got hello");
    assert!(child.wait().unwrap().success());
    // Without a terminal it is as `kubectl exec`, with a warning.
    let plain = ours(cluster, &["exec", "-it", pod, "--", "ip", "link", "show", "dev", "kube-lb0"]);
    let shown = said({
        let mut plain = plain.unwrap();
        plain.stdin(Stdio::null());
        plain
    });
    assert!(shown.contains("kube-lb0"), "{shown}");
}

/// The log of an agent is followed to its end by violence; its pod says so, and that it runs again.
fn follow_and_restart(cluster: &mut Cluster, node: usize, pod: &str) {
    let logs = |cluster: &Cluster, more: &[&str]| {
        said(ours(cluster, &[&["logs", pod], more].concat()).unwrap())
    };
    let all = logs(cluster, &[]);
    assert!(all.contains("192.0.2.245"), "{all}");
    for line in logs(cluster, &["--timestamps"]).lines() {
        let (time, text) = line.split_once(' ').unwrap();
        assert!(time.len() == 30 && time.ends_with('Z') && all.contains(text), "{line}");
    }
    let mut follower = ours(cluster, &["logs", "-f", "--tail=1", pod]).unwrap();
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(all.ends_with(&format!("{}\n", lines.next().unwrap())), "{all}");

    cluster.kill_agent(node).unwrap();
    assert_eq!(lines.last(), None, "a killed program says nothing");
    assert!(follower.wait().unwrap().success());
    shows(cluster, pod, [pod, "0/1", "Error", "0"]);
    let refused = ours(cluster, &["exec", pod, "--", "ip", "link"]).unwrap().output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is not running"), "{why}");

    cluster.start_agent(node).unwrap();
    shows(cluster, pod, [pod, "1/1", "Running", "1"]);
    assert_eq!(logs(cluster, &["--previous"]), all);
    assert!(!logs(cluster, &[]).starts_with(&all), "it has a log of its own");
    assert!(cluster.stop_agent(node).unwrap().unwrap().success());
    shows(cluster, pod, [pod, "0/1", "Completed", "1"]);
}
