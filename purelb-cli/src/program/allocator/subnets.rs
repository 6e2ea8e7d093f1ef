//! The subnets that the live agents say they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use purelb_core::lease::{Lease, LeaseEvent, Version};
use purelb_core::name::NodeName;
use tokio::time::Instant;

/// The union of what the Leases of live agents list.
///
/// Nothing hangs on its being exact: it says from which ranges of a multi-pool group a Service gets
/// addresses, not who may hold them. An agent counts as live for half as long again as its lease
/// lasts, from when the lease was last seen to change, so that a late renewal takes nothing away.
#[derive(Debug, Default)]
pub(super) struct ActiveSubnets {
    agents: BTreeMap<NodeName, Agent>,
    listed: bool,
}

#[derive(Debug)]
struct Agent {
    version: Version,
    subnets: BTreeSet<IpNet>,
    until: Instant,
}

impl ActiveSubnets {
    /// Takes in what happened to Leases.
    pub(super) fn handle(&mut self, event: LeaseEvent, now: Instant) {
        match event {
            LeaseEvent::Bookmark(_) | LeaseEvent::Written { .. } => {}
            LeaseEvent::Deleted { node, version: _ } => {
                self.agents.remove(&node);
            }
            LeaseEvent::Listed { leases, version: _ } => {
                self.listed = true;
                let nodes: BTreeSet<_> = leases.iter().map(|lease| lease.node.clone()).collect();
                self.agents.retain(|node, _| nodes.contains(node));
                for lease in leases {
                    self.see(lease, now);
                }
            }
            LeaseEvent::Updated(lease) => self.see(lease, now),
        }
    }

    /// Forgets agents whose leases have run out.
    pub(super) fn expire(&mut self, now: Instant) {
        self.agents.retain(|_, agent| agent.until > now);
    }

    /// When the next lease runs out.
    pub(super) fn expiry(&self) -> Option<Instant> {
        self.agents.values().map(|agent| agent.until).min()
    }

    /// The subnets, once Leases have been listed.
    pub(super) fn subnets(&self) -> Option<BTreeSet<IpNet>> {
        let subnets = self.agents.values().flat_map(|agent| &agent.subnets).copied().collect();
        self.listed.then_some(subnets)
    }

    fn see(&mut self, lease: Lease, now: Instant) {
        let unchanged =
            self.agents.get(&lease.node).is_some_and(|agent| agent.version == lease.version);
        if !unchanged {
            let agent = Agent {
                version: lease.version,
                until: now + lease.content.duration.mul_f64(PATIENCE).min(LONGEST),
                subnets: lease.content.subnets,
            };
            self.agents.insert(lease.node, agent);
        }
    }
}

/// How many of its durations an agent counts as live.
const PATIENCE: f64 = 1.5;

/// But no longer than this, whatever a lease says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use purelb_core::lease::LeaseContent;

    use super::*;

    fn lease(node: &str, version: u64, subnet: &str) -> Lease {
        let content = LeaseContent {
            duration: Duration::from_secs(10),
            subnets: [subnet.parse().unwrap()].into(),
            ..LeaseContent::default()
        };
        Lease { node: node.into(), version: Version(version), uid: node.into(), content }
    }

    fn texts(subnets: &ActiveSubnets) -> Vec<String> {
        subnets.subnets().into_iter().flatten().map(|net| net.to_string()).collect()
    }

    #[test]
    fn nothing_is_known_before_a_listing() {
        let mut subnets = ActiveSubnets::default();
        subnets.handle(LeaseEvent::Updated(lease("a", 1, "192.0.2.0/24")), Instant::now());
        assert_eq!(subnets.subnets(), None);
    }

    #[test]
    fn a_lease_counts_while_it_changes() {
        let (mut subnets, start) = (ActiveSubnets::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let leases = vec![lease("a", 1, "192.0.2.0/24"), lease("b", 2, "198.51.100.0/24")];
        subnets.handle(LeaseEvent::Listed { leases, version: Version(2) }, start);
        subnets.handle(LeaseEvent::Updated(lease("a", 3, "192.0.2.0/24")), after(8));
        // Listed again, but b has not changed.
        let leases = vec![lease("a", 3, "192.0.2.0/24"), lease("b", 2, "198.51.100.0/24")];
        subnets.handle(LeaseEvent::Listed { leases, version: Version(9) }, after(14));
        assert_eq!(subnets.expiry(), Some(after(15)));
        subnets.expire(after(14));
        assert_eq!(texts(&subnets), ["192.0.2.0/24", "198.51.100.0/24"]);
        subnets.expire(after(15));
        assert_eq!(texts(&subnets), ["192.0.2.0/24"]);
        subnets.expire(after(23));
        assert_eq!(subnets.subnets(), Some(BTreeSet::new()));
    }

    #[test]
    fn a_deleted_lease_counts_no_more() {
        let (mut subnets, now) = (ActiveSubnets::default(), Instant::now());
        let leases = vec![lease("a", 1, "192.0.2.0/24")];
        subnets.handle(LeaseEvent::Listed { leases, version: Version(1) }, now);
        subnets.handle(LeaseEvent::Deleted { node: "a".into(), version: Version(2) }, now);
        assert_eq!(subnets.subnets(), Some(BTreeSet::new()));
        assert_eq!(subnets.expiry(), None);
    }
}
