//! GoBGP on the nodes, with a script beside it that tells it what is there; BIRD in the router, for
//! GoBGP by itself brings no route into a kernel.

use std::net::Ipv4Addr;
use std::path::Path;

use super::{Arrangement, Protocol, Role, RoutingError, bird, find};

const NODE: &str = include_str!("../../../../examples/routing/gobgp/gobgpd.conf");
const FOLLOW: &str = include_str!("../../../../examples/routing/gobgp/follow-kube-lb0");

/// The router id in the file, of which each node has another.
const EXAMPLE_ID: &str = "router-id = \"192.0.2.11\"";

/// Runs both, and ends both when one ends.
const SCRIPT: &str = "
    gobgpd -f $0/gobgpd.conf -p &
    exec bash $0/follow-kube-lb0";

/// Checks that it can be run.
pub(super) fn check() -> Result<(), RoutingError> {
    find("gobgpd", "gobgpd")?;
    bird::program().map(drop)
}

pub(super) fn arrange(
    protocol: Protocol,
    role: Role,
    router_id: Ipv4Addr,
    directory: &Path,
) -> Result<Arrangement, RoutingError> {
    match role {
        Role::Router => bird::arrange(protocol, role, router_id, directory),
        Role::Node => {
            let text = NODE.replace(EXAMPLE_ID, &format!("router-id = \"{router_id}\""));
            let own = ["--pid", "--fork", "--kill-child", "sh", "-ec", SCRIPT];
            let own = own.into_iter().map(str::to_owned);
            Ok(Arrangement {
                image: find("unshare", "util-linux")?,
                arguments: own.chain([directory.display().to_string()]).collect(),
                files: vec![("gobgpd.conf", text), ("follow-kube-lb0", FOLLOW.to_owned())],
            })
        }
    }
}
