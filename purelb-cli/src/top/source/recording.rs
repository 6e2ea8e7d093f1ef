//! Recordings of agents as a source.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{OwnTime, Source, SourceError};
use crate::history::HistoryError;
use crate::history::witness::{self, Facts};
use crate::recording::Recording;
use crate::top::model::Model;

/// What agents were told of the cluster, at the speed of time or another.
#[derive(Debug)]
pub struct Recorded {
    title: String,
    facts: Facts,
    /// How many of them have been handed over.
    told: usize,
    began: Timestamp,
    position: Duration,
    length: Duration,
}

impl Recorded {
    /// At the beginning of recordings, which may come in any order.
    ///
    /// # Errors
    ///
    /// If none of them is of an agent, none tells anything, or one cannot be run.
    pub fn new(recordings: &[Recording]) -> Result<Self, HistoryError> {
        let tapes = witness::agents(recordings)?;
        let facts = witness::facts(&tapes)?;
        let (Some((began, _)), Some((ended, _))) = (facts.first(), facts.last()) else {
            return Err(HistoryError::Nothing);
        };
        let names: BTreeSet<&str> = tapes.iter().map(|tape| tape.header.name.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let length = Duration::try_from(ended.duration_since(*began)).unwrap_or_default();
        Ok(Self {
            title: format!("recording of {}", names.join(", ")),
            began: *began,
            told: 0,
            position: Duration::ZERO,
            length,
            facts,
        })
    }

    fn now(&self) -> Timestamp {
        self.began.checked_add(self.position).unwrap_or(Timestamp::MAX)
    }
}

impl Source for Recorded {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn begin(&mut self) -> Result<Model, SourceError> {
        (self.told, self.position) = (0, Duration::ZERO);
        let mut model = Model::new(self.began);
        self.advance(Duration::ZERO, &mut model)?;
        Ok(model)
    }

    /// At the end of the recordings time stands still.
    fn advance(&mut self, span: Duration, model: &mut Model) -> Result<(), SourceError> {
        self.position = self.position.saturating_add(span).min(self.length);
        let now = self.now();
        for (at, fact) in self.facts[self.told..].iter().take_while(|(at, _)| *at <= now) {
            model.handle_fact(fact.clone(), *at);
            self.told += 1;
        }
        model.handle_time(now);
        Ok(())
    }

    fn own_time(&mut self) -> Option<&mut dyn OwnTime> {
        Some(self)
    }
}

impl OwnTime for Recorded {
    fn position(&self) -> Duration {
        self.position
    }

    fn seek(&mut self, to: Duration) -> Result<Model, SourceError> {
        let mut model = self.begin()?;
        self.advance(to, &mut model)?;
        Ok(model)
    }
}
