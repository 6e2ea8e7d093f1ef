//! Which kinds of link can be the local interface: the real agent on the real kernel, heard by a
//! neighbour.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::node::{Node, local, service};
use common::{in_namespace, ip, ip_json, skip_driver, try_ip, wire};
use purelb_core::config::{LocalInterface, LocalSpec, Pattern};
use purelb_core::link::Unidentified;
use purelb_core::node::{Verdict, Withheld};
use purelb_core::place::Nowhere;
use purelb_netlink::Capture;

const VIPS: [&str; 2] = ["192.0.2.200", "2001:db8:1::200"];

/// Makes a link as `ip link add` has it. Without the driver the test is skipped.
fn made(link: &str) -> bool {
    match try_ip(&format!("link add {link}")) {
        Ok(_) => true,
        Err(error) if error.contains("Unknown device type") || error.contains("not supported") => {
            skip_driver(&format!("this kernel makes no such link: {link}"));
            false
        }
        Err(error) => panic!("ip link add {link}: {error}"),
    }
}

/// Gives `link` an address of each family, as the host's own.
fn settle(link: &str) {
    ip(&format!("addr add 192.0.2.11/24 brd + dev {link}"));
    ip(&format!("addr add 2001:db8:1::11/64 dev {link} nodad"));
}

/// Sends everything else by `link`.
fn route_by(link: &str, table: &str) {
    ip(&format!("route add default via 192.0.2.1 dev {link} {table}"));
    ip(&format!("-6 route add default via 2001:db8:1::1 dev {link} {table}"));
}

fn start(spec: LocalSpec) -> Node {
    let group = local(
        "default",
        ("192.0.2.200-192.0.2.210", "192.0.2.0/24", None),
        ("2001:db8:1::200/124", "2001:db8:1::/64", None),
    );
    Node::start(spec, vec![group], vec![service("web", &VIPS)])
}

/// The agent puts both addresses on `link`, and a neighbour at `ear` hears where they are.
async fn serves(link: &str, ear: &str, spec: LocalSpec) -> Node {
    let mut capture = Capture::open(ear).unwrap();
    let mac = ip_json(&format!("link show {link}"))[0]["address"].as_str().unwrap().to_owned();
    let mut node = start(spec);
    node.during(async {
        for vip in VIPS {
            heard(&mut capture, vip, &mac).await;
        }
    })
    .await;
    for (vip, length) in VIPS.into_iter().zip([24, 64]) {
        let mut shown = None;
        node.until(|_| {
            shown = address(link, vip);
            shown.is_some()
        })
        .await;
        let shown = shown.unwrap();
        assert_eq!(shown["prefixlen"], length);
        if length == 24 {
            assert_eq!(shown["broadcast"], "192.0.2.255");
            assert_eq!(shown["secondary"], true);
        }
    }
    node
}

/// What `ip` shows of an address on `link`.
fn address(link: &str, ip: &str) -> Option<serde_json::Value> {
    let shown = ip_json(&format!("addr show dev {link}"));
    let all = shown[0]["addr_info"].as_array().unwrap();
    all.iter().find(|address| address["local"] == ip).cloned()
}

/// Waits until somebody says that `vip` is at `mac`.
async fn heard(capture: &mut Capture, vip: &str, mac: &str) {
    let vip: IpAddr = vip.parse().unwrap();
    loop {
        let Some((about, at)) = capture.next().await.unwrap().packet.claim() else { continue };
        if about == vip {
            assert_eq!(at.map(|byte| format!("{byte:02x}")).join(":"), mac);
            return;
        }
    }
}

#[test]
fn an_ethernet_link_serves() {
    in_namespace(|| async {
        wire("left", "right");
        settle("left");
        route_by("left", "");
        serves("left", "right", LocalSpec::default()).await;
    });
}

#[test]
fn neighbours_are_told_once_the_initial_delay_is_over() {
    const DELAY: Duration = Duration::from_millis(1500);
    in_namespace(|| async {
        wire("left", "right");
        settle("left");
        route_by("left", "");
        let mut capture = Capture::open("right").unwrap();
        let mac = ip_json("link show left")[0]["address"].as_str().unwrap().to_owned();
        let mut spec = LocalSpec::default();
        spec.garp.initial_delay = DELAY;
        let mut node = start(spec);
        node.until(|_| VIPS.iter().any(|vip| address("left", vip).is_some())).await;
        let start = Instant::now();
        node.during(heard(&mut capture, VIPS[0], &mac)).await;
        // The agent saw the address a moment before `ip` did.
        assert!(start.elapsed() > DELAY * 2 / 3, "{:?}", start.elapsed());
    });
}

#[test]
fn a_bond_serves_and_a_fail_over_between_its_ports_is_heard() {
    in_namespace(|| async {
        if !made("bond0 type bond mode active-backup miimon 10") {
            return;
        }
        for (port, peer) in [("left", "right"), ("left2", "right2")] {
            ip(&format!("link add {port} type veth peer name {peer}"));
            ip(&format!("link set {port} master bond0"));
            ip(&format!("link set {peer} up"));
        }
        ip("link set bond0 up");
        ip("link set bond0 type bond active_slave left");
        settle("bond0");
        route_by("bond0", "");
        let mut node = serves("bond0", "right", LocalSpec::default()).await;

        // The kernel moves to the other port and tells of all addresses, ours among them.
        let mac = ip_json("link show bond0")[0]["address"].as_str().unwrap().to_owned();
        let mut other = Capture::open("right2").unwrap();
        ip("link set right down");
        node.during(heard(&mut other, VIPS[0], &mac)).await;
        node.until(|_| address("bond0", VIPS[0]).is_some()).await;
    });
}

#[test]
fn a_vlan_serves() {
    in_namespace(|| async {
        wire("left", "right");
        for link in ["left", "right"] {
            if !made(&format!("link {link} name {link}.7 type vlan id 7")) {
                return;
            }
            ip(&format!("link set {link}.7 up"));
        }
        settle("left.7");
        route_by("left.7", "");
        serves("left.7", "right.7", LocalSpec::default()).await;
    });
}

#[test]
fn a_macvlan_serves() {
    in_namespace(|| async {
        wire("left", "right");
        if !made("link left name upper type macvlan mode bridge") {
            return;
        }
        ip("link set upper up");
        settle("upper");
        route_by("upper", "");
        serves("upper", "right", LocalSpec::default()).await;
    });
}

#[test]
fn a_port_of_a_vrf_serves_where_it_is_named() {
    in_namespace(|| async {
        wire("left", "right");
        if !made("red type vrf table 10") {
            return;
        }
        ip("link set red up");
        ip("link set left master red");
        settle("left");
        route_by("left", "table 10");
        let pattern = Pattern::new("^left$", |name| name == "left");
        let spec = LocalSpec {
            local_interface: LocalInterface::Matching(pattern),
            ..LocalSpec::default()
        };
        serves("left", "right", spec).await;
    });
}

/// A VRF's default route is in a table of its own; the host's is what identifies the interface.
#[test]
fn a_default_route_of_a_vrf_identifies_no_interface() {
    in_namespace(|| async {
        wire("left", "right");
        if !made("red type vrf table 10") {
            return;
        }
        ip("link set red up");
        ip("link set left master red");
        settle("left");
        route_by("left", "table 10");
        let mut node = start(LocalSpec::default());
        for vip in VIPS {
            node.until(|node| node.verdict(vip).is_some()).await;
            let verdict = node.verdict(vip);
            assert!(
                matches!(
                    verdict,
                    Some(Verdict::Withheld(Withheld::Nowhere(Nowhere::Unidentified(
                        Unidentified::NoDefaultRoute { .. }
                    ))))
                ),
                "{verdict:?}"
            );
        }
    });
}
