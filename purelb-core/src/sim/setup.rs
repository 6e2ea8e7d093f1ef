//! What a simulated cluster is made of.

use std::time::Duration;

use crate::allocator::Allocator;
use crate::config::OnStop;
use crate::membership::DEFAULT_DURATION;
use crate::mutation::Mutation;
use crate::node::NodeAgent;

/// What machines go through again and again while a cluster is simulated, when they have nothing to hand out:
/// nothing of them may be lost on the way.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// What an agent becomes. Its clock is set anew afterwards.
    pub agent: fn(&NodeAgent) -> NodeAgent,
    /// What an allocator becomes. Its clock is set anew afterwards.
    pub allocator: fn(&Allocator) -> Allocator,
}

/// A cluster before anything happens to it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What all chance comes from.
    pub seed: u64,
    /// The nodes.
    pub nodes: Vec<NodeSetup>,
    /// The Services at the start.
    pub services: Vec<ServiceKind>,
    /// How the cluster's addresses lie.
    pub layout: Layout,
    /// `onStop` of every node.
    pub on_stop: OnStop,
    /// A rule that is switched off, to see whether that is noticed.
    pub mutation: Option<Mutation>,
    /// What machines go through, if they do.
    pub passage: Option<Passage>,
    /// Whether a story is written.
    pub is_told: bool,
    /// The API answers within milliseconds and loses nothing unless a fault makes it.
    pub is_calm: bool,
}

impl Setup {
    /// So many nodes with clocks that are right, a lease duration of five seconds, and no Services,
    /// in a calm network.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes: vec![NodeSetup::default(); nodes],
            services: Vec::new(),
            layout: Layout::Small,
            on_stop: OnStop::Release,
            mutation: None,
            passage: None,
            is_told: false,
            is_calm: true,
        }
    }

    /// The same with so many plain Services of one IPv4 address.
    #[must_use]
    pub fn with_services(mut self, count: usize) -> Self {
        self.services.extend(std::iter::repeat_n(ServiceKind::Plain, count));
        self
    }
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub struct NodeSetup {
    /// Its lease duration.
    pub duration: Duration,
    /// How many millionths its clock runs fast; slow if negative. At most one percent.
    pub drift: i32,
    /// Its IPv4 prefix is the first half of the others' subnet.
    pub has_half_subnet: bool,
}

impl Default for NodeSetup {
    fn default() -> Self {
        Self { duration: DEFAULT_DURATION, drift: 0, has_half_subnet: false }
    }
}

/// How the addresses of a cluster lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `10.0.0.0/8`, with a pool of 65,536.
    Large,
    /// `192.0.2.0/24` and `2001:db8:1::/64`, with pools of 21.
    Small,
}

/// What a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Addresses of both families.
    DualStack,
    /// A local IPv4 address, on a node with a ready endpoint.
    LocalTraffic,
    /// A local IPv4 address.
    Plain,
    /// An IPv4 address on kube-lb0 of every node.
    Remote,
    /// The address of every other one that shares.
    Shared,
}
