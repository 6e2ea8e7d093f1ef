//! What PureLB costs and how fast it is, measured from outside the programs: by the kernel's
//! notifications in each node's namespace, a watch of the API, the API's own list of requests, and
//! `/proc`.
//!
//! Each case has a cluster of its own, so that none sees what another left. Beside the programs'
//! figures stand those of the API alone, taken in the same run, for a machine is never the same twice.

mod by_hand;
mod calls;
mod cases;
mod figures;
mod processes;
mod scene;
mod sight;

use std::io;
use std::path::PathBuf;

use clap::ValueEnum;
use purelb_k8s::client::ConnectError;
use purelb_k8s::control_plane::Assets;
use purelb_k8s::error::ApiError;
use thiserror::Error;

use super::client::ClientError;
use super::cluster::ClusterError;
use super::ip::IpError;
use super::state::Directory;
use super::stop::Stop;
use scene::Scene;

pub use figures::{Row, table};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// One Service after the other
    Single,
    /// 300 Services at once
    Burst300,
    /// 1,000 Services at once
    Burst1000,
    /// 10,000 Services at once; then the allocator is started again
    Burst10000,
    /// An agent that holds about 100 addresses is asked to stop
    Stop100,
    /// An agent that holds about 1,000 addresses is asked to stop
    Stop1000,
    /// A node is lost, with its agent; an agent alone is killed, and returns
    Crash,
    /// Addresses are deleted by hand
    Deleted,
    /// Nothing happens
    Idle,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Single,
        Self::Burst300,
        Self::Burst1000,
        Self::Burst10000,
        Self::Stop100,
        Self::Stop1000,
        Self::Crash,
        Self::Deleted,
        Self::Idle,
    ];
}

/// What to measure, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The cases, in this order.
    pub cases: Vec<Case>,
    /// The programs of a real control plane; the in-memory API without.
    pub assets: Option<Assets>,
    /// Where the programs' logs go, a directory for each cluster.
    pub logs: Option<PathBuf>,
}

/// Why something could not be measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// There is no cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The API refused the bench's own objects.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no way to the API.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An `ip` command failed.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// Something else of the system failed.
    #[error("cannot measure: {0}")]
    System(#[from] io::Error),
    /// What was to be measured did not happen.
    #[error("not seen within {seconds} s: {what}")]
    Unseen {
        /// What.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The person at the keyboard wants to end.
    #[error("interrupted")]
    Interrupted,
}

/// Measures, and tells each row when it is there.
pub fn bench(
    directory: &Directory,
    plan: &Plan,
    stop: &Stop,
    mut tell: impl FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for &case in &plan.cases {
        let start = |number: usize| Scene::start(directory, plan, case, number, stop);
        let measured = match case {
            Case::Single => cases::single(start(0)?),
            Case::Burst300 => cases::burst(start, 300),
            Case::Burst1000 => cases::burst(start, 1000),
            Case::Burst10000 => cases::burst(start, 10_000),
            Case::Stop100 => cases::stop(start(0)?, 100),
            Case::Stop1000 => cases::stop(start(0)?, 1000),
            Case::Crash => cases::crash(start(0)?),
            Case::Deleted => cases::deleted(start(0)?),
            Case::Idle => cases::idle(start(0)?),
        }?;
        measured.iter().for_each(&mut tell);
        rows.extend(measured);
    }
    Ok(rows)
}
