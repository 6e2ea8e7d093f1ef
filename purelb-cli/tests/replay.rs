//! Recordings of real programs, replayed.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::lab::{eventually, holder, serve, with_agents};
use common::terminal::Terminal;
use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::recording::Recording;

const ADDRESS: &str = "192.0.2.240";

/// What the program in a namespace was told last, in a file of this name.
fn record(place: &Namespace, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_purelb"));
    command.arg("record").arg("--output").arg(&path);
    assert!(place.spawn(command).unwrap().wait().unwrap().success(), "{}", place.name());
    path
}

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_purelb")).arg("replay").args(arguments).output().unwrap()
}

/// What a replay prints that goes well.
fn told(arguments: &[&str]) -> String {
    let output = replay(arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn address_is_taken_off(node: &Namespace) {
    let mut command = Command::new("ip");
    command.args(["address", "del", &format!("{ADDRESS}/24"), "dev", "eth0"]);
    assert!(node.spawn(command).unwrap().wait().unwrap().success());
}

#[test]
fn a_lab_replays_to_the_same_decisions_and_tells_them() {
    with_agents("", |cluster| {
        serve(cluster, "web", &[ADDRESS]);
        let first = holder(cluster, ADDRESS);
        address_is_taken_off(cluster.node(first));
        assert_eq!(holder(cluster, ADDRESS), first);
        let folder = tempfile::tempdir().unwrap();
        let before = record(cluster.node(first), folder.path(), "before.rec");
        cluster.stop_agent(first).unwrap();
        let second = eventually(|| match holder(cluster, ADDRESS) {
            same if same == first => Err("still there".to_owned()),
            other => Ok(other),
        });
        let after = record(cluster.node(second), folder.path(), "after.rec");
        let allocator = record(cluster.topology().hub(), folder.path(), "allocator.rec");
        let files = [&before, &after, &allocator].map(|path| path.to_str().unwrap());

        the_story_is_told(cluster, first, second, files);
        changes_are_tried(files, folder.path());
        pictures_are_drawn(cluster, first, second, files, folder.path());
        keys_step_through(files[1]);
        files_are_checked(files[0], folder.path());
    });
}

fn pictures_are_drawn(
    cluster: &Cluster,
    first: usize,
    second: usize,
    files: [&str; 3],
    folder: &Path,
) {
    let page = folder.join("out.html");
    let options = ["--html", page.to_str().unwrap(), "--address", ADDRESS];
    assert_eq!(told(&[&files[..], &options[..]].concat()), "");
    let text = fs::read_to_string(&page).unwrap();
    for node in [first, second] {
        let holder = format!("<title>{ADDRESS}: {} eth0\n", cluster.node(node).name());
        assert!(text.contains(&holder), "{holder:?} is not in:\n{text}");
    }
    let nothing = replay(&[files[0], "--html", "/nowhere/out.html"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("/nowhere/out.html"));

    let top = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purelb"));
        command.args(["top", "--once", "--at", "3600", "--recording"]).args(arguments);
        command.output().unwrap()
    };
    let shown = String::from_utf8(top(&files).stdout).unwrap();
    let row = shown.lines().find(|line| line.contains(ADDRESS)).expect(&shown);
    assert!(row.contains(cluster.node(second).name()), "{shown}");
    let refused = top(&[files[2]]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("purelb record --node"));
}

/// In a real terminal.
fn keys_step_through(file: &str) {
    let arguments = ["top", "--at", "1", "--recording", file];
    let mut terminal = Terminal::start(env!("CARGO_BIN_EXE_purelb"), &arguments, &[], (100, 30));
    terminal.wait_for("recording of");
    terminal.press("p");
    let clock = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let stood = clock(&terminal.wait_for("paused"));
    terminal.press("\x1b[C");
    terminal.wait("a step ahead", |text| text.contains("paused") && clock(text) != stood);
    terminal.press("\x1b[D");
    terminal.wait("a step back", |text| clock(text) == stood);
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    assert!(terminal.is_as_before());
}

fn the_story_is_told(cluster: &Cluster, first: usize, second: usize, files: [&str; 3]) {
    let name = |node: usize| cluster.node(node).name().to_owned();
    let all = told(&files);
    assert_eq!(all.matches("the replay decided the same").count(), 3, "{all}");
    for (node, text) in [
        (first, format!("{} announces {ADDRESS} on eth0", name(first))),
        (first, format!("decides  {ADDRESS}: {ADDRESS}/24 on eth0, having won it")),
        (first, format!("does     add {ADDRESS}/24 on eth0")),
        (second, format!("{} announces {ADDRESS} on eth0", name(second))),
    ] {
        let is_told = all.lines().any(|line| line.contains(&text) && line.contains(&name(node)));
        assert!(is_told, "{text:?} of {} is not in:\n{all}", name(node));
    }
    let given = format!("does     give default/web {ADDRESS} from default");
    assert!(all.contains(&given), "{all}");
    let renewals = |text: &str| text.matches("write the lease").count();
    assert!(renewals(&told(&[files[1], "--all"])) > renewals(&told(&[files[1]])));

    let narrow = told(&[files[1], "--address", ADDRESS, "--why"]);
    let candidates = format!(
        "because: asked for by default/web; candidates, the winner first: {}",
        name(second)
    );
    for text in [
        &format!("decides  {ADDRESS}: not here: {} won it", name(first)),
        &format!("told     the lease of {}", name(first)),
        &candidates,
    ] {
        assert!(narrow.contains(text.as_str()), "{text:?} is not in:\n{narrow}");
    }
    let early = told(&[files[1], "--until", "0s"]);
    assert!(!early.contains(&format!("announces {ADDRESS}")), "{early}");
    let view: serde_json::Value = serde_json::from_str(&told(&[files[1], "--view"])).unwrap();
    assert_eq!(view["node"], name(second));
    assert_eq!(view["addresses"][0]["ip"], ADDRESS);
}

const ELSEWHERE: &str = "
apiVersion: purelb.io/v2
kind: LBNodeAgent
metadata: {name: default}
spec: {nodeSelector: {matchLabels: {role: gateway}}, local: {}}
";

const OTHER_RANGE: &str = "
apiVersion: purelb.io/v2
kind: ServiceGroup
metadata: {name: default}
spec: {local: {v4pool: {pool: 192.0.2.10-192.0.2.20, subnet: 192.0.2.0/24}}}
";

fn changes_are_tried([before, _, allocator]: [&str; 3], folder: &Path) {
    let with = |file: &str, manifest: &str, more: &[&str]| {
        let path = folder.join("change.yaml");
        fs::write(&path, manifest).unwrap();
        told(&[&[file, "--with", path.to_str().unwrap()], more].concat())
    };
    let agent = with(before, ELSEWHERE, &[]);
    let would_be = "+ ";
    let has = |text: &str, sign: &str, what: &str| {
        let is_told = text.lines().any(|line| line.starts_with(sign) && line.contains(what));
        assert!(is_told, "{what:?} with {sign:?} is not in:\n{text}");
    };
    has(&agent, "- ", &format!("{ADDRESS}: {ADDRESS}/24 on eth0, having won it"));
    has(&agent, would_be, &format!("{ADDRESS}: not here: no LBNodeAgent selects this node"));
    let group = with(allocator, OTHER_RANGE, &[]);
    has(&group, "- ", &format!("give default/web {ADDRESS} from default"));
    has(&group, would_be, "default/web");
    // What a program is not told of makes no difference to it, and is tried on the others.
    let both = told(&[before, allocator, "--without", "lbnodeagent/default"]);
    has(&both, would_be, &format!("{ADDRESS}: not here: there is no LBNodeAgent with spec.local"));
    let output = replay(&[allocator, "--without", "lbnodeagent/none"]);
    assert_eq!(output.status.code(), Some(2));
}

fn files_are_checked(file: &str, folder: &Path) {
    let refused = |name: &str, bytes: &[u8], why: &str| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        let output = replay(&[path.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(name) && text.contains(why), "{why:?} is not in: {text}");
    };
    let bytes = fs::read(file).unwrap();
    refused("short.rec", &bytes[..bytes.len() / 2], "ends too soon; take the recording again");
    refused("text.rec", b"10.0.0.1 host\n", "this is no recording: write one with `purelb record`");
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x20;
    refused("flipped.rec", &flipped, "the file is damaged");
    let Recording::Agent(_) = Recording::read(&bytes).unwrap() else {
        panic!("this is an agent's");
    };
}
