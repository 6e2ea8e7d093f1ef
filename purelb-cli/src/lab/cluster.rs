//! The lab as a whole: the network, the API, and the programs on their nodes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::api::Api;
use super::background::Background;
use super::client::ClientError;
use super::namespace::Namespace;
use super::process::{Launch, Program};
use super::responder;
use super::state::{Directory, State, StateError};
use super::stop::Stop;
use super::topology::{Topology, TopologyError};

/// How many nodes there are.
pub const NODES: u8 = 3;

/// How long all programs together may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one agent may take to stop: somewhat longer than it gives itself.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A running cluster. Dropping it kills and removes everything;
/// [`end_programs`](Self::end_programs) lets the programs leave in order first.
///
/// * [`start`](Self::start) builds it; [`start_programs`](Self::start_programs) brings it to life.
/// * [`topology`](Self::topology), [`api`](Self::api): its parts.
/// * [`agent`](Self::agent), [`start_agent`](Self::start_agent), [`kill_agent`](Self::kill_agent),
///   [`stop_agent`](Self::stop_agent): one node's agent.
/// * [`fallen`](Self::fallen): a program that ended although nobody asked it to.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: programs before the network they use.
    allocator: Option<Program>,
    agents: Vec<Option<Program>>,
    api: Api,
    topology: Topology,
    logs: PathBuf,
    kubeconfig: PathBuf,
    kubeconfig_inside: PathBuf,
    _background: Background,
    directory: Directory,
}

/// Why there is no cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The network could not be built.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The API refused the lab's own objects.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The lab cannot leave word of itself.
    #[error(transparent)]
    State(#[from] StateError),
    /// Something else of the system failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
    let what = what.into();
    move |source| ClusterError::System { what, source }
}

impl Cluster {
    /// Builds the network, starts the API in it and a responder on each node, and registers the
    /// nodes. The programs' logs go to `logs`, or into `directory`.
    ///
    /// `stop` is raised when the process is asked to end.
    pub fn start(
        directory: Directory,
        logs: Option<PathBuf>,
        stop: &Stop,
    ) -> Result<Self, ClusterError> {
        let background = Background::start().map_err(failed("start a thread"))?;
        background.stop_on_signals(stop.clone()).map_err(failed("listen for signals"))?;
        let topology = Topology::build(NODES)?;
        let api = Api::start(&background, topology.hub()).map_err(failed("serve the API"))?;
        for node in topology.nodes() {
            let what = format!("serve HTTP on {}", node.name());
            responder::serve(&background, node).map_err(failed(what))?;
        }

        let logs = logs.unwrap_or_else(|| directory.join("logs"));
        fs::create_dir_all(&logs).map_err(failed(format!("create {}", logs.display())))?;
        let (kubeconfig, kubeconfig_inside) =
            (directory.join("kubeconfig"), directory.join("kubeconfig-inside"));
        fs::write(&kubeconfig, api.kubeconfig())
            .and_then(|()| fs::write(&kubeconfig_inside, api.kubeconfig_inside()))
            .map_err(failed("write a kubeconfig"))?;

        let agents = topology.nodes().iter().map(|_| None).collect();
        let cluster = Self {
            allocator: None,
            agents,
            api,
            topology,
            logs,
            kubeconfig,
            kubeconfig_inside,
            _background: background,
            directory,
        };
        cluster.register()?;
        Ok(cluster)
    }

    /// Starts the allocator and an agent on each node.
    pub fn start_programs(&mut self) -> Result<(), ClusterError> {
        let allocator = self.launch(
            self.topology.hub(),
            "allocator",
            &["--namespace", "purelb", "--port", "7472"],
            "allocator.log",
        )?;
        self.allocator = Some(allocator);
        (0..self.agents.len()).try_for_each(|node| self.start_agent(node))
    }

    /// The network.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The kubeconfig file for the user.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The directory of the programs' logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The namespace of node number `node`, counted from 0.
    pub fn node(&self, node: usize) -> &Namespace {
        &self.topology.nodes()[node]
    }

    /// The agent of that node, if it runs.
    pub fn agent(&mut self, node: usize) -> Option<&mut Program> {
        self.agents[node].as_mut()
    }

    /// Starts the agent of that node; one that runs there is killed.
    pub fn start_agent(&mut self, node: usize) -> Result<(), ClusterError> {
        let namespace = self.node(node);
        let name = namespace.name();
        let arguments = ["--node-name", name, "--namespace", "purelb", "--port", "7472"];
        let agent = self.launch(namespace, "lbnodeagent", &arguments, &format!("{name}.log"))?;
        self.agents[node] = Some(agent);
        Ok(())
    }

    /// Kills the agent of that node, which gets no chance to let anything go.
    pub fn kill_agent(&mut self, node: usize) -> io::Result<()> {
        self.agents[node].take().map_or(Ok(()), |mut agent| agent.kill())
    }

    /// Asks the agent of that node to stop and waits until it did; `None` if it had to be killed.
    pub fn stop_agent(&mut self, node: usize) -> io::Result<Option<ExitStatus>> {
        let Some(mut agent) = self.agents[node].take() else { return Ok(None) };
        agent.ask_to_end()?;
        agent.wait(STOP_PATIENCE)
    }

    /// All programs that run.
    pub fn programs(&mut self) -> impl Iterator<Item = &mut Program> {
        self.allocator.iter_mut().chain(self.agents.iter_mut().flatten())
    }

    /// A program that ended by itself, and how.
    pub fn fallen(&mut self) -> Option<(String, ExitStatus)> {
        self.programs().find_map(|program| {
            let status = program.has_ended().ok().flatten()?;
            Some((program.name().to_owned(), status))
        })
    }

    /// Lets `lab exec` and `lab down` find the lab.
    pub fn publish(&self) -> Result<(), ClusterError> {
        let namespaces: BTreeMap<_, _> = self
            .topology
            .namespaces()
            .map(|namespace| (namespace.name().to_owned(), namespace.descriptor()))
            .collect();
        let state = State::of_this_process(namespaces, self.kubeconfig_inside.clone());
        Ok(self.directory.publish(&state)?)
    }

    /// Asks the programs to end, waits, and says which did not end as they should.
    pub fn end_programs(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for program in self.programs() {
            if let Err(error) = program.ask_to_end() {
                problems.push(format!("{}: cannot ask it to end: {error}", program.name()));
            }
        }
        let start = Instant::now();
        for program in self.programs() {
            match program.wait(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => {
                    problems.push(format!("{} ended with {status}", program.name()))
                }
                Ok(None) => problems.push(format!(
                    "{} did not end within {} s and was killed",
                    program.name(),
                    PATIENCE.as_secs()
                )),
                Err(error) => problems.push(format!("{}: {error}", program.name())),
            }
        }
        self.allocator = None;
        self.agents.fill_with(|| None);
        problems
    }

    /// Removes everything but the logs, and returns where they are.
    pub fn keep_logs(self) -> io::Result<PathBuf> {
        let Self { directory, logs, .. } = self;
        match logs.strip_prefix(directory.path()) {
            Ok(within) => Ok(directory.keep()?.join(within)),
            Err(_) => Ok(logs),
        }
    }

    fn launch(
        &self,
        namespace: &Namespace,
        program: &str,
        arguments: &[&str],
        log: &str,
    ) -> Result<Program, ClusterError> {
        let launch = Launch {
            program,
            arguments,
            environment: &[
                ("KUBECONFIG", self.kubeconfig_inside.as_os_str()),
                ("DEFAULT_ANNOUNCER", "PureLB".as_ref()),
            ],
            log: &self.logs.join(log),
        };
        let what = format!("start {program} on {}", namespace.name());
        Program::start(namespace, &launch).map_err(failed(what))
    }

    /// Creates what the programs find on a cluster: its nodes, and the namespace they live in.
    fn register(&self) -> Result<(), ClusterError> {
        let client = self.api.client();
        client.apply("{apiVersion: v1, kind: Namespace, metadata: {name: purelb}}")?;
        for node in self.topology.nodes() {
            let name = node.name();
            client.apply(&format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: \
                 {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux}}}}}}"
            ))?;
        }
        Ok(())
    }
}
