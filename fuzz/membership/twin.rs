//! An agent, and from some moment on another that was told the same at another time.

use std::time::Duration;

use purelb_core::config::ApiOutage;
use purelb_core::lease::{LeaseEvent, LeaseWrite, Version};
use purelb_core::membership::{HostReport, Leaving, Membership, Pace, Rename};
use purelb_core::name::NodeName;
use purelb_core::time::Tick;

/// Something an agent is told.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    Host(HostReport),
    Lease(LeaseEvent),
    Leave(Leaving),
    Outage(ApiOutage),
    Pace(Pace),
    Sleep,
    Timeout,
}

pub(super) struct Twins {
    agent: Membership,
    later: Option<Membership>,
    /// The first one's time.
    pub(super) now: Tick,
}

impl Twins {
    pub(super) fn of(agent: Membership) -> Self {
        Self { agent, later: None, now: Tick::START }
    }

    pub(super) fn agent(&self) -> &Membership {
        &self.agent
    }

    /// From now on there is a second one, as if everything had happened later.
    pub(super) fn split(&mut self) {
        let mut later = self.agent.clone();
        later.rename(&mut Later);
        self.later = Some(later);
    }

    pub(super) fn tell(&mut self, fact: Fact) {
        tell(&mut self.agent, fact.clone(), self.now);
        let Some(later) = &mut self.later else { return };
        tell(later, shifted(fact), self.now + SPAN);
        let standing = |agent: &Membership| {
            let ranking = agent.ranking([192, 0, 2, 1].into(), false).into_iter().cloned();
            (ranking.collect::<Vec<_>>(), agent.is_able(), agent.is_contested(), agent.has_left())
        };
        assert_eq!(standing(&self.agent), standing(later));
        assert_eq!(self.agent.right().map(|end| end + SPAN), later.right());
        // What is overdue may be so since whenever.
        let wait = |agent: &Membership, now| agent.poll_timeout().map(|(at, _)| at.since(now));
        assert_eq!(wait(&self.agent, self.now), wait(later, self.now + SPAN));
    }

    /// The number of the write that is to be made, if one is.
    pub(super) fn poll_write(&mut self) -> Option<u64> {
        let write = self.agent.poll_write();
        if let Some(later) = &mut self.later {
            let renamed = write.clone().map(|mut write: LeaseWrite| {
                write.rename(&"node0".into(), &mut Later);
                write
            });
            assert_eq!(renamed, later.poll_write());
        }
        write.map(|write| write.attempt)
    }
}

fn tell(agent: &mut Membership, fact: Fact, now: Tick) {
    let _ = match fact {
        Fact::Host(report) => agent.handle_host(report, now),
        Fact::Lease(event) => agent.handle_lease(event, now),
        Fact::Leave(how) => agent.leave(how, now),
        Fact::Outage(outage) => agent.set_api_outage(outage, now),
        Fact::Pace(pace) => return agent.keep_pace(pace),
        Fact::Sleep => agent.fence_now(now),
        Fact::Timeout => agent.handle_timeout(now),
    };
}

fn shifted(mut fact: Fact) -> Fact {
    match &mut fact {
        Fact::Host(HostReport { holds_until, .. }) => {
            holds_until.iter_mut().for_each(|tick| Later.tick(tick));
        }
        Fact::Lease(event) => event.rename(&"node0".into(), &mut Later),
        Fact::Leave(_) | Fact::Outage(_) | Fact::Pace(_) | Fact::Sleep | Fact::Timeout => {}
    }
    fact
}

const SPAN: Duration = Duration::from_secs(3600);

/// An hour later, after a million changes and some joins. Not after more writes: the pause after each is a
/// little shorter by chance, which is drawn from its number.
struct Later;

impl Rename for Later {
    fn tick(&mut self, tick: &mut Tick) {
        *tick = *tick + SPAN;
    }

    fn version(&mut self, version: &mut Version) {
        version.0 += 1_000_000;
    }

    fn attempt(&mut self, _: &NodeName, _: &mut u64) {}

    fn join(&mut self, _: &NodeName, join: &mut u64) {
        *join += 100;
    }
}
