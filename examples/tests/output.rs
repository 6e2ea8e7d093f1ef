//! Each example does what its own documentation shows: the command there is run, and what it prints is
//! compared with the lines below it.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use purelb_cli::lab::ip::{self, ip_batch};
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::require;
use rustix::process::{Pid, Signal, kill_process};

/// What the documentation of an example shows.
struct Shown {
    name: &'static str,
    arguments: Vec<String>,
    lines: Vec<String>,
}

impl Shown {
    fn of(name: &'static str) -> Self {
        let source = fs::read_to_string(folder().join(name).with_extension("rs")).unwrap();
        let docs = source.lines().map_while(|line| line.strip_prefix("//!"));
        let docs = docs.map(|line| line.strip_prefix(' ').unwrap_or(line));
        let block = docs.skip_while(|line| *line != "```console").skip(1);
        let mut block = block.take_while(|line| *line != "```");
        let command = block.next().expect("a command in its documentation");
        let call = format!("$ cargo run -p purelb-examples --example {name}");
        let arguments = command.strip_prefix(&call).expect("a command that runs it");
        let arguments = arguments.split_whitespace().skip_while(|word| *word == "--");
        Self {
            name,
            arguments: arguments.map(str::to_owned).collect(),
            lines: block.map(str::to_owned).collect(),
        }
    }

    /// The command as shown, in the workspace's folder.
    fn command(&self) -> Command {
        let mut command = Command::new(program(self.name));
        command.args(&self.arguments).current_dir(folder().join(".."));
        command.stdout(Stdio::piped());
        command
    }

    #[track_caller]
    fn compare(&self, printed: &[String]) {
        let shown = &self.lines;
        assert_eq!(printed, shown, "{} prints what its documentation shows", self.name);
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The built example. A test of the whole workspace has built it.
fn program(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(built.exists(), "missing: run `cargo build -p purelb-examples --examples` first");
    built
}

fn printed_to_the_end(mut child: Child) -> Vec<String> {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// What it prints until it has printed a line that ends so.
fn printed_until(child: &mut BufReader<impl Read>, end: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.ends_with(end)) {
        let mut line = String::new();
        assert!(child.read_line(&mut line).unwrap() > 0, "it ended before {end:?}: {lines:#?}");
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// A host of 192.0.2.0/24 and 2001:db8:1::/64, in a namespace of its own.
fn host() -> Option<Namespace> {
    if let Err(error) = ip::is_installed() {
        require::skip(&error.to_string());
        return None;
    }
    let host = Namespace::new("host").unwrap();
    let setup = "link add eth0 type veth peer name far
        link set far up
        link set eth0 up
        addr add 192.0.2.11/24 dev eth0
        addr add 2001:db8:1::11/64 dev eth0 nodad
        route add default via 192.0.2.1
        route add default via 2001:db8:1::1";
    ip_batch(&host, setup).unwrap();
    Some(host)
}

#[test]
fn embed_allocator() {
    let shown = Shown::of("embed_allocator");
    shown.compare(&printed_to_the_end(shown.command().spawn().unwrap()));
}

#[test]
fn ipam_sidecar() {
    let shown = Shown::of("ipam_sidecar");
    let room = env::temp_dir().join(format!("purelb-ipam-{}", std::process::id()));
    fs::create_dir_all(&room).unwrap();
    let mut child = shown.command().current_dir(&room).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let printed = printed_until(&mut out, "ipam.sock");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(room).unwrap();
    shown.compare(&printed);
}

#[test]
fn one_node() {
    require::privileged(|| {
        let Some(host) = host() else { return };
        let shown = Shown::of("one_node");
        let mut child = host.spawn(shown.command()).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut printed = printed_until(&mut out, "announces 192.0.2.240 on eth0");
        let addresses = || ip::ip(&host, "-4 -o addr show").unwrap();
        let shows = |text: &str| addresses().contains(text);
        assert!(shows("192.0.2.240/24") && shows("198.51.100.0/32"), "{}", addresses());
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        printed.push("^C".to_owned());
        printed.extend(out.lines().map(Result::unwrap));
        assert!(child.wait().unwrap().success());
        assert!(!shows("192.0.2.240") && !shows("198.51.100.0"), "{}", addresses());
        shown.compare(&printed);
    });
}

#[test]
fn simulate_failover() {
    let shown = Shown::of("simulate_failover");
    shown.compare(&printed_to_the_end(shown.command().spawn().unwrap()));
}

#[test]
fn which_interface() {
    require::privileged(|| {
        let Some(host) = host() else { return };
        let shown = Shown::of("which_interface");
        shown.compare(&printed_to_the_end(host.spawn(shown.command()).unwrap()));
    });
}

#[test]
fn who_wins() {
    let shown = Shown::of("who_wins");
    shown.compare(&printed_to_the_end(shown.command().spawn().unwrap()));
}

/// Nobody adds an example that is not run here.
#[test]
fn every_example_is_run() {
    let this = include_str!("output.rs");
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_example = path.extension().is_some_and(|ext| ext == "rs") && name != "examples";
        assert!(!is_example || this.contains(&format!("Shown::of(\"{name}\")")), "{name}");
    }
}
