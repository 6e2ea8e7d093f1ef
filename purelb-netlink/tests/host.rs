//! What others do to a host, and to its network: the real agent on the real kernel of a namespace,
//! with a neighbour in another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::neighbour::Neighbour;
use common::node::{Node, local, remote, service};
use common::{in_namespace, ip, ip_json, many, try_ip};
use purelb_core::config::LocalSpec;
use purelb_core::group::ServiceGroup;
use purelb_core::host::Ownership;
use purelb_core::service::Service;
use purelb_netlink::frame::{ArpOperation, BROADCAST, Frame, Packet};
use purelb_netlink::{Port, Watch};

const VIPS: [&str; 2] = ["192.0.2.200", "2001:db8:1::200"];

/// `eth0` with an address and a default route of each family, and a neighbour at its other end.
fn network() -> Neighbour {
    ip("link add eth0 type veth peer name far0");
    let neighbour = Neighbour::with("far0");
    neighbour.ip("addr add 192.0.2.1/24 dev far0");
    neighbour.ip("addr add 2001:db8:1::1/64 dev far0 nodad");
    ip("link set eth0 up");
    settle();
    neighbour
}

/// The host's own addresses and default routes.
fn settle() {
    ip("addr add 192.0.2.11/24 brd + dev eth0");
    ip("addr add 2001:db8:1::11/64 dev eth0 nodad");
    ip("route add default via 192.0.2.1 dev eth0");
    ip("-6 route add default via 2001:db8:1::1 dev eth0");
}

fn groups() -> Vec<ServiceGroup> {
    let v4 = ("192.0.2.200-192.0.2.210", "192.0.2.0/24", None);
    let v6 = ("2001:db8:1::200/124", "2001:db8:1::/64", None);
    vec![local("default", v4, v6), remote("far", ("198.51.100.0/24", "198.51.100.0/24", None))]
}

fn start(services: Vec<Service>) -> Node {
    Node::start(LocalSpec::default(), groups(), services)
}

/// Whether there is such a link, with this address.
fn has(link: &str, address: &str) -> bool {
    let Ok(text) = try_ip(&format!("-o addr show dev {link}")) else { return false };
    text.lines().any(|line| line.contains(&format!(" {address}/")))
}

/// The node has both addresses on `eth0`.
async fn both_are_there(node: &mut Node) {
    node.until(|_| VIPS.iter().all(|vip| has("eth0", vip))).await;
}

#[test]
fn an_address_that_a_neighbour_has_is_withdrawn_told_and_put_back_when_it_leaves() {
    in_namespace(|| async {
        let neighbour = network();
        for (vip, length) in VIPS.into_iter().zip([24, 64]) {
            neighbour.ip(&format!("addr add {vip}/{length} dev far0"));
        }
        let mac = neighbour.run(|| ip_json("link show far0")[0]["address"].clone());
        let mac = mac.as_str().unwrap().to_owned();
        let mut node = start(vec![service("web", &VIPS)]);
        for vip in VIPS {
            node.until(|node| node.has_told(&[vip, "eth0", &mac, "withdrawn"])).await;
        }
        node.until(|_| !VIPS.iter().any(|vip| has("eth0", vip))).await;
        for (vip, length) in VIPS.into_iter().zip([24, 64]) {
            neighbour.ip(&format!("addr del {vip}/{length} dev far0"));
        }
        both_are_there(&mut node).await;
        for vip in VIPS {
            assert!(node.has_told(&["conflict", "over", vip]), "{vip}");
        }
    });
}

#[test]
fn a_neighbour_that_announces_an_address_later_has_it_withdrawn() {
    in_namespace(|| async {
        let neighbour = network();
        let mut node = start(vec![service("web", &VIPS[..1])]);
        node.until(|_| has("eth0", VIPS[0])).await;
        neighbour.run(|| {
            let port = Port::open("far0").unwrap();
            let (from, sender) = ([2, 0, 0, 0, 0, 0x99], VIPS[0].parse().unwrap());
            let operation = ArpOperation::Request;
            let packet = Packet::Arp {
                operation,
                sender_mac: from,
                sender,
                target_mac: [0; 6],
                target: sender,
            };
            port.send(&Frame { to: BROADCAST, from, packet }).unwrap();
        });
        node.until(|node| node.has_told(&[VIPS[0], "02:00:00:00:00:99"])).await;
        node.until(|_| !has("eth0", VIPS[0])).await;
        node.until(|_| has("eth0", VIPS[0])).await;
    });
}

#[test]
fn without_marks_the_next_agent_knows_what_the_one_before_left() {
    in_namespace(|| async {
        let _neighbour = network();
        // Somebody's own, within the pool and outside of it.
        ip("addr add 192.0.2.210/32 dev eth0");
        let all = [VIPS[0], VIPS[1], "198.51.100.7"];
        let gone = ["192.0.2.201", "2001:db8:1::201", "198.51.100.8"];
        let services = vec![service("web", &all), service("gone", &gone)];
        let begin = |lease, services| {
            let spec = LocalSpec::default();
            Node::start_after(lease, Ownership::PoolAndLink, spec, groups(), services)
        };
        let mut node = begin(None, services.clone());
        let on = |address: &str| if address.starts_with("198") { "kube-lb0" } else { "eth0" };
        node.until(|_| all.iter().chain(&gone).all(|address| has(on(address), address))).await;
        let lease = node.kill();
        let mut node = begin(lease, vec![service("web", &all)]);
        node.until(|_| !gone.iter().any(|address| has(on(address), address))).await;
        node.until(|_| all.iter().all(|address| has(on(address), address))).await;
        assert!(has("eth0", "192.0.2.210") && has("eth0", "192.0.2.11"));
        node.update(service("web", &[]));
        node.until(|_| !all.iter().any(|address| has(on(address), address))).await;
        assert!(has("eth0", "192.0.2.210") && has("eth0", "192.0.2.11"));
    });
}

/// Asks for an IPv4 address by ARP until the deadline; whether anybody answers.
fn is_answered(target: &str, patience: Duration) -> bool {
    let target: Ipv4Addr = target.parse().unwrap();
    let mut port = Port::open("far0").unwrap();
    let from = [2, 0, 0, 0, 0, 0x42];
    let packet = Packet::Arp {
        operation: ArpOperation::Request,
        sender_mac: from,
        sender: "192.0.2.1".parse().unwrap(),
        target_mac: [0; 6],
        target,
    };
    port.send(&Frame { to: BROADCAST, from, packet }).unwrap();
    let start = Instant::now();
    while start.elapsed() < patience {
        let Some(frame) = port.receive().unwrap() else {
            std::thread::yield_now();
            continue;
        };
        let is_reply = matches!(frame.packet, Packet::Arp { operation: ArpOperation::Reply, .. });
        if is_reply && frame.packet.claim().map(|(ip, _)| ip) == Some(IpAddr::V4(target)) {
            return true;
        }
    }
    false
}

#[test]
fn a_card_does_not_answer_for_what_is_on_the_virtual_interface_and_a_kill_leaves_nothing() {
    in_namespace(|| async {
        let neighbour = network();
        neighbour.sysctl("net.ipv4.conf.far0.arp_ignore=0");
        ip("link add eth1 type veth peer name far1");
        for name in ["eth1", "far1"] {
            ip(&format!("link set {name} up"));
        }
        ip("addr add 203.0.113.11/24 dev eth1");
        ip("route add default via 203.0.113.1 dev eth1 metric 50");
        let mut node = start(vec![service("web", &VIPS[..1])]);
        node.until(|_| has("kube-lb0", VIPS[0])).await;
        let long = Duration::from_secs(10);
        assert!(neighbour.run(move || is_answered("192.0.2.11", long)), "ARP works");
        assert!(!neighbour.run(|| is_answered(VIPS[0], Duration::from_millis(500))));
        let lease = node.kill();
        ip("route del default via 203.0.113.1 dev eth1 metric 50");
        let mut node = Node::start_after(
            lease,
            Ownership::Mark,
            LocalSpec::default(),
            groups(),
            vec![service("web", &VIPS[..1])],
        );
        node.until(|_| has("eth0", VIPS[0]) && !has("kube-lb0", VIPS[0])).await;
        node.until(|node| node.conf("eth0").arp_ignore == 0 && node.conf("eth0").arp_announce == 0)
            .await;
        node.kill();
        // Without the guard the card would answer: that is what is guarded against.
        ip("addr del 192.0.2.200/24 dev eth0");
        ip("addr add 192.0.2.200/32 dev kube-lb0");
        assert!(neighbour.run(move || is_answered(VIPS[0], long)), "a card answers for it");
    });
}

#[test]
fn the_host_returns_to_the_right_state_after_whatever_is_done_to_it_without_a_dump() {
    in_namespace(|| async {
        let _neighbour = network();
        let mut node = start(vec![service("web", &VIPS), service("far", &["198.51.100.7"])]);
        both_are_there(&mut node).await;
        node.until(|_| has("kube-lb0", "198.51.100.7")).await;
        let dumps = node.dumps();

        // Deleted by hand; where the machine is slow, perhaps just when it was to go anyway.
        while !node.has_told(&[VIPS[0], "put back"]) {
            ip("addr del 192.0.2.200/24 dev eth0");
            ip("addr del 2001:db8:1::200/64 dev eth0");
            ip("addr flush dev kube-lb0");
            both_are_there(&mut node).await;
            node.until(|_| has("kube-lb0", "198.51.100.7")).await;
        }

        // kube-lb0 deleted by hand.
        ip("link del kube-lb0");
        node.until(|_| try_ip("link show kube-lb0").is_ok()).await;
        node.until(|_| has("kube-lb0", "198.51.100.7")).await;

        // The link down (IPv6 goes with it), then up again, with the routes that were lost.
        ip("link set eth0 down");
        node.until(|_| !has("eth0", VIPS[1])).await;
        ip("link set eth0 up");
        ip("addr add 2001:db8:1::11/64 dev eth0 nodad");
        ip("route replace default via 192.0.2.1 dev eth0");
        ip("-6 route replace default via 2001:db8:1::1 dev eth0");
        both_are_there(&mut node).await;

        // Renamed: whichever name it has, the default route leaves by it.
        ip("link set eth0 down");
        node.until(|_| !has("eth0", VIPS[0])).await;
        ip("link set eth0 name lan0");
        ip("link set lan0 up");
        ip("addr replace 2001:db8:1::11/64 dev lan0 nodad");
        ip("route replace default via 192.0.2.1 dev lan0");
        ip("-6 route replace default via 2001:db8:1::1 dev lan0");
        node.until(|_| VIPS.iter().all(|vip| has("lan0", vip))).await;
        ip("link set lan0 down");
        ip("link set lan0 name eth0");
        ip("link set eth0 up");
        ip("addr replace 2001:db8:1::11/64 dev eth0 nodad");
        ip("route replace default via 192.0.2.1 dev eth0");
        ip("-6 route replace default via 2001:db8:1::1 dev eth0");
        both_are_there(&mut node).await;

        // The default route goes and comes back.
        ip("route del default");
        node.until(|_| !has("eth0", VIPS[0])).await;
        ip("route add default via 192.0.2.1 dev eth0");
        both_are_there(&mut node).await;

        // One that carries nothing does not count.
        ip("route add unreachable default metric 4000");
        node.update(service("more", &["192.0.2.201"]));
        node.until(|_| has("eth0", "192.0.2.201")).await;

        // A nexthop group of two is two.
        ip("nexthop add id 1 via 192.0.2.1 dev eth0");
        ip("nexthop add id 2 via 192.0.2.2 dev eth0");
        ip("nexthop add id 3 group 1/2");
        ip("route replace default nhid 3");
        node.until(|_| has("kube-lb0", VIPS[0]) && has("eth0", VIPS[1])).await;
        ip("route replace default via 192.0.2.1 dev eth0");
        both_are_there(&mut node).await;

        // The host's own address removed: no subnet, no address; renumbered: another subnet.
        ip("addr del 192.0.2.11/24 dev eth0");
        node.until(|_| !has("eth0", VIPS[0])).await;
        ip("addr add 192.0.2.12/24 dev eth0");
        ip("route replace default via 192.0.2.1 dev eth0");
        both_are_there(&mut node).await;
        assert_eq!(node.dumps(), dumps, "no dump in steady state");
    });
}

/// All addresses of one prefix are secondary to the first of them, and by default the kernel takes
/// them away together with it.
#[test]
fn the_first_address_of_a_shared_prefix_goes_alone() {
    in_namespace(|| async {
        let _neighbour = network();
        let services = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
            .map(|address| service(address, &[address]));
        let mut node = start(services.to_vec());
        node.until(|_| services.iter().all(|s| has("kube-lb0", s.key.name.as_str()))).await;
        let additions = node.additions();
        let mut first = services[0].clone();
        first.ingress.clear();
        node.update(first);
        node.until(|_| !has("kube-lb0", "198.51.100.1")).await;
        node.live(Duration::from_millis(300)).await;
        assert!(has("kube-lb0", "198.51.100.2") && has("kube-lb0", "198.51.100.3"));
        assert_eq!(node.additions(), additions, "none had to be put back");
    });
}

/// A router of this address at the other end tells that it is the default one for so many seconds.
fn advertise_router(neighbour: &Neighbour, router: &str, lifetime: u16) {
    use rustix::net::{
        AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket, sockopt,
    };
    let router: Ipv6Addr = router.parse().unwrap();
    neighbour.run(move || {
        let link = ip_json("link show far0")[0]["ifindex"].as_u64().unwrap() as u32;
        let icmp = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&icmp, 255).unwrap();
        bind(&icmp, &SocketAddrV6::new(router, 0, 0, link)).unwrap();
        // RFC 4861 §4.2: a hop limit of 64, no flags, timers as they are; the kernel adds the checksum.
        let [high, low] = lifetime.to_be_bytes();
        let message = [134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        let all_nodes = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, link);
        sendto(&icmp, &message, SendFlags::empty(), &all_nodes).unwrap();
    });
}

#[test]
fn two_routers_that_advertise_themselves_are_two_default_routes() {
    in_namespace(|| async {
        let neighbour = network();
        ip("-6 route del default");
        // Who answers for an address as a host does not route.
        neighbour.sysctl("net.ipv6.conf.all.forwarding=1");
        for router in ["fe80::1", "fe80::2"] {
            neighbour.ip(&format!("addr add {router}/64 dev far0 nodad"));
        }
        let mut node = start(vec![service("web", &VIPS)]);
        node.until(|_| has("eth0", VIPS[0])).await;
        assert!(!has("eth0", VIPS[1]), "no default route, no interface");
        let dumps = node.dumps();
        for _ in 0..2 {
            advertise_router(&neighbour, "fe80::1", 1800);
            both_are_there(&mut node).await;
            advertise_router(&neighbour, "fe80::2", 1800);
            node.until(|_| has("kube-lb0", VIPS[1]) && !has("eth0", VIPS[1])).await;
            assert!(has("eth0", VIPS[0]), "the other family has one router");
            // It retires, and the first one after it.
            advertise_router(&neighbour, "fe80::2", 0);
            both_are_there(&mut node).await;
            advertise_router(&neighbour, "fe80::1", 0);
            node.until(|_| !has("eth0", VIPS[1])).await;
        }
        assert_eq!(node.dumps(), dumps, "no dump in steady state");
    });
}

#[test]
fn a_card_that_is_made_anew_and_one_without_carrier_are_served_as_they_are() {
    in_namespace(|| async {
        let neighbour = network();
        let mut node = start(vec![service("web", &VIPS)]);
        both_are_there(&mut node).await;
        neighbour.ip("link set far0 down");
        node.until(|_| !VIPS.iter().any(|vip| has("eth0", vip))).await;
        neighbour.ip("link set far0 up");
        both_are_there(&mut node).await;
        let before = ip_json("link show eth0")[0]["ifindex"].clone();
        ip("link del eth0");
        ip("link add eth0 type veth peer name far1");
        ip("link set far1 up");
        ip("link set eth0 up");
        settle();
        assert_ne!(ip_json("link show eth0")[0]["ifindex"], before);
        both_are_there(&mut node).await;
    });
}

#[test]
fn prolonging_many_lifetimes_overruns_no_listener_with_a_default_buffer() {
    in_namespace(|| async {
        let _neighbour = network();
        let v4 = ("192.0.2.200-192.0.2.210", "192.0.2.0/24", None);
        let v6 = ("2001:db8:1::1:0/112", "2001:db8:1::/64", None);
        let many = many();
        let addresses: Vec<String> = (1..=many).map(|n| format!("2001:db8:1::1:{n:x}")).collect();
        let services = addresses.iter().map(|address| service(address, &[address.as_str()]));
        let groups = vec![local("default", v4, v6)];
        let mut node = Node::start(LocalSpec::default(), groups, services.collect());
        node.until(|node| node.ours() == many).await;
        // `net.core.rmem_default` is what a listener has that asks for nothing; the kernel doubles.
        let default = std::fs::read_to_string("/proc/sys/net/core/rmem_default");
        let default: usize = default.map_or(212_992, |text| text.trim().parse().unwrap());
        let is_over = Arc::new(AtomicBool::new(false));
        let until_then = is_over.clone();
        // A program of its own, as far as the kernel can tell: it is not kept from reading by us.
        let listener = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut listener = Watch::with_receive_buffer(default / 2).unwrap();
                while !until_then.load(Ordering::Relaxed) {
                    let fact = tokio::time::timeout(Duration::from_millis(50), listener.next());
                    let _ = fact.await.map(|fact| fact.unwrap());
                }
                listener.listings()
            })
        });
        let enough = node.additions() + 3 * many as u64;
        node.until(|node| node.additions() >= enough).await;
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(listener.join().unwrap(), 1, "nothing was lost");
    });
}
