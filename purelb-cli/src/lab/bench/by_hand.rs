//! What the kernel alone takes to move a node's addresses to others, without agents.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Instant;

use ipnet::IpNet;
use purelb_core::host::{AddressKey, LinkIndex};
use purelb_core::kernel::{KernelAction, KernelOutcome, Lifetime, NewAddress};
use purelb_core::store::Object;
use purelb_core::time::Origin;
use purelb_netlink::Kernel;

use super::BenchError;
use super::figures::Spread;
use super::scene::Scene;
use crate::lab::namespace::Namespace;

/// As on a local interface, long enough for any measurement.
const LIFETIME: Lifetime = Lifetime::Seconds(3600);

/// Gives each node `of_node` addresses, half of either family, and then moves those of the first to
/// the others: they are taken off, and put on, by the same requests as an agent's, as many at once as
/// there are. From the first request to each address being seen on its new node.
pub(super) fn moves(scene: &mut Scene, of_node: usize) -> Result<Spread, BenchError> {
    let count = scene.cluster.topology().nodes().len();
    let nets: Vec<Vec<IpNet>> =
        (0..count).map(|node| (0..of_node).map(|n| net(node * of_node + n)).collect()).collect();
    for (node, nets) in scene.cluster.topology().nodes().iter().zip(&nets) {
        ask(node, nets, add)?;
    }
    scene.until("addresses", Scene::NOW_AND_THEN, |seen| seen.held() == of_node * count)?;

    let moved = &nets[0];
    let begin = Instant::now();
    let [first, others @ ..] = scene.cluster.topology().nodes() else {
        return Ok([].into_iter().collect());
    };
    ask(first, moved, remove)?;
    let shares = moved.chunks(moved.len().div_ceil(others.len().max(1)).max(1));
    thread::scope(|scope| {
        let mut asked = Vec::new();
        for (node, share) in others.iter().zip(shares) {
            asked.push(scope.spawn(move || ask(node, share, add)));
        }
        asked.into_iter().try_for_each(|asked| match asked.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    scene.until("addresses on others", Scene::OFTEN, |seen| seen.held() == of_node * count)?;
    let spread = {
        let seen = scene.sight.look();
        let arrivals = moved.iter().filter_map(|net| seen.appeared.get(&net.addr()));
        arrivals.map(|at| at.saturating_duration_since(begin)).collect()
    };
    let everything: Vec<IpNet> = nets.concat();
    for node in scene.cluster.topology().nodes() {
        ask(node, &everything, remove)?;
    }
    scene.until("their end", Scene::NOW_AND_THEN, |seen| seen.held() == 0)?;
    Ok(spread)
}

/// Addresses of the nodes' second subnet that no pool has.
fn net(number: usize) -> IpNet {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let (ip, length): (IpAddr, u8) = match number % 2 {
        0 => (Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 128, 0)) + number).into(), 16),
        _ => {
            let base = u128::from(Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 2, 0));
            (Ipv6Addr::from(base + u128::from(number)).into(), 64)
        }
    };
    IpNet::new_assert(ip, length)
}

fn add(link: LinkIndex, net: IpNet) -> KernelAction {
    let deprecated = net.addr().is_ipv6();
    KernelAction::AddAddress(NewAddress {
        link,
        net,
        lifetime: LIFETIME,
        deprecated,
        no_prefix_route: true,
    })
}

fn remove(link: LinkIndex, net: IpNet) -> KernelAction {
    KernelAction::RemoveAddress(AddressKey { link, net })
}

/// Asks the kernel of a node about these addresses on its card, all at once.
fn ask(
    node: &Namespace,
    nets: &[IpNet],
    action: fn(LinkIndex, IpNet) -> KernelAction,
) -> Result<(), BenchError> {
    let outcomes = node.run(|| -> Result<Vec<KernelOutcome>, BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _guard = runtime.enter();
        let kernel = Kernel::open(Origin::new(Instant::now()));
        let mut kernel = kernel.map_err(|error| std::io::Error::other(error.to_string()))?;
        let card = kernel.mirror().links().find(|link| link.name == "eth0").map(|link| link.key());
        let card = card.ok_or_else(|| std::io::Error::other("there is no eth0"))?;
        Ok(kernel.apply(nets.iter().map(|net| action(card, *net)).collect()))
    })??;
    match outcomes.into_iter().find_map(|outcome| outcome.result.err()) {
        Some(error) => Err(std::io::Error::other(error.to_string()).into()),
        None => Ok(()),
    }
}
