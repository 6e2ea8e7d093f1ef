//! A process that is stopped between the decision to add or to prolong an address and the system call,
//! for longer than the address may stay: whatever it then asks for leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{in_namespace, index, origin, skip_tier, until, wire};
use purelb_core::kernel::{KernelAction, Lifetime, NewAddress};
use purelb_core::store::Change;
use purelb_netlink::{HostChange, Kernel, Watch};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const NETS: [&str; 2] = ["192.0.2.7/24", "2001:db8::7/64"];

/// How long an address may stay.
const RIGHT: Duration = Duration::from_secs(3);

/// How long the process stands still: longer than that, and than the kernel is late in removing.
const STILL: Duration = Duration::from_millis(5500);

/// Set in the process that is stopped: what it does before.
const PART: &str = "PURELB_TEST_PART";

/// Where this is the process that is to be stopped, plays its part; returns whether it was.
fn played() -> bool {
    let Ok(part) = std::env::var(PART) else { return false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let origin = origin();
    let mut kernel = Kernel::open(origin).unwrap();
    let link = index(kernel.mirror(), "left");
    let until = origin.tick(Instant::now()) + RIGHT;
    let actions = NETS.map(|net| {
        KernelAction::AddAddress(NewAddress {
            link,
            net: net.parse().unwrap(),
            lifetime: Lifetime::Until(until),
            deprecated: false,
            no_prefix_route: true,
        })
    });
    if part == "prolongs" {
        assert!(kernel.apply(actions.to_vec()).iter().all(|outcome| outcome.result.is_ok()));
    }
    println!("decided");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    for outcome in kernel.apply(actions.to_vec()) {
        println!("{:?}", outcome.result);
    }
    true
}

/// This very test in a process of its own.
fn start(test: &str, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the process says `word`, which must be before it ends.
fn says(out: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while line.trim() != word {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended without a word: {word}");
    }
}

fn ours(mirror: &purelb_netlink::mirror::Mirror) -> usize {
    mirror.addresses().filter(|address| address.is_ours()).count()
}

/// What is there once the process has ended, and whether it was refused both additions.
async fn ends_without_a_trace(mut child: Child, out: impl BufRead) {
    let said: Vec<String> = out.lines().map(Result::unwrap).collect();
    let refusals = said.iter().filter(|line| line.contains("PastDeadline"));
    assert_eq!(refusals.count(), NETS.len(), "{said:?}");
    assert!(child.wait().unwrap().success());
    let watch = Watch::open().unwrap();
    assert_eq!(ours(watch.mirror()), 0);
}

#[test]
fn stopped_before_it_asks_it_adds_nothing() {
    if played() {
        return;
    }
    stop("stopped_before_it_asks_it_adds_nothing", "adds");
}

#[test]
fn stopped_before_it_asks_it_prolongs_nothing() {
    if played() {
        return;
    }
    stop("stopped_before_it_asks_it_prolongs_nothing", "prolongs");
}

fn stop(test: &str, part: &str) {
    let (test, part) = (test.to_owned(), part.to_owned());
    in_namespace(|| async move {
        wire("left", "right");
        let mut watch = Watch::open().unwrap();
        let mut child = start(&test, &part);
        let pid = Pid::from_child(&child);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        says(&mut out, "decided");
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
        let before = Instant::now();
        if part == "prolongs" {
            until(&mut watch, |mirror| (ours(mirror) == NETS.len()).then_some(())).await;
            // Nobody is there to remove it, and the kernel does.
            until(&mut watch, |mirror| (ours(mirror) == 0).then_some(())).await;
        }
        std::thread::sleep(STILL.saturating_sub(before.elapsed()));
        child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        ends_without_a_trace(child, out).await;
        // Not even for a moment.
        while let Ok(change) = tokio::time::timeout(Duration::ZERO, watch.next()).await {
            let change = change.unwrap();
            let is_ours =
                matches!(&change, HostChange::Addresses(Change::Updated(a)) if a.is_ours());
            assert!(!is_ours, "{change:?}");
        }
    });
}

/// The worst moment: the seconds were computed, and the call is on its way.
#[test]
fn held_at_the_very_call_it_takes_back_what_it_added() {
    if played() {
        return;
    }
    if Command::new("strace").arg("--version").output().is_err() {
        return skip_tier("strace", "there is no strace");
    }
    in_namespace(|| async {
        wire("left", "right");
        let mut child = start("held_at_the_very_call_it_takes_back_what_it_added", "adds");
        let mut watch = Watch::open().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        says(&mut out, "decided");
        let decided = Instant::now();
        let mut tracer = hold_next_send(&child);
        child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        // It comes when it should long be gone, and goes at once.
        until(&mut watch, |mirror| (ours(mirror) > 0).then_some(())).await;
        assert!(decided.elapsed() > RIGHT, "it was not held: {:?}", decided.elapsed());
        until(&mut watch, |mirror| (ours(mirror) == 0).then_some(())).await;
        ends_without_a_trace(child, out).await;
        assert!(tracer.wait().unwrap().success());
    });
}

/// Has the next thing that the process sends wait before the kernel has it.
fn hold_next_send(process: &Child) -> Child {
    let hold = format!("inject=sendto:delay_enter={}:when=1", STILL.as_micros());
    let mut tracer = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "trace=sendto", "-e", &hold])
        .args(["-p", &process.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(tracer.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    tracer
}
