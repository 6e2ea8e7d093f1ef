//! Single looks at the world, each of which finds a fact or says what it found instead.

use std::net::IpAddr;

use crate::lab::capture::{Announcement, Capture};
use crate::lab::client::{ObjectPath, ingress};
use crate::lab::cluster::Cluster;
use crate::lab::observe::{Glance, Placed, mac, places};
use crate::lab::responder;

use super::Vip;

/// The interface on the LAN, and the virtual one.
pub(super) const LAN: &str = "eth0";
pub(super) const VIRTUAL: &str = "kube-lb0";

/// The one node that has `address` on its LAN interface, and how.
///
/// That two have it at one time is the one thing that must never be seen.
pub(super) fn holder(cluster: &Cluster, address: IpAddr) -> Result<(usize, Placed), Glance> {
    let mut holders = on_lan(cluster, address, 0..nodes(cluster))?;
    match (holders.pop(), holders.first()) {
        (None, _) => Err(Glance::NotYet(format!("no node has {address} on {LAN}"))),
        (Some(only), None) => Ok(only),
        (Some((last, _)), Some(&(first, _))) => {
            let names = (cluster.node(first).name(), cluster.node(last).name());
            let held = format!("{} and {} have {address} on {LAN}", names.0, names.1);
            // Between two looks it may have moved. If the first still has it after it was seen on
            // the last, it did not.
            let still = !on_lan(cluster, address, first..first + 1)?.is_empty();
            Err(if still { Glance::Never(held) } else { Glance::NotYet(held) })
        }
    }
}

/// The one node other than `former` that has `address` on its LAN interface.
pub(super) fn successor(
    cluster: &Cluster,
    address: IpAddr,
    former: usize,
) -> Result<usize, Glance> {
    let (node, _) = holder(cluster, address)?;
    if node == former {
        let name = cluster.node(former).name();
        return Err(Glance::NotYet(format!("{name} still has {address} on {LAN}")));
    }
    Ok(node)
}

/// How node number `node` has `address` on its virtual interface.
pub(super) fn on_virtual(
    cluster: &Cluster,
    node: usize,
    address: IpAddr,
) -> Result<Placed, Glance> {
    let namespace = cluster.node(node);
    let mut places = places(namespace, address)?;
    match (places.pop(), places.is_empty()) {
        (Some(place), true) if place.link == VIRTUAL => Ok(place),
        (None, _) => Err(Glance::NotYet(format!("{} has no {address}", namespace.name()))),
        (Some(place), _) => {
            let (name, link) = (namespace.name(), place.link);
            Err(Glance::NotYet(format!("{name} has {address} on {link}")))
        }
    }
}

/// That nodes have none of `addresses` on any interface.
pub(super) fn gone(cluster: &Cluster, node: usize, addresses: &[IpAddr]) -> Result<(), Glance> {
    let namespace = cluster.node(node);
    for &address in addresses {
        if let Some(Placed { link, .. }) = places(namespace, address)?.pop() {
            let name = namespace.name();
            return Err(Glance::NotYet(format!("{name} has {address} on {link}")));
        }
    }
    Ok(())
}

/// Who answers the client at `address`.
pub(super) fn answer(cluster: &Cluster, address: IpAddr) -> Result<String, Glance> {
    responder::ask(cluster.topology().client(), address)
        .map_err(|error| Glance::NotYet(format!("no answer from {address}: {error}")))
}

/// That node number `node` answers the client at `address`.
pub(super) fn answered_by(cluster: &Cluster, address: IpAddr, node: usize) -> Result<(), Glance> {
    let answer = answer(cluster, address)?;
    if answer == cluster.node(node).name() {
        Ok(())
    } else {
        Err(Glance::NotYet(format!("{answer} answers at {address}")))
    }
}

/// An announcement of `address` that gives the hardware address of node number `node`, among those
/// `heard` before and those heard now.
pub(super) fn announced(
    cluster: &Cluster,
    capture: &Capture,
    heard: &mut Vec<Announcement>,
    address: IpAddr,
    node: usize,
) -> Result<Announcement, Glance> {
    let theirs = mac(cluster.node(node), LAN)?.unwrap_or_default();
    let new = capture.announcements();
    heard.extend(new.map_err(|error| Glance::Never(format!("cannot capture: {error}")))?);
    let found = heard.iter().find(|heard| heard.address == address && heard.mac == theirs);
    found
        .cloned()
        .ok_or_else(|| Glance::NotYet(format!("no announcement of {address} from {theirs}")))
}

/// That the LAN interface of node number `node` answers ARP for other interfaces' addresses (0, the
/// kernel's default) or only for its own (1): the sysctl `arp_ignore`.
pub(super) fn arp_ignore(cluster: &Cluster, node: usize, expected: &str) -> Result<(), Glance> {
    let namespace = cluster.node(node);
    let variable = format!("net/ipv4/conf/{LAN}/arp_ignore");
    let value = namespace.sysctl(&variable).map_err(|error| Glance::NotYet(error.to_string()))?;
    if value == expected { Ok(()) } else { Err(Glance::NotYet(format!("{variable} is {value}"))) }
}

/// The addresses in the status of the Service called `name`: one of each family, IPv4 first.
pub(super) fn allocated(cluster: &Cluster, name: &str) -> Result<Vip, Glance> {
    let service = cluster.api().client().get(&ObjectPath::service(name));
    let addresses = ingress(&service.map_err(|error| Glance::NotYet(error.to_string()))?);
    match addresses[..] {
        [v4 @ IpAddr::V4(_), v6 @ IpAddr::V6(_)] => Ok(Vip { v4, v6 }),
        _ => Err(Glance::NotYet(format!("the Service {name} has the addresses {addresses:?}"))),
    }
}

/// Which of the nodes have `address` on their LAN interface, in the order looked at.
fn on_lan(
    cluster: &Cluster,
    address: IpAddr,
    nodes: impl Iterator<Item = usize>,
) -> Result<Vec<(usize, Placed)>, Glance> {
    let mut holders = Vec::new();
    for node in nodes {
        let places = places(cluster.node(node), address)?;
        holders.extend(places.into_iter().filter(|p| p.link == LAN).map(|place| (node, place)));
    }
    Ok(holders)
}

pub(super) fn nodes(cluster: &Cluster) -> usize {
    cluster.topology().nodes().len()
}
