//! How long a Service waits for its address: what counts, and what does not.

mod allocator_world;

use std::time::Duration;

use allocator_world::*;
use purelb_core::allocator::{Notice, ServiceNotice};

/// A range of one address.
const ONE: [&str; 1] = ["192.0.2.100-192.0.2.100"];

/// How long each assignment took so far, in the order in which they were told.
fn took(world: &World) -> Vec<Duration> {
    let assigned = world.notices.iter().filter_map(|notice| match notice {
        Notice::Service { what: ServiceNotice::Assigned { took, .. }, .. } => Some(*took),
        Notice::Service { .. } | Notice::Group { .. } | Notice::Usage { .. } => None,
    });
    assigned.collect()
}

#[test]
fn a_write_that_works_at_once_takes_no_time_and_is_counted_once() {
    let mut world = World::with([local("default", &ONE)]);
    world.create("one", plain);
    world.calm();
    world.relist();
    world.calm();
    assert_eq!(took(&world), [Duration::ZERO]);
}

#[test]
fn attempts_that_fail_count() {
    let outage = Duration::from_secs(5);
    let mut world = World::with([local("default", &ONE)]);
    world.writes = Writes::Fail;
    world.create("one", plain);
    world.pass(outage);
    assert_eq!(took(&world), []);
    world.writes = Writes::Work;
    world.pass(outage);
    let [took] = took(&world)[..] else { panic!("{:?}", took(&world)) };
    assert!((outage..2 * outage).contains(&took), "{took:?}");
}

#[test]
fn time_in_which_the_group_had_nothing_to_give_does_not_count() {
    let mut world = World::with([local("default", &ONE)]);
    world.create("one", plain);
    world.calm();
    world.create("two", plain);
    world.calm();
    assert_eq!(took(&world), [Duration::ZERO], "the second was refused");
    world.delete("one");
    world.calm();
    assert_eq!(world.addresses("two"), ["192.0.2.100"]);
    assert_eq!(took(&world), [Duration::ZERO; 2]);
}
