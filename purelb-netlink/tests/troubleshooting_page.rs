//! The host that PureLB's page on troubleshooting shows, made again from ServiceGroups and Services by
//! the real allocator, the real agent and the real kernel, and compared with what the page prints.
//!
//! The page (`fixtures/troubleshooting.txt`) was taken with busybox's `ip`. What is left out of the
//! comparison, on both sides, is what that one does not print, what each driver chooses (queueing
//! discipline, peer), numbers that differ on each host, and lifetimes: an address on the local
//! interface has one by which the node's lease fences it, and no prefix route.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use common::allocator::allocate;
use common::node::{Node, local, remote, service};
use common::{in_namespace, ip, ip_json, skip_driver, wire};
use purelb_core::config::LocalSpec;
use purelb_core::group::ServiceGroup;
use purelb_core::name::ServiceKey;
use purelb_core::node::{Verdict, Withheld};
use purelb_core::place::Nowhere;
use purelb_core::service::Service;

const PAGE: &str = include_str!("fixtures/troubleshooting.txt");

/// What the page shows after this command.
fn page(command: &str) -> Vec<String> {
    let (_, rest) = PAGE.split_once(&format!("$ {command}\n")).unwrap();
    normal(rest.split("$ ").next().unwrap())
}

/// What the command prints here.
fn here(command: &str) -> Vec<String> {
    normal(&ip(command.strip_prefix("ip ").unwrap()))
}

/// The lines without what is left out of the comparison.
fn normal(text: &str) -> Vec<String> {
    let lines = text.lines().map(normal_line);
    lines.filter(|line| !line.is_empty() && !line.starts_with("valid_lft ")).collect()
}

fn normal_line(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut kept: Vec<&str> = Vec::new();
    let is_link = line.starts_with(|first: char| first.is_ascii_digit()) && line.contains(": <");
    if is_link {
        let _number = words.next();
        let name = words.next().unwrap().trim_end_matches(':');
        kept.push(name.split('@').next().unwrap());
    }
    while let Some(word) = words.next() {
        match word {
            "qdisc" | "group" | "proto" | "link-netnsid" => drop(words.next()),
            "dynamic" | "noprefixroute" | "linkdown" => {}
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// The page's host before PureLB came: its own addresses and routes, and those of its pods.
fn host() {
    for (link, peer) in [("enp1s0", "lan"), ("cni0", "pod"), ("docker0", "container")] {
        wire(link, peer);
    }
    // So that it has the page's link-local address.
    ip("link set enp1s0 down");
    ip("link set enp1s0 address 52:54:00:76:05:b6");
    ip("link set enp1s0 up");
    ip("addr add 172.30.250.104/24 brd + dev enp1s0");
    ip("addr add 2001:470:8bf5:1:1::2/128 dev enp1s0 valid_lft 3367 preferred_lft 2367");
    ip("addr add 10.129.0.1/24 dev cni0");
    ip("addr add 172.17.0.1/16 dev docker0");
    let (lan, source) = ("dev enp1s0", "src 172.30.250.104 metric 100");
    ip(&format!("route add 172.30.250.1 {lan} scope link {source}"));
    ip(&format!("route add default via 172.30.250.1 {lan} {source}"));
    for (pods, node) in [(1, 103), (2, 101), (3, 102), (4, 105)] {
        ip(&format!("route add 10.129.{pods}.0/24 via 172.30.250.{node} {lan}"));
    }
    ip(&format!("-6 route add default via fe80::1 {lan}"));
}

/// Where the page's addresses come from.
fn groups() -> Vec<ServiceGroup> {
    vec![
        local(
            "lan",
            ("172.30.250.50-172.30.250.59", "172.30.250.0/24", None),
            ("2001:470:8bf5:1:1::100/120", "2001:470:8bf5:1::/64", None),
        ),
        remote("hosts", ("172.31.1.0/24", "172.31.1.0/24", Some("/32"))),
        remote("first", ("172.31.0.0/24", "172.31.0.0/24", Some("default"))),
        remote("second", ("172.31.2.0/24", "172.31.2.0/24", None)),
    ]
}

/// A Service that asks for this address.
fn asking(address: &str) -> Service {
    let mut service = Service::new(ServiceKey::new("default", address), address);
    service.annotations.addresses = Some(address.to_owned());
    service
}

fn has(link: &str, address: &str) -> bool {
    let links = ip_json("addr show");
    let found = links.as_array().unwrap().iter().find(|found| found["ifname"] == link);
    found.is_some_and(|found| {
        let addresses = found["addr_info"].as_array().unwrap();
        addresses.iter().any(|found| found["local"] == address)
    })
}

#[test]
fn the_pages_host_is_made_again() {
    in_namespace(|| async {
        host();
        let routes_before = here("ip route show");
        // In the page's order.
        let services = [
            "172.30.250.53",
            "172.30.250.54",
            "172.31.1.225",
            "172.31.2.128",
            "172.31.1.5",
            "172.31.1.2",
            "172.31.1.7",
            "172.31.1.9",
            "172.31.0.9",
        ];
        let services = allocate(&groups(), &services.map(asking));
        let mut node = Node::start(LocalSpec::default(), groups(), vec![]);
        for service in services.iter().cloned() {
            let address = service.ingress[0].to_string();
            let link = if address.starts_with("172.30.") { "enp1s0" } else { "kube-lb0" };
            node.update(service);
            node.until(|_| has(link, &address)).await;
        }

        // The kernel takes its time with link-local addresses.
        for command in ["ip addr show dev enp1s0", "ip route show"] {
            node.until(|_| is_same(&here(command), &page(command))).await;
        }
        node.until(|_| is_same_virtual_interface()).await;

        for mut service in services {
            service.ingress.clear();
            node.update(service);
        }
        node.until(|_| !ip("addr show").contains("172.31.")).await;
        node.until(|_| !has("enp1s0", "172.30.250.53") && !has("enp1s0", "172.30.250.54")).await;
        assert_eq!(here("ip route show"), routes_before);
    });
}

fn is_same(here: &[String], page: &[String]) -> bool {
    if here != page {
        println!("here: {here:#?}\npage: {page:#?}");
    }
    here == page
}

/// Compares kube-lb0, whose Ethernet address is its own on each host.
fn is_same_virtual_interface() -> bool {
    let command = "ip addr show dev kube-lb0";
    let (mut page, mut here) = (page(command), here(command));
    for lines in [&mut page, &mut here] {
        lines.retain(|line| !line.starts_with("link/ether "));
        for line in lines.iter_mut().filter(|line| line.starts_with("inet6 fe80::")) {
            *line = format!("inet6 link-local{}", &line[line.find('/').unwrap()..]);
        }
    }
    let kind = ip_json("-d link show dev kube-lb0")[0]["linkinfo"]["info_kind"].clone();
    if kind != "dummy" {
        skip_driver("the flags of kube-lb0 are those of a dummy link, and this kernel makes none");
        // A bridge without ports has no carrier, so no link-local address either.
        for lines in [&mut page, &mut here] {
            lines.retain(|line| !line.starts_with("kube-lb0 ") && !line.starts_with("inet6 "));
        }
    }
    is_same(&here, &page)
}

/// A subnet comes from the route to it, as DHCPv6 and router advertisements leave it.
#[test]
fn the_pages_ipv6_address_is_a_host_prefix_and_takes_its_subnet_from_the_route() {
    in_namespace(|| async {
        host();
        let vip = "2001:470:8bf5:1:1::101";
        let mut node = Node::start(LocalSpec::default(), groups(), vec![service("web", &[vip])]);
        node.until(|node| node.verdict(vip).is_some()).await;
        let verdict = node.verdict(vip);
        assert!(
            matches!(verdict, Some(Verdict::Withheld(Withheld::Nowhere(Nowhere::NoSubnet)))),
            "{verdict:?}"
        );

        ip("-6 route add 2001:470:8bf5:1::/64 dev enp1s0 proto ra metric 100");
        let shown = format!("inet6 {vip}/64 scope global");
        node.until(|_| ip("-6 addr show dev enp1s0").contains(&shown)).await;

        ip("-6 route del 2001:470:8bf5:1::/64 dev enp1s0");
        node.until(|_| !has("enp1s0", vip)).await;
    });
}
