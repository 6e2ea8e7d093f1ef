//! The adapter against the real kernel, each test in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{
    address, assert_refused, in_namespace, index, ip, ip_batch, ip_json, link, open, origin,
    routes, until, wire,
};
use purelb_core::host::{LinkIndex, LinkKind, OUR_MARK, RouteKind, Scope};
use purelb_core::kernel::{ConfKey, KernelAction, KernelError, Lifetime, NewAddress};
use purelb_core::time::Tick;
use purelb_netlink::frame::{ALL_NODES, ArpOperation, BROADCAST, Frame, Packet};
use purelb_netlink::{Capture, Kernel, LockError, NamespaceLock, Port, Watch, snapshot};

const BOTH: [&str; 2] = ["192.0.2.7/24", "2001:db8::7/64"];

fn new(link: LinkIndex, net: &str, lifetime: Lifetime) -> NewAddress {
    let net = net.parse().unwrap();
    NewAddress { link, net, lifetime, deprecated: false, no_prefix_route: false }
}

fn apply(kernel: &mut Kernel, action: KernelAction) -> Result<(), KernelError> {
    let mut outcomes = kernel.apply(vec![action]);
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0).result
}

fn add(kernel: &mut Kernel, new: NewAddress) {
    assert_eq!(apply(kernel, KernelAction::AddAddress(new)), Ok(()));
}

#[test]
fn an_address_added_is_seen_with_its_mark_flags_and_lifetime() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for net in BOTH {
            let asked = NewAddress {
                deprecated: true,
                no_prefix_route: true,
                ..new(link, net, Lifetime::Seconds(30))
            };
            add(&mut kernel, asked);
            let seen = until(&mut kernel, |mirror| address(mirror, net)).await;
            assert_eq!((seen.link, seen.mark, seen.scope), (link, OUR_MARK, Scope::Global));
            assert!(seen.flags.no_prefix_route && seen.flags.deprecated && !seen.flags.tentative);
            assert_eq!(seen.flags.no_dad, net.contains(':'));
            assert!(matches!(seen.valid, Some(29 | 30)), "{seen:?}");
            let broadcast = (!net.contains(':')).then(|| "192.0.2.255".parse().unwrap());
            assert_eq!(seen.broadcast, broadcast);

            let shown = ip_json(&format!("addr show dev left to {net}"));
            let shown = &shown[0]["addr_info"][0];
            assert_eq!(shown["local"], asked.net.addr().to_string());
            assert_eq!(shown["prefixlen"], asked.net.prefix_len());
            for flag in ["noprefixroute", "deprecated", "dynamic"] {
                assert_eq!(shown[flag], true, "{flag}: {shown}");
            }
            assert_eq!(shown["preferred_life_time"], 0);
        }
        assert_eq!(kernel.watch().listings(), 1);
    });
}

#[test]
fn an_extension_replaces_the_lifetime() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for net in BOTH {
            for lifetime in [Lifetime::Seconds(9), Lifetime::Seconds(90), Lifetime::Forever] {
                add(&mut kernel, new(link, net, lifetime));
                until(&mut kernel, |mirror| {
                    let valid = address(mirror, net)?.valid;
                    let is_right = match lifetime {
                        Lifetime::Forever => valid.is_none(),
                        Lifetime::Seconds(asked) => valid.is_some_and(|left| left >= asked - 1),
                        Lifetime::Until(_) => false,
                    };
                    is_right.then_some(())
                })
                .await;
            }
        }
    });
}

#[test]
fn an_address_goes_by_the_kernels_hand_when_its_lifetime_ends() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for net in BOTH {
            add(&mut kernel, new(link, net, Lifetime::Seconds(1)));
            until(&mut kernel, |mirror| address(mirror, net)).await;
        }
        for net in BOTH {
            until(&mut kernel, |mirror| address(mirror, net).is_none().then_some(())).await;
        }
    });
}

#[test]
fn foreign_addresses_carry_no_mark_and_stay() {
    in_namespace(|| async {
        wire("left", "right");
        ip("addr add 192.0.2.1/24 dev left");
        ip("addr add 2001:db8::1/64 dev left nodad");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for (foreign, net) in ["192.0.2.1/24", "2001:db8::1/64"].into_iter().zip(BOTH) {
            let before = address(kernel.mirror(), foreign).unwrap();
            assert!(!before.is_ours());
            let new = new(link, net, Lifetime::Seconds(30));
            add(&mut kernel, new);
            until(&mut kernel, |mirror| address(mirror, net)).await;
            assert_eq!(apply(&mut kernel, KernelAction::RemoveAddress(new.key())), Ok(()));
            until(&mut kernel, |mirror| address(mirror, net).is_none().then_some(())).await;
            assert_eq!(address(kernel.mirror(), foreign), Some(before));
        }
    });
}

/// Why a machine has to look before it adds.
#[test]
fn an_add_on_top_of_a_foreign_address_takes_it_over() {
    in_namespace(|| async {
        wire("left", "right");
        ip("addr add 192.0.2.7/24 dev left");
        ip("addr add 2001:db8::7/64 dev left nodad");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        // IPv6 tells addresses of a link apart without their prefix: the old prefix stays.
        for (net, there) in [(BOTH[0], BOTH[0]), ("2001:db8::7/128", BOTH[1])] {
            add(&mut kernel, new(link, net, Lifetime::Seconds(30)));
            until(&mut kernel, |mirror| {
                // Its lifetime; kernels after 6.1 let it have our mark, too.
                address(mirror, there).filter(|seen| seen.valid.is_some())
            })
            .await;
        }
    });
}

#[test]
fn an_address_removed_by_hand_is_seen_to_go() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for net in BOTH {
            let new = new(link, net, Lifetime::Forever);
            add(&mut kernel, new);
            until(&mut kernel, |mirror| address(mirror, net)).await;
            ip(&format!("addr del {net} dev left"));
            until(&mut kernel, |mirror| address(mirror, net).is_none().then_some(())).await;
            // What is not there is removed already; so is what was on a link that is not there.
            assert_eq!(apply(&mut kernel, KernelAction::RemoveAddress(new.key())), Ok(()));
            let elsewhere = NewAddress { link: LinkIndex(9999), ..new }.key();
            assert_eq!(apply(&mut kernel, KernelAction::RemoveAddress(elsewhere)), Ok(()));
        }
        assert_eq!(kernel.watch().listings(), 1);
    });
}

#[test]
fn a_thousand_addresses_are_one_batch_and_no_dump() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        let nets: Vec<_> = (0..1000)
            .map(|n| match n % 2 {
                0 => format!("10.0.{}.{}/32", n / 250, n % 250),
                _ => format!("2001:db8::{n:x}/128"),
            })
            .collect();
        let actions = nets.iter().map(|net| {
            KernelAction::AddAddress(new(link, net, Lifetime::Until(Tick::START + HOUR)))
        });
        let actions: Vec<_> = actions.collect();
        let outcomes = kernel.apply(actions.clone());
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
        assert!(outcomes.into_iter().map(|outcome| outcome.action).eq(actions));
        until(&mut kernel, |mirror| {
            (mirror.addresses().filter(|seen| seen.is_ours()).count() == nets.len()).then_some(())
        })
        .await;
        assert_eq!((kernel.watch().listings(), kernel.watch().dumps()), (1, 4));
    });
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_kernels_own_words_are_handed_on() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        let too_long = KernelAction::SetAlias { link, alias: "x".repeat(256) };
        assert_refused(apply(&mut kernel, too_long), libc::ERANGE, "failed policy validation");
        let mut try_add = |link, net| {
            apply(&mut kernel, KernelAction::AddAddress(new(link, net, Lifetime::Forever)))
        };
        assert_refused(try_add(LinkIndex(9999), BOTH[0]), libc::ENODEV, "");
        assert_eq!(try_add(link, BOTH[0]), Ok(()), "a refusal does not touch what follows");
    });
}

#[test]
fn past_its_deadline_nothing_is_added_and_nothing_stays() {
    in_namespace(|| async {
        wire("left", "right");
        let origin = origin();
        let mut kernel = Kernel::open(origin).unwrap();
        let link = index(kernel.mirror(), "left");
        let now = origin.tick(Instant::now());
        for net in BOTH {
            for until in [Tick::START - HOUR, now, now + Duration::from_millis(999)] {
                let new = new(link, net, Lifetime::Until(until));
                let result = apply(&mut kernel, KernelAction::AddAddress(new));
                assert_eq!(result, Err(KernelError::PastDeadline));
            }
        }
        let ours = |mirror: &purelb_netlink::mirror::Mirror| {
            mirror.addresses().filter(|seen| seen.is_ours()).count()
        };
        assert_eq!(ours(&snapshot().unwrap()), 0);

        // Two seconds are left while the batch is made, and less when the kernel has answered.
        let until = origin.tick(Instant::now()) + Duration::from_micros(2_000_300);
        let actions = (0..60).map(|n| {
            let net = format!("10.0.0.{n}/32");
            KernelAction::AddAddress(new(link, &net, Lifetime::Until(until)))
        });
        let outcomes = kernel.apply(actions.collect());
        let seen = snapshot().unwrap();
        let answered = origin.tick(Instant::now()) - Duration::from_millis(20);
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
        assert_eq!(ours(&seen), 60);
        for seen in seen.addresses().filter(|seen| seen.is_ours()) {
            let left = Duration::from_secs(seen.valid.unwrap().into());
            assert!(answered + left <= until, "{seen:?} may outlive {until}");
        }
    });
}

#[test]
fn what_is_removed_after_it_was_added_is_gone() {
    in_namespace(|| async {
        wire("left", "right");
        let origin = origin();
        let mut kernel = Kernel::open(origin).unwrap();
        let link = index(kernel.mirror(), "left");
        let until = origin.tick(Instant::now()) + Duration::from_micros(2_000_100);
        let new = new(link, BOTH[0], Lifetime::Until(until));
        let actions = vec![KernelAction::AddAddress(new), KernelAction::RemoveAddress(new.key())];
        kernel.apply(actions);
        assert_eq!(address(&snapshot().unwrap(), BOTH[0]), None);
    });
}

#[test]
fn a_link_that_goes_down_takes_routes_and_ipv6_addresses_along() {
    in_namespace(|| async {
        wire("left", "right");
        ip("addr add 192.0.2.1/24 dev left");
        ip("addr add 2001:db8::1/64 dev left nodad");
        ip("route add default via 192.0.2.254 dev left");
        ip("-6 route add default via 2001:db8::fe dev left");
        let mut kernel = open();
        assert_eq!(routes(kernel.mirror(), "0.0.0.0/0").len(), 1);
        assert_eq!(routes(kernel.mirror(), "192.0.2.0/24").len(), 1);
        assert_eq!(routes(kernel.mirror(), "::/0").len(), 1);
        ip("link set left down");
        let left = index(kernel.mirror(), "left");
        until(&mut kernel, |mirror| {
            let left = mirror.routes().iter().any(|route| route.link == Some(left));
            (!left).then_some(())
        })
        .await;
        until(&mut kernel, |mirror| address(mirror, "2001:db8::1/64").is_none().then_some(()))
            .await;
        assert!(address(kernel.mirror(), "192.0.2.1/24").is_some());
        assert!(!link(kernel.mirror(), "left").unwrap().is_operational());
        ip("link set left up");
        until(&mut kernel, |mirror| (!routes(mirror, "192.0.2.0/24").is_empty()).then_some(()))
            .await;
        assert_eq!((kernel.watch().listings(), kernel.watch().dumps()), (1, 4));
    });
}

#[test]
fn links_are_followed_through_their_lives() {
    in_namespace(|| async {
        let mut kernel = open();
        assert!(link(kernel.mirror(), "lo").unwrap().loopback);
        wire("left", "right");
        let seen =
            until(&mut kernel, |mirror| link(mirror, "left").filter(|link| link.is_operational()))
                .await;
        let shown = ip_json("link show left");
        let mac = seen.mac.unwrap().map(|byte| format!("{byte:02x}")).join(":");
        assert_eq!(shown[0]["address"], mac);
        assert_eq!(shown[0]["ifindex"], seen.index.0);
        assert_eq!(seen.kind, LinkKind::Other);

        ip("link set right down");
        let carrier = |mirror: &_| link(mirror, "left").filter(|link| !link.carrier);
        assert!(until(&mut kernel, carrier).await.up);
        // Before Linux 6.2 only a link that is down can be renamed.
        ip("link set left down");
        ip("link set left name middle");
        ip("link set middle up");
        let renamed = until(&mut kernel, |mirror| link(mirror, "middle")).await;
        assert_eq!(renamed.index, seen.index);
        assert_eq!(link(kernel.mirror(), "left"), None);
        ip("link del middle");
        until(&mut kernel, |mirror| link(mirror, "right").is_none().then_some(())).await;
        wire("middle", "right");
        let new = until(&mut kernel, |mirror| link(mirror, "middle")).await;
        assert_ne!(new.index, seen.index);

        // A port of a bridge comes and goes; the link stays.
        ip("link add bridge type bridge");
        ip("link set middle master bridge");
        ip("link set middle nomaster");
        ip("link set middle alias done");
        until(&mut kernel, |mirror| link(mirror, "middle").filter(|link| link.alias == "done"))
            .await;
        assert_eq!(link(kernel.mirror(), "bridge").unwrap().kind, LinkKind::Bridge);
        assert_eq!(kernel.watch().listings(), 1);
    });
}

#[test]
fn default_routes_are_told_next_hop_by_next_hop() {
    in_namespace(|| async {
        wire("left", "right");
        ip("addr add 192.0.2.1/24 dev left");
        ip("addr add 198.51.100.1/24 dev right");
        let mut watch = Watch::open().unwrap();
        let mut gateways = async |command: &str, expected: &[&str]| {
            ip(command);
            until(&mut watch, |mirror| {
                let all = routes(mirror, "0.0.0.0/0");
                let unicast = all.iter().filter(|route| route.is_default());
                let mut found: Vec<_> =
                    unicast.map(|route| route.gateway.unwrap().to_string()).collect();
                found.sort();
                (found == expected).then_some(())
            })
            .await;
        };
        gateways("route add default via 192.0.2.2", &["192.0.2.2"]).await;
        gateways("route replace default via 192.0.2.3", &["192.0.2.3"]).await;
        gateways("route append default via 192.0.2.4", &["192.0.2.3", "192.0.2.4"]).await;
        gateways("route add unreachable default metric 9", &["192.0.2.3", "192.0.2.4"]).await;
        gateways("route del default via 192.0.2.3", &["192.0.2.4"]).await;
        gateways(
            "route replace default nexthop via 192.0.2.5 nexthop via 198.51.100.5",
            &["192.0.2.5", "198.51.100.5"],
        )
        .await;
        gateways("link set right down", &["192.0.2.5"]).await;
        gateways("link set right up", &["192.0.2.5", "198.51.100.5"]).await;
        ip("nexthop add id 1 via 192.0.2.6 dev left");
        ip("nexthop add id 2 via 192.0.2.7 dev left");
        ip("nexthop add id 10 group 1/2");
        gateways("route replace default nhid 10", &["192.0.2.6", "192.0.2.7"]).await;
        gateways("nexthop del id 2", &["192.0.2.6"]).await;
        gateways("nexthop del id 1", &[]).await;
        let rejects = routes(watch.mirror(), "0.0.0.0/0");
        assert_eq!((rejects.len(), rejects[0].kind), (1, RouteKind::Reject));
    });
}

#[test]
fn lost_notifications_heal_by_listing_again() {
    in_namespace(|| async {
        wire("left", "right");
        let mut watch = Watch::with_receive_buffer(4096).unwrap();
        for n in 0..200 {
            ip(&format!("addr add 10.0.0.{n}/32 dev left"));
        }
        until(&mut watch, |mirror| {
            let seen = mirror.addresses().filter(|seen| seen.net.to_string().starts_with("10."));
            (seen.count() == 200).then_some(())
        })
        .await;
        assert!(watch.listings() > 1);
        // It listens again.
        ip("addr del 10.0.0.7/32 dev left");
        until(&mut watch, |mirror| address(mirror, "10.0.0.7/32").is_none().then_some(())).await;
        let mut known: Vec<_> = watch.mirror().routes();
        let mut there = snapshot().unwrap().routes();
        known.sort();
        there.sort();
        assert_eq!(known, there);
    });
}

#[test]
fn a_listing_that_changes_interrupt_is_asked_for_again() {
    in_namespace(|| async {
        wire("left", "right");
        let all = (0..2000).map(|n| format!("addr add 10.0.{}.{}/32 dev left\n", n / 250, n % 250));
        ip_batch(&all.collect::<String>());
        // Another process adds and removes one address after the other meanwhile.
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let other = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                ip_batch("addr add 10.9.0.1/32 dev left\naddr del 10.9.0.1/32 dev left");
            }
        });
        // A listing is four dumps, unless one was interrupted.
        let mut was_interrupted = None;
        for _ in 0..1000 {
            match Watch::open() {
                Ok(watch) if watch.dumps() > 4 => was_interrupted = Some(watch),
                Ok(_) | Err(_) => {}
            }
            if was_interrupted.is_some() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        other.join().unwrap();
        let mut watch = was_interrupted.expect("one of a thousand listings is interrupted");
        until(&mut watch, |mirror| {
            let listed = snapshot().unwrap();
            mirror.addresses().eq(listed.addresses()).then_some(())
        })
        .await;
        assert_eq!(
            watch.mirror().addresses().filter(|a| a.net.to_string().starts_with("10.0.")).count(),
            2000
        );
    });
}

#[test]
fn a_namespace_without_anything_can_be_watched() {
    in_namespace(|| async {
        // Fresh, and nothing touched: there is not even a main routing table.
        common::unshare().unwrap();
        let mut watch = Watch::open().unwrap();
        assert_eq!((watch.mirror().links().count(), watch.mirror().routes().len()), (1, 0));
        wire("left", "right");
        ip("addr add 192.0.2.1/24 dev left");
        until(&mut watch, |mirror| routes(mirror, "192.0.2.0/24").pop()).await;
        assert_eq!(watch.listings(), 1);
    });
}

#[test]
fn sysctls_that_are_set_read_back() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        for link_state in ["up", "down"] {
            ip(&format!("link set left {link_state}"));
            let index = index(kernel.mirror(), "left");
            for value in [1, 0] {
                let settings = vec![
                    (ConfKey::ArpIgnore, value),
                    (ConfKey::ArpAnnounce, value * 2),
                    (ConfKey::PromoteSecondaries, value),
                ];
                let action = KernelAction::SetConf { link: index, settings };
                assert_eq!(apply(&mut kernel, action), Ok(()));
                until(&mut kernel, |mirror| {
                    let conf = link(mirror, "left")?.conf;
                    let found = [conf.arp_ignore, conf.arp_announce, conf.promote_secondaries];
                    (found == [value, value * 2, value]).then_some(())
                })
                .await;
                let read = |key: &str| {
                    let path = format!("/proc/sys/net/ipv4/conf/left/{key}");
                    std::fs::read_to_string(path).unwrap().trim().parse::<i32>().unwrap()
                };
                assert_eq!(read("arp_ignore"), value);
                assert_eq!(read("arp_announce"), value * 2);
                assert_eq!(read("promote_secondaries"), value);
            }
        }
        let action = KernelAction::SetConf { link: LinkIndex(9999), settings: vec![] };
        assert_refused(apply(&mut kernel, action), libc::ENODEV, "");
    });
}

#[test]
fn aliases_are_set_and_cleared_also_while_the_link_is_down() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let index = index(kernel.mirror(), "left");
        for state in ["up", "down"] {
            ip(&format!("link set left {state}"));
            for alias in ["one", ""] {
                let alias = alias.to_owned();
                let action = KernelAction::SetAlias { link: index, alias: alias.clone() };
                assert_eq!(apply(&mut kernel, action), Ok(()));
                until(&mut kernel, |mirror| {
                    link(mirror, "left").filter(|link| link.alias == alias)
                })
                .await;
            }
        }
    });
}

#[test]
fn the_virtual_interface_is_made_once_and_takes_addresses() {
    in_namespace(|| async {
        let mut kernel = open();
        let create = |alias: &str| KernelAction::CreateVirtual {
            name: "kube-lb0".to_owned(),
            alias: alias.to_owned(),
        };
        assert_eq!(apply(&mut kernel, create("ours")), Ok(()));
        let made = until(&mut kernel, |mirror| {
            link(mirror, "kube-lb0").filter(|link| link.up && link.alias == "ours")
        })
        .await;
        assert!(matches!(made.kind, LinkKind::Bridge | LinkKind::Dummy), "{made:?}");
        let shown = ip_json("link show kube-lb0");
        assert!(shown[0]["flags"].as_array().unwrap().contains(&"NOARP".into()), "{shown}");

        // One that is there is left alone.
        assert_eq!(apply(&mut kernel, create("another's")), Ok(()));
        for net in ["192.0.2.7/32", "2001:db8::7/128"] {
            add(&mut kernel, new(made.index, net, Lifetime::Forever));
            let seen = until(&mut kernel, |mirror| address(mirror, net)).await;
            assert!(seen.is_ours() && !seen.flags.tentative);
        }
        assert_eq!(link(kernel.mirror(), "kube-lb0").unwrap().alias, "ours");

        // An aggregate has a route to it.
        add(&mut kernel, new(made.index, "198.51.100.7/24", Lifetime::Forever));
        let route = until(&mut kernel, |mirror| routes(mirror, "198.51.100.0/24").pop()).await;
        assert_eq!(route.link, Some(made.index));
        assert_eq!(route.source, Some("198.51.100.7".parse().unwrap()));
    });
}

#[test]
fn a_port_asks_and_takes_in_the_answer() {
    in_namespace(|| async {
        wire("left", "right");
        ip("addr add 192.0.2.5/24 dev right");
        let kernel = Kernel::open(origin()).unwrap();
        let mac = |name| link(kernel.mirror(), name).unwrap().mac.unwrap();
        let asker = [2, 0, 0, 0, 0, 9];
        let mut port = Port::open("left").unwrap();
        let target = "192.0.2.5".parse().unwrap();
        let packet = Packet::Arp {
            operation: ArpOperation::Request,
            sender_mac: asker,
            sender: "192.0.2.77".parse().unwrap(),
            target_mac: [0; 6],
            target,
        };
        port.send(&Frame { to: BROADCAST, from: mac("left"), packet }).unwrap();
        let answer = async {
            loop {
                match port.receive().unwrap() {
                    Some(frame) if frame.to == asker => return frame,
                    Some(_) => {}
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap();
        assert_eq!(answer.from, mac("right"));
        assert_eq!(answer.packet.claim(), Some((target.into(), mac("right"))));
    });
}

#[test]
fn neighbours_are_told_in_both_families() {
    in_namespace(|| async {
        wire("left", "right");
        let origin = origin();
        let mut kernel = Kernel::open(origin).unwrap();
        let sender = link(kernel.mirror(), "left").unwrap();
        let mac = sender.mac.unwrap();
        ip("neigh add 192.0.2.1 dev left lladdr 02:00:00:00:00:01");
        let mut capture = Capture::open("right").unwrap();
        let mut heard = async |about: IpAddr| {
            let heard = async {
                loop {
                    let frame = capture.next().await.unwrap();
                    if frame.packet.claim().is_some_and(|(ip, _)| ip == about) {
                        return frame;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap()
        };
        let advertise = |ip: &str, gateway: &str, until: Option<Tick>| KernelAction::Advertise {
            ip: ip.parse().unwrap(),
            link: sender.index,
            gateway: Some(gateway.parse().unwrap()),
            until,
        };

        let late = advertise("192.0.2.9", "192.0.2.1", Some(origin.tick(Instant::now())));
        assert_eq!(apply(&mut kernel, late), Err(KernelError::PastDeadline));
        let until = Some(Tick::START + HOUR);
        assert_eq!(apply(&mut kernel, advertise("192.0.2.7", "192.0.2.1", until)), Ok(()));
        let operations = [ArpOperation::Request, ArpOperation::Reply, ArpOperation::Request];
        let to = [BROADCAST, BROADCAST, [2, 0, 0, 0, 0, 1]];
        let targets = ["192.0.2.7", "192.0.2.7", "192.0.2.1"];
        for n in 0..3 {
            let frame = heard("192.0.2.7".parse().unwrap()).await;
            assert_eq!((frame.to, frame.from), (to[n], mac));
            let Packet::Arp { operation, sender_mac, target, .. } = frame.packet else {
                panic!("{frame:?}")
            };
            assert_eq!((operation, sender_mac), (operations[n], mac));
            assert_eq!(target.to_string(), targets[n]);
        }

        let link_local = until_link_local(&mut kernel, sender.index).await;
        let about = "2001:db8::7".parse().unwrap();
        assert_eq!(apply(&mut kernel, advertise("2001:db8::7", "fe80::1", None)), Ok(()));
        let frame = heard(about).await;
        assert_eq!((frame.to, frame.from), (ALL_NODES, mac));
        assert!(matches!(
            frame.packet,
            Packet::Advertisement { source, overrides: true, router: false, solicited: false, .. }
                if source == link_local
        ));
        let frame = heard(about).await;
        assert!(matches!(frame.packet, Packet::Solicitation { .. }), "{frame:?}");

        let nowhere = KernelAction::Advertise {
            ip: about,
            link: LinkIndex(9999),
            gateway: None,
            until: None,
        };
        assert_refused(apply(&mut kernel, nowhere), libc::ENODEV, "");
    });
}

async fn until_link_local(kernel: &mut Kernel, link: LinkIndex) -> std::net::Ipv6Addr {
    until(kernel, |mirror| {
        mirror.addresses_of(link).find_map(|address| match address.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() && !address.flags.tentative => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
    })
    .await
}

#[test]
fn a_name_is_taken_once_per_namespace() {
    let name = format!("purelb-test-kernel-{}", std::process::id());
    let outside = NamespaceLock::take(&name).unwrap();
    in_namespace(|| async {
        let _inside = NamespaceLock::take(&name).unwrap();
        assert!(matches!(NamespaceLock::take(&name), Err(LockError::Held { .. })));
    });
    drop(outside);
}

#[test]
fn this_kernel_keeps_marks_and_has_not_slept() {
    in_namespace(|| async {
        let mut kernel = open();
        assert!(kernel.marks_supported());
        assert_eq!(kernel.suspended(), Duration::ZERO);
        kernel.rebase();
        assert_eq!(kernel.suspended(), Duration::ZERO);
    });
}
