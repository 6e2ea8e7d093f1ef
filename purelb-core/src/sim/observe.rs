//! What can be seen of a cluster from outside: the objects of its API, and what goes wrong.

use super::fault::FaultKind;
use super::world::Simulation;
use crate::config::{LbNodeAgent, Node};
use crate::group::ServiceGroup;
use crate::lease::{Lease, Version};
use crate::name::NodeName;
use crate::service::Service;

impl Simulation {
    /// The Services, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.api.services.values()
    }

    /// The ServiceGroups.
    pub fn groups(&self) -> &[ServiceGroup] {
        &self.api.groups
    }

    /// The LBNodeAgents.
    pub fn agents(&self) -> &[LbNodeAgent] {
        &self.api.agents
    }

    /// The Nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.api.nodes.values()
    }

    /// The agents' leases, by node.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.api.leases.values()
    }

    /// The latest change of anything.
    pub fn version(&self) -> Version {
        self.api.version()
    }

    /// What is wrong at this moment, in the order in which it began, each with the node that it befell
    /// if it is not the whole cluster's.
    pub fn lasting(&self) -> impl Iterator<Item = (Option<&NodeName>, FaultKind)> {
        self.lasting.iter().map(|number| {
            let fault = self.faults[*number];
            let node = fault.kind.is_of_a_node().then(|| &self.hosts[fault.node].name);
            (node, fault.kind)
        })
    }
}
