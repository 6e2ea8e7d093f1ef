//! Agents that come, go and get in each other's way, on the lab's real kernels: an upgrade with
//! `onStop: Keep`, a second process on one host, a second host of one name.
//!
//! Needs iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::lab::{annotation, eventually, holder, holders, serve, serves, with_agents};
use purelb_cli::lab::client::ObjectPath;
use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::ip::ip;
use purelb_cli::lab::namespace::Namespace;
use serde_json::Value;

const VIPS: [&str; 2] = ["192.0.2.240", "2001:db8:1::240"];

/// Longer than the lease: who was to take over has done so by then.
const LONG: Duration = Duration::from_secs(7);

/// An agent beside those of the lab, killed in the end.
struct Intruder(Child);

impl Intruder {
    /// Starts one on `host` that says it is `name`; `before` comes first, in a mount namespace of its
    /// own.
    fn start(cluster: &Cluster, host: &Namespace, name: &str, before: &str) -> Self {
        let agent = env!("CARGO_BIN_EXE_lbnodeagent");
        let script =
            format!("{before} exec {agent} --node-name {name} --namespace purelb --port 7473");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script]);
        command.env("KUBECONFIG", cluster.kubeconfig().with_file_name("kubeconfig-inside"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(host.spawn(command).unwrap())
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For how many seconds more the kernel keeps an address on `eth0`, if it is there.
fn lifetime(node: &Namespace, address: &str) -> Option<u64> {
    let shown = ip(node, &format!("-j addr show dev eth0 to {address}")).unwrap();
    let links: Value = serde_json::from_str(&shown).unwrap();
    let mut infos = links.as_array()?.iter().filter_map(|link| link["addr_info"].as_array());
    infos.find_map(|infos| infos.iter().find_map(|info| info["valid_life_time"].as_u64()))
}

#[test]
fn an_upgrade_with_keep_never_takes_an_address_off() {
    with_agents("onStop: Keep", |cluster| {
        serve(cluster, "web", &VIPS);
        let held = VIPS.map(|vip| (vip, holder(cluster, vip)));
        for (vip, number) in held {
            let mut monitor = Command::new("ip");
            monitor.args(["-o", "monitor", "address"]).stdout(Stdio::piped());
            let mut monitor = cluster.node(number).spawn(monitor).unwrap();
            let status = cluster.stop_agent(number).unwrap();
            assert!(status.is_some_and(|status| status.success()), "{status:?}");
            // The kernel has been told to keep it, but not forever.
            let left = lifetime(cluster.node(number), vip).unwrap();
            assert!((15..=30).contains(&left), "{vip}: {left} s");
            let start = Instant::now();
            while start.elapsed() < LONG {
                assert_eq!(holders(cluster, vip.parse().unwrap()), [number], "{vip}");
            }
            cluster.start_agent(number).unwrap();
            eventually(|| match lifetime(cluster.node(number), vip) {
                Some(left) if left <= 5 => Ok(()),
                left => Err(format!("{vip}: {left:?} s")),
            });
            serves(cluster, cluster.node(number));
            assert_eq!(annotation(cluster, cluster.node(number), "purelb.io/keep"), None);
            assert_eq!(holders(cluster, vip.parse().unwrap()), [number], "{vip}");
            monitor.kill().unwrap();
            let mut seen = String::new();
            monitor.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
            monitor.wait().unwrap();
            assert!(seen.contains(vip), "it was prolonged: {seen}");
            let gone = |line: &&str| line.contains("Deleted") && line.contains(vip);
            assert_eq!(seen.lines().find(gone), None);
        }
    });
}

#[test]
fn a_second_process_on_one_host_ends_with_a_reason_and_disturbs_nothing() {
    with_agents("", |cluster| {
        serve(cluster, "web", &VIPS[..1]);
        let number = holder(cluster, VIPS[0]);
        let node = cluster.node(number);
        let mut second = Intruder::start(cluster, node, node.name(), "");
        let status = second.0.wait().unwrap();
        assert!(!status.success());
        let mut text = String::new();
        second.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        second.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(text.contains("another process on this host holds the name"), "{text}");
        let start = Instant::now();
        while start.elapsed() < LONG {
            assert_eq!(holders(cluster, VIPS[0].parse().unwrap()), [number]);
        }
    });
}

#[test]
fn a_second_host_of_one_name_takes_nothing_and_is_told_of() {
    with_agents("", |cluster| {
        serve(cluster, "web", &VIPS[..1]);
        let number = holder(cluster, VIPS[0]);
        let other = (number + 1) % 3;
        cluster.stop_agent(other).unwrap();
        let (node, host) = (cluster.node(number), cluster.node(other));
        // The kernel of another host says another boot id.
        let boot_id = cluster.kubeconfig().with_file_name("boot_id");
        fs::write(&boot_id, "00000000-0000-4000-8000-000000000000\n").unwrap();
        let other_boot =
            format!("mount --bind {} /proc/sys/kernel/random/boot_id;", boot_id.display());
        let second = Intruder::start(cluster, host, node.name(), &other_boot);
        eventually(|| {
            let events = cluster.api().client().get(&ObjectPath::events()).unwrap();
            let mut all = events["items"].as_array().unwrap().iter();
            match all.find(|event| event["reason"] == "DuplicateNode") {
                Some(event) if event["regarding"]["name"] == node.name() => Ok(()),
                event => Err(format!("no Event of {} yet: {event:?}", node.name())),
            }
        });
        let start = Instant::now();
        while start.elapsed() < LONG {
            assert_eq!(holders(cluster, VIPS[0].parse().unwrap()), [number]);
        }
        drop(second);
    });
}
