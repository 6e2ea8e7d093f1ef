//! The lab's network: a bridge with nodes, a router and a client on one LAN.
//!
//! ```text
//!   router .1   hub .2 (bridge, API)   client .100      192.0.2.0/24
//!      |           |                      |             2001:db8:1::/64
//!   ---+-----+-----+----+---------+-------+---
//!            |          |         |
//!        node1 .11  node2 .12  node3 .13
//! ```
//!
//! Each is a network namespace, and each has its end of a veth pair as `eth0`; the other ends are
//! ports of the bridge in the hub, called as their namespace. The client shares the nodes' LAN, so
//! that ARP and neighbour discovery are the kernel's own work. The router is everyone's default
//! gateway and sends the remote range to all nodes, as a router with BGP sessions to them would.
//! The addresses are those reserved for documentation (RFC 5737, RFC 3849, RFC 7042).

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::ip::{IpError, ip, ip_batch};
use super::namespace::Namespace;

const ROUTER: u8 = 1;
const HUB: u8 = 2;
const FIRST_NODE: u8 = 11;
const CLIENT: u8 = 100;
/// Nobody: what the client asks in the name of.
const ASKER: u8 = 101;

/// What the router sends to the nodes: the ranges of the sample group `routed`.
const REMOTE_RANGES: [&str; 2] = ["198.51.100.0/24", "2001:db8:2::/64"];

/// The namespaces and the links between them.
#[derive(Debug)]
pub struct Topology {
    hub: Namespace,
    router: Namespace,
    client: Namespace,
    nodes: Vec<Namespace>,
}

/// What is lost between a node and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// What the API sends: requests have their effect, but nobody hears of it.
    Answers,
    /// Both ways.
    Both,
    /// What the node sends.
    Requests,
}

/// Why the network could not be made.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// The kernel made no namespace.
    #[error(
        "cannot create a network namespace for {name}: {source} (inside a user namespace this is \
         refused where kernel.apparmor_restrict_unprivileged_userns is 1: run the lab as root)"
    )]
    Namespace {
        /// For what.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A kernel variable could not be set.
    #[error("cannot set /proc/sys/{variable} in {namespace}: {source}")]
    Sysctl {
        /// Where.
        namespace: String,
        /// Which.
        variable: String,
        /// Why.
        source: io::Error,
    },
    /// An `ip` command failed.
    #[error(transparent)]
    Ip(#[from] IpError),
}

impl Topology {
    /// The address of the hub, where the nodes reach the API.
    pub const HUB: IpAddr = IpAddr::V4(ipv4(HUB));

    /// The router's IPv4 address, by which routing daemons know it.
    pub const ROUTER_ID: Ipv4Addr = ipv4(ROUTER);

    /// An address of the LAN that nobody has: a gateway for routes that lead nowhere.
    pub const NOBODY: IpAddr = IpAddr::V4(ipv4(254));

    /// Addresses of the LAN that nobody has, by which the client may ask who has others.
    pub const ASKER_V4: Ipv4Addr = ipv4(ASKER);
    /// The IPv6 one of them.
    pub const ASKER_V6: Ipv6Addr = ipv6(ASKER);

    /// Builds the network with nodes called `node1`, `node2` and so on, `nodes` of them.
    pub fn build(nodes: u8) -> Result<Self, TopologyError> {
        let names = (1..=nodes).map(|number| format!("node{number}"));
        let topology = Self {
            hub: create("hub")?,
            router: create("router")?,
            client: create("client")?,
            nodes: names.map(|name| create(&name)).collect::<Result<_, _>>()?,
        };
        ip_batch(
            &topology.hub,
            &format!(
                "link add br0 type bridge forward_delay 0 mcast_snooping 0\n{}",
                addresses(HUB, "br0")
            ),
        )?;
        topology.attach(&topology.router, ROUTER)?;
        topology.attach(&topology.client, CLIENT)?;
        for (node, host) in topology.nodes.iter().zip(FIRST_NODE..) {
            topology.attach(node, host)?;
        }
        topology.route()?;
        Ok(topology)
    }

    /// The namespace of the bridge, in which the API and the allocator are.
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    /// The client's namespace.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The router's namespace.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The nodes' namespaces, in the order of their numbers.
    pub fn nodes(&self) -> &[Namespace] {
        &self.nodes
    }

    /// The addresses of the nodes on the LAN, of both families, in their order.
    pub fn node_addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let hosts = (FIRST_NODE..).take(self.nodes.len());
        hosts.map(|host| (ipv4(host).into(), ipv6(host).into()))
    }

    /// The nodes' IPv4 addresses, by which routing daemons know them.
    pub fn node_ids(&self) -> impl Iterator<Item = Ipv4Addr> {
        (FIRST_NODE..).take(self.nodes.len()).map(ipv4)
    }

    /// The addresses of the client on the LAN.
    pub fn client_addresses() -> (IpAddr, IpAddr) {
        (ipv4(CLIENT).into(), ipv6(CLIENT).into())
    }

    /// All namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.nodes.iter().chain([&self.router, &self.client, &self.hub])
    }

    /// The hardware address of the client.
    pub fn mac_of_client() -> [u8; 6] {
        mac(CLIENT)
    }

    /// The hardware address of node number `node`, counted from 0.
    pub fn mac_of_node(node: usize) -> [u8; 6] {
        mac(FIRST_NODE + node as u8)
    }

    /// Loses what node number `node` and the hub send each other, on the way that `loss` says.
    /// Nobody is told: the frames go to a hardware address that nobody has.
    pub fn part(&self, node: usize, loss: Loss) -> Result<(), IpError> {
        let nowhere = "lladdr 00:00:5e:00:53:ff nud permanent";
        if loss != Loss::Answers {
            let hub = ipv4(HUB);
            ip(&self.nodes[node], &format!("neigh replace {hub} dev eth0 {nowhere}"))?;
        }
        if loss != Loss::Requests {
            let host = ipv4(FIRST_NODE + node as u8);
            ip(&self.hub, &format!("neigh replace {host} dev br0 {nowhere}"))?;
        }
        Ok(())
    }

    /// Ends what [`part`](Self::part) began.
    pub fn rejoin(&self, node: usize, loss: Loss) -> Result<(), IpError> {
        if loss != Loss::Answers {
            ip(&self.nodes[node], &format!("neigh del {} dev eth0", ipv4(HUB)))?;
        }
        if loss != Loss::Requests {
            let host = ipv4(FIRST_NODE + node as u8);
            ip(&self.hub, &format!("neigh del {host} dev br0"))?;
        }
        Ok(())
    }

    /// Takes a node's bridge port down, as pulling its cable would.
    pub fn cut_off(&self, node: &Namespace) -> Result<(), IpError> {
        ip(&self.hub, &format!("link set dev {} down", node.name())).map(drop)
    }

    /// Puts the cable back.
    pub fn reconnect(&self, node: &Namespace) -> Result<(), IpError> {
        ip(&self.hub, &format!("link set dev {} up", node.name())).map(drop)
    }

    /// Makes the router forget the remote range, for daemons to teach it, and lets it share traffic out
    /// by connection (a hash of addresses and ports) instead of by client.
    pub fn leave_routes_to_daemons(&self) -> Result<(), TopologyError> {
        let forget = REMOTE_RANGES.map(|range| format!("route del {range}\n"));
        ip_batch(&self.router, &forget.concat())?;
        for family in ["ipv4", "ipv6"] {
            sysctl(&self.router, &format!("net/{family}/fib_multipath_hash_policy"), "1")?;
        }
        Ok(())
    }

    /// Connects `namespace` to the bridge and gives it the LAN's addresses that end in `host`.
    fn attach(&self, namespace: &Namespace, host: u8) -> Result<(), TopologyError> {
        let (port, path) = (namespace.name(), namespace.path());
        let address = format_mac(mac(host));
        ip_batch(
            &self.hub,
            &format!(
                "link add {port} type veth peer name eth0 address {address} netns {path}\n\
                 link set dev {port} master br0 up\n"
            ),
        )?;
        // The kernel's own link-local address is usable at once, and nobody changes the routes.
        sysctl(namespace, "net/ipv6/conf/eth0/accept_dad", "0")?;
        sysctl(namespace, "net/ipv6/conf/eth0/accept_ra", "0")?;
        ip_batch(namespace, &addresses(host, "eth0"))?;
        Ok(())
    }

    fn route(&self) -> Result<(), TopologyError> {
        let (router4, router6) = (ipv4(ROUTER), ipv6(ROUTER));
        for namespace in self.nodes.iter().chain([&self.client]) {
            ip_batch(
                namespace,
                &format!("route add default via {router4}\nroute add ::/0 via {router6}\n"),
            )?;
        }
        // Packets for the remote range come in and leave by one link; neither side shall learn
        // the shorter way.
        for variable in ["all/send_redirects", "eth0/send_redirects"] {
            sysctl(&self.router, &format!("net/ipv4/conf/{variable}"), "0")?;
        }
        sysctl(&self.client, "net/ipv6/conf/eth0/accept_redirects", "0")?;
        sysctl(&self.router, "net/ipv4/ip_forward", "1")?;
        sysctl(&self.router, "net/ipv6/conf/all/forwarding", "1")?;
        let hosts = || FIRST_NODE..FIRST_NODE + self.nodes.len() as u8;
        let mut commands = String::new();
        let gateways: [Vec<IpAddr>; 2] =
            [hosts().map(|h| ipv4(h).into()).collect(), hosts().map(|h| ipv6(h).into()).collect()];
        for (range, gateways) in REMOTE_RANGES.iter().zip(gateways) {
            let _ = write!(commands, "route add {range}");
            for gateway in gateways {
                let _ = write!(commands, " nexthop via {gateway} dev eth0");
            }
            commands.push('\n');
        }
        ip_batch(&self.router, &commands)?;
        Ok(())
    }
}

pub(super) fn create(name: &str) -> Result<Namespace, TopologyError> {
    let failed = |source| TopologyError::Namespace { name: name.to_owned(), source };
    let namespace = Namespace::new(name).map_err(failed)?;
    ip(&namespace, "link set dev lo up")?;
    Ok(namespace)
}

pub(super) fn sysctl(
    namespace: &Namespace,
    variable: &str,
    value: &str,
) -> Result<(), TopologyError> {
    namespace.set_sysctl(variable, value).map_err(|source| TopologyError::Sysctl {
        namespace: namespace.name().to_owned(),
        variable: variable.to_owned(),
        source,
    })
}

/// The `ip` commands that bring `link` up with the LAN's addresses that end in `host`.
fn addresses(host: u8, link: &str) -> String {
    let (v4, v6) = (ipv4(host), ipv6(host));
    format!(
        "addr add {v4}/24 brd + dev {link}\n\
         addr add {v6}/64 dev {link} nodad\n\
         link set dev {link} up\n"
    )
}

const fn mac(host: u8) -> [u8; 6] {
    [0, 0, 0x5e, 0, 0x53, host]
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

const fn ipv4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host)
}

/// The IPv6 address that looks like its IPv4 sibling: host 11 is `::11`.
const fn ipv6(host: u8) -> Ipv6Addr {
    let digits = (host / 100) as u16 * 0x100 + (host / 10 % 10) as u16 * 0x10 + (host % 10) as u16;
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, digits)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::background::Background;
    use crate::lab::capture::{Announcement, Capture, Form};
    use crate::lab::observe::{Glance, links, mac, places, routes, wait_until};
    use crate::lab::stop::Stop;
    use crate::lab::{require, responder};

    /// Who answers the client at `address`, as soon as somebody does.
    fn reached(topology: &Topology, address: IpAddr) -> String {
        let ask = || {
            let answer = responder::ask(topology.client(), address);
            answer.map_err(|error| Glance::NotYet(error.to_string()))
        };
        wait_until(Duration::from_secs(10), &Stop::default(), ask).unwrap()
    }

    #[test]
    fn addresses_of_both_families_end_alike() {
        assert_eq!(ipv6(11), "2001:db8:1::11".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ipv6(100), "2001:db8:1::100".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ipv6(254), "2001:db8:1::254".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn every_member_is_there_and_two_labs_do_not_meet() {
        require::privileged(|| {
            let (one, two) = (Topology::build(3).unwrap(), Topology::build(3).unwrap());
            for topology in [&one, &two] {
                let names: Vec<_> = topology.namespaces().map(Namespace::name).collect();
                assert_eq!(names, ["node1", "node2", "node3", "router", "client", "hub"]);
                for node in topology.nodes() {
                    let defaults = routes(node).unwrap();
                    let defaults = defaults.iter().filter(|route| route.destination == "default");
                    assert_eq!(defaults.count(), 2, "one per family");
                    assert_eq!(links(node).unwrap().len(), 2, "lo and eth0");
                }
            }
        });
    }

    #[test]
    fn the_client_reaches_a_node_until_it_is_cut_off() {
        require::privileged(|| {
            let topology = Topology::build(2).unwrap();
            let background = Background::start().unwrap();
            let [first, second] = topology.nodes() else { panic!("two nodes were asked for") };
            responder::serve(&background, first).unwrap();
            responder::serve(&background, second).unwrap();
            let reached = |address: IpAddr| reached(&topology, address);
            assert_eq!(reached(ipv4(11).into()), "node1");
            assert_eq!(reached(ipv6(12).into()), "node2");
            topology.cut_off(first).unwrap();
            assert!(responder::ask(topology.client(), ipv4(11).into()).is_err());
            assert_eq!(reached(ipv4(12).into()), "node2");
            topology.reconnect(first).unwrap();
            assert_eq!(reached(ipv4(11).into()), "node1");
        });
    }

    #[test]
    fn the_router_carries_the_remote_ranges_to_the_nodes() {
        require::privileged(|| {
            let topology = Topology::build(2).unwrap();
            let background = Background::start().unwrap();
            for node in topology.nodes() {
                ip(node, "addr add 198.51.100.10/32 dev lo").unwrap();
                ip(node, "addr add 2001:db8:2::10/128 dev lo").unwrap();
                responder::serve(&background, node).unwrap();
            }
            for address in ["198.51.100.10", "2001:db8:2::10"] {
                let answer = reached(&topology, address.parse().unwrap());
                assert!(answer.starts_with("node"), "{answer}");
            }
        });
    }

    #[test]
    fn the_client_hears_who_announces_an_address() {
        require::privileged(|| {
            let topology = Topology::build(1).unwrap();
            let node = &topology.nodes()[0];
            let capture = Capture::start(topology.client()).unwrap();
            let background = Background::start().unwrap();
            responder::serve(&background, node).unwrap();
            assert_eq!(
                reached(&topology, ipv4(11).into()),
                "node1",
                "links take a moment to be up"
            );
            // The kernel itself announces its addresses when the hardware address changes.
            node.set_sysctl("net/ipv4/conf/eth0/arp_notify", "1").unwrap();
            ip(node, "addr add 192.0.2.200/24 brd + dev eth0").unwrap();
            let vip = IpAddr::V4(ipv4(200));
            let [place] = &places(node, vip).unwrap()[..] else { panic!("one place expected") };
            assert!(place.address.secondary && place.link == "eth0");
            ip(node, "link set dev eth0 address 00:00:5e:00:53:c8").unwrap();
            assert_eq!(mac(node, "eth0").unwrap().unwrap(), "00:00:5e:00:53:c8");
            let expected = Announcement {
                address: vip,
                mac: "00:00:5e:00:53:c8".into(),
                form: Form::ArpRequest,
            };
            let heard = wait_until(Duration::from_secs(5), &Stop::default(), || {
                let heard = capture.announcements().unwrap();
                if heard.contains(&expected) {
                    Ok(())
                } else {
                    Err(Glance::NotYet(format!("{heard:?}")))
                }
            });
            heard.unwrap();
        });
    }
}
