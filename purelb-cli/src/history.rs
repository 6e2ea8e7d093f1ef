//! What recordings tell of a cluster: who held which address when, and why.
//!
//! An agent's recording tells for certain what was on the interfaces of its own node, as the kernel told the
//! agent; of the other nodes it tells what the API did: the annotations of Services and the leases. So
//! [`History::of`] takes each node at its own word as far as there is a recording of it, and at that of another
//! elsewhere.
//!
//! * [`hearsay`]: what the API told.
//! * [`html`]: a history as a page.
//! * [`steps`]: a value that changes as time passes.
//! * [`testimony`]: what one agent tells of its own node.
//! * [`track`]: one address, from the beginning to the end.
//! * [`witness`]: what agents were told of the cluster, told as one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use purelb_core::name::NodeName;

use crate::recording::{Header, ReadError, Recording};

pub mod hearsay;
pub mod html;
pub mod steps;
pub mod testimony;
pub mod track;
pub mod witness;

use hearsay::Hearsay;
use testimony::Testimony;
use track::{State, Track};

/// Who held which address when.
#[derive(Clone, Debug)]
pub struct History {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The recordings that it was made of.
    pub sources: Vec<Source>,
    /// The addresses, by Service.
    pub tracks: Vec<Track>,
    /// What happened, in order.
    pub marks: Vec<Mark>,
}

/// A recording that a history was made of.
#[derive(Clone, Debug)]
pub struct Source {
    /// What was recorded.
    pub header: Header,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// How many inputs there are.
    pub inputs: usize,
    /// Whether this build decides as the one that recorded did.
    pub is_as_recorded: bool,
}

/// Something that happened to a node or to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: MarkKind,
    /// The node, or the Service as `namespace/name`.
    pub whose: String,
    /// What, in words.
    pub text: String,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// A lease ran out or went.
    LeaseLost,
    /// An agent was told to stop, lost its right to hold, or cannot announce.
    AgentDown,
    /// An interface for addresses went down.
    LinkDown,
    /// A lease came, or came back.
    LeaseLive,
    /// An agent started, or may hold addresses again.
    AgentUp,
    /// An interface for addresses came up.
    LinkUp,
    /// A Service came or went.
    Service,
}

impl MarkKind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 7] = [
        Self::LeaseLost,
        Self::AgentDown,
        Self::LinkDown,
        Self::LeaseLive,
        Self::AgentUp,
        Self::LinkUp,
        Self::Service,
    ];

    /// Whether something does not work any more.
    pub fn is_loss(self) -> bool {
        match self {
            Self::LeaseLost | Self::AgentDown | Self::LinkDown => true,
            Self::LeaseLive | Self::AgentUp | Self::LinkUp | Self::Service => false,
        }
    }
}

/// Why recordings make no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// None is of an agent.
    #[error(
        "none of the recordings is of an agent, and only agents know who holds an address: add one, by `purelb record --node NAME`"
    )]
    NoAgent,
    /// None has any input.
    #[error("nothing is recorded in them: take the recordings again, later")]
    Nothing,
    /// One cannot be run.
    #[error("the recording of {name} cannot be run")]
    Replay {
        /// Whose it is.
        name: String,
        /// Why not.
        source: ReadError,
    },
}

impl History {
    /// Of recordings, in any order.
    ///
    /// Moments are those of the clocks of the nodes on which they were recorded.
    ///
    /// # Errors
    ///
    /// If none of them is of an agent, or one cannot be run.
    pub fn of(recordings: &[Recording]) -> Result<Self, HistoryError> {
        let tapes = witness::agents(recordings)?;
        let mut testimonies = Vec::new();
        for tape in &tapes {
            testimonies.extend(Testimony::of(tape).map_err(|source| HistoryError::Replay {
                name: tape.header.name.clone(),
                source,
            })?);
        }
        let hearsay = Hearsay::of(witness::facts(&tapes)?);
        let from = testimonies.iter().map(|one| one.source.from).min();
        let until = testimonies.iter().map(|one| one.source.until).max();
        let (Some(from), Some(until)) = (from, until) else { return Err(HistoryError::Nothing) };
        let mut marks: Vec<Mark> =
            testimonies.iter().flat_map(|one| &one.marks).chain(&hearsay.marks).cloned().collect();
        marks.sort_by_key(|mark| mark.at);
        let mut tracks: Vec<Track> = addresses(&testimonies, &hearsay)
            .into_iter()
            .map(|ip| Track::of(ip, &testimonies, &hearsay, &marks, until))
            .filter(|track| !track.spans.is_empty())
            .collect();
        tracks.sort_by(|a, b| (&a.services, a.ip).cmp(&(&b.services, b.ip)));
        let sources = testimonies.into_iter().map(|one| one.source).collect();
        Ok(Self { from, until, sources, tracks, marks })
    }

    /// What was so of any address at any time.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.tracks.iter().flat_map(|track| &track.spans).map(|span| &span.state)
    }

    /// Every node that held something, by name.
    pub fn holders(&self) -> BTreeSet<&NodeName> {
        self.states()
            .flat_map(|state| match state {
                State::Held { node, .. } => vec![node],
                State::Several(nodes) => nodes.iter().collect(),
                State::Expiring(node) => vec![node],
                State::Awaited | State::Everywhere { .. } | State::Nobody(_) => Vec::new(),
            })
            .collect()
    }

    /// Whether some of it is known from what others heard alone.
    pub fn has_hearsay(&self) -> bool {
        self.states().any(State::is_hearsay)
    }
}

fn addresses(testimonies: &[Testimony], hearsay: &Hearsay) -> BTreeSet<IpAddr> {
    let own = testimonies.iter().flat_map(|one| one.places.keys());
    own.chain(hearsay.services.keys()).copied().collect()
}
