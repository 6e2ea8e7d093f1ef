//! What the allocator's core costs, for the budgets of the design (§10).
//!
//! Measured is the thread's processor time, so that what else runs on the machine counts little.
//!
//! `cargo bench -p purelb-core --bench allocator` prints them all;
//! `cargo bench -p purelb-core --bench allocator -- one_address` those that allocate one.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use purelb_core::allocator::{
    Action, Allocator, Catalog, Event, Facts, Ledger, Settings, Written, assign,
};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::Family;
use purelb_core::machine::Machine;
use purelb_core::name::ServiceKey;
use purelb_core::range::AddressRange;
use purelb_core::service::Service;
use purelb_core::store::Change;
use rustix::time::{ClockId, clock_gettime};

const HELD: u32 = 100_000;

fn group(pool: &str, subnet: &str) -> ServiceGroup {
    let list = vec![PoolSpec {
        field: "pools[0]".to_owned(),
        pool: pool.to_owned(),
        subnet: subnet.to_owned(),
        aggregation: None,
    }];
    let pools = match pool.contains(':') {
        true => PoolsSpec { v6: list, ..PoolsSpec::default() },
        false => PoolsSpec { v4: list, ..PoolsSpec::default() },
    };
    ServiceGroup::new("default", "group-uid", GroupSpec::Local { pools, skip_ipv6_dad: false })
}

fn service(n: u32, family: Family) -> Service {
    let key = ServiceKey::new(format!("tenant-{}", n % 97), format!("service-{n:06}"));
    let uid = format!("5e9eb883-ec4d-4686-9c26-3cc0{n:08x}");
    Service { families: vec![family], ..Service::new(key, uid) }
}

/// The assign function and the ledger, without the machine around them.
struct Core {
    catalog: Catalog,
    ledger: Ledger,
    subnets: BTreeSet<ipnet::IpNet>,
}

impl Core {
    fn new(pool: &str, subnet: &str) -> Self {
        let catalog = Catalog::new([&group(pool, subnet)]);
        let mut ledger = Ledger::default();
        ledger.track(catalog.ranges());
        Self { catalog, ledger, subnets: BTreeSet::new() }
    }

    fn allocate(&mut self, service: &Service) -> bool {
        self.ledger.enroll(service);
        let Self { catalog, ledger, subnets } = self;
        let assignment = assign(service, Facts { catalog, ledger, active_subnets: subnets });
        let is_served = !assignment.held.is_empty();
        self.ledger.settle(&service.uid, assignment.held).is_ok() && is_served
    }

    fn release(&mut self, service: &Service) {
        black_box(self.ledger.expel(&service.uid));
    }

    /// One with `count` addresses given out.
    fn filled(pool: &str, subnet: &str, count: u32, family: Family) -> Self {
        let mut core = Self::new(pool, subnet);
        for n in 0..count {
            assert!(core.allocate(&service(n, family)));
        }
        core
    }
}

/// What the standard library alone takes for an address and its owner.
fn alone(criterion: &mut Criterion<CpuTime>) {
    let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    let owner = |n: u32| service(n, Family::V4).uid;
    let mut bench = criterion.benchmark_group("alone");
    let owners: Vec<_> = (0..HELD).map(owner).collect();
    for (name, count) in [("map_of_8000_filled", 8_000), ("map_of_100000_filled", HELD)] {
        bench.bench_function(name, |bencher| {
            bencher.iter_with_large_drop(|| {
                let mut map = BTreeMap::new();
                for n in 0..count {
                    map.insert(address(n), owners[n as usize].clone());
                }
                map
            });
        });
    }
    let mut map: BTreeMap<IpAddr, _> = (0..HELD).map(|n| (address(2 * n), owner(n))).collect();
    let newcomer = owner(HELD + 1);
    bench.bench_function("one_of_100000_put_in_and_taken_out", |bencher| {
        bencher.iter(|| {
            map.insert(address(HELD + 1), newcomer.clone());
            black_box(map.remove(&address(HELD + 1)))
        });
    });
    bench.finish();
}

/// Filling pools from the first address to the last.
fn fill(criterion: &mut Criterion<CpuTime>) {
    let mut bench = criterion.benchmark_group("fill");
    bench.sample_size(10);
    for (name, pool, count) in
        [("pool_of_8000", "10.0.0.1-10.0.31.64", 8_000), ("16", "10.0.0.0/16", 65_534)]
    {
        let services: Vec<_> = (0..count).map(|n| service(n, Family::V4)).collect();
        bench.throughput(Throughput::Elements(count.into()));
        bench.bench_function(name, |bencher| {
            bencher.iter_batched(
                || Core::new(pool, "10.0.0.0/16"),
                |mut core| {
                    for service in &services {
                        assert!(core.allocate(service));
                    }
                    core
                },
                BatchSize::LargeInput,
            );
        });
    }
    bench.finish();
}

/// One address given out and taken back, with many held: the pool's size must not matter.
fn one_address(criterion: &mut Criterion<CpuTime>) {
    let mut bench = criterion.benchmark_group("one_address");
    for (name, pool, subnet, held, family) in [
        ("in_a_30", "10.0.0.0/30", "10.0.0.0/24", 1, Family::V4),
        ("in_a_8_with_100000_held", "10.0.0.0/8", "10.0.0.0/8", HELD, Family::V4),
        ("in_a_64_with_100000_held", "2001:db8::/64", "2001:db8::/64", HELD, Family::V6),
    ] {
        let mut core = Core::filled(pool, subnet, held, family);
        let newcomer = service(HELD + 1, family);
        bench.bench_function(name, |bencher| {
            bencher.iter(|| {
                assert!(core.allocate(&newcomer));
                core.release(&newcomer);
            });
        });
    }
    // The worst shape for a search: every second address is free.
    let mut core = Core::filled("10.0.0.0/8", "10.0.0.0/8", 2 * HELD, Family::V4);
    for n in (0..2 * HELD).step_by(2) {
        core.release(&service(n, Family::V4));
    }
    let newcomer = service(2 * HELD + 1, Family::V4);
    bench.bench_function("among_100000_gaps", |bencher| {
        bencher.iter(|| {
            assert!(core.allocate(&newcomer));
            core.release(&newcomer);
        });
    });
    bench.finish();
}

/// What a restart finds: this many Services, each with an address of ours.
fn found(count: u32) -> Vec<Service> {
    let range: AddressRange = "10.0.0.0/8".parse().expect("it is a range");
    let address = |n: u32| -> IpAddr { range.nth(u128::from(n) + 1).expect("it is in a /8") };
    (0..count)
        .map(|n| {
            let mut service = service(n, Family::V4);
            service.ingress = vec![address(n)];
            service.annotations.allocated_by = Some("PureLB".to_owned());
            service.annotations.allocated_from = Some("default".to_owned());
            service.annotations.pool_type = Some("local".to_owned());
            service
        })
        .collect()
}

fn started(now: Instant) -> Allocator {
    let mut allocator = Allocator::new();
    let settings = Settings { default_announcer: true, ..Settings::default() };
    allocator.handle_event(Event::Settings(settings), now);
    allocator.handle_event(Event::ActiveSubnets(BTreeSet::new()), now);
    let groups = vec![group("10.0.0.0/8", "10.0.0.0/8")];
    allocator.handle_event(Event::Groups(Change::Listed(groups)), now);
    allocator
}

/// Takes every action, and answers every write with success.
fn drain(allocator: &mut Allocator, now: Instant) -> Option<IpAddr> {
    let mut given = None;
    while let Some(action) = allocator.poll_action() {
        let ticket = match action {
            Action::Patch(patch) => {
                given = patch.ingress.first().copied().or(given);
                patch.ticket
            }
            Action::ReEvaluated { ticket, .. } => ticket,
            Action::Release(release) => release.ticket,
            Action::Status(status) => status.ticket,
            Action::Ipam(_) | Action::Notice(_) => continue,
        };
        allocator.handle_event(Event::Written { ticket, result: Written::Accepted }, now);
    }
    given
}

#[allow(clippy::disallowed_methods, reason = "a benchmark has a clock")]
fn now() -> Instant {
    Instant::now()
}

/// The ledger from 100,000 Services, alone and with the whole machine's first decisions.
fn rebuild(criterion: &mut Criterion<CpuTime>) {
    let services = found(HELD);
    let mut bench = criterion.benchmark_group("rebuild_from_100000");
    bench.sample_size(10);
    bench.throughput(Throughput::Elements(HELD.into()));
    bench.bench_function("ledger", |bencher| {
        bencher.iter_batched(
            || Core::new("10.0.0.0/8", "10.0.0.0/8"),
            |mut core| {
                for service in &services {
                    core.ledger.enroll(service);
                    let held = service.ingress.iter().map(|ip| purelb_core::allocator::Held {
                        ip: *ip,
                        group: Some("default".into()),
                    });
                    assert!(core.ledger.settle(&service.uid, held.collect()).is_ok());
                }
                core
            },
            BatchSize::LargeInput,
        );
    });
    let now = now();
    bench.bench_function("machine", |bencher| {
        bencher.iter_batched(
            || (started(now), Change::Listed(services.clone())),
            |(mut allocator, listed)| {
                allocator.handle_event(Event::Services(listed), now);
                assert_eq!(drain(&mut allocator, now), None, "nothing is to be written");
                allocator
            },
            BatchSize::LargeInput,
        );
    });
    bench.finish();
}

/// One Service comes and goes among 100,000, through the whole machine.
fn one_event(criterion: &mut Criterion<CpuTime>) {
    let now = now();
    let mut allocator = started(now);
    allocator.handle_event(Event::Services(Change::Listed(found(HELD))), now);
    drain(&mut allocator, now);
    let newcomer = service(HELD + 1, Family::V4);
    let unchanged = found(HELD / 2).pop().expect("there are some");
    let mut bench = criterion.benchmark_group("one_event_among_100000");
    bench.bench_function("created_and_deleted", |bencher| {
        bencher.iter(|| {
            let created = Event::Services(Change::Updated(newcomer.clone()));
            allocator.handle_event(created, now);
            assert!(drain(&mut allocator, now).is_some());
            let deleted = Event::Services(Change::Deleted(newcomer.key.clone()));
            allocator.handle_event(deleted, now);
            drain(&mut allocator, now)
        });
    });
    let mut turn = 0u64;
    bench.bench_function("changed_elsewhere", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let mut changed = unchanged.clone();
            changed.version = turn.to_string().into();
            allocator.handle_event(Event::Services(Change::Updated(changed)), now);
            drain(&mut allocator, now)
        });
    });
    bench.finish();
}

/// The processor time of the thread that is measured.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let [seconds, nanos] = [time.tv_sec, time.tv_nsec].map(i64::unsigned_abs);
        Duration::from_secs(seconds) + Duration::from_nanos(nanos)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = alone, fill, one_address, rebuild, one_event
}
criterion_main!(benches);
