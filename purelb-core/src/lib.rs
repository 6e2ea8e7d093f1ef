//! The decisions of PureLB, a service load balancer for Kubernetes, without any I/O.
//!
//! Facts go in, actions come out, and time is an argument. Two state machines share the trait
//! [`machine::Machine`]: the [`Allocator`](allocator::Allocator) gives Services their addresses, the
//! [`NodeAgent`](node::NodeAgent) puts them on the right interface of one host. Beneath them are pure
//! functions that can be used alone: [`link::elect`] (which interface is the local one),
//! [`place::placement`] (where on a host an address belongs), [`election::winner`] (which node it
//! belongs to), [`diff::changes`] (what the kernel must be asked for). [`membership`] holds the rules
//! by which two nodes can never hold one address at once.
//!
//! # The loop
//!
//! A host drives a machine like this, whatever its facts and actions are. The one rule to keep: hand
//! facts over in the order in which their source delivered them.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::time::Instant;
//!
//! use purelb_core::machine::Machine;
//!
//! fn drive<M: Machine>(
//!     machine: &mut M,
//!     facts: &mut VecDeque<M::Event>,
//!     mut carry_out: impl FnMut(M::Action) -> Option<M::Event>,
//!     now: impl Fn() -> Instant,
//! ) {
//!     loop {
//!         while let Some(action) = machine.poll_action() {
//!             facts.extend(carry_out(action)); // what came of it is a fact as well
//!         }
//!         match facts.pop_front() {
//!             Some(fact) => machine.handle_event(fact, now()),
//!             // A real host sleeps here until the deadline or the next fact, whichever is first.
//!             None if machine.poll_timeout().is_some_and(|due| due.at <= now()) => {
//!                 machine.handle_timeout(now());
//!             }
//!             None => return,
//!         }
//!     }
//! }
//! # use purelb_core::allocator::{Allocator, Event, Settings};
//! # let start = Instant::now();
//! # let mut facts = VecDeque::from([Event::Settings(Settings::default())]);
//! # drive(&mut Allocator::new(), &mut facts, |_| None, || start);
//! ```
//!
//! # What it promises
//!
//! * Nothing is decided on a kind of object that has not been listed once.
//! * Actions are the difference between what is wanted and what was observed: apply them all, feed
//!   their effects back, and no action remains.
//! * Same events in, same actions out; the order inside a [`Listed`](store::Change::Listed) does not
//!   matter.
//! * Every refusal, withholding or fallback is a value that carries its reason.

pub mod allocator;
pub mod announcement;
pub mod config;
pub mod diff;
pub mod election;
mod few;
pub mod group;
pub mod host;
pub mod kernel;
pub mod leadership;
pub mod lease;
pub mod link;
pub mod machine;
pub mod membership;
pub mod mutation;
pub mod name;
pub mod node;
pub mod notice;
pub mod place;
pub mod range;
pub mod service;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod time;
pub mod usage;
