//! The ledger's memory is proportional to what is held, whatever the size of the pools: every byte is
//! counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says by failing what is wrong")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use purelb_core::allocator::{Catalog, Facts, Ledger, assign};
use purelb_core::group::{GroupSpec, PoolSpec, PoolsSpec, ServiceGroup};
use purelb_core::host::Family;
use purelb_core::name::ServiceKey;
use purelb_core::service::Service;

/// Counts what each thread has allocated and not freed yet.
struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "a global allocator is unsafe to implement")]
// SAFETY: every call goes to the system's allocator as it came; what is added is a number, in a
// thread-local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.with(|bytes| bytes.set(bytes.get() + layout.size().cast_signed()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.with(|bytes| bytes.set(bytes.get() - layout.size().cast_signed()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The bytes that are allocated now and were not before `make`, and what it made.
fn bytes_of<T>(make: impl FnOnce() -> T) -> (isize, T) {
    let before = BYTES.get();
    let made = make();
    (BYTES.get() - before, made)
}

fn group(pool: &str) -> ServiceGroup {
    let list = vec![PoolSpec {
        field: "pools[0]".to_owned(),
        pool: pool.to_owned(),
        subnet: pool.to_owned(),
        aggregation: None,
    }];
    let pools = match pool.contains(':') {
        true => PoolsSpec { v6: list, ..PoolsSpec::default() },
        false => PoolsSpec { v4: list, ..PoolsSpec::default() },
    };
    ServiceGroup::new("default", "group-uid", GroupSpec::Local { pools, skip_ipv6_dad: false })
}

fn service(n: u32, family: Family) -> Service {
    let key = ServiceKey::new("shop", format!("service-{n:06}"));
    Service { families: vec![family], ..Service::new(key, format!("uid-{n:032}")) }
}

/// A ledger that counts a pool, with `held` of its addresses given out one after the other.
fn ledger(pool: &str, held: u32) -> Ledger {
    let catalog = Catalog::new([&group(pool)]);
    let mut ledger = Ledger::default();
    ledger.track(catalog.ranges());
    let family = if pool.contains(':') { Family::V6 } else { Family::V4 };
    let subnets = BTreeSet::new();
    for n in 0..held {
        let service = service(n, family);
        ledger.enroll(&service);
        let facts = Facts { catalog: &catalog, ledger: &ledger, active_subnets: &subnets };
        let assignment = assign(&service, facts);
        assert_eq!(assignment.held.len(), 1);
        ledger.settle(&service.uid, assignment.held).unwrap();
    }
    ledger
}

const POOLS: [&str; 4] = ["10.0.0.0/16", "10.0.0.0/8", "2001:db8::/64", "2000::/3"];

#[test]
fn an_empty_pool_of_any_size_costs_the_same() {
    let costs = POOLS.map(|pool| bytes_of(|| ledger(pool, 0)).0);
    assert!(costs.iter().all(|cost| *cost == costs[0] && *cost < 4096), "{costs:?}");
}

#[test]
fn what_is_held_costs_less_than_a_kilobyte_each_and_the_pool_nothing() {
    for held in [1_000_u32, 10_000] {
        let costs = POOLS.map(|pool| bytes_of(|| ledger(pool, held)).0 / held as isize);
        println!("{held} held: {costs:?} bytes each in {POOLS:?}");
        assert!(costs.iter().all(|cost| *cost == costs[0]), "{held}: {costs:?}");
        assert!((1..1024).contains(&costs[0]), "{held}: {costs:?}");
    }
}

#[test]
fn what_was_given_back_costs_nothing() {
    let (empty, _) = bytes_of(|| ledger("10.0.0.0/8", 0));
    let (after, _) = bytes_of(|| {
        let mut ledger = ledger("10.0.0.0/8", 5_000);
        for n in 0..5_000 {
            ledger.expel(&service(n, Family::V4).uid);
        }
        ledger
    });
    // Vectors may keep some room.
    assert!(after < empty + 4096, "{empty} when empty, {after} afterwards");
}
