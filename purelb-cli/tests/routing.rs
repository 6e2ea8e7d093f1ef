//! Routing software from Debian, configured by `examples/routing`: what it makes of the addresses on
//! `kube-lb0`, seen in the kernel of a router and by a client behind it.
//!
//! Needs the daemons, iproute2, and the right to make network namespaces. With
//! `PURELB_ROUTES=1000` and `--nocapture` it says how long the router takes to learn so many.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::DEADLINE;
use common::lab::{annotation, beside_others, eventually};
use common::router::{Known, Monitor, Neighbours, answered, many, overruns, service};
use purelb_cli::lab::client::{ObjectPath, ingress};
use purelb_cli::lab::cluster::{Blueprint, Cluster};
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::{Glance, wait_until};
use purelb_cli::lab::responder::{Transport, ask};
use purelb_cli::lab::routing::{Protocol, Software};
use purelb_cli::lab::stop::Stop;
use purelb_cli::lab::traffic::{Tally, Traffic};
use purelb_cli::lab::{privilege, require, samples};

/// Beside the sample group, of which IPv4 is routed as a whole and IPv6 by the address: the other way
/// round, and all by the address.
const GROUPS: &str = "
{apiVersion: purelb.io/v2, kind: ServiceGroup, metadata: {name: reverse, namespace: purelb}, spec: {remote: {
  v4pool: {subnet: 198.18.0.0/16, pool: 198.18.0.1-198.18.0.254, aggregation: /32},
  v6pool: {subnet: '2001:db8:18::/64', pool: '2001:db8:18::1-2001:db8:18::ffff', aggregation: default}}}}
---
{apiVersion: purelb.io/v2, kind: ServiceGroup, metadata: {name: hosts, namespace: purelb}, spec: {remote: {
  v4pool: {subnet: 198.18.0.0/16, pool: 198.18.1.0-198.18.255.255, aggregation: /32},
  v6pool: {subnet: '2001:db8:2::/64', pool: '2001:db8:2:0:1::1-2001:db8:2:0:1::ffff', aggregation: /128}}}}
";

const AGGREGATES: [&str; 2] = ["198.51.100.0/24", "2001:db8:18::/64"];

const ALL: [usize; 3] = [0, 1, 2];

/// How many connections are made to see that they spread: that one of three nodes gets none of so many
/// happens once in 10^10.
const CONNECTIONS: usize = 60;

/// How often a client asks.
const EVERY: Duration = Duration::from_millis(20);

#[test]
fn bird_teaches_the_router_by_bgp() {
    story(Software::BirdBgp);
}

#[test]
fn bird_teaches_the_router_by_ospf() {
    story(Software::BirdOspf);
}

#[test]
fn frr_teaches_the_router_by_bgp() {
    story(Software::FrrBgp);
}

#[test]
fn frr_teaches_the_router_by_ospf() {
    story(Software::FrrOspf);
}

#[test]
fn gobgp_teaches_the_router_by_bgp() {
    story(Software::Gobgp);
}

fn story(software: Software) {
    if let Err(missing) = software.check() {
        return require::skip_tier("routing", &missing.to_string());
    }
    let blueprint = Blueprint { routing: Some(software), ..Blueprint::default() };
    beside_others(&format!("{software:?}"), blueprint, "onStop: Keep", |cluster| {
        let neighbours = Neighbours::of(cluster);
        let mut scene = Scene { software, cluster, neighbours };
        scene.apply(samples::ROUTED_GROUP);
        scene.apply(GROUPS);
        let addresses = scene.the_router_learns_every_kind_of_route();
        scene.one_comes_and_goes(&addresses);
        scene.an_aggregate_stays_while_an_address_in_it_lives();
        scene.a_node_without_endpoint_is_left_out();
        scene.agents_come_and_go(&addresses);
        scene.a_node_is_lost(&addresses);
        scene.many_come_and_go();
        scene.the_last_addresses_take_their_aggregates_along();
        scene.nothing_was_overrun();
        assert_eq!(scene.cluster.fallen(), None);
    });
}

struct Scene<'a> {
    software: Software,
    cluster: &'a mut Cluster,
    neighbours: Neighbours,
}

impl Scene<'_> {
    /// A Service in each group; the addresses of both.
    fn the_router_learns_every_kind_of_route(&mut self) -> Vec<IpAddr> {
        let told = self.all(&[]);
        eventually(|| self.is_known(&told));
        let mut addresses = Vec::new();
        for group in ["routed", "reverse"] {
            addresses.extend(self.serve(group, group, "Cluster"));
        }
        let [aggregated4, host6, host4, aggregated6] = addresses[..] else { panic!("four") };
        let hosts = [host4, host6].map(|host| host.to_string());
        let told = self.all(&[AGGREGATES[0], AGGREGATES[1], &hosts[0], &hosts[1]]);
        eventually(|| self.is_known(&told));
        assert!(aggregated4.is_ipv4() && aggregated6.is_ipv6());
        addresses
    }

    /// One Service is created and deleted, and connections are made in between; how long it takes until
    /// the last node has its addresses, or has not, and until the router knows.
    fn one_comes_and_goes(&mut self, addresses: &[IpAddr]) {
        let nodes = self.cluster.topology().nodes().iter();
        let nodes: Vec<_> = nodes.map(|node| Monitor::start(node, "address")).collect();
        let router = Monitor::start(self.cluster.topology().router(), "route");
        let start = Instant::now();
        let hosts = self.serve("one", "hosts", "Cluster");
        self.is_reached_by(&hosts, &ALL);
        self.say_when("created", start, &hosts, &nodes, &router);
        self.connections_spread(addresses);
        let start = Instant::now();
        self.delete("one");
        self.is_reached_by(&hosts, &[]);
        self.say_when("deleted", start, &hosts, &nodes, &router);
    }

    fn say_when(
        &self,
        what: &str,
        start: Instant,
        hosts: &[IpAddr],
        nodes: &[Monitor],
        router: &Monitor,
    ) {
        for host in hosts {
            let on_nodes = nodes.iter().map(|node| node.last(&format!(" {host}/"))).max();
            let [on_nodes, known] = [on_nodes.unwrap(), router.last(&format!("{host} "))]
                .map(|moment| moment.unwrap().duration_since(start));
            self.say(&format!(
                "{what}: {host}: nodes after {on_nodes:.0?}, router after {known:.0?}"
            ));
        }
    }

    /// Each of many connections goes to one of the nodes, and every node gets some.
    fn connections_spread(&self, addresses: &[IpAddr]) {
        for &address in addresses {
            let mut answers = BTreeMap::<String, usize>::new();
            for _ in 0..CONNECTIONS {
                let answer = eventually(|| {
                    let answer = ask(self.cluster.topology().client(), address);
                    answer.map_err(|error| format!("{address}: {error}"))
                });
                *answers.entry(answer).or_default() += 1;
            }
            self.say(&format!("{CONNECTIONS} connections to {address}: {answers:?}"));
            assert_eq!(answers.len(), ALL.len(), "{address}: {answers:?}");
        }
    }

    /// Of several addresses in an aggregate the first is deleted, then the others.
    fn an_aggregate_stays_while_an_address_in_it_lives(&mut self) {
        let monitor = Monitor::start(self.cluster.topology().router(), "route");
        for group in ["routed", "reverse"] {
            let more = self.serve("more", group, "Cluster");
            self.delete(group);
            let again = self.serve(group, group, "Cluster");
            self.delete("more");
            // The host route is there and gone: so the router has heard of all of this.
            let host = |addresses: &[IpAddr]| addresses[usize::from(group == "routed")].to_string();
            let (gone, there) = (host(&more), host(&again));
            eventually(|| match self.known() {
                known if known.contains_key(&gone) || !known.contains_key(&there) => {
                    Err(format!("{gone} is to be gone and {there} there: {known:?}"))
                }
                _ => Ok(()),
            });
        }
        let changed = monitor.told();
        let aggregate = |line: &&String| AGGREGATES.iter().any(|net| line.contains(net));
        let withdrawn = changed.iter().filter(aggregate).find(|line| line.contains("Deleted"));
        assert_eq!(withdrawn, None, "{changed:?}");
    }

    /// `externalTrafficPolicy: Local`, with endpoints that come and go.
    fn a_node_without_endpoint_is_left_out(&mut self) {
        let near: Vec<_> = ["routed", "reverse"]
            .map(|group| self.serve(&format!("near-{group}"), group, "Local"))
            .concat();
        let hosts = [near[2], near[1]];
        let client = self.cluster.topology().client();
        self.endpoints(&[0, 1]);
        self.is_reached_by(&hosts, &[0, 1]);
        let traffic = self.traffic(client, &hosts);
        self.endpoints(&[0]);
        self.is_reached_by(&hosts, &[0]);
        self.endpoints(&[0, 1]);
        self.is_reached_by(&hosts, &[0, 1]);
        self.finish("an endpoint goes and returns", traffic, told_within(self.software));
        self.endpoints(&[]);
        self.is_reached_by(&hosts, &[]);
        self.delete("near-routed");
        self.delete("near-reverse");
    }

    /// An upgrade of every agent, and a crash: no route of the router changes.
    fn agents_come_and_go(&mut self, addresses: &[IpAddr]) {
        let before = self.known();
        let monitor = Monitor::start(self.cluster.topology().router(), "route");
        let traffic = self.traffic(self.cluster.topology().client(), addresses);
        for node in ALL {
            let status = self.cluster.stop_agent(node).unwrap();
            assert!(status.is_some_and(|status| status.success()), "{status:?}");
            self.cluster.start_agent(node).unwrap();
            self.agent_is_back(node);
        }
        self.cluster.kill_agent(0).unwrap();
        self.cluster.start_agent(0).unwrap();
        // It is at work again when it adds what is new.
        let new = self.serve("new", "reverse", "Cluster")[0];
        self.is_reached_by(&[new], &ALL);
        self.finish("agents are upgraded", traffic, told_within(self.software));
        let changed = monitor.told();
        let others: Vec<_> =
            changed.iter().filter(|line| !line.contains(&new.to_string())).collect();
        assert!(others.is_empty(), "{others:?}");
        self.delete("new");
        eventually(|| match self.known() {
            known if known == before => Ok(()),
            known => Err(format!("{known:?}")),
        });
    }

    /// A node loses its cable, and gets it back.
    fn a_node_is_lost(&mut self, addresses: &[IpAddr]) {
        let routing = self.cluster.routing().unwrap();
        eventually(|| match routing.watched().unwrap() {
            // Of each family.
            Some(up) if up != 2 * ALL.len() => Err(format!("{up} BFD sessions are up")),
            None | Some(_) => Ok(()),
        });
        let before = self.known();
        let topology = self.cluster.topology();
        let traffic = self.traffic(topology.client(), addresses);
        let lost = self.cluster.node(1);
        topology.cut_off(lost).unwrap();
        let start = Instant::now();
        let limit = noticed_within(self.software);
        eventually(|| match self.known() {
            known if known.values().any(|nodes| nodes.contains(&1)) => Err(format!("{known:?}")),
            known if known.len() == before.len() => Ok(()),
            known => Err(format!("{known:?}")),
        });
        let taken = start.elapsed();
        self.say(&format!("a node that lost its cable is left out after {taken:.1?}"));
        assert!(taken < limit, "{taken:?}, not {limit:?}");
        self.finish("a node loses its cable", traffic, limit);
        topology.reconnect(lost).unwrap();
        let start = Instant::now();
        eventually(|| match self.known() {
            known if known == before => Ok(()),
            known => Err(format!("{known:?}")),
        });
        self.say(&format!("its cable put back, it is used again after {:.1?}", start.elapsed()));
    }

    /// As many Services as `PURELB_ROUTES` says, or a hundred, are created and deleted.
    fn many_come_and_go(&mut self) {
        let count = std::env::var("PURELB_ROUTES").map_or(100, |count| count.parse().unwrap());
        let before = self.known().len();
        let named = |number: usize| format!("many-{number}");
        let start = Instant::now();
        for number in 0..count {
            self.apply(&service(&named(number), "hosts", "Cluster"));
        }
        let requested = start.elapsed();
        self.come_to(start, "created", requested, count, before + 2 * count);
        let client = self.cluster.api().client();
        let wanted = (0..count)
            .flat_map(|number| ingress(&client.get(&ObjectPath::service(&named(number))).unwrap()));
        let known = self.known();
        let missing = wanted.map(|address| address.to_string());
        let missing: Vec<_> =
            missing.filter(|address| known.get(address) != Some(&ALL.into())).collect();
        assert!(missing.is_empty(), "{missing:?}");

        let start = Instant::now();
        for number in 0..count {
            self.delete(&named(number));
        }
        let requested = start.elapsed();
        self.come_to(start, "deleted", requested, 0, before);
    }

    /// Waits until each node has two addresses for each of `services`, and the router knows of so many
    /// destinations, and says how long both took.
    fn come_to(
        &self,
        start: Instant,
        what: &str,
        requested: Duration,
        services: usize,
        routes: usize,
    ) {
        let mut there = None;
        let limit = DEADLINE + Duration::from_millis(200) * routes as u32;
        let learnt = wait_until(limit, &Stop::default(), || {
            let nodes = self.cluster.topology().nodes();
            if there.is_none() && nodes.iter().all(|node| many(node) == 2 * services) {
                there = Some(start.elapsed());
            }
            let known = self.known();
            let whole = known.values().filter(|nodes| nodes.len() == ALL.len()).count();
            match there {
                Some(_) if whole == routes && known.len() == routes => Ok(start.elapsed()),
                _ => Err(Glance::NotYet(format!(
                    "{what}: {whole} of {} are whole, not {routes}",
                    known.len()
                ))),
            }
        })
        .unwrap();
        self.say(&format!(
            "many {what}: requested within {requested:.1?}, nodes after {:.1?}, router after \
             {learnt:.1?}",
            there.unwrap()
        ));
    }

    /// Nothing is left in the router but what a configuration holds itself.
    fn the_last_addresses_take_their_aggregates_along(&mut self) {
        self.delete("routed");
        self.delete("reverse");
        let nothing = self.all(&[]);
        eventually(|| self.is_known(&nothing));
    }

    fn nothing_was_overrun(&self) {
        // Others may not have the buffers that the configurations ask for.
        if !privilege::is_of_the_machine() {
            return;
        }
        let topology = self.cluster.topology();
        for place in topology.nodes().iter().chain([topology.router()]) {
            assert_eq!(overruns(place), [""; 0], "{}", place.name());
        }
    }

    fn known(&self) -> Known {
        self.neighbours.known(self.cluster)
    }

    /// What the router knows when every node has these, beside what a configuration holds itself.
    fn all(&self, destinations: &[&str]) -> Known {
        let fixed = fixed(self.software).iter().chain(destinations);
        fixed.map(|destination| ((*destination).to_owned(), ALL.into())).collect()
    }

    fn is_known(&self, wanted: &Known) -> Result<(), String> {
        let known = self.known();
        if known == *wanted { Ok(()) } else { Err(format!("{known:?}")) }
    }

    /// Waits until the router reaches addresses by exactly these nodes.
    fn is_reached_by(&self, hosts: &[IpAddr], nodes: &[usize]) {
        let nodes: BTreeSet<_> = nodes.iter().copied().collect();
        eventually(|| {
            let known = self.known();
            let by = |host: &IpAddr| known.get(&host.to_string()).cloned().unwrap_or_default();
            match hosts.iter().find(|host| by(host) != nodes) {
                None => Ok(()),
                Some(host) => Err(format!("{host} by {:?}, not {nodes:?}", by(host))),
            }
        });
    }

    fn apply(&self, yaml: &str) {
        self.cluster.api().client().apply(yaml).unwrap();
    }

    /// Creates a Service; its addresses, IPv4 first.
    fn serve(&self, name: &str, group: &str, policy: &str) -> Vec<IpAddr> {
        self.apply(&service(name, group, policy));
        eventually(|| {
            let service = self.cluster.api().client().get(&ObjectPath::service(name)).unwrap();
            let found = ingress(&service);
            if found.len() == 2 { Ok(found) } else { Err(format!("{name} has {found:?}")) }
        })
    }

    fn delete(&self, name: &str) {
        self.cluster.api().client().delete(&ObjectPath::service(name)).unwrap();
    }

    /// Gives both Services with a local policy ready endpoints on these nodes.
    fn endpoints(&self, nodes: &[usize]) {
        for service in ["near-routed", "near-reverse"] {
            let endpoint = |node: &usize| {
                let name = self.cluster.node(*node).name();
                format!(
                    "{{addresses: [10.244.{node}.2], nodeName: {name}, conditions: {{ready: true}}}}"
                )
            };
            let endpoints: Vec<_> = nodes.iter().map(endpoint).collect();
            self.apply(&format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {service}, \
                 namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}, addressType: \
                 IPv4, ports: [{{port: 80, protocol: TCP}}], endpoints: [{}]}}",
                endpoints.join(", ")
            ));
        }
    }

    fn agent_is_back(&self, node: usize) {
        let node = self.cluster.node(node);
        eventually(|| match annotation(self.cluster, node, "purelb.io/keep") {
            None => Ok(()),
            Some(_) => Err(format!("the agent of {} is not back", node.name())),
        });
    }

    /// A client of each address, each of which has got an answer.
    fn traffic(&self, client: &Namespace, addresses: &[IpAddr]) -> Vec<Traffic> {
        let start = |&address| {
            Traffic::start(client, SocketAddr::new(address, 80), Transport::Tcp, EVERY).unwrap()
        };
        let traffic: Vec<_> = addresses.iter().map(start).collect();
        answered(&traffic);
        traffic
    }

    /// Ends the clients after one more answer each, says what they met with, and checks it.
    fn finish(&self, what: &str, traffic: Vec<Traffic>, limit: Duration) {
        answered(&traffic);
        let tallies: Vec<Tally> = traffic.into_iter().map(Traffic::finish).collect();
        for tally in &tallies {
            self.say(&format!(
                "{what}: {} of {} requests to {} failed, longest gap {:.0?}",
                tally.failed, tally.asked, tally.route.to, tally.longest_gap
            ));
        }
        let long = tallies.iter().find(|tally| tally.longest_gap >= limit);
        assert!(long.is_none(), "{what}: {long:#?}");
    }

    fn say(&self, what: &str) {
        println!("{:?}: {what}", self.software);
    }
}

/// How long it may take to notice that a node is gone: with BFD less than without it.
fn noticed_within(software: Software) -> Duration {
    Duration::from_secs(match (software, software.protocol()) {
        // The hold time, and some for the rest.
        (Software::Gobgp, _) => 9 + 6,
        (_, Protocol::Bgp) => 9,
        (_, Protocol::Ospf) => 5,
    })
}

/// How long it may take from what a node tells to the router's kernel. OSPF tells of one destination
/// once in 5 s (RFC 2328, MinLSInterval).
fn told_within(software: Software) -> Duration {
    Duration::from_secs(match software.protocol() {
        Protocol::Bgp => 3,
        Protocol::Ospf => 10,
    })
}

/// The destinations that the nodes tell of whether or not an address is there.
fn fixed(software: Software) -> &'static [&'static str] {
    match software {
        Software::BirdBgp | Software::BirdOspf => &AGGREGATES[1..],
        Software::FrrBgp | Software::FrrOspf | Software::Gobgp => &[],
    }
}
