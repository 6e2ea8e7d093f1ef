//! LBNodeAgents of few bits.

use arbitrary::Arbitrary;
use purelb_core::config::{
    ApiOutage, LbNodeAgent, Local, LocalInterface, LocalSpec, MultipleDefaultRoutes, OnStop,
    Pattern, Selector,
};

use super::world::lb_node_agent;

#[derive(Arbitrary, Debug)]
pub(super) struct Config {
    virtual_interface: u8,
    local_interface: u8,
    default_routes: u8,
    holds_on: bool,
    keeps: bool,
    sends: bool,
    problem: Option<Problem>,
}

#[derive(Arbitrary, Debug)]
enum Problem {
    Absent,
    Invalid,
    Unreadable,
}

impl Config {
    pub(super) fn agent(&self) -> LbNodeAgent {
        let mut agent = lb_node_agent(self.spec());
        match self.problem {
            None => {}
            Some(Problem::Absent) => agent.local = Local::Absent,
            Some(Problem::Invalid) => agent.local = Local::Invalid { error: "garpConfig".into() },
            Some(Problem::Unreadable) => {
                agent.selector = Selector::Unreadable { error: "operator".into() };
            }
        }
        agent
    }

    pub(super) fn has_a_card_for_virtual(&self) -> bool {
        self.virtual_interface() == "eth1"
    }

    fn virtual_interface(&self) -> &'static str {
        ["kube-lb0", "vip0", "eth1"][usize::from(self.virtual_interface) % 3]
    }

    fn spec(&self) -> LocalSpec {
        let matching = |name| LocalInterface::Matching(Pattern::exactly(name));
        let mut spec = LocalSpec {
            local_interface: match self.local_interface % 4 {
                0 => LocalInterface::DefaultRoute,
                1 => matching("eth0"),
                2 => matching("eth1"),
                _ => matching("eth7"),
            },
            virtual_interface: self.virtual_interface().into(),
            multiple_default_routes: match self.default_routes % 3 {
                0 => MultipleDefaultRoutes::LowestMetric,
                1 => MultipleDefaultRoutes::SameInterface,
                _ => MultipleDefaultRoutes::VirtualInterface,
            },
            api_outage: if self.holds_on { ApiOutage::Hold } else { ApiOutage::Withdraw },
            on_stop: if self.keeps { OnStop::Keep } else { OnStop::Release },
            ..LocalSpec::default()
        };
        spec.garp.enabled = self.sends;
        spec
    }
}
