//! The lab as a whole: the network, the API, and the programs on their nodes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use purelb_k8s::control_plane::{Assets, PlaneError};
use thiserror::Error;

use super::api::Api;
use super::background::Background;
use super::client::ClientError;
use super::endpoints::{self, Endpoint};
use super::kubelet::{Kubelet, Started};
use super::manifest::{self, Component};
use super::namespace::Namespace;
use super::pods::{self, Pod};
use super::process::{Image, Launch, Program};
use super::responder;
use super::routing::{Routing, RoutingError, Software};
use super::state::{Directory, State, StateError};
use super::stop::Stop;
use super::topology::{Topology, TopologyError};
use crate::telemetry::log::Format;

/// How many nodes there are.
pub const NODES: u8 = 3;

/// The kubeconfig of kube-proxy, in the lab's directory.
const PROXY_KUBECONFIG: &str = "kubeconfig-kube-proxy";

/// The directory of the programs that commands in their pods find, in the lab's directory.
const PROGRAMS: &str = "bin";

/// How long all programs together may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long one program may take to stop: somewhat longer than it gives itself.
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
    proxies: Vec<Program>,
    routing: Option<Routing>,
    kubelet: Option<Kubelet>,
    api: Api,
    pods: Vec<Pod>,
    topology: Topology,
    blueprint: Blueprint,
    logs: PathBuf,
    kubeconfig: PathBuf,
    kubeconfig_inside: PathBuf,
    background: Background,
    directory: Directory,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blueprint {
    /// The programs of a real control plane; without, the API is in memory.
    pub assets: Option<Assets>,
    /// Whether each node has a pod and kube-proxy to lead to it, which takes a real control plane;
    /// without, each node answers itself.
    pub pods: bool,
    /// The `purelb` to run; this very program if none is given.
    pub purelb: Option<PathBuf>,
    /// A directory with `allocator` and `lbnodeagent`, to run these instead.
    pub daemons: Option<PathBuf>,
    /// What teaches the router the way to the nodes; without, it knows it from the beginning.
    pub routing: Option<Software>,
    /// How the programs' log lines look.
    pub log_format: Format,
    /// Whether they log what only developers want to know; without, `PURELB_LOG_LEVEL` says so.
    pub debug: bool,
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
    /// The real control plane did not start.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The lab cannot leave word of itself.
    #[error(transparent)]
    State(#[from] StateError),
    /// No routing daemon could be started.
    #[error(transparent)]
    Routing(#[from] RoutingError),
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

/// Puts the programs of PureLB's image into a directory.
fn install(purelb: &Path, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    ["purelb", "allocator", "lbnodeagent"]
        .into_iter()
        .try_for_each(|name| std::os::unix::fs::symlink(purelb, directory.join(name)))
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
        Self::build(directory, logs, stop, Blueprint::default())
    }

    /// The same, to a plan.
    pub fn build(
        directory: Directory,
        logs: Option<PathBuf>,
        stop: &Stop,
        blueprint: Blueprint,
    ) -> Result<Self, ClusterError> {
        let background = Background::start().map_err(failed("start a thread"))?;
        background.stop_on_signals(stop.clone()).map_err(failed("listen for signals"))?;
        let topology = Topology::build(NODES)?;
        let (api, pods) = match &blueprint.assets {
            None => {
                let api = Api::in_memory(&background, topology.hub());
                (api.map_err(failed("serve the API"))?, Vec::new())
            }
            Some(assets) => {
                let api = Api::real(&background, topology.hub(), assets, &directory)?;
                let pods = blueprint.pods.then(|| Pod::on_each_node(&topology));
                (api, pods.transpose()?.unwrap_or_default())
            }
        };
        if pods.is_empty() {
            for node in topology.nodes() {
                let what = format!("serve HTTP on {}", node.name());
                responder::serve(&background, node).map_err(failed(what))?;
            }
        }
        for pod in &pods {
            let what = format!("serve HTTP in {}", pod.namespace.name());
            responder::serve_pod(&background, &pod.namespace).map_err(failed(what))?;
        }

        let logs = logs.unwrap_or_else(|| directory.join("logs"));
        fs::create_dir_all(&logs).map_err(failed(format!("create {}", logs.display())))?;
        let (kubeconfig, kubeconfig_inside) =
            (directory.join("kubeconfig"), directory.join("kubeconfig-inside"));
        fs::write(&kubeconfig, api.kubeconfig())
            .and_then(|()| fs::write(&kubeconfig_inside, api.kubeconfig_inside()))
            .and_then(|()| fs::write(directory.join(PROXY_KUBECONFIG), api.kubeconfig_of_proxy()))
            .map_err(failed("write a kubeconfig"))?;

        let routing = blueprint
            .routing
            .map(|software| Routing::start(software, &topology, directory.join("routing"), &logs));
        let routing = routing.transpose()?;

        let own = blueprint.purelb.clone().map_or_else(std::env::current_exe, Ok);
        install(&own.map_err(failed("find this program"))?, &directory.join(PROGRAMS))
            .map_err(failed("link the programs"))?;
        let agents = topology.nodes().iter().map(|_| None).collect();
        let cluster = Self {
            allocator: None,
            agents,
            proxies: Vec::new(),
            routing,
            kubelet: api.memory().cloned().map(Kubelet::new),
            api,
            pods,
            topology,
            blueprint,
            logs,
            kubeconfig,
            kubeconfig_inside,
            background,
            directory,
        };
        cluster.register()?;
        cluster.keep_endpoints();
        Ok(cluster)
    }

    /// Starts the allocator and an agent on each node, and kube-proxy where there are pods.
    pub fn start_programs(&mut self) -> Result<(), ClusterError> {
        self.start_proxies()?;
        self.start_allocator()?;
        (0..self.agents.len()).try_for_each(|node| self.start_agent(node))
    }

    /// Starts the allocator; one that runs is killed.
    pub fn start_allocator(&mut self) -> Result<(), ClusterError> {
        self.allocator = None;
        let arguments = ["--namespace", manifest::NAMESPACE, "--port", "7472"];
        let hub = self.topology.hub();
        let (addresses, log) = ([Topology::HUB], "allocator.log");
        let allocator = self.launch(hub, Component::Allocator, &arguments, &addresses, log)?;
        self.allocator = Some(allocator);
        Ok(())
    }

    /// Asks the allocator to stop and waits until it did; `None` if it had to be killed.
    pub fn stop_allocator(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(mut allocator) = self.allocator.take() else { return Ok(None) };
        allocator.ask_to_end()?;
        allocator.wait(STOP_PATIENCE)
    }

    /// The network.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The API, to make it fail.
    pub fn api_mut(&mut self) -> &mut Api {
        &mut self.api
    }

    /// The pods, one on each node; none with the in-memory API.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The routing daemons, if there are any.
    pub fn routing(&self) -> Option<&Routing> {
        self.routing.as_ref()
    }

    /// What the lab's own tasks run on.
    pub fn background(&self) -> &Background {
        &self.background
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
        self.agents[node] = None;
        let namespace = self.node(node);
        let name = namespace.name();
        let arguments = ["--node-name", name, "--namespace", manifest::NAMESPACE, "--port", "7472"];
        let addresses = self.topology.node_addresses().nth(node);
        let addresses: Vec<IpAddr> = addresses.into_iter().flat_map(<[_; 2]>::from).collect();
        let log = format!("{name}.log");
        let agent = self.launch(namespace, Component::NodeAgent, &arguments, &addresses, &log)?;
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
        let proxies = self.proxies.iter_mut();
        let programs = self.allocator.iter_mut().chain(self.agents.iter_mut().flatten());
        let routing = self.routing.iter_mut().flat_map(Routing::programs);
        programs.chain(proxies).chain(routing).find_map(|program| {
            let status = program.has_ended()?;
            Some((program.name().to_owned(), status))
        })
    }

    /// All namespaces.
    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.topology.namespaces().chain(self.pods.iter().map(|pod| &pod.namespace))
    }

    /// What the namespaces are called.
    pub fn places(&self) -> Vec<&str> {
        self.namespaces().map(Namespace::name).collect()
    }

    /// Lets `lab exec` and `lab down` find the lab.
    pub fn publish(&self) -> Result<(), ClusterError> {
        let namespaces: BTreeMap<_, _> = self
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
        self.proxies.clear();
        self.routing = None;
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
        component: Component,
        arguments: &[&str],
        addresses: &[IpAddr],
        log: &str,
    ) -> Result<Program, ClusterError> {
        let program = component.name();
        let own = self.blueprint.purelb.as_deref().unwrap_or_else(|| Path::new(Image::THIS));
        let daemon = self.blueprint.daemons.as_ref().map(|directory| directory.join(program));
        let mut arguments = arguments.to_vec();
        match self.blueprint.log_format {
            Format::Text => {}
            Format::Json => arguments.push("--log-format=json"),
        }
        if self.blueprint.debug {
            arguments.push("--log-level=debug");
        }
        let environment = [
            ("KUBECONFIG", self.kubeconfig_inside.as_os_str()),
            ("DEFAULT_ANNOUNCER", "PureLB".as_ref()),
        ];
        let launch = Launch {
            program,
            image: daemon.as_deref().map_or(Image::Purelb(own), Image::Foreign),
            arguments: &arguments,
            environment: &environment,
            log: &self.logs.join(log),
        };
        let what = format!("start {program} on {}", namespace.name());
        let program = Program::start(namespace, &launch).map_err(failed(&*what))?;
        if let Some(kubelet) = &self.kubelet {
            let (arguments, program) = (&*arguments, &program);
            let programs = self.directory.join(PROGRAMS);
            let environment = manifest::environment(namespace, &environment, &programs);
            let started =
                Started { component, namespace, addresses, arguments, environment, program };
            kubelet.started(started).map_err(failed(what))?;
        }
        Ok(program)
    }

    /// Starts kube-proxy on each node, where there are pods for it to lead to.
    fn start_proxies(&mut self) -> Result<(), ClusterError> {
        let Some(assets) = self.blueprint.assets.as_ref().filter(|_| !self.pods.is_empty()) else {
            return Ok(());
        };
        let proxy = assets.program("kube-proxy").map_err(PlaneError::from)?;
        for node in self.topology.nodes() {
            let name = node.name();
            let what = format!("start kube-proxy on {name}");
            let launch = Launch {
                program: "kube-proxy",
                image: Image::Foreign(&proxy),
                arguments: &[
                    &format!("--kubeconfig={}", self.directory.join(PROXY_KUBECONFIG).display()),
                    &format!("--hostname-override={name}"),
                    &format!("--cluster-cidr={}", pods::RANGES),
                    "--proxy-mode=nftables",
                    "--nodeport-addresses=primary",
                    "--conntrack-max-per-core=0",
                ],
                environment: &[],
                log: &self.logs.join(format!("kube-proxy-{name}.log")),
            };
            self.proxies.push(Program::start(node, &launch).map_err(failed(what))?);
        }
        Ok(())
    }

    /// Lets Services find the pods.
    fn keep_endpoints(&self) {
        if let (Some(client), false) = (self.api.client().connection(), self.pods.is_empty()) {
            let endpoints = self.pods.iter().map(Endpoint::of).collect();
            self.background.spawn(endpoints::keep(client, endpoints));
        }
    }

    /// Creates what the programs find on a cluster: its nodes, and the namespace they live in.
    fn register(&self) -> Result<(), ClusterError> {
        let client = self.api.client();
        client.apply("{apiVersion: v1, kind: Namespace, metadata: {name: purelb}}")?;
        // A lease that nobody holds: where there is none, the allocator waits for one to run out.
        client.apply(
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, \
             metadata: {name: purelb-allocator, namespace: purelb}}",
        )?;
        for (node, (v4, v6)) in self.topology.nodes().iter().zip(self.topology.node_addresses()) {
            let name = node.name();
            client.apply(&format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: \
                 {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux}}}}}}"
            ))?;
            client.set_status(&format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, status: {{addresses: \
                 [{{type: InternalIP, address: {v4}}}, {{type: InternalIP, address: '{v6}'}}], \
                 conditions: [{{type: Ready, status: 'True'}}]}}}}"
            ))?;
        }
        for pod in &self.pods {
            client.apply(&pod.object())?;
            client.set_status(&pod.status())?;
        }
        Ok(())
    }
}
