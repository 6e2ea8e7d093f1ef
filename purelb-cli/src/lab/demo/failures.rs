//! Steps 5 to 7: a node is lost, a second default route appears, the Services go.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::capture::Capture;
use crate::lab::client::ObjectPath;
use crate::lab::cluster::Cluster;
use crate::lab::ip::ip;
use crate::lab::observe::{Glance, links};
use crate::lab::story::Witness;
use crate::lab::topology::Topology;

use super::looks::{
    LAN, VIRTUAL, announced, answer, answered_by, arp_ignore, gone, nodes, on_virtual, successor,
};
use super::{AFTER_A_LEASE, Halt, SOON, Tour, is_error};

impl Tour {
    pub(super) fn lose_a_node(&mut self) -> Result<(), Halt> {
        self.story.step("A node is lost, and another takes over");
        let capture = Capture::start(self.cluster.topology().client());
        let capture = capture.map_err(|error| {
            self.story.missed("the client's wire can be listened to", &Witness::Wire, &error);
            Halt::Failed
        })?;
        let lost = self.settled(self.local.v4)?.0;
        let addresses: Vec<IpAddr> = {
            let with_it = self.settled(self.local.v6)?.0 == lost;
            let both = self.local.both();
            both.into_iter().take(if with_it { 2 } else { 1 }).collect()
        };
        let name = self.cluster.node(lost).name().to_owned();
        self.act(&format!("killing the agent of {name} (SIGKILL) and pulling its cable"), |c| {
            c.kill_agent(lost).map_err(|error| error.to_string())?;
            c.topology().cut_off(c.node(lost)).map_err(|error| error.to_string())
        })?;
        let (killed, mut heard) = (self.acted, Vec::new());
        for &address in &addresses {
            let next = self.see_successor(address, lost)?;
            let next_name = self.cluster.node(next).name().to_owned();
            self.see(
                &Witness::Client,
                &format!("{next_name} answers at {address}"),
                SOON,
                |cluster| answered_by(cluster, address, next),
                |()| {
                    let seconds = killed.elapsed().as_secs_f64();
                    format!("{next_name} answers at {address}, {seconds:.1} s after the kill")
                },
            )?;
            self.see(
                &Witness::Wire,
                &format!("{next_name} announces {address}"),
                SOON,
                |cluster| announced(cluster, &capture, &mut heard, address, next),
                |heard| format!("{}: {address} is at {}", heard.form, heard.mac),
            )?;
        }
        self.see(
            &Witness::Ip(name.clone()),
            &format!("{name} has lost them"),
            SOON,
            |cluster| gone(cluster, lost, &addresses),
            |()| format!("{name}'s kernel has removed what nobody was left to remove"),
        )?;
        self.show_errors();

        self.act(&format!("{name} returns: its cable is back, its agent is started"), |c| {
            c.topology().reconnect(c.node(lost)).map_err(|error| error.to_string())?;
            c.start_agent(lost).map_err(|error| error.to_string())
        })?;
        for &address in &addresses {
            self.see_return(address, lost)?;
        }
        self.show_errors();
        Ok(())
    }

    pub(super) fn add_a_second_default_route(&mut self) -> Result<(), Halt> {
        self.story.step("A second default route appears");
        let address = self.local.v4;
        let node = self.settled(address)?.0;
        let name = self.cluster.node(node).name().to_owned();
        let route = format!("default via {} dev {LAN} metric 100", Topology::NOBODY);
        self.show_errors();
        self.act(&format!("on {name}: ip route add {route}"), |cluster| {
            ip(cluster.node(node), &format!("route add {route}"))
        })?;
        self.story.say("Linux would pick one; the agent does not guess");
        let program = format!("lbnodeagent on {name}");
        let lines = self.see(
            &Witness::Log(program.clone()),
            "the agent logs an error",
            SOON,
            |cluster| {
                let agent = cluster.agent(node).ok_or_else(|| Glance::Never("no agent".into()))?;
                let lines = agent.log().new_lines();
                let mut lines = lines.map_err(|error| Glance::NotYet(error.to_string()))?;
                lines.retain(|line| is_error(line));
                if lines.is_empty() { Err(Glance::NotYet("no error".into())) } else { Ok(lines) }
            },
            |_| "the agent says that it cannot identify the interface".into(),
        )?;
        self.story.log(&program, &lines);
        self.see(
            &Witness::Ip(name.clone()),
            &format!("{name} has {address} on {VIRTUAL}"),
            SOON,
            |cluster| {
                let place = on_virtual(cluster, node, address)?;
                match place.address.prefix_length {
                    32 => Ok(()),
                    other => Err(Glance::NotYet(format!("{address}/{other} on {VIRTUAL}"))),
                }
            },
            |()| format!("{name} has {address}/32 on {VIRTUAL}, and no longer on {LAN}"),
        )?;
        self.see(
            &Witness::Sysctl(name.clone()),
            "its kernel no longer answers ARP for it",
            SOON,
            |cluster| arp_ignore(cluster, node, "1"),
            |()| format!("its kernel does not answer ARP for it on {LAN} (arp_ignore is 1)"),
        )?;
        let next = self.see_successor(address, node)?;
        let next_name = self.cluster.node(next).name().to_owned();
        self.see(
            &Witness::Client,
            &format!("{next_name} answers at {address}"),
            SOON,
            |cluster| answered_by(cluster, address, next),
            |()| format!("{next_name} answers at {address} meanwhile"),
        )?;
        self.show_ip(node, "route show default");
        self.show_ip(node, &format!("addr show dev {VIRTUAL}"));
        self.show_errors();

        self.act(&format!("on {name}: ip route del {route}"), |cluster| {
            ip(cluster.node(node), &format!("route del {route}"))
        })?;
        self.see_return(address, node)?;
        self.see(
            &Witness::Sysctl(name),
            "arp_ignore is 0 again",
            SOON,
            |cluster| arp_ignore(cluster, node, "0"),
            |()| format!("arp_ignore of {LAN} is what it was, 0"),
        )?;
        self.show_errors();
        Ok(())
    }

    pub(super) fn delete_the_services(&mut self) -> Result<(), Halt> {
        self.story.step("The Services are deleted, and nothing stays");
        self.act("deleting \"web\" and \"web-routed\"", |cluster| {
            let client = cluster.api().client();
            client.delete(&ObjectPath::service("web"))?;
            client.delete(&ObjectPath::service("web-routed"))
        })?;
        let addresses = [self.local.both(), self.routed.both()].concat();
        self.see(
            &Witness::Ip("each node".into()),
            "no node has any of their addresses",
            SOON,
            |cluster| (0..nodes(cluster)).try_for_each(|node| gone(cluster, node, &addresses)),
            |()| "no node has any of their addresses on any interface".into(),
        )?;
        let untouched = std::mem::take(&mut self.untouched);
        self.see(
            &Witness::Ip("each node".into()),
            "eth0 is as it was",
            SOON,
            |cluster| as_before(cluster, &untouched),
            |()| format!("{LAN} is on each node as it was before the agents came"),
        )?;
        self.see(
            &Witness::Client,
            "nobody answers",
            Duration::from_secs(5),
            |cluster| match answer(cluster, addresses[0]) {
                Ok(node) => Err(Glance::NotYet(format!("{node} answers"))),
                Err(_) => Ok(()),
            },
            |()| format!("nobody answers at {}", addresses[0]),
        )?;
        self.show_errors();
        Ok(())
    }

    fn see_successor(&mut self, address: IpAddr, former: usize) -> Result<usize, Halt> {
        let names: Vec<_> =
            self.cluster.topology().nodes().iter().map(|node| node.name().to_owned()).collect();
        self.see(
            &Witness::Ip("each node".into()),
            &format!("another node has {address} on {LAN}"),
            AFTER_A_LEASE,
            |cluster| successor(cluster, address, former),
            |&node| format!("{}, and no other, has {address} on {LAN}", names[node]),
        )
    }

    /// Sees `address` back on the LAN interface of `node`, where it belongs, and the client served.
    fn see_return(&mut self, address: IpAddr, node: usize) -> Result<(), Halt> {
        let name = self.cluster.node(node).name().to_owned();
        self.see(
            &Witness::Ip("each node".into()),
            &format!("{name} has {address} on {LAN} again"),
            AFTER_A_LEASE,
            |cluster| {
                let (holder, _) = super::looks::holder(cluster, address)?;
                let names = (cluster.node(holder).name(), &name);
                if holder == node {
                    Ok(())
                } else {
                    Err(Glance::NotYet(format!("{} has {address}, not yet {}", names.0, names.1)))
                }
            },
            |()| format!("{name}, and no other, has {address} on {LAN} again"),
        )?;
        self.see(
            &Witness::Client,
            &format!("{name} answers at {address}"),
            SOON,
            |cluster| answered_by(cluster, address, node),
            |()| format!("{name} answers at {address}"),
        )
    }
}

/// That each node's LAN interface has the addresses it had.
fn as_before(
    cluster: &Cluster,
    untouched: &[Vec<crate::lab::observe::Link>],
) -> Result<(), Glance> {
    for (node, before) in cluster.topology().nodes().iter().zip(untouched) {
        let now = links(node)?;
        let (before, now) =
            (before.iter().find(|l| l.name == LAN), now.iter().find(|l| l.name == LAN));
        let addresses = |link: Option<&crate::lab::observe::Link>| {
            let mut addresses: Vec<_> = link.into_iter().flat_map(|l| &l.addresses).collect();
            addresses.sort_by_key(|address| address.local);
            addresses.into_iter().cloned().collect::<Vec<_>>()
        };
        let (before, now) = (addresses(before), addresses(now));
        if before != now {
            let name = node.name();
            return Err(Glance::NotYet(format!("{name} had {before:?}, and has {now:?}")));
        }
    }
    Ok(())
}
