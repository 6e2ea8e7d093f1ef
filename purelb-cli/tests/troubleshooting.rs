//! Every step of `docs/troubleshooting.md`, run as it is written, in one lab.
//!
//! The blocks marked `console` are run from the first to the last. A line that begins with `$ ` is run by a
//! shell as a user of the lab, in the directory of the sources, with `kubectl` and `purelb` on the path; one
//! that begins with `root@PLACE:~# ` is run in that place of the lab, such as `node2` or `client`. What is
//! shown below it must be what it prints, but for the amount of white space; `…` in a line stands for any
//! text, a line of nothing else for any lines. Where nothing is shown, the command must print nothing and
//! succeed. What only looks is tried again until what is shown has come true.
//!
//! A comment `<!-- lab: WORDS -->`, which no reader of the page sees, lets something happen in the lab first:
//! see [`happen`].
//!
//! Needs the right to make network namespaces, `kubectl`, and `script` (util-linux), which gives commands that
//! are to have one (`-it`) a terminal.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeSet;
use std::env::{join_paths, split_paths};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::ip::ip;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::responder;
use purelb_cli::telemetry::log::Format;

mod common;

use common::kubectl;
use common::lab::{beside_others, eventually};

/// The words of a comment on the page, and what then happens in the lab.
type Happening = (&'static str, fn(&mut Cluster));

/// All that can happen.
const HAPPENINGS: [Happening; 7] = [
    ("four Services that get no address", |cluster| {
        cluster.api().client().apply(PENDING).unwrap();
    }),
    ("the client asks for 192.0.2.240", |cluster| {
        eventually(|| ask(cluster, "192.0.2.240"));
    }),
    ("a second default route on node2", |cluster| {
        let route = "route add default via 192.0.2.1 dev eth0 metric 100";
        ip(cluster.node(1), route).unwrap();
    }),
    ("another machine has 192.0.2.243", |cluster| {
        ip(cluster.topology().client(), "addr add 192.0.2.243/24 dev eth0").unwrap();
        cluster.api().client().apply(TAKEN).unwrap();
    }),
    ("the other machine gives 192.0.2.243 up", |cluster| {
        ip(cluster.topology().client(), "addr del 192.0.2.243/24 dev eth0").unwrap();
    }),
    ("the agent of node3 is killed", |cluster| cluster.kill_agent(2).unwrap()),
    ("the agent of node3 starts again", |cluster| cluster.start_agent(2).unwrap()),
];

const PENDING: &str = "
{apiVersion: v1, kind: Service, metadata: {name: other-class, namespace: default},
 spec: {type: LoadBalancer, loadBalancerClass: example.com/other, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: no-group, namespace: default,
 annotations: {purelb.io/service-group: spare}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: not-free, namespace: default,
 annotations: {purelb.io/addresses: 192.0.2.240}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: no-range, namespace: default,
 annotations: {purelb.io/addresses: 203.0.113.9}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}
";

const TAKEN: &str = "
{apiVersion: v1, kind: Service, metadata: {name: taken, namespace: default,
 annotations: {purelb.io/addresses: 192.0.2.243}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}
";

/// What makes a command one that changes something, which is not to be repeated.
const CHANGES: [&str; 8] = ["add", "annotate", "apply", "create", "del", "delete", "patch", "set"];

/// One thing to do, and where it stands.
#[derive(Debug)]
struct Step<'a> {
    line: usize,
    what: What<'a>,
}

#[derive(Debug)]
enum What<'a> {
    Happen(&'a str),
    Run { place: Option<&'a str>, command: &'a str, shown: Vec<&'a str> },
}

/// The steps of a page.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut is_inside = false;
    for (line, text) in (1..).zip(page.lines()) {
        let happens = text.strip_prefix("<!-- lab: ").and_then(|rest| rest.strip_suffix(" -->"));
        if text.starts_with("```") {
            is_inside = text == "```console";
        } else if let Some(words) = happens {
            steps.push(Step { line, what: What::Happen(words) });
        } else if is_inside {
            let on_node = text.strip_prefix("root@").and_then(|rest| rest.split_once(":~# "));
            let typed = text.strip_prefix("$ ").map(|command| (None, command));
            let typed = typed.or_else(|| on_node.map(|(place, command)| (Some(place), command)));
            match (typed, steps.last_mut().map(|step| &mut step.what)) {
                (Some((place, command)), _) => {
                    let what = What::Run { place, command, shown: Vec::new() };
                    steps.push(Step { line, what });
                }
                (None, Some(What::Run { shown, .. })) => shown.push(text),
                (None, _) => panic!("line {line} is printed by nothing: {text}"),
            }
        }
    }
    steps
}

/// Whether what a page shows is what was printed.
fn is_shown(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=printed.len()).any(|n| is_shown(rest, &printed[n..])),
        ([pattern, more @ ..], [line, rest @ ..]) => fits(pattern, line) && is_shown(more, rest),
        _ => false,
    }
}

/// Whether one line is as shown.
fn fits(pattern: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (words(pattern), words(line));
    let (first, rest) = pattern.split_once('…').unwrap_or((&pattern, ""));
    if first.len() == pattern.len() {
        return pattern == line;
    }
    let Some(mut left) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// Runs a command of the page, and returns what it printed.
fn run(cluster: &Cluster, place: Option<&str>, command: &str) -> Output {
    let folder = |program: &Path| program.parent().unwrap().to_owned();
    let outside = std::env::var_os("PATH").unwrap_or_default();
    let programs =
        [folder(&kubectl::program().unwrap()), folder(env!("CARGO_BIN_EXE_purelb").as_ref())];
    let mut shell = if command.contains(" -it ") {
        let mut script = Command::new("script");
        script.args(["-qec", command, "/dev/null"]);
        script
    } else {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        shell
    };
    shell
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .env("PATH", join_paths(programs.into_iter().chain(split_paths(&outside))).unwrap())
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", cluster.kubeconfig().parent().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = match place {
        None => shell.spawn(),
        Some(place) => namespace(cluster, place).spawn(shell),
    };
    let mut child = child.unwrap();
    // At a terminal somebody sits and types nothing.
    let _typed = child.stdin.take();
    child.wait_with_output().unwrap()
}

fn namespace<'a>(cluster: &'a Cluster, place: &str) -> &'a Namespace {
    let found = cluster.topology().namespaces().find(|namespace| namespace.name() == place);
    found.unwrap_or_else(|| panic!("the lab has no {place}"))
}

/// Lets the client of the lab have the web page at an address.
fn ask(cluster: &Cluster, address: &str) -> Result<(), String> {
    let client = cluster.topology().client();
    responder::ask(client, address.parse().unwrap()).map(drop).map_err(|error| error.to_string())
}

/// Lets happen what a comment says.
fn happen(cluster: &mut Cluster, words: &str) {
    let happening = HAPPENINGS.iter().find(|(known, _)| *known == words);
    happening.unwrap_or_else(|| panic!("nobody knows how {words:?} happens")).1(cluster);
}

#[test]
fn what_the_guide_says_is_so() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let page = fs::read_to_string(page).unwrap();
    let steps = steps(&page);
    let happening = |step: &Step<'_>| match step.what {
        What::Happen(words) => Some(words.to_owned()),
        What::Run { .. } => None,
    };
    let happenings: BTreeSet<String> = steps.iter().filter_map(happening).collect();
    let known: BTreeSet<String> = HAPPENINGS.iter().map(|(known, _)| (*known).to_owned()).collect();
    assert_eq!(happenings, known, "what the page lets happen, and what can happen");
    // As on a cluster.
    let blueprint = Blueprint { log_format: Format::Json, ..Blueprint::default() };
    beside_others("guide", blueprint, "", |cluster| {
        if kubectl::program().is_none() {
            return;
        }
        for Step { line, what } in &steps {
            match what {
                What::Happen(words) => happen(cluster, words),
                What::Run { place, command, shown } => {
                    println!("line {line}: {command}");
                    follow(cluster, *line, *place, command, shown);
                }
            }
        }
    });
}

/// Runs one command, until it prints what is shown.
fn follow(cluster: &Cluster, line: usize, place: Option<&str>, command: &str, shown: &[&str]) {
    let look = || {
        let Output { status, stdout, stderr } = run(cluster, place, command);
        let text =
            format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let printed: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let is_so = is_shown(shown, &printed) && (status.success() || !shown.is_empty());
        if is_so { Ok(()) } else { Err(format!("line {line}: `{command}` prints {printed:#?}")) }
    };
    if command.split_whitespace().any(|word| CHANGES.contains(&word)) {
        look().unwrap_or_else(|why| panic!("{why}"));
    } else {
        eventually(look);
    }
}

#[test]
fn what_is_shown_is_compared_line_by_line() {
    let printed = ["NAME   AGE", "a      5s", "b      7m"];
    for shown in [
        &["NAME AGE", "a 5s", "b 7m"][..],
        &["NAME AGE", "a …", "b …m"],
        &["…"],
        &["NAME AGE", "…"],
        &["…", "b …"],
        &["…E", "…", "a 5s", "…", "b 7m", "…"],
    ] {
        assert!(is_shown(shown, &printed), "{shown:?}");
    }
    for shown in [
        &["NAME AGE", "a 5s"][..],
        &["NAME AGE", "b …", "…"],
        &["NAME AGE", "a 6s", "b 7m"],
        &["NAME AGE", "a …m", "b 7m"],
        &["…", "c …"],
        &[],
    ] {
        assert!(!is_shown(shown, &printed), "{shown:?}");
    }
    assert!(fits("a … c … e", "a  b c d   e") && !fits("a … c … e", "a c e f"));
}
