//! Pods: namespaces of their own behind the nodes, each with a small server.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ip::ip_batch;
use super::namespace::Namespace;
use super::topology::{Topology, TopologyError, create, sysctl};

/// The pods' addresses of both families, over all nodes.
pub const RANGES: &str = "10.244.0.0/16,fd00:244::/48";

/// The label by which Services find the pods: `app: web`.
pub const APP: &str = "web";

/// A pod, alone on its node.
#[derive(Debug)]
pub struct Pod {
    /// Where it lives.
    pub namespace: Namespace,
    /// The node it is on.
    pub node: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pod {
    /// Gives each node a pod, `pod1` on the first, and lets the nodes carry packets to them and to
    /// each other's, as a network plugin would.
    pub fn on_each_node(topology: &Topology) -> Result<Vec<Self>, TopologyError> {
        let numbers = 1..=topology.nodes().len() as u8;
        let pods = numbers.clone().zip(topology.nodes());
        let pods = pods.map(|(number, node)| Self::attach(number, node));
        let pods = pods.collect::<Result<Vec<_>, TopologyError>>()?;
        for (number, node) in numbers.zip(topology.nodes()) {
            let mut commands = String::new();
            for (other, gateway) in (1..).zip(topology.node_addresses()) {
                if other != number {
                    for (net, via) in [(net4(other), gateway.0), (net6(other), gateway.1)] {
                        let _ = writeln!(commands, "route add {net} via {via}");
                    }
                }
            }
            ip_batch(node, &commands)?;
        }
        Ok(pods)
    }

    fn attach(number: u8, node: &Namespace) -> Result<Self, TopologyError> {
        let namespace = create(&format!("pod{number}"))?;
        for variable in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            sysctl(node, variable, "1")?;
        }
        let (v4, v6) = (address4(number, 2), address6(number, 2));
        let (gateway4, gateway6) = (address4(number, 1), address6(number, 1));
        ip_batch(
            node,
            &format!(
                "link add pods type veth peer name eth0 netns {}\n\
                 addr add {gateway4}/24 dev pods\n\
                 addr add {gateway6}/64 dev pods nodad\n\
                 link set dev pods up\n",
                namespace.path()
            ),
        )?;
        sysctl(&namespace, "net/ipv6/conf/eth0/accept_dad", "0")?;
        ip_batch(
            &namespace,
            &format!(
                "addr add {v4}/24 dev eth0\n\
                 addr add {v6}/64 dev eth0 nodad\n\
                 link set dev eth0 up\n\
                 route add default via {gateway4}\n\
                 route add ::/0 via {gateway6}\n"
            ),
        )?;
        Ok(Self { namespace, node: node.name().to_owned(), v4, v6 })
    }

    /// Its address of one family.
    pub fn address(&self, like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        }
    }

    /// The pod as the API is to have it, in YAML. The label `host` is its node's name, so that a
    /// Service can have endpoints on some nodes alone.
    pub fn object(&self) -> String {
        let (name, node) = (self.namespace.name(), &self.node);
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default, \
             labels: {{app: {APP}, host: {node}}}}}, spec: {{nodeName: {node}, \
             containers: [{{name: responder, image: none}}]}}}}"
        )
    }

    /// Its status, likewise.
    pub fn status(&self) -> String {
        let (name, v4, v6) = (self.namespace.name(), self.v4, self.v6);
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, status: \
             {{phase: Running, podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}], \
             conditions: [{{type: Ready, status: 'True'}}]}}}}"
        )
    }
}

/// The addresses of the pods of a node.
pub fn net4(node: u8) -> String {
    format!("{}/24", address4(node, 0))
}

/// The IPv6 ones.
pub fn net6(node: u8) -> String {
    format!("{}/64", address6(node, 0))
}

fn address4(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, host)
}

fn address6(node: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x244, 0, node.into(), 0, 0, 0, host.into())
}
