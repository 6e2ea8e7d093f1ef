//! What happens to addresses when a node dies? Simulates a cluster of three, kills the holder of an
//! address, and tells who had it when. Nothing sleeps; the same number gives the same history.
//!
//! ```console
//! $ cargo run -p purelb-examples --example simulate_failover -- 7
//! node-1 holds 192.0.2.100 and is killed
//!      5.0458  node-2     puts 192.0.2.100 on eth0 for 3 s
//!      5.7945  node-2     takes off 192.0.2.100, on eth0
//!      5.7970  node-1     puts 192.0.2.100 on eth0 for 3 s
//!     18.3671  node-1     is over: the kernel removes 192.0.2.100, on eth0
//!     19.7352  node-3     puts 192.0.2.100 on eth0 for 3 s
//!     40.0075  node-3     takes off 192.0.2.100, on eth0
//!     40.0104  node-1     puts 192.0.2.100 on eth0 for 3 s
//! ```

use std::process::ExitCode;
use std::time::Duration;

use purelb_core::sim::{EntryKind, FaultKind, Setup, Simulation};

const NODES: usize = 3;

fn main() -> ExitCode {
    let Some(Ok(seed)) = std::env::args().nth(1).map(|text| text.parse()) else {
        eprintln!("usage: simulate_failover NUMBER");
        return ExitCode::from(2);
    };
    let mut setup = Setup::new(seed, NODES).with_services(1);
    setup.is_told = true;
    let mut sim = Simulation::new(&setup);
    sim.run_for(Duration::from_secs(15));
    let Some(ip) = sim.addresses().first().copied() else { return ExitCode::FAILURE };
    let holds = |node: &usize| sim.holders(ip).contains(sim.name(*node));
    let Some(holder) = (0..NODES).find(holds) else { return ExitCode::FAILURE };
    println!("{} holds {ip} and is killed", sim.name(holder));
    sim.fault(FaultKind::Killed, holder, Duration::from_secs(20));
    sim.run_for(Duration::from_secs(40));
    for entry in sim.story().into_iter().flat_map(|story| story.of(ip)) {
        if matches!(entry.kind, EntryKind::Appears | EntryKind::Disappears) {
            println!("{entry}");
        }
    }
    match sim.violation() {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
