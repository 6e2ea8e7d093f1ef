//! Where facts come from.

use std::time::Duration;

use super::model::Model;

pub mod cluster;
pub mod recording;
pub mod simulator;

/// Something that has facts for a [`Model`].
pub trait Source {
    /// What is looked at, for the title.
    fn title(&self) -> String;

    /// A model of its beginning.
    ///
    /// # Errors
    ///
    /// If nothing can be seen.
    fn begin(&mut self) -> Result<Model, SourceError>;

    /// Lets so much time pass, and hands over what happens.
    ///
    /// # Errors
    ///
    /// If no more will ever come.
    fn advance(&mut self, span: Duration, model: &mut Model) -> Result<(), SourceError>;

    /// Where it is, if its time is its own; it can then be made faster and slower, stopped, and led
    /// back.
    fn own_time(&mut self) -> Option<&mut dyn OwnTime>;
}

/// A source whose time is not everybody's.
pub trait OwnTime {
    /// How far it is from its beginning.
    fn position(&self) -> Duration;

    /// A model of the moment `to` after its beginning, from where it goes on; of its last moment, if it
    /// is not that long.
    ///
    /// # Errors
    ///
    /// If nothing can be seen.
    fn seek(&mut self, to: Duration) -> Result<Model, SourceError>;
}

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No look could be taken at the cluster.
    #[error(transparent)]
    Cluster(#[from] crate::command::cluster::Failure),
    /// The thread that watches the cluster has ended.
    #[error("the watches of the cluster have ended")]
    Ended,
}
