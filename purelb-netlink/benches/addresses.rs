//! What many addresses cost a node: through the agent, and beside it the kernel alone, in one run.
//!
//! `cargo bench -p purelb-netlink --bench addresses`. Needs the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::node::{Node, local, service};
use common::{index, ip, open, wire};
use purelb_core::config::LocalSpec;
use purelb_core::kernel::{KernelAction, Lifetime, NewAddress};
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, Version};
use purelb_core::node::Event;
use purelb_core::store::Change;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for (many, rounds) in [(1000, 15), (10_000, 3)] {
        let mut alone = Vec::new();
        let mut through = Vec::new();
        let mut seen = Vec::new();
        let mut passes = Vec::new();
        for _ in 0..rounds {
            alone.push(on_a_host(0, move || kernel_alone(many)));
            let spent = on_a_host(0, move || agent(many));
            through.push(spent.acknowledged);
            seen.push(spent.seen);
            passes.push(spent.pass);
        }
        let [alone, through, seen, pass] = [alone, through, seen, passes].map(median);
        let ratio = through.as_secs_f64() / alone.as_secs_f64();
        println!(
            "{many} addresses: kernel alone {alone:?}, through the agent {through:?} ({ratio:.2} times), all seen after {seen:?}; a pass for one that another node won: {pass:?} (medians of {rounds})"
        );
    }
    let pass = on_a_host(250, || agent(1000)).pass;
    println!("1000 addresses, 250 more links: a pass for one that another node won: {pass:?}");
}

/// Runs `measure` in a namespace with `eth0` and so many more links.
fn on_a_host<T: Send + 'static>(links: u32, measure: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        common::in_fresh_namespace(async {}).unwrap();
        wire("eth0", "far0");
        ip("addr add 10.1.255.1/16 dev eth0");
        ip("route add default via 10.1.255.2 dev eth0");
        for n in 0..links / 2 {
            ip(&format!("link add pod{n} type veth peer name in{n}"));
        }
        measure()
    });
    thread.join().unwrap()
}

fn address(n: u32) -> String {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + n).to_string()
}

/// The same requests, by the adapter alone, to the last acknowledgement.
fn kernel_alone(many: u32) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let mut kernel = open();
    let link = index(kernel.mirror(), "eth0");
    let new = |n| NewAddress {
        link,
        net: format!("{}/16", address(n)).parse().unwrap(),
        lifetime: Lifetime::Seconds(3600),
        deprecated: false,
        no_prefix_route: true,
    };
    let actions = (1..=many).map(|n| KernelAction::AddAddress(new(n))).collect();
    let start = Instant::now();
    let outcomes = kernel.apply(actions);
    let spent = start.elapsed();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    spent
}

struct Spent {
    /// From the Services to the kernel's last acknowledgement: they are on the interface.
    acknowledged: Duration,
    /// To its last notification: the agent has seen them all.
    seen: Duration,
    /// A pass for an address that another node won, as the median of a thousand.
    pass: Duration,
}

fn agent(many: u32) -> Spent {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let v4 = ("10.1.0.1-10.1.200.0", "10.1.0.0/16", None);
        let v6 = ("2001:db8:1::1:0/112", "2001:db8:1::/64", None);
        let mut spec = LocalSpec::default();
        spec.garp.enabled = false;
        let mut node = Node::start(spec, vec![local("default", v4, v6)], vec![]);
        node.until(Node::may_hold).await;
        let services: Vec<_> =
            (1..=many).map(|n| service(&format!("s{n}"), &[address(n).as_str()])).collect();
        let (start, before) = (Instant::now(), node.seen());
        for service in services {
            node.update(service);
        }
        node.until(|node| node.additions() >= u64::from(many)).await;
        let acknowledged = start.elapsed();
        node.until(|node| node.seen() >= before + u64::from(many)).await;
        let seen = start.elapsed();

        // A peer that joins wins about half of them.
        let content = LeaseContent {
            subnets: ["10.1.0.0/16".parse().unwrap()].into(),
            duration: Duration::from_secs(5),
            join: Some(1),
            seen: Some(Version(u64::MAX)),
            ..LeaseContent::default()
        };
        let version = Version(node.version() + 1);
        let lease = Lease { node: "node2".into(), version, uid: "l2".into(), content };
        node.tell(Event::Leases(LeaseEvent::Updated(lease)));
        let is_lost = |node: &Node, ip: &str| {
            use purelb_core::node::{Verdict, Withheld};
            matches!(node.verdict(ip), Some(Verdict::Withheld(Withheld::LostTo(_))))
        };
        let lost = (1..=many).map(address).find(|ip| is_lost(&node, ip)).unwrap();
        let spent: Vec<Duration> = (0..1000)
            .map(|n| {
                let mut service = service("one", &[lost.as_str()]);
                service.version = format!("{n}").as_str().into();
                let event = Event::Services(Change::Updated(service));
                node.forget_actions();
                let start = Instant::now();
                node.tell(event);
                start.elapsed()
            })
            .collect();
        Spent { acknowledged, seen, pass: median(spent) }
    })
}

fn median(mut spent: Vec<Duration>) -> Duration {
    spent.sort();
    spent[spent.len() / 2]
}
