//! What clusters of many nodes ask of the Kubernetes API, and how many addresses move when a node
//! fails: a table, by number of nodes and lease duration.
//!
//! ```sh
//! cargo run --release -p purelb-core --example scale
//! cargo run --release -p purelb-core --example scale -- --nodes 10,100 --addresses 1000 --leases 5,30
//! ```

#![allow(clippy::disallowed_methods, reason = "a program has arguments")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use purelb_core::name::NodeName;
use purelb_core::sim::{FaultKind, Layout, Report, ServiceKind, Setup, Simulation};

/// How long the steady state is watched.
const WATCHED: Duration = Duration::from_secs(60);

struct Options {
    nodes: Vec<usize>,
    addresses: usize,
    leases: Vec<u64>,
}

/// What was seen of one cluster.
struct Row {
    /// Writes of leases.
    steady: Report,
    /// Of the failed node's addresses, how many moved, and of all others.
    moved: (usize, usize),
    /// From the failure until every address is where it belongs, at most.
    failed: Report,
    /// After the node came back: of the addresses that it wins, how many moved, and of all others.
    returned: (usize, usize),
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{} addresses. Per second, over {} s in which nothing happens:\n",
        options.addresses,
        WATCHED.as_secs()
    );
    println!(
        "| nodes | lease | lease writes of a node | of all nodes | watch events of a node | of all nodes \
         | a node fails: its addresses that move | others | writes of leases meanwhile | it returns: addresses that it takes | others |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for nodes in &options.nodes {
        for lease in &options.leases {
            match row(*nodes, options.addresses, Duration::from_secs(*lease)) {
                Ok(row) => print(*nodes, *lease, &row),
                Err(why) => {
                    eprintln!("{nodes} nodes, lease {lease} s: {why}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { nodes: vec![10, 100, 300], addresses: 1_000, leases: vec![5, 10, 30] };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let unreadable = |error| format!("{name} {value}: {error}: write numbers such as 10,100");
        match name.as_str() {
            "--nodes" => options.nodes = list(&value).map_err(unreadable)?,
            "--addresses" => options.addresses = value.parse().map_err(unreadable)?,
            "--leases" => options.leases = list(&value).map_err(unreadable)?,
            _ => return Err(format!("{name} is not known: --nodes, --addresses and --leases are")),
        }
    }
    Ok(options)
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}

fn row(nodes: usize, addresses: usize, lease: Duration) -> Result<Row, String> {
    let mut setup = Setup::new(1, nodes);
    setup.layout = Layout::Large;
    for node in &mut setup.nodes {
        node.duration = lease;
    }
    let mut sim = Simulation::new(&setup);
    sim.run_for(lease * 2 + Duration::from_secs(5));
    settle(&mut sim)?;
    for _ in 0..addresses {
        sim.create_service(ServiceKind::Plain);
    }
    settle(&mut sim)?;

    let before = sim.report().clone();
    sim.run_for(WATCHED);
    let steady = since(&before, sim.report());

    let full = held(&sim);
    let victim = full.values().next().ok_or("nobody holds anything")?.clone();
    let number = (0..nodes).find(|node| *sim.name(*node) == victim).ok_or("an unknown holder")?;
    let before = sim.report().clone();
    sim.fault(FaultKind::Killed, number, lease * 3);
    settle(&mut sim)?;
    let failed = since(&before, sim.report());
    let without = held(&sim);
    let moved = moved(&full, &without, |holder, _| *holder == victim);

    sim.run_for(lease * 3);
    sim.run_for(lease);
    settle(&mut sim)?;
    let returned = self::moved(&without, &held(&sim), |_, holder| *holder == victim);
    Ok(Row { steady, moved, failed, returned })
}

/// Lets everything come to its place.
fn settle(sim: &mut Simulation) -> Result<(), String> {
    sim.run_for(sim.patience());
    sim.check_places();
    sim.violation().map_or(Ok(()), |violation| Err(violation.to_string()))
}

fn held(sim: &Simulation) -> BTreeMap<IpAddr, NodeName> {
    let one = |ip: IpAddr| Some((ip, sim.holders(ip).first()?.clone()));
    sim.addresses().into_iter().filter_map(one).collect()
}

/// How many addresses have another holder now: those expected to, by their holders, and others.
fn moved(
    before: &BTreeMap<IpAddr, NodeName>,
    after: &BTreeMap<IpAddr, NodeName>,
    is_expected: impl Fn(&NodeName, &NodeName) -> bool,
) -> (usize, usize) {
    let pairs = before.iter().filter_map(|(ip, holder)| Some((holder, after.get(ip)?)));
    let (expected, others): (Vec<_>, Vec<_>) = pairs
        .filter(|(before, after)| before != after)
        .partition(|(before, after)| is_expected(before, after));
    (expected.len(), others.len())
}

fn since(before: &Report, after: &Report) -> Report {
    Report {
        lease_writes: after.lease_writes - before.lease_writes,
        watch_events: after.watch_events - before.watch_events,
        ..Report::default()
    }
}

fn print(nodes: usize, lease: u64, row: &Row) {
    let rate = |count: u64, of: usize| count as f64 / WATCHED.as_secs_f64() / of as f64;
    println!(
        "| {nodes} | {lease} s | {:.2} | {:.0} | {:.1} | {:.0} | {} | {} | {} | {} | {} |",
        rate(row.steady.lease_writes, nodes),
        rate(row.steady.lease_writes, 1),
        rate(row.steady.watch_events, nodes),
        rate(row.steady.watch_events, 1),
        row.moved.0,
        row.moved.1,
        row.failed.lease_writes,
        row.returned.0,
        row.returned.1,
    );
}
