//! FRR, started as Debian's init script starts it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use super::{Arrangement, Protocol, Role, RoutingError, find};
use crate::lab::privilege;

const DAEMONS_BGP: &str = include_str!("../../../../examples/routing/frr/daemons-bgp");
const DAEMONS_OSPF: &str = include_str!("../../../../examples/routing/frr/daemons-ospf");
const NODE_BGP: &str = include_str!("../../../../examples/routing/frr/node-bgp.conf");
const NODE_OSPF: &str = include_str!("../../../../examples/routing/frr/node-ospf.conf");
const ROUTER_BGP: &str = include_str!("../../../../examples/routing/frr/router-bgp.conf");
const ROUTER_OSPF: &str = include_str!("../../../../examples/routing/frr/router-ospf.conf");

/// The router id in the files for nodes, of which each node has another.
const EXAMPLE_ID: &str = "router-id 192.0.2.11\n";

/// Runs FRR in namespaces of its own for mounts and processes: there its directories are the usual
/// ones, and its daemons, which become another user and leave their parents, end with this shell.
const SCRIPT: &str = "
    mount --bind $0/etc /etc/frr
    mount --bind $0/run /run/frr
    mount -t tmpfs tmpfs /var/tmp
    mount -t proc proc /proc
    chown -R frr:frr /etc/frr /run/frr
    /usr/lib/frr/frrinit.sh start
    exec sleep infinity";

/// Checks that it can be run.
pub(super) fn check() -> Result<(), RoutingError> {
    find("frrinit.sh", "frr")?;
    if privilege::is_of_the_machine() { Ok(()) } else { Err(RoutingError::NotOfTheMachine) }
}

pub(super) fn arrange(
    protocol: Protocol,
    role: Role,
    router_id: Ipv4Addr,
    directory: &Path,
) -> Result<Arrangement, RoutingError> {
    let text = match (protocol, role) {
        (Protocol::Bgp, Role::Node) => NODE_BGP,
        (Protocol::Bgp, Role::Router) => ROUTER_BGP,
        (Protocol::Ospf, Role::Node) => NODE_OSPF,
        (Protocol::Ospf, Role::Router) => ROUTER_OSPF,
    };
    let daemons = match protocol {
        Protocol::Bgp => DAEMONS_BGP,
        Protocol::Ospf => DAEMONS_OSPF,
    };
    let text = text.replace(EXAMPLE_ID, &format!("router-id {router_id}\n"));
    let own = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", SCRIPT];
    let own = own.into_iter().map(str::to_owned);
    Ok(Arrangement {
        image: find("unshare", "util-linux")?,
        arguments: own.chain([directory.display().to_string()]).collect(),
        files: vec![
            ("etc/daemons", daemons.to_owned()),
            ("etc/frr.conf", text),
            ("etc/vtysh.conf", String::new()),
            ("run/.here", String::new()),
        ],
    })
}

pub(super) fn question(directory: &Path) -> String {
    format!("vtysh --vty_socket {} -c 'show ip route'", directory.join("run").display())
}

pub(super) fn bfd(directory: &Path) -> Command {
    let mut command = Command::new("vtysh");
    command.arg("--vty_socket").arg(directory.join("run")).args(["-c", "show bfd peers brief"]);
    command
}
