//! What the election costs in a large cluster, for the budgets of the design (§10): the winners of 1,000
//! addresses among 500 leases in 100 ms, and one change of a lease in 1 ms.
//!
//! `cargo bench -p purelb-core --bench membership`

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use purelb_core::election::Winners;
use purelb_core::lease::{Lease, LeaseContent, LeaseEvent, Version};
use purelb_core::membership::{DEFAULT_DURATION, HostReport, Membership, Settings};
use purelb_core::time::Tick;
use sha2::{Digest, Sha256};

const LEASES: u64 = 500;

fn lease(n: u64, version: u64) -> Lease {
    let content = LeaseContent {
        duration: DEFAULT_DURATION,
        subnets: ["10.0.0.0/8", "fd00::/64"].map(|net| net.parse().expect("well formed")).into(),
        join: Some(1),
        seen: Some(Version(version - 1)),
        attempt: version,
        ..LeaseContent::default()
    };
    let node = format!("node-{n:03}").as_str().into();
    Lease { node, version: Version(version), uid: format!("uid-{n}").as_str().into(), content }
}

fn agent() -> Membership {
    let mut agent = Membership::new(Settings {
        node: "node-me".into(),
        boot_id: "boot".into(),
        instance: "1".into(),
        duration: DEFAULT_DURATION,
    });
    let leases = (0..LEASES).map(|n| lease(n, n + 1)).collect();
    let listed = LeaseEvent::Listed { leases, version: Version(LEASES) };
    let _ = agent.handle_lease(listed, Tick::START);
    let report = HostReport { is_settled: true, ..HostReport::default() };
    let _ = agent.handle_host(report, Tick::START);
    agent
}

fn membership(criterion: &mut Criterion) {
    let mut agent = agent();
    // As many hashes of as much text as that election takes.
    criterion.bench_function("alone_500000_hashes", |bencher| {
        bencher.iter(|| {
            for n in 0..500_000_u32 {
                let text = [&n.to_be_bytes()[..], b"node#192.0.2.123"].concat();
                black_box(Sha256::digest(text));
            }
        });
    });
    criterion.bench_function("winners_of_1000_addresses_among_500_leases", |bencher| {
        let addresses = (0..1000_u32).map(|n| IpAddr::from((0x0a00_0001 + n).to_be_bytes()));
        let addresses: Vec<IpAddr> = addresses.collect();
        bencher.iter(|| {
            for ip in &addresses {
                black_box(agent.standing(*ip, false));
            }
        });
    });
    criterion.bench_function("one_of_500_leases_comes_or_goes_for_1000_addresses", |bencher| {
        let addresses = (0..1000_u32).map(|n| IpAddr::from((0x0a00_0001 + n).to_be_bytes()));
        let addresses: Vec<IpAddr> = addresses.collect();
        let leases: Vec<_> = (0..LEASES).map(|n| lease(n, n + 1)).collect();
        let (mut winners, mut is_there) = (Winners::default(), true);
        bencher.iter(|| {
            is_there = !is_there;
            let live = if is_there { &leases[..] } else { &leases[1..] };
            winners.stand(live.iter().map(|lease| (&lease.node, &lease.content)));
            for ip in &addresses {
                black_box(winners.winner(*ip, false));
            }
        });
    });
    criterion.bench_function("one_lease_changes", |bencher| {
        let mut version = LEASES;
        bencher.iter(|| {
            version += 1;
            let event = LeaseEvent::Updated(lease(version % LEASES, version));
            let _ = black_box(agent.handle_lease(event, Tick::START));
            black_box(agent.poll_timeout())
        });
    });
}

criterion_group!(benches, membership);
criterion_main!(benches);
