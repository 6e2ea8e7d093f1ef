//! Where searches begin: states that a cluster reaches when nothing goes wrong.

use std::time::Duration;

use purelb_core::mutation::Mutation;

use super::world::{Action, Fault, World};

/// A beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// All agents but the first node's run, and the second holds the address.
    Absent,
    /// All agents have been started at once and have watched for a duration, but for one quantum.
    Cold,
    /// As in `Steady`, but the first node has been frozen for four seconds, between deciding to
    /// prolong the address and the system call.
    Frozen,
    /// The first node holds the address. Its very first write was given up, and is still on its way.
    Late,
    /// The first node's agent has watched for a duration, but for one quantum; the second holds the
    /// address.
    Newcomer,
    /// As in `Steady`, but the first node was slow: its renewal was sent a second late, and is still
    /// on its way.
    Slow,
    /// As in `Steady`, but the second node has not been told of the first node's last renewal, only
    /// of its own.
    Stale,
    /// All agents run, and the first node holds the address.
    Steady,
}

impl Scene {
    pub(crate) const ALL: [Self; 8] = [
        Self::Absent,
        Self::Cold,
        Self::Frozen,
        Self::Late,
        Self::Newcomer,
        Self::Slow,
        Self::Stale,
        Self::Steady,
    ];

    /// The state, reached with the rules as they are.
    pub(crate) fn world(
        self,
        nodes: usize,
        quantum: Duration,
        mutation: Option<Mutation>,
    ) -> World {
        let mut world = World::new(nodes, quantum, mutation);
        let all_but_first = 1..nodes;
        let watch = Duration::from_secs(5) - quantum;
        match self {
            Self::Absent => {
                start(&mut world, all_but_first);
                run(&mut world, |world| holds(world, 1));
            }
            Self::Cold => {
                start(&mut world, 0..nodes);
                let end = world.now + watch;
                run(&mut world, |world| world.now >= end);
            }
            Self::Frozen => {
                world = Self::Steady.world(nodes, quantum, mutation);
                wait(&mut world, Duration::from_secs(2), |_| false);
                run_only(&mut world, |action| {
                    action.is_of(0) && !matches!(action, Action::Call(_))
                });
                wait(&mut world, Duration::from_secs(4), |action| !action.is_of(0));
            }
            Self::Late => {
                start(&mut world, 0..nodes);
                world.is_first_write_late = true;
                run(&mut world, |world| holds(world, 0));
                world.is_first_write_late = false;
            }
            Self::Newcomer => {
                start(&mut world, all_but_first);
                run(&mut world, |world| holds(world, 1));
                start(&mut world, 0..1);
                let end = world.now + watch;
                run(&mut world, |world| world.now >= end);
            }
            Self::Slow => {
                world = Self::Steady.world(nodes, quantum, mutation);
                wait(&mut world, Duration::from_secs(3), |action| !action.is_of(0));
                world.step(Action::Timer(0), None);
            }
            Self::Stale => {
                world = Self::Steady.world(nodes, quantum, mutation);
                wait(&mut world, Duration::from_secs(2), |_| false);
                run_only(&mut world, |action| !action.is_of(0));
                run_only(&mut world, |action| !action.is_of(1));
            }
            Self::Steady => {
                start(&mut world, 0..nodes);
                run(&mut world, |world| holds(world, 0));
                // Until everybody has acknowledged every join.
                wait(&mut world, Duration::from_secs(2), |_| true);
            }
        }
        world
    }
}

fn start(world: &mut World, nodes: std::ops::Range<usize>) {
    for n in nodes {
        world.step(Action::Fault(n, Fault::Start), None);
    }
}

fn holds(world: &World, n: usize) -> bool {
    world.hosts[n].kernel.is_some() && world.hosts.iter().all(|host| host.is_at_rest())
}

/// Lets time pass, and does whatever `may` be done meanwhile.
fn wait(world: &mut World, span: Duration, may: impl Fn(&Action) -> bool) {
    let end = world.now + span;
    while world.now < end {
        world.step(Action::Tick, None);
        run_only(world, &may);
    }
}

/// Does whatever can be done at once and `may` be.
fn run_only(world: &mut World, may: impl Fn(&Action) -> bool) {
    let is_free = |action: &Action| !matches!(action, Action::Tick | Action::Fault(..));
    for _ in 0..1000 {
        let mut actions = world.actions().into_iter();
        let Some(next) = actions.find(|action| is_free(action) && may(action)) else { return };
        world.step(next, None);
    }
    panic!("it never comes to rest: {world:?}");
}

/// Does whatever can be done at once, and lets time pass when nothing can, until `is_reached`.
fn run(world: &mut World, is_reached: impl Fn(&World) -> bool) {
    for _ in 0..1000 {
        let next = world.actions().into_iter().find(|action| match action {
            Action::Land(n, request) => !world.is_kept_back(*n, *request),
            Action::Tick | Action::Fault(..) => false,
            Action::Deliver(_)
            | Action::Timer(_)
            | Action::Answer(_)
            | Action::GiveUp(_)
            | Action::Call(_)
            | Action::Exit(_) => true,
        });
        if next.is_none() && is_reached(world) {
            return;
        }
        world.step(next.unwrap_or(Action::Tick), None);
    }
    panic!("the beginning is not reached: {world:?}");
}
