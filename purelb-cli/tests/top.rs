//! The live view, in a real terminal.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::lab::{holder, serve, with_agents};
use common::terminal::Terminal;
use purelb_cli::top::draw::{Setting, Theme};
use purelb_cli::top::model::Model;
use purelb_cli::top::screen;
use purelb_cli::top::source::simulator::Simulator;
use purelb_cli::top::source::{OwnTime, Source, SourceError};
use rustix::process::Signal;

const PURELB: &str = env!("CARGO_BIN_EXE_purelb");

/// A minute into a history, which goes on at the speed of time.
const SIMULATED: [&str; 5] = ["top", "--simulate", "7", "--at", "60"];

fn simulated(variables: &[(&str, &str)], size: (u16, u16)) -> Terminal {
    Terminal::start(PURELB, &SIMULATED, variables, size)
}

/// The seconds of virtual time that are shown, once it stands still.
fn moment(terminal: &Terminal) -> f64 {
    let text = terminal.wait_for("paused");
    let clock = text.lines().next().unwrap().split(' ').next_back().unwrap().to_owned();
    let fields: Vec<f64> = clock.split(':').map(|field| field.parse().unwrap()).collect();
    fields[0] * 3600.0 + fields[1] * 60.0 + fields[2]
}

#[test]
fn keys_do_what_the_help_says() {
    let mut terminal = simulated(&[], (100, 30));
    terminal.wait_for("192.0.2.100");
    assert!(terminal.is_coloured());
    terminal.press("?");
    terminal.wait_for("only rows with a text");
    terminal.press("?");
    terminal.wait("the help is closed", |text| !text.contains("only rows with a text"));

    terminal.press("/node-2\r");
    let text = terminal.wait_for("Nodes 1 with \"node-2\"");
    assert!(!text.contains("node-1 eth0"), "{text}");
    terminal.press("\x1b");
    terminal.wait_for("Nodes 2");
    terminal.press("\t\r");
    terminal.wait("the moves are alone", |text| text.contains("Moves") && !text.contains("Nodes"));
    terminal.press("\r");
    terminal.wait_for("Nodes");

    terminal.press("+++");
    terminal.wait_for("at 8×");
    terminal.press("p");
    let before = moment(&terminal);
    assert!(before >= 60.0, "{before}");
    terminal.press("\x1b[D\x1b[D");
    terminal.wait("two seconds back", |_| (moment(&terminal) - before + 2.0).abs() < 0.15);
    terminal.press("\x1b[C");
    terminal.wait("a second ahead", |_| (moment(&terminal) - before + 1.0).abs() < 0.15);

    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    assert!(terminal.is_as_before());
}

#[test]
fn a_terminal_may_become_too_small_and_large_again() {
    let mut terminal = simulated(&[("NO_COLOR", "1")], (80, 24));
    for panel in ["Nodes", "Addresses", "Moves", "Pools"] {
        terminal.wait_for(panel);
    }
    assert!(!terminal.is_coloured());
    terminal.resize(50, 10);
    terminal.wait_for("this terminal is 50 × 10");
    terminal.wait_for("purelb top needs 80 × 24");
    terminal.resize(160, 40);
    terminal.wait_for("Pools");
    terminal.press("\x03");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut terminal = simulated(&[], (80, 24));
        terminal.wait_for("Addresses");
        assert!(!terminal.is_as_before());
        terminal.signal(signal);
        assert_eq!(terminal.ended(), 0);
        terminal.wait("all is as before", |_| terminal.is_as_before());
    }
}

/// The variable that makes the next test be what is tested.
const PANICS: &str = "PURELB_TEST_SOURCE_PANICS";

#[test]
fn a_panic_leaves_the_terminal_as_it_was() {
    let setting = Setting { title: String::new(), theme: Theme::Plain, has_own_time: false };
    if std::env::var_os(PANICS).is_some() {
        let mut broken = Broken(Simulator::new(1), 0);
        screen::show(&mut broken, Duration::ZERO, &setting).unwrap();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["a_panic_leaves_the_terminal_as_it_was", "--exact", "--nocapture"];
    let program = program.to_str().unwrap();
    let mut terminal =
        Terminal::start(program, &arguments, &[(PANICS, "1"), ("RUST_BACKTRACE", "0")], (80, 24));
    terminal.wait_for("something is wrong with this source");
    assert_ne!(terminal.ended(), 0);
    assert!(terminal.is_as_before(), "{}", terminal.text());
}

/// A source that lasts some frames.
struct Broken(Simulator, u32);

impl Source for Broken {
    fn title(&self) -> String {
        self.0.title()
    }

    fn begin(&mut self) -> Result<Model, SourceError> {
        self.0.begin()
    }

    fn advance(&mut self, _span: Duration, _model: &mut Model) -> Result<(), SourceError> {
        self.1 += 1;
        assert!(self.1 < 5, "something is wrong with this source");
        Ok(())
    }

    fn own_time(&mut self) -> Option<&mut dyn OwnTime> {
        None
    }
}

#[test]
fn without_a_terminal_one_frame_can_be_printed_and_nothing_else() {
    let run = |more: &[&str]| {
        let mut command = Command::new(PURELB);
        command.args(SIMULATED).args(more).stdin(Stdio::null()).output().unwrap()
    };
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(3));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("no terminal") && told.contains("--once"), "{told}");
    let printed = run(&["--once"]);
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    for part in ["Nodes 2", "192.0.2.100", "new → node-2", "198.51.100.0/24"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_cluster_that_cannot_be_reached_is_an_error_and_no_empty_screen() {
    let mut terminal =
        Terminal::start(PURELB, &["top", "--kubeconfig", "/nonexistent"], &[], (80, 24));
    terminal.wait_for("cannot read the kubeconfig /nonexistent");
    assert_eq!(terminal.ended(), 3);
    assert!(terminal.is_as_before());
}

#[test]
fn the_move_away_from_a_killed_agent_is_seen_as_it_happens() {
    with_agents("", |cluster| {
        serve(cluster, "web", &["192.0.2.240"]);
        let holding = holder(cluster, "192.0.2.240");
        let node = cluster.topology().nodes()[holding].name().to_owned();
        let kubeconfig = cluster.kubeconfig().to_str().unwrap().to_owned();
        let variables = [("KUBECONFIG", kubeconfig.as_str())];
        let mut terminal = Terminal::start(PURELB, &["top"], &variables, (120, 30));
        terminal.wait_for("3 of 3 leases live");
        terminal.wait_for(&format!("{node} eth0"));
        terminal.press("p");
        terminal.wait_for("paused");
        cluster.kill_agent(holding).unwrap();
        let next = common::lab::eventually(|| match holder(cluster, "192.0.2.240") {
            now if now != holding => Ok(cluster.topology().nodes()[now].name().to_owned()),
            _ => Err("nobody else has it".to_owned()),
        });
        let still = terminal.text();
        assert!(still.contains("3 of 3 leases live") && !still.contains("ran out"), "{still}");
        terminal.press("p");
        terminal.wait_for(&format!("{node} → {next}"));
        terminal.wait_for(&format!("{next} eth0"));
        terminal.wait_for("2 of 3 leases live");
        terminal.wait_for("ran out");
        terminal.press("q");
        assert_eq!(terminal.ended(), 0);
    });
}
