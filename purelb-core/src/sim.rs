//! Whole clusters on a virtual clock, to try to break the rules.
//!
//! A [`Simulation`] drives the very machines that the programs run: a [`NodeAgent`](crate::node::NodeAgent)
//! on each node and one [`Allocator`](crate::allocator::Allocator). Around them it models what they
//! meet: the API, kernels, the segment, clocks, and everything that goes wrong. It is
//! single-threaded, sleeps never and knows no chance but its seed, so every history can be had again.
//!
//! * The **API** has one history. Each client has watches of its own that lag, stand still, break and
//!   are resumed or listed anew from a list that is old when it arrives. Requests are slow, turned
//!   away, lost, or land long after their client gave them up; so do answers.
//! * **Kernels** keep addresses for their lifetime by their node's clock and remove them up to 1.25 s
//!   late. They notify with a delay, in order, and overrun their listener. They refuse.
//! * **Clocks** run up to one percent fast or slow.
//! * The **segment** delivers gratuitous ARP to a client that remembers where an address is.
//! * **Processes** are killed, frozen (also between a decision and the system calls that it led to,
//!   which are then made with the adapter's rule for deadlines), stopped, started with what the one
//!   before left in the kernel, or after a reboot.
//!
//! Whether two nodes hold one address is checked whenever an address appears on an interface, which
//! is whenever that can begin to be so; see [`Invariant`] for the rest. Once no fault lasts, every
//! address must be where the rules say within a lease duration and a second, and then everything
//! must be quiet.
//!
//! [`run_seed`] draws a cluster and its misfortunes from a number. Named stories are told with
//! [`Simulation`] directly.

mod agent;
mod allocator;
mod api;
mod build;
mod campaign;
mod chaos;
mod clock;
mod dice;
mod expect;
mod fault;
mod kernel;
mod log;
mod network;
mod observe;
mod queue;
mod report;
mod segment;
mod setup;
mod story;
mod tale;
mod transcript;
mod world;

pub use campaign::{Campaign, run_seeds};
pub use chaos::{History, Options, Outcome, run_seed};
pub use clock::Nanos;
pub use fault::{Fault, FaultKind};
pub use report::{Invariant, Report, Violation};
pub use setup::{Layout, NodeSetup, Passage, ServiceKind, Setup};
pub use story::{Entry, EntryKind, Story};
pub use transcript::{Input, Told};
pub use world::Simulation;
