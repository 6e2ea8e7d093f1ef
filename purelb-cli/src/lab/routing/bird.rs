//! BIRD 2.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Arrangement, Protocol, Role, RoutingError, find};

const NODE_BGP: &str = include_str!("../../../../examples/routing/bird/node-bgp.conf");
const NODE_OSPF: &str = include_str!("../../../../examples/routing/bird/node-ospf.conf");
const ROUTER_BGP: &str = include_str!("../../../../examples/routing/bird/router-bgp.conf");
const ROUTER_OSPF: &str = include_str!("../../../../examples/routing/bird/router-ospf.conf");

/// Where it listens for `birdc`.
const CONTROL: &str = "bird.ctl";

pub(super) fn program() -> Result<PathBuf, RoutingError> {
    find("bird", "bird2")
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
    let file = |name: &str| directory.join(name).display().to_string();
    let options = [("-c", "bird.conf"), ("-s", CONTROL), ("-P", "bird.pid")];
    let options = options.into_iter().flat_map(|(option, name)| [option.to_owned(), file(name)]);
    Ok(Arrangement {
        image: program()?,
        arguments: ["-f".to_owned()].into_iter().chain(options).collect(),
        files: vec![
            ("bird.conf", text.to_owned()),
            ("this-node.conf", format!("router id {router_id};\n")),
        ],
    })
}

pub(super) fn question(directory: &Path) -> String {
    format!("birdc -s {} show route", directory.join(CONTROL).display())
}

pub(super) fn bfd(directory: &Path) -> Command {
    let mut command = Command::new("birdc");
    command.arg("-s").arg(directory.join(CONTROL)).args(["show", "bfd", "sessions"]);
    command
}
