//! Which interface of this host would take local addresses? Reads the kernel's links and routes, no
//! Kubernetes needed, and tells for each family what interface election says.
//!
//! ```console
//! $ cargo run -p purelb-examples --example which_interface
//! IPv4: eth0, for addresses in 192.0.2.0/24
//! IPv6: eth0, for addresses in 2001:db8:1::/64
//! ```

use std::error::Error;

use purelb_core::host::Family;
use purelb_core::link::{Policy, elect, subnets};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = purelb_netlink::snapshot()?;
    let routes = host.routes();
    for family in Family::BOTH {
        match elect(family, host.links(), &routes, &Policy::default()) {
            Ok(index) => {
                let name = host.link(index).map_or("?", |link| &link.name);
                let subnets = subnets(family, index, host.addresses(), &routes);
                let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
                println!("{family}: {name}, for addresses in {}", subnets.join(", "));
            }
            Err(why) => println!("{family}: {}", why.describe(host.links())),
        }
    }
    Ok(())
}
