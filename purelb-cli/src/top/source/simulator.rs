//! A simulated cluster as a source.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use purelb_core::lease::LeaseEvent;
use purelb_core::sim::{History, Nanos, Options, Simulation};
use purelb_core::store::Change;

use super::{OwnTime, Source, SourceError};
use crate::top::model::{Fact, Model};

/// How often the cluster is looked at: moments are right to this.
const STEP: Duration = Duration::from_millis(50);

/// The history of one seed, for ever: that of `purelb simulate --seed`.
#[derive(Debug)]
pub struct Simulator {
    seed: u64,
    history: History,
    /// What has been asked to pass; at or after the last look.
    position: Duration,
}

impl Simulator {
    /// At its beginning.
    pub fn new(seed: u64) -> Self {
        Self { seed, history: history(seed), position: Duration::ZERO }
    }

    fn look(&self, model: &mut Model) {
        let sim = self.history.simulation();
        let at = timestamp(Duration::from_nanos(sim.now()));
        for fact in facts(sim) {
            model.handle_fact(fact, at);
        }
    }
}

fn history(seed: u64) -> History {
    History::new(seed, Options { steps: u64::MAX, ..Options::default() })
}

fn facts(sim: &Simulation) -> [Fact; 6] {
    let ongoing = sim.lasting().map(|(node, kind)| match node {
        Some(node) => format!("{node}: {kind}"),
        None => kind.to_string(),
    });
    let leases =
        LeaseEvent::Listed { leases: sim.leases().cloned().collect(), version: sim.version() };
    [
        Fact::Ongoing(ongoing.collect()),
        Fact::Groups(Change::Listed(sim.groups().to_vec())),
        Fact::Agents(Change::Listed(sim.agents().to_vec())),
        Fact::Nodes(Change::Listed(sim.nodes().cloned().collect())),
        Fact::Leases(leases),
        Fact::Services(Change::Listed(sim.services().cloned().collect())),
    ]
}

/// Virtual time begins when Unix time does.
fn timestamp(position: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(position).unwrap_or(Timestamp::MAX)
}

impl Source for Simulator {
    fn title(&self) -> String {
        format!("simulation of seed {}", self.seed)
    }

    fn begin(&mut self) -> Result<Model, SourceError> {
        let mut model = Model::new(timestamp(self.position));
        self.look(&mut model);
        Ok(model)
    }

    fn advance(&mut self, span: Duration, model: &mut Model) -> Result<(), SourceError> {
        self.position += span;
        let mut next = Duration::from_nanos(self.history.simulation().now()) + STEP;
        while next <= self.position {
            self.history.run_until(next.as_nanos() as Nanos);
            self.look(model);
            next += STEP;
        }
        model.handle_time(timestamp(self.position));
        Ok(())
    }

    fn own_time(&mut self) -> Option<&mut dyn OwnTime> {
        Some(self)
    }
}

impl OwnTime for Simulator {
    fn position(&self) -> Duration {
        self.position
    }

    fn seek(&mut self, to: Duration) -> Result<Model, SourceError> {
        *self = Self::new(self.seed);
        let mut model = self.begin()?;
        self.advance(to, &mut model)?;
        Ok(model)
    }
}
