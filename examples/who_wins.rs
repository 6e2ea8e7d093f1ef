//! Who wins this address? Names the node that would hold it, and who would come next.
//!
//! ```console
//! $ cargo run -p purelb-examples --example who_wins -- 192.0.2.100 node1 node2 node3
//! node1 wins 192.0.2.100
//! node3 would be next for 192.0.2.100
//! node2 would be next for 192.0.2.100
//! ```

use std::net::IpAddr;
use std::process::ExitCode;

use purelb_core::election::winner;
use purelb_core::name::NodeName;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(ip) = args.next().and_then(|text| text.parse::<IpAddr>().ok()) else {
        eprintln!("usage: who_wins ADDRESS NODE...");
        return ExitCode::from(2);
    };
    let mut nodes: Vec<NodeName> = args.map(NodeName::from).collect();
    let mut verb = "wins";
    while let Some(node) = winner(ip, &nodes).cloned() {
        println!("{node} {verb} {ip}");
        nodes.retain(|other| *other != node);
        verb = "would be next for";
    }
    ExitCode::SUCCESS
}
