//! A program that is told to stop while it still begins: it has listened before all else, and ends at once
//! and in order, also as the first process of a container, for which the kernel drops what nobody
//! listens for.
//!
//! Needs iproute2, the right to make namespaces, and strace.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use purelb_cli::lab::ip::ip;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::require;
use purelb_k8s::memory::MemoryApi;
use rustix::process::{Pid, Signal, kill_process};

const PROGRAMS: [&str; 2] = [env!("CARGO_BIN_EXE_allocator"), env!("CARGO_BIN_EXE_lbnodeagent")];

/// How long after it listens it is told to stop, in milliseconds: wherever it may be by then.
const MOMENTS: [u64; 8] = [0, 1, 2, 4, 8, 16, 64, 256];

/// How long ending may take on a busy machine. The API is not waited for.
const PATIENCE: Duration = Duration::from_secs(8);

fn arguments(program: &str) -> Vec<&'static str> {
    let mut arguments = vec!["--namespace", "purelb", "--host", "127.0.0.1"];
    if program.ends_with("lbnodeagent") {
        arguments.extend(["--node-name", "n1"]);
    }
    arguments
}

/// Whether the process has a handler for SIGTERM: bit 14 of `SigCgt` (proc_pid_status(5)).
fn listens(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 14) != 0)
}

/// The only child of a process, as soon as there is one.
fn child_of(parent: &Child) -> u32 {
    let id = parent.id();
    loop {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        if let Ok(child) = children.unwrap_or_default().trim().parse() {
            return child;
        }
        yield_now();
    }
}

/// Starts a program as process 1 of a namespace, tells it to stop so long after it listens, and waits.
fn ends(host: &Namespace, program: &str, kubeconfig: &Path, after: Duration) {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", program])
        .args(arguments(program))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdout(Stdio::null());
    let mut outer = host.spawn(command).unwrap();
    let id = child_of(&outer);
    while !listens(id) {
        assert_eq!(outer.try_wait().unwrap(), None, "{program} has ended by itself");
        yield_now();
    }
    sleep(after);
    kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    let told = Instant::now();
    loop {
        if let Some(status) = outer.try_wait().unwrap() {
            assert!(status.success(), "{program}, {after:?}: {status}");
            return;
        }
        if told.elapsed() > PATIENCE {
            outer.kill().unwrap();
            panic!("{program}, told {after:?} after it listened, goes on");
        }
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn whenever_a_program_is_told_to_stop_it_does_so_at_once_and_in_order() {
    require::privileged(|| {
        let host = Namespace::new("host").unwrap();
        ip(&host, "link set dev lo up").unwrap();
        // Takes connections, and never answers.
        let silent = host.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = |name: &str, address: &str| {
            let path = directory.path().join(name);
            fs::write(&path, MemoryApi::kubeconfig(&format!("http://{address}"))).unwrap();
            path
        };
        let apis = [
            kubeconfig("nobody", "127.0.0.1:1"),
            kubeconfig("silent", &silent.local_addr().unwrap().to_string()),
        ];
        for program in PROGRAMS {
            for api in &apis {
                for moment in MOMENTS {
                    ends(&host, program, api, Duration::from_millis(moment));
                }
            }
        }
    });
}

#[test]
fn a_program_listens_for_what_stops_it_before_it_does_anything_else() {
    if Command::new("strace").arg("--version").output().is_err() {
        let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|tier| tier == "strace"), "there is no strace");
        println!("skipped: there is no strace");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        let calls = directory.path().join("calls");
        let status = Command::new("strace")
            .args(["-f", "-o", calls.to_str().unwrap(), "-e", "trace=rt_sigaction,socket,write"])
            .arg(program)
            .args(arguments(program))
            .args(["--kubeconfig", "/nowhere"])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "there is no kubeconfig");
        let calls = fs::read_to_string(calls).unwrap();
        let first = |what: &str| calls.lines().position(|line| line.contains(what));
        let all = ["SIGTERM", "SIGINT", "SIGQUIT"]
            .map(|signal| first(&format!("rt_sigaction({signal}, {{sa_handler=0x")).expect(signal));
        let other = first(" socket(").into_iter().chain(first(" write(")).min();
        let other = other.expect("it tries to listen, and says what is wrong");
        assert!(all.into_iter().all(|call| call < other), "{calls}");
    }
}
