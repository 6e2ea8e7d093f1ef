//! On which link an address goes, with which prefix, flags and lifetime: the real agent on the real
//! kernel, in every mode of its configuration.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::time::Duration;

use common::node::{Node, local, remote, service};
use common::{in_namespace, ip, ip_json, try_ip, wire};
use purelb_core::config::{AddressConfig, LocalInterface, LocalSpec, Pattern, ValidLifetime};
use purelb_core::group::ServiceGroup;

const V4: &str = "192.0.2.200";
const V6: &str = "2001:db8:1::200";
const FAR: &str = "198.51.100.7";

/// `eth0` with the default routes and `eth1` without, each with subnets of its own.
fn two_links() {
    wire("eth0", "far0");
    wire("eth1", "far1");
    ip("addr add 192.0.2.11/24 dev eth0");
    ip("addr add 2001:db8:1::11/64 dev eth0 nodad");
    ip("addr add 203.0.113.11/25 dev eth1");
    ip("addr add 2001:db8:2::11/64 dev eth1 nodad");
    ip("route add default via 192.0.2.1 dev eth0");
    ip("-6 route add default via 2001:db8:1::1 dev eth0");
}

/// A group on each of these links' subnets, and a remote one.
fn groups() -> Vec<ServiceGroup> {
    let first = local(
        "first",
        ("192.0.2.200-192.0.2.210", "192.0.2.0/24", None),
        ("2001:db8:1::200/124", "2001:db8:1::/64", None),
    );
    let second = local(
        "second",
        ("203.0.113.100-203.0.113.110", "203.0.113.0/25", None),
        ("2001:db8:2::200/124", "2001:db8:2::/64", None),
    );
    vec![first, second, far(None)]
}

fn far(aggregation: Option<&str>) -> ServiceGroup {
    remote("far", ("198.51.100.0/24", "198.51.100.0/24", aggregation))
}

fn matching(text: &str, matches: fn(&str) -> bool) -> LocalSpec {
    let local_interface = LocalInterface::Matching(Pattern::new(text, matches));
    LocalSpec { local_interface, ..LocalSpec::default() }
}

fn named(interfaces: &[&str]) -> LocalSpec {
    let interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
    LocalSpec { interfaces, ..LocalSpec::default() }
}

/// What `ip` shows of this address on this link.
fn shown(link: &str, address: &str) -> Option<serde_json::Value> {
    try_ip(&format!("link show {link}")).ok()?;
    let shown = ip_json(&format!("addr show dev {link}"));
    shown[0]["addr_info"].as_array()?.iter().find(|info| info["local"] == address).cloned()
}

/// Whether the address is on this link, with a prefix of this length.
fn is_on(link: &str, address: &str, length: u64) -> bool {
    shown(link, address).is_some_and(|shown| shown["prefixlen"] == length)
}

#[test]
fn a_regular_expression_serves_each_subnet_on_the_link_that_has_it() {
    in_namespace(|| async {
        two_links();
        let all = [V4, V6, "203.0.113.100", "2001:db8:2::200"];
        let spec = matching("^eth[01]$", |name| name == "eth0" || name == "eth1");
        let mut node = Node::start(spec, groups(), vec![service("web", &all)]);
        node.until(|_| is_on("eth0", V4, 24) && is_on("eth0", V6, 64)).await;
        node.until(|_| is_on("eth1", all[2], 25) && is_on("eth1", all[3], 64)).await;
        assert!(shown("eth1", V4).is_none() && shown("eth0", all[2]).is_none());

        // One that accepts another link moves what this one had.
        node.configure(matching("1$", |name| name.ends_with('1')));
        node.until(|_| shown("eth0", V4).is_none() && shown("eth0", V6).is_none()).await;
        node.until(|_| is_on("eth1", all[2], 25) && is_on("eth1", all[3], 64)).await;
    });
}

#[test]
fn named_interfaces_serve_without_a_default_route_and_beside_the_one_that_has_it() {
    in_namespace(|| async {
        two_links();
        let all = [V4, "203.0.113.100", "2001:db8:2::200"];
        let mut node = Node::start(named(&["eth1"]), groups(), vec![service("web", &all)]);
        node.until(|_| is_on("eth0", V4, 24)).await;
        node.until(|_| is_on("eth1", all[1], 25) && is_on("eth1", all[2], 64)).await;
        ip("route del default");
        ip("-6 route del default");
        node.until(|_| shown("eth0", V4).is_none()).await;
        node.until(|_| is_on("eth1", all[1], 25) && is_on("eth1", all[2], 64)).await;
    });
}

#[test]
fn every_subnet_of_one_link_is_served() {
    in_namespace(|| async {
        two_links();
        ip("addr flush dev eth1");
        ip("addr add 203.0.113.12/25 dev eth0");
        ip("addr add 2001:db8:2::12/64 dev eth0 nodad");
        let all = [V4, V6, "203.0.113.100", "2001:db8:2::200"];
        let mut node = Node::start(LocalSpec::default(), groups(), vec![service("web", &all)]);
        let lengths = [24, 64, 25, 64];
        node.until(|_| all.iter().zip(lengths).all(|(address, n)| is_on("eth0", address, n))).await;
        // One subnet goes, and only what was in it.
        ip("addr del 203.0.113.12/25 dev eth0");
        node.until(|_| shown("eth0", all[2]).is_none()).await;
        let rest = [(V4, 24), (V6, 64), (all[3], 64)];
        node.until(|_| rest.iter().all(|(address, length)| is_on("eth0", address, *length))).await;
    });
}

#[test]
fn of_two_links_in_one_subnet_one_has_the_address_and_the_other_takes_over() {
    in_namespace(|| async {
        two_links();
        ip("addr add 192.0.2.12/24 dev eth1");
        ip("addr add 2001:db8:1::12/64 dev eth1 nodad");
        let both = matching("^eth", |name| name.starts_with("eth"));
        let mut node = Node::start(both, groups(), vec![service("web", &[V4, V6])]);
        node.until(|_| is_on("eth0", V4, 24) && is_on("eth0", V6, 64)).await;
        assert!(shown("eth1", V4).is_none() && shown("eth1", V6).is_none(), "only on one");
        ip("link set far0 down");
        node.until(|_| is_on("eth1", V4, 24) && is_on("eth1", V6, 64)).await;
        node.until(|_| shown("eth0", V4).is_none() && shown("eth0", V6).is_none()).await;
        ip("link set far0 up");
        node.until(|_| is_on("eth0", V4, 24) && is_on("eth0", V6, 64)).await;
        node.until(|_| shown("eth1", V4).is_none() && shown("eth1", V6).is_none()).await;
    });
}

#[test]
fn a_host_address_takes_its_subnet_from_the_prefix_route_beside_it() {
    in_namespace(|| async {
        wire("eth0", "far0");
        ip("addr add 2001:db8:1::11/128 dev eth0 nodad");
        ip("-6 route add default via fe80::1 dev eth0");
        let mut node = Node::start(LocalSpec::default(), groups(), vec![service("web", &[V6])]);
        node.until(|node| node.verdict(V6).is_some()).await;
        assert!(shown("eth0", V6).is_none(), "nothing says that its subnet is here");
        ip("-6 route add 2001:db8:1::/64 dev eth0 proto ra");
        node.until(|_| is_on("eth0", V6, 64)).await;
        ip("-6 route del 2001:db8:1::/64 dev eth0 proto ra");
        node.until(|_| shown("eth0", V6).is_none()).await;
    });
}

#[test]
fn a_remote_address_follows_every_aggregation_of_its_live_group() {
    in_namespace(|| async {
        two_links();
        let mut groups = groups();
        groups.pop();
        groups.push(far(Some("/32")));
        let mut node = Node::start(LocalSpec::default(), groups, vec![service("far", &[FAR])]);
        node.until(|_| is_on("kube-lb0", FAR, 32)).await;
        for (aggregation, length, route) in [
            (Some("/28"), 28, "198.51.100.0/28"),
            (Some("/8"), 8, "198.0.0.0/8"),
            (None, 24, "198.51.100.0/24"),
            (Some("/31"), 31, "198.51.100.6/31"),
            (Some("/32"), 32, ""),
        ] {
            node.regroup(far(aggregation));
            node.until(|_| is_on("kube-lb0", FAR, length)).await;
            // There is one address and one route, not the old one and the new one.
            node.until(|_| {
                let all = ip("-4 -o addr show dev kube-lb0");
                let routes = ip_json("route show dev kube-lb0");
                let routes: Vec<&str> = routes
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|one| one["dst"].as_str())
                    .collect();
                let expected = Some(route).filter(|route| !route.is_empty());
                all.lines().count() == 1 && routes == Vec::from_iter(expected)
            })
            .await;
        }
    });
}

#[test]
fn lifetimes_and_flags_of_a_live_address_follow_its_configuration() {
    in_namespace(|| async {
        two_links();
        let configured = |valid, preferred, no_prefix_route| LocalSpec {
            local_addresses: AddressConfig { valid, preferred, no_prefix_route },
            ..LocalSpec::default()
        };
        let start = configured(ValidLifetime::Fenced, None, true);
        let mut node = Node::start(start, groups(), vec![service("web", &[V4, V6])]);
        node.until(|_| is_on("eth0", V4, 24) && is_on("eth0", V6, 64)).await;
        for (valid, no_prefix_route) in [
            (ValidLifetime::Fenced, false),
            (ValidLifetime::Fenced, true),
            (ValidLifetime::Forever, true),
            (ValidLifetime::Forever, false),
            (ValidLifetime::Fenced, true),
        ] {
            node.configure(configured(valid, None, no_prefix_route));
            node.until(|_| {
                [V4, V6].iter().all(|vip| {
                    let Some(shown) = shown("eth0", vip) else { return false };
                    let is_bare = shown["noprefixroute"] == true;
                    let left = shown["valid_life_time"].as_u64().unwrap();
                    let is_finite = left < u64::from(u32::MAX);
                    is_bare == no_prefix_route && is_finite == (valid == ValidLifetime::Fenced)
                })
            })
            .await;
        }
    });
}

#[test]
fn an_address_that_others_take_over_is_theirs_and_told_until_they_let_it_go() {
    in_namespace(|| async {
        two_links();
        let services = vec![service("web", &[V4, V6]), service("far", &[FAR])];
        let mut node = Node::start(LocalSpec::default(), groups(), services);
        let all = [("eth0", V4, 24), ("eth0", V6, 64), ("kube-lb0", FAR, 24)];
        for (link, vip, length) in all {
            node.until(|_| is_on(link, vip, length)).await;
            let is_as_wanted = |_: &Node| {
                let left = shown(link, vip).and_then(|shown| shown["valid_life_time"].as_u64());
                left.is_some_and(|left| !(60..=3600).contains(&left))
            };
            // `ip` takes our mark off, but for an IPv4 address on older kernels: that stays ours.
            let change = format!("addr change {vip}/{length} dev {link}");
            ip(&format!("{change} valid_lft 3600 preferred_lft 3600"));
            let host = purelb_netlink::snapshot().unwrap();
            let mut all = host.addresses();
            if all.any(|address| address.is_ours() && address.ip().to_string() == vip) {
                node.until(is_as_wanted).await;
                continue;
            }
            node.until(|node| node.has_told(&[vip, link, "left alone"])).await;
            let left = shown(link, vip).unwrap()["valid_life_time"].as_u64().unwrap();
            assert!((3000..=3600).contains(&left), "{left}");
            ip(&format!("addr del {vip}/{length} dev {link}"));
            node.until(is_as_wanted).await;
        }
    });
}

#[test]
fn a_second_default_route_counts_when_it_has_stood_for_a_second() {
    in_namespace(|| async {
        two_links();
        let mut node = Node::start(LocalSpec::default(), groups(), vec![service("web", &[V4])]);
        node.until(|_| is_on("eth0", V4, 24)).await;
        let removals = node.removals();
        // It comes and goes: nothing moves.
        for _ in 0..5 {
            ip("route add default via 203.0.113.1 dev eth1 metric 100");
            ip("route del default via 203.0.113.1 dev eth1 metric 100");
        }
        node.live(Duration::from_millis(1500)).await;
        node.until(|_| is_on("eth0", V4, 24)).await;
        assert_eq!(node.removals(), removals);
        let start = std::time::Instant::now();
        ip("route add default via 203.0.113.1 dev eth1 metric 100");
        node.until(|_| is_on("kube-lb0", V4, 32)).await;
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        ip("route del default via 203.0.113.1 dev eth1 metric 100");
        node.until(|_| is_on("eth0", V4, 24) && shown("kube-lb0", V4).is_none()).await;
    });
}
