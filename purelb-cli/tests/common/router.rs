//! What the router of a lab knows, when it came to know it, and what there is for it to know.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use purelb_cli::lab::cluster::Cluster;
use purelb_cli::lab::namespace::Namespace;
use purelb_cli::lab::observe::{links, routes};
use purelb_cli::lab::traffic::Traffic;

use super::lab::eventually;

/// Destinations as `ip route` prints them, and the numbers of the nodes that each is reached by.
pub(crate) type Known = BTreeMap<String, BTreeSet<usize>>;

/// How the networks begin that nodes tell of.
const TOLD: [&str; 4] = ["198.51.100.", "198.18.", "2001:db8:2:", "2001:db8:18:"];

/// The nodes by the addresses that a router may send to.
pub(crate) struct Neighbours(BTreeMap<IpAddr, usize>);

impl Neighbours {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut found = BTreeMap::new();
        for (number, node) in cluster.topology().nodes().iter().enumerate() {
            let eth0 = links(node).unwrap().into_iter().find(|link| link.name == "eth0").unwrap();
            found.extend(eth0.addresses.iter().map(|address| (address.local, number)));
        }
        Self(found)
    }

    /// What the router has learnt by now.
    pub(crate) fn known(&self, cluster: &Cluster) -> Known {
        let routes = routes(cluster.topology().router()).unwrap();
        let told = routes.into_iter().filter(|route| is_told(&route.destination));
        let known = told.map(|route| {
            let several = route.next_hops.iter().filter_map(|hop| hop.gateway);
            let gateways = route.gateway.into_iter().chain(several);
            (route.destination, gateways.map(|gateway| self.0[&gateway]).collect())
        });
        known.collect()
    }
}

fn is_told(destination: &str) -> bool {
    TOLD.iter().any(|network| destination.starts_with(network))
}

/// `ip monitor`, with the moment of each line. Killed when dropped.
pub(crate) struct Monitor {
    child: Child,
    reader: Option<JoinHandle<()>>,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Monitor {
    /// Listens for `what`, `route` or `address`.
    pub(crate) fn start(namespace: &Namespace, what: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["-o", "monitor", what]).stdout(Stdio::piped());
        let mut child = namespace.spawn(command).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::default();
        let theirs: Arc<Mutex<Vec<_>>> = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = (Instant::now(), line);
                theirs.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, reader: Some(reader), lines }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<(Instant, String)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines about what the nodes tell of.
    pub(crate) fn told(&self) -> Vec<String> {
        let lines = self.lines().into_iter().map(|(_, line)| line);
        lines.filter(|line| is_told(destination(line))).collect()
    }

    /// When the last line came that holds the text.
    pub(crate) fn last(&self, text: &str) -> Option<Instant> {
        self.lines().iter().rfind(|(_, line)| line.contains(text)).map(|(moment, _)| *moment)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// What a line of `ip monitor route` is about.
fn destination(line: &str) -> &str {
    line.trim_start_matches("Deleted ").split(' ').next().unwrap_or_default()
}

/// The netlink sockets in a namespace for which the kernel had no room when it had something to tell,
/// as `/proc/net/netlink` has them.
pub(crate) fn overruns(namespace: &Namespace) -> Vec<String> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/netlink");
    let table = namespace.run(read).unwrap().unwrap();
    let mut lines = table.lines();
    let column = lines.next().unwrap().split_whitespace().position(|name| name == "Drops").unwrap();
    let has_lost = |line: &&str| line.split_whitespace().nth(column).unwrap() != "0";
    lines.filter(has_lost).map(str::to_owned).collect()
}

/// A Service of a group, with that `externalTrafficPolicy`.
pub(crate) fn service(name: &str, group: &str, policy: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default, annotations: \
         {{purelb.io/service-group: {group}}}}}, spec: {{type: LoadBalancer, externalTrafficPolicy: \
         {policy}, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], selector: {{app: web}}, \
         ports: [{{port: 80}}]}}}}"
    )
}

/// How many addresses of the group `hosts` a node has.
pub(crate) fn many(node: &Namespace) -> usize {
    let links = links(node).unwrap();
    let dummy = links.iter().filter(|link| link.name == "kube-lb0");
    let addresses = dummy.flat_map(|link| &link.addresses);
    let is_one = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[..2] == [198, 18] && v4.octets()[2] > 0,
        IpAddr::V6(v6) => v6.segments()[..5] == [0x2001, 0xdb8, 2, 0, 1],
    };
    addresses.filter(|address| is_one(&address.local)).count()
}

/// Waits until each client has got one answer more.
pub(crate) fn answered(traffic: &[Traffic]) {
    let before: Vec<_> = traffic.iter().map(Traffic::answered).collect();
    for (client, before) in traffic.iter().zip(before) {
        eventually(|| match client.answered() {
            answered if answered > before => Ok(()),
            answered => Err(format!("{client:?} has {answered} answers")),
        });
    }
}
