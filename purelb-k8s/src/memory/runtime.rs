//! What stands behind the pods: as much of a kubelet as `kubectl logs` and `kubectl exec` need.

use std::fmt;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::pod_log::PodLog;

/// Whoever runs the containers of the pods that the API has.
///
/// The API itself knows pods as objects only; it asks this one for what they print and lets it run
/// commands in them. See [`MemoryApi::set_pod_runtime`](super::MemoryApi::set_pod_runtime).
pub trait PodRuntime: Send + Sync {
    /// What a container has printed in its present run, or in the one before; `None` if there was no such
    /// run.
    fn log(&self, container: &Container, run: Run) -> Option<PodLog>;

    /// Runs a command in a container, to its end; its exit status then. What it prints is complete when
    /// the writers of `exec` are dropped.
    ///
    /// Whoever asked may go before the end: the future is then dropped, and the command is to be killed.
    ///
    /// # Errors
    ///
    /// If it could not be started: why, for people.
    fn exec(&self, container: &Container, exec: Exec) -> BoxFuture<'static, Result<i32, String>>;
}

/// A container by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The namespace of its pod.
    pub namespace: String,
    /// The name of its pod.
    pub pod: String,
    /// Its own name.
    pub name: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}/{}", self.name, self.namespace, self.pod)
    }
}

/// Which run of a container: each restart begins a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// The latest, whether or not it has ended.
    #[default]
    Present,
    /// The one before it.
    Previous,
}

/// A command to run in a container.
pub struct Exec {
    /// The program and its arguments; there is at least the program.
    pub command: Vec<String>,
    /// What it reads; ends when the client closes it. Without, it has nothing to read.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where its output goes, if anyone wants it.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Where its complaints go; with a terminal they go where the output goes.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Set if it is to have a terminal, whose size changes as that of the client's does.
    pub terminal: Option<watch::Receiver<TerminalSize>>,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("command", &self.command)
            .field("terminal", &self.terminal.is_some())
            .finish_non_exhaustive()
    }
}

/// The size of a terminal in characters; 0 by 0 until the client tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// How many there are in a line.
    pub columns: u16,
    /// How many lines there are.
    pub rows: u16,
}
