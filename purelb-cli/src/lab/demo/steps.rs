//! Steps 1 to 4: the cluster comes up, Services get addresses, a client reaches them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::lab::client::ObjectPath;
use crate::lab::cluster::Cluster;
use crate::lab::namespace::Namespace;
use crate::lab::observe::{Glance, Placed, links};
use crate::lab::responder;
use crate::lab::samples;
use crate::lab::story::Witness;

use super::looks::{LAN, VIRTUAL, allocated, answer, answered_by, holder, nodes, on_virtual};
use super::{AFTER_A_LEASE, Halt, SOON, Tour};

impl Tour {
    pub(super) fn build_the_network(&mut self) -> Result<(), Halt> {
        self.story.step("Three nodes, a router and a client on one bridge");
        self.see(
            &Witness::Ip("each namespace".into()),
            "each has its addresses",
            SOON,
            |cluster| cluster.topology().namespaces().try_for_each(has_addresses),
            |()| "node1, node2, node3, router and client have IPv4 and IPv6 on the LAN".into(),
        )?;
        self.see(
            &Witness::Client,
            "the nodes answer",
            SOON,
            |cluster| {
                let addresses = ["192.0.2.11", "2001:db8:1::11"].map(|text| text.parse());
                for address in addresses.into_iter().flatten() {
                    answered_by(cluster, address, 0)?;
                }
                Ok(())
            },
            |()| "the client reaches a node over both families".into(),
        )?;
        self.see(
            &Witness::Api,
            "the API has three Nodes",
            SOON,
            |cluster| {
                let nodes = cluster.api().client().get(&ObjectPath::nodes());
                let nodes = nodes.map_err(|error| Glance::NotYet(error.to_string()))?;
                match nodes["items"].as_array().map(Vec::len) {
                    Some(3) => Ok(cluster.api().url()),
                    other => Err(Glance::NotYet(format!("{other:?} Nodes"))),
                }
            },
            |url| format!("an in-memory Kubernetes API with three Nodes serves at {url}"),
        )?;
        for node in self.cluster.topology().nodes() {
            self.untouched.push(links(node).unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn start_the_programs(&mut self) -> Result<(), Halt> {
        self.story.step("One allocator, and an lbnodeagent on each node");
        self.act("starting four processes, each in its namespace", |cluster| {
            cluster.start_programs()?;
            cluster.publish()
        })?;
        let names: Vec<_> =
            self.cluster.topology().nodes().iter().map(|node| node.name().to_owned()).collect();
        self.see(
            &Witness::Api,
            "each agent has a Lease",
            SOON,
            |cluster| {
                let client = cluster.api().client();
                names.iter().try_for_each(|name| {
                    let lease = client.get(&ObjectPath::lease(name));
                    lease.map(drop).map_err(|error| Glance::NotYet(error.to_string()))
                })
            },
            |()| "each agent has said that it lives: Leases purelb-node-node1 to -node3".into(),
        )?;
        self.show_errors();
        Ok(())
    }

    pub(super) fn create_the_services(&mut self) -> Result<(), Halt> {
        self.story.step("Two Services get addresses");
        self.act(
            "applying deploy/samples/: groups \"default\" (local) and \"routed\" (remote)",
            |c| {
                let client = c.api().client();
                let samples = [samples::NODE_AGENT, samples::LOCAL_GROUP, samples::ROUTED_GROUP];
                samples.iter().try_for_each(|sample| client.apply(sample))
            },
        )?;
        self.act("applying the Services \"web\" and \"web-routed\"", |cluster| {
            let client = cluster.api().client();
            client.apply(samples::LOCAL_SERVICE)?;
            client.apply(samples::ROUTED_SERVICE)
        })?;
        self.local = self.see_allocation("web")?;
        self.routed = self.see_allocation("web-routed")?;

        for address in self.routed.both() {
            let length = if address.is_ipv4() { 24 } else { 128 };
            self.see(
                &Witness::Ip("each node".into()),
                &format!("every node has {address} on {VIRTUAL}"),
                SOON,
                |cluster| {
                    (0..nodes(cluster))
                        .try_for_each(|n| prefix(&on_virtual(cluster, n, address)?, length))
                },
                |()| format!("every node has {address}/{length} on {VIRTUAL}"),
            )?;
        }
        self.story.say("an agent that starts watches for one lease (5 s) before it takes anything");
        self.see(
            &Witness::Api,
            "each agent's Lease lists the LAN",
            AFTER_A_LEASE,
            |cluster| (0..nodes(cluster)).try_for_each(|node| serves_the_lan(cluster, node)),
            |()| "each agent's Lease lists the LAN's subnets: all three are candidates".into(),
        )?;
        for address in self.local.both() {
            self.see_holder(address)?;
        }
        self.show_errors();
        Ok(())
    }

    pub(super) fn ask_as_a_client(&mut self) -> Result<(), Halt> {
        self.story.step("A client reaches them, and ip shows them");
        self.act("asking each address for its web page", |_| Ok::<_, String>(()))?;
        for address in self.local.both() {
            let (node, _) = self.settled(address)?;
            let name = self.cluster.node(node).name().to_owned();
            self.see(
                &Witness::Client,
                &format!("{name} answers at {address}"),
                SOON,
                |cluster| answered_by(cluster, address, node),
                |()| format!("{name} answers at {address}, port {}", responder::PORT),
            )?;
        }
        for address in self.routed.both() {
            self.see(
                &Witness::Client,
                &format!("a node answers at {address}"),
                SOON,
                |cluster| answer(cluster, address),
                |node| format!("{node} answers at {address}, by way of the router"),
            )?;
        }
        let (node, _) = self.settled(self.local.v4)?;
        self.show_ip(node, &format!("addr show dev {LAN}"));
        self.show_ip(node, &format!("addr show dev {VIRTUAL}"));
        self.show_ip(node, "route");
        Ok(())
    }

    /// Sees one node have `address` on its LAN interface, as the troubleshooting page shows it.
    pub(super) fn see_holder(&mut self, address: IpAddr) -> Result<usize, Halt> {
        let length = if address.is_ipv4() { 24 } else { 64 };
        // The last to join the election may still take it over.
        let mut steady = Steady::default();
        let names: Vec<_> =
            self.cluster.topology().nodes().iter().map(|node| node.name().to_owned()).collect();
        let (node, _) = self.see(
            &Witness::Ip("each node".into()),
            &format!("one node has {address} on {LAN}"),
            AFTER_A_LEASE,
            |cluster| {
                let (node, place) = holder(cluster, address)?;
                prefix(&place, length)?;
                if address.is_ipv4() && !place.address.secondary {
                    return Err(Glance::NotYet(format!("{address} is not secondary")));
                }
                steady.see(node).map(|node| (node, place))
            },
            |(node, place)| {
                let secondary = if place.address.secondary { ", secondary" } else { "" };
                let name = &names[*node];
                format!("{name}, and no other, has {address}/{length} on {LAN}{secondary}")
            },
        )?;
        Ok(node)
    }

    /// The holder of `address` where it has been seen already.
    pub(super) fn settled(&mut self, address: IpAddr) -> Result<(usize, Placed), Halt> {
        holder(&self.cluster, address).map_err(|glance| {
            let (Glance::NotYet(why) | Glance::Never(why)) = glance;
            self.story.missed("it is still there", &Witness::Ip("each node".into()), &why);
            Halt::Failed
        })
    }

    fn see_allocation(&mut self, name: &str) -> Result<super::Vip, Halt> {
        self.see(
            &Witness::Api,
            &format!("the Service {name} has addresses"),
            SOON,
            |cluster| allocated(cluster, name),
            |vip| format!("the status of \"{name}\" has {} and {}", vip.v4, vip.v6),
        )
    }
}

/// The same answer for a while.
#[derive(Debug, Default)]
struct Steady {
    since: Option<(usize, Instant)>,
}

impl Steady {
    const WHILE: Duration = Duration::from_millis(300);

    fn see(&mut self, node: usize) -> Result<usize, Glance> {
        let now = Instant::now();
        let since = self.since.filter(|&(before, _)| before == node).unwrap_or((node, now));
        self.since = Some(since);
        if since.1.elapsed() >= Self::WHILE {
            Ok(node)
        } else {
            Err(Glance::NotYet("it keeps moving".into()))
        }
    }
}

fn serves_the_lan(cluster: &Cluster, node: usize) -> Result<(), Glance> {
    let name = cluster.node(node).name();
    let lease = cluster.api().client().get(&ObjectPath::lease(name));
    let lease = lease.map_err(|error| Glance::NotYet(error.to_string()))?;
    match lease["metadata"]["annotations"]["purelb.io/subnets"].as_str() {
        Some("192.0.2.0/24,2001:db8:1::/64") => Ok(()),
        other => Err(Glance::NotYet(format!("the Lease of {name} lists {other:?}"))),
    }
}

fn prefix(place: &Placed, length: u8) -> Result<(), Glance> {
    let (link, address) = (&place.link, &place.address);
    if address.prefix_length == length {
        return Ok(());
    }
    let (local, found) = (address.local, address.prefix_length);
    Err(Glance::NotYet(format!("{local}/{found} on {link} instead of /{length}")))
}

fn has_addresses(namespace: &Namespace) -> Result<(), Glance> {
    let links = links(namespace)?.into_iter().filter(|link| link.name != "lo");
    let addresses: Vec<_> = links.flat_map(|link| link.addresses).collect();
    let count = |scope: &str| addresses.iter().filter(|address| address.scope == scope).count();
    // The kernel adds the link-local address once the link has a carrier.
    if count("global") == 2 && count("link") >= 1 {
        return Ok(());
    }
    Err(Glance::NotYet(format!("{} has {addresses:?}", namespace.name())))
}
