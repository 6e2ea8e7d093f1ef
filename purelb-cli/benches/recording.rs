//! What recording costs an allocator: time for each fact, and memory.
//!
//! `cargo bench -p purelb-cli --bench recording`

#![allow(clippy::unwrap_used, reason = "a benchmark says by panicking what is wrong")]

use std::time::{Duration, Instant};

use purelb_cli::recording::{Bytes, Recorded};
use purelb_core::allocator::{Allocator, Event, Settings, Written};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;
use purelb_core::store::Change;

fn main() {
    println!(
        "| Services | a fact, without | with | the slowest, without | with | kept in memory |\n\
         |---|---|---|---|---|---|"
    );
    for services in [10, 330, 10_000] {
        // The first of each pair warms up.
        let [_, without] = [(); 2].map(|()| measured(services, Bytes(0)));
        let [_, with] = [(); 2].map(|()| measured(services, Bytes::DEFAULT));
        println!(
            "| {services} | {:.1?} | {:.1?} | {:.1?} | {:.1?} | {} KiB |",
            without.median,
            with.median,
            without.slowest,
            with.slowest,
            with.kept >> 10
        );
    }
}

struct Cost {
    median: Duration,
    slowest: Duration,
    /// In bytes.
    kept: usize,
}

/// So many Services come one after the other, each is given an address, and then each changes a few times.
fn measured(services: u32, size: Bytes) -> Cost {
    let start = Instant::now();
    let mut machine = Recorded::<Allocator>::new((), "bench", size, start);
    for event in beginning() {
        machine.handle_event(event, Instant::now());
    }
    while machine.poll_action().is_some() {}
    let mut spans = Vec::new();
    for round in 0..4 {
        for number in 0..services {
            let key = ServiceKey::new("shop", format!("s{number}"));
            let mut service = Service::new(key, format!("u{number}").as_str());
            service.version = format!("{round}").as_str().into();
            let began = Instant::now();
            machine.handle_event(Event::Services(Change::Updated(service)), began);
            let mut tickets = Vec::new();
            while let Some(action) = machine.poll_action() {
                if let purelb_core::allocator::Action::Patch(patch) = action {
                    tickets.push(patch.ticket);
                }
            }
            spans.push(began.elapsed());
            for ticket in tickets {
                let written = Event::Written { ticket, result: Written::Accepted };
                machine.handle_event(written, Instant::now());
            }
            while machine.poll_action().is_some() {}
        }
    }
    spans.sort();
    let kept = machine.recorder().map_or(0, |recorder| recorder.size());
    Cost { median: spans[spans.len() / 2], slowest: spans[spans.len() - 1], kept }
}

fn beginning() -> [Event; 4] {
    let pool = |pool: &str| PoolSpec {
        field: "v4pool".into(),
        pool: pool.into(),
        subnet: "10.0.0.0/8".into(),
        aggregation: None,
    };
    let pools = PoolsSpec { v4: vec![pool("10.0.0.0/16")], ..PoolsSpec::default() };
    let group = GroupSpec::Local { pools, skip_ipv6_dad: false };
    [
        Event::Settings(Settings { default_announcer: true, ..Settings::default() }),
        Event::ActiveSubnets(Default::default()),
        Event::Groups(Change::Listed(vec![ServiceGroup::new("default", "uid", group)])),
        Event::Services(Change::Listed(Vec::new())),
    ]
}
