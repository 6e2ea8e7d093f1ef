//! The lab: a small cluster of network namespaces on one machine, without Kubernetes installed.
//!
//! Every part is a network namespace held by an open file of one process, so nothing is left of it
//! when that process ends, and nothing of the machine's own network is touched.
//!
//! * [`privilege`]: the rights it needs; an ordinary user gets them in a user namespace.
//! * [`namespace`], [`topology`]: a bridge, nodes, a router and a client.
//! * [`process`]: the real programs, each in its namespace.
//! * [`api`], [`client`], [`samples`]: the Kubernetes API they talk to, in memory or real, and what a
//!   user tells it.
//! * [`kubelet`], [`manifest`], [`inside`]: with that in memory, the programs as its pods, with logs and
//!   commands in them.
//! * [`pods`], [`endpoints`]: with a real one, where kube-proxy leads packets to.
//! * [`cluster`]: all of this together.
//! * [`observe`], [`capture`], [`responder`]: what can be seen from outside the programs: links,
//!   addresses and routes as `ip` prints them, announcing frames, answers to a client.
//! * [`witness`]: who answers for which address on the wire, many times a second.
//! * [`traffic`]: clients that ask on and on, and count.
//! * [`routing`]: BIRD and its like, on the nodes and in the router.
//! * [`demo`], [`story`]: the half-minute tour.
//! * [`campaign`]: failures by the hundred, before that witness.
//! * [`mod@bench`]: what it all costs, and how fast it is.
//! * [`state`], [`join`]: finding and entering a running lab from another terminal.

pub mod api;
pub mod background;
pub mod bench;
pub mod campaign;
pub mod capture;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod endpoints;
pub mod inside;
pub mod ip;
pub mod join;
pub mod kubelet;
pub mod manifest;
pub mod namespace;
pub mod observe;
pub mod pods;
pub mod privilege;
pub mod process;
#[doc(hidden)]
pub mod require;
pub mod responder;
pub mod routing;
pub mod samples;
pub mod state;
pub mod stop;
pub mod story;
pub mod topology;
pub mod traffic;
pub mod witness;
