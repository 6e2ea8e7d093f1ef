//! What the neighbours are told of an address, as `tcpdump` decodes it on the lab's LAN, and what a
//! router makes of it that ignores gratuitous ARP.
//!
//! Needs tcpdump, iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use common::DEADLINE;
use common::lab::{self, eventually, holder, holders, serve};
use purelb_cli::lab::client::ObjectPath;
use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::ip::ip;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::topology::Topology;
use serde_json::Value;

const ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
const ROUTER_MAC: &str = "00:00:5e:00:53:01";
const EVERYBODY: &str = "ff:ff:ff:ff:ff:ff";
const ALL_NODES: &str = "33:33:00:00:00:01";

/// Runs `test` on a lab whose agents announce as `garp` says, unless something is missing here.
fn with_lab(garp: &str, test: impl FnOnce(&mut Cluster)) {
    if let Err(error) = Command::new("tcpdump").arg("--version").output() {
        let required = std::env::var("PURELB_REQUIRE").unwrap_or_default();
        let is_required = required.split(',').any(|tier| tier.trim() == "tcpdump");
        assert!(!is_required, "tcpdump is required, but {error}");
        return println!("skipped: tcpdump: {error}");
    }
    lab::with_agents(&format!("garpConfig: {garp}"), |cluster| {
        // As on a node that talks to its router: what goes to the router goes to nobody else.
        for node in cluster.topology().nodes() {
            for router in ROUTER {
                ip(node, &format!("neigh replace {router} lladdr {ROUTER_MAC} dev eth0")).unwrap();
            }
        }
        test(cluster);
    });
}

/// Keeps load balancer addresses away from a node: a planned move of those that it has.
fn exclude(cluster: &Cluster, node: usize) {
    let name = cluster.node(node).name();
    let node = format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: \
         {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux, \
         node.kubernetes.io/exclude-from-external-load-balancers: \"\"}}}}}}"
    );
    cluster.api().client().apply(&node).unwrap();
}

/// When the lease of a node was renewed last, as its agent wrote it.
fn renewed(cluster: &Cluster, node: usize) -> String {
    let path = ObjectPath::lease(cluster.node(node).name());
    cluster.api().client().get(&path).unwrap()["spec"]["renewTime"].to_string()
}

fn mac(node: usize) -> String {
    Topology::mac_of_node(node).map(|byte| format!("{byte:02x}")).join(":")
}

fn member<'a>(cluster: &'a Cluster, name: &str) -> &'a Namespace {
    cluster.topology().namespaces().find(|namespace| namespace.name() == name).unwrap()
}

/// A frame of ARP or neighbour discovery, in the words of tcpdump.
#[derive(Debug, Clone)]
struct Frame {
    /// Seconds since 1970.
    at: f64,
    from: String,
    to: String,
    text: String,
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    /// Gratuitous ARP, as a request.
    Request,
    /// Gratuitous ARP, as a reply.
    Reply,
    /// An unsolicited neighbour advertisement.
    Advertisement,
    /// A question to the router, from the address.
    Question,
}

impl Frame {
    /// Reads the first line of what tcpdump prints for a frame.
    fn read(line: &str) -> Self {
        let (head, text) = line.split_once(", ").unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        let [at, from, ">", to] = words[..] else { panic!("{line}") };
        Self { at: at.parse().unwrap(), from: from.into(), to: to.into(), text: text.into() }
    }

    /// What it says of `vip`, if it says that the sender has it.
    fn says(&self, vip: &str) -> Option<Says> {
        let has = |words: String| self.text.contains(&words);
        let [router, router6] = ROUTER;
        if has(format!("Request who-has {vip} tell {vip},")) {
            Some(Says::Request)
        } else if has(format!("Reply {vip} is-at {},", self.from)) {
            Some(Says::Reply)
        } else if has(format!("neighbor advertisement, length 32, tgt is {vip}, Flags [override]"))
        {
            Some(Says::Advertisement)
        } else if has(format!("Request who-has {router} tell {vip},"))
            || has(format!(" {vip} > "))
                && has(format!("neighbor solicitation, length 32, who has {router6}"))
        {
            Some(Says::Question)
        } else {
            None
        }
    }
}

/// `tcpdump` on `eth0` of one member of the lab.
struct Sniffer {
    child: Child,
    lines: Receiver<String>,
    frames: Vec<Frame>,
}

impl Sniffer {
    fn at(namespace: &Namespace) -> Self {
        const FILTER: &str = "arp or (icmp6 and (ip6[40] == 135 or ip6[40] == 136))";
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", "eth0", "-n", "-e", "-tt", "-v", "-l", "--immediate-mode", FILTER])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = namespace.spawn(command).unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on") {
            assert!(errors.read_line(&mut said).unwrap() > 0, "tcpdump: {said}");
        }
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, frames: Vec::new() }
    }

    /// Listens until `enough`.
    fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !enough(self) {
            let left = DEADLINE.saturating_sub(start.elapsed());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("{error}: {:#?}", self.frames));
            match self.frames.last_mut() {
                Some(frame) if line.starts_with('\t') => frame.text.push_str(&line),
                Some(_) | None => self.frames.push(Frame::read(&line)),
            }
        }
    }

    /// The frames by which `from` said this of `vip`.
    fn heard(&self, from: &str, vip: &str, says: Says) -> Vec<&Frame> {
        let frames = self.frames.iter().filter(|frame| frame.from == from);
        frames.filter(|frame| frame.says(vip) == Some(says)).collect()
    }

    /// The frames after `moment` by which `from` said that it has `vip`.
    fn claims_after(&self, from: &str, vip: &str, moment: f64) -> Vec<&Frame> {
        let frames = self.frames.iter().filter(|frame| frame.at > moment && frame.from == from);
        frames.filter(|frame| frame.says(vip).is_some()).collect()
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds since 1970, as in a capture.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn neighbours_are_told_in_frames_that_tcpdump_decodes_as_often_as_configured() {
    const COUNT: usize = 4;
    const INTERVAL: f64 = 0.3;
    with_lab("{initialDelay: 0s, count: 4, interval: 300ms}", |cluster| {
        let [v4, v6] = ["192.0.2.241", "2001:db8:1::241"];
        let mut sniffer = Sniffer::at(member(cluster, "router"));
        serve(cluster, "web", &[v4, v6]);
        let [mac4, mac6] = [v4, v6].map(|vip| mac(holder(cluster, vip)));
        let expected = [
            (&mac4, v4, Says::Request, EVERYBODY),
            (&mac4, v4, Says::Reply, EVERYBODY),
            (&mac4, v4, Says::Question, ROUTER_MAC),
            (&mac6, v6, Says::Advertisement, ALL_NODES),
            (&mac6, v6, Says::Question, ROUTER_MAC),
        ];
        for (mac, vip, says, _) in expected {
            sniffer.until(|sniffer| sniffer.heard(mac, vip, says).len() >= COUNT);
        }
        // While another address is told of as often, no more is heard of the first.
        let other = "192.0.2.242";
        serve(cluster, "other", &[other]);
        let mac_of_other = mac(holder(cluster, other));
        sniffer.until(|sniffer| sniffer.heard(&mac_of_other, other, Says::Reply).len() >= COUNT);

        for (mac, vip, says, to) in expected {
            let heard = sniffer.heard(mac, vip, says);
            assert_eq!(heard.len(), COUNT, "{says:?} of {vip}: {heard:#?}");
            for frame in &heard {
                assert_eq!(frame.to, to, "{frame:?}");
                let option = match says {
                    Says::Advertisement => "destination link-address option (2)",
                    Says::Question if vip == v6 => "source link-address option (1)",
                    Says::Request | Says::Reply | Says::Question => continue,
                };
                let option = format!("{option}, length 8 (1): {mac}");
                assert!(frame.text.contains(&option), "{frame:?}");
                assert!(frame.text.contains("hlim 255") && frame.text.contains("[icmp6 sum ok]"));
            }
            // One that is late makes the gap to the next one small, but nothing makes the whole short.
            let took = heard[COUNT - 1].at - heard[0].at;
            let shortest = INTERVAL * (COUNT - 1) as f64;
            assert!((shortest - 0.15..shortest + 5.0).contains(&took), "{took} s: {heard:#?}");
            for pair in heard.windows(2) {
                assert!(pair[1].at - pair[0].at > INTERVAL / 3.0, "{pair:#?}");
            }
        }
    });
}

#[test]
fn nothing_is_said_of_an_address_that_is_gone_or_whose_time_has_run_out() {
    with_lab("{initialDelay: 0s, count: 10, interval: 500ms}", |cluster| {
        let [gone, fenced, later, last] =
            ["192.0.2.241", "192.0.2.242", "192.0.2.243", "192.0.2.244"];
        let mut sniffer = Sniffer::at(member(cluster, "router"));
        // Listens to what is said of another address for as long as three more of the first are due.
        let listen = |cluster: &Cluster, sniffer: &mut Sniffer, name: &str, vip: &str| {
            serve(cluster, name, &[vip]);
            let mac = mac(holder(cluster, vip));
            sniffer.until(|sniffer| sniffer.heard(&mac, vip, Says::Reply).len() >= 4);
        };

        serve(cluster, "gone", &[gone]);
        let had_it = mac(holder(cluster, gone));
        sniffer.until(|sniffer| !sniffer.heard(&had_it, gone, Says::Reply).is_empty());
        cluster.api().client().delete(&ObjectPath::service("gone")).unwrap();
        eventually(|| match holders(cluster, gone.parse().unwrap())[..] {
            [] => Ok(()),
            ref holders => Err(format!("{holders:?}")),
        });
        let moment = now();
        listen(cluster, &mut sniffer, "fenced", fenced);
        let late = sniffer.claims_after(&had_it, gone, moment);
        assert!(late.is_empty(), "{late:#?}");

        // The agent stops in the middle of its announcements, until another node has the address.
        let frozen = holder(cluster, fenced);
        cluster.agent(frozen).unwrap().freeze().unwrap();
        exclude(cluster, frozen);
        let next = eventually(|| match holders(cluster, fenced.parse().unwrap())[..] {
            [next] if next != frozen => Ok(next),
            ref holders => Err(format!("{holders:?}")),
        });
        sniffer.until(|sniffer| !sniffer.heard(&mac(next), fenced, Says::Reply).is_empty());
        let moment = now();
        let before = renewed(cluster, frozen);
        listen(cluster, &mut sniffer, "later", later);
        cluster.agent(frozen).unwrap().thaw().unwrap();
        eventually(|| match renewed(cluster, frozen) {
            at if at == before => Err(format!("last renewed at {at}")),
            _ => Ok(()),
        });
        listen(cluster, &mut sniffer, "last", last);
        let late = sniffer.claims_after(&mac(frozen), fenced, moment);
        assert!(late.is_empty(), "{late:#?}");
    });
}

/// The Ethernet address that the kernel of `namespace` has noted for `address`.
fn neighbour(namespace: &Namespace, address: &str) -> String {
    let shown = ip(namespace, &format!("neigh show to {address} dev eth0")).unwrap();
    let noted = shown.split_once("lladdr ").map(|(_, rest)| rest.split(' ').next().unwrap());
    noted.unwrap_or_default().to_owned()
}

#[test]
fn a_router_that_ignores_gratuitous_arp_follows_a_move() {
    with_lab("{initialDelay: 0s, count: 3, interval: 200ms}", |cluster| {
        let vips = ["192.0.2.241", "2001:db8:1::241"];
        let [router, client] = ["router", "client"].map(|name| member(cluster, name));
        for deaf in [router, client] {
            deaf.set_sysctl("net/ipv4/conf/eth0/drop_gratuitous_arp", "1").unwrap();
            deaf.set_sysctl("net/ipv6/conf/eth0/drop_unsolicited_na", "1").unwrap();
        }
        serve(cluster, "web", &vips);
        let before = vips.map(|vip| holder(cluster, vip));
        for (vip, node) in vips.into_iter().zip(before) {
            eventually(|| match neighbour(router, vip) {
                noted if noted == mac(node) => Ok(()),
                noted => Err(format!("{vip} is at {noted:?} for the router")),
            });
            // The client is as deaf, and is not the router, so it is asked nothing.
            let noted = format!("neigh replace {vip} lladdr {} dev eth0 nud stale", mac(node));
            ip(client, &noted).unwrap();
        }

        let mut sniffer = Sniffer::at(client);
        for node in before {
            exclude(cluster, node);
        }
        for (vip, node) in vips.into_iter().zip(before) {
            let after = eventually(|| match holders(cluster, vip.parse().unwrap())[..] {
                [after] if !before.contains(&after) => Ok(after),
                ref holders => Err(format!("{vip} was held by {node}, is by {holders:?}")),
            });
            eventually(|| match neighbour(router, vip) {
                noted if noted == mac(after) => Ok(()),
                noted => Err(format!("{vip} is at {noted:?} for the router")),
            });
            let says = if vip.contains(':') { Says::Advertisement } else { Says::Reply };
            sniffer.until(|sniffer| sniffer.heard(&mac(after), vip, says).len() >= 3);
            assert_eq!(neighbour(client, vip), mac(node), "gratuitous frames change nothing");
            let series = "purelb_lbnodeagent_handover_duration_seconds_count{from=\"peer\"}";
            assert!(metrics(cluster.node(after)).contains(series), "{series}");
        }
    });
}

/// What the agent of a node shows under `/metrics`.
fn metrics(node: &Namespace) -> String {
    let asked = node.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:7472")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    });
    asked.unwrap().unwrap()
}

#[test]
fn a_stranger_with_an_address_is_named_in_event_and_metric_until_it_leaves() {
    with_lab("{initialDelay: 0s, count: 1, interval: 200ms}", |cluster| {
        let vips = ["192.0.2.241/24", "2001:db8:1::241/64"];
        let client = cluster.topology().client();
        let stranger = Topology::mac_of_client().map(|byte| format!("{byte:02x}")).join(":");
        for vip in vips {
            let nodad = if vip.contains(':') { "nodad" } else { "" };
            ip(client, &format!("addr add {vip} dev eth0 {nodad}")).unwrap();
        }
        serve(cluster, "web", &["192.0.2.241", "2001:db8:1::241"]);
        for vip in vips {
            let (address, _) = vip.split_once('/').unwrap();
            eventually(|| {
                let events = cluster.api().client().get(&ObjectPath::events()).unwrap();
                let names_it = |event: &&Value| {
                    let note = event["note"].as_str().unwrap_or_default();
                    let named = [address, "eth0", &stranger];
                    event["reason"] == "AddressConflict" && named.iter().all(|w| note.contains(w))
                };
                let told = events["items"].as_array().unwrap().iter().find(names_it).is_some();
                told.then_some(()).ok_or_else(|| format!("no Event about {address}: {events}"))
            });
            let series = format!(
                "purelb_lbnodeagent_address_conflict{{ip=\"{address}\",interface=\"eth0\",mac=\"{stranger}\"}} 1"
            );
            let shows = |node: &Namespace| metrics(node).contains(&series);
            let nodes = cluster.topology().nodes();
            assert_eq!(nodes.iter().filter(|node| shows(node)).count(), 1, "{series}");
            assert_eq!(holders(cluster, address.parse().unwrap()), [0; 0]);
            ip(client, &format!("addr del {vip} dev eth0")).unwrap();
            holder(cluster, address);
            eventually(|| match nodes.iter().any(shows) {
                true => Err(format!("still shown: {series}")),
                false => Ok(()),
            });
        }
    });
}
