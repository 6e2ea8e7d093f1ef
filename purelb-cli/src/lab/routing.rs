//! Routing software as users run it: on each node, to tell the router what is on `kube-lb0`, and in
//! the router, to learn it. It is configured by the very files under `examples/routing`.

mod bird;
mod frr;
mod gobgp;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use thiserror::Error;

use super::namespace::Namespace;
use super::process::{Image, Launch, Program};
use super::topology::{Topology, TopologyError};

/// Where routing daemons are, beside what the PATH names: some users have no `sbin` there.
const SBIN: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/lib/frr"];

/// Which software, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Software {
    /// BIRD 2, BGP with BFD
    BirdBgp,
    /// BIRD 2, OSPF with BFD
    BirdOspf,
    /// FRR, BGP with BFD
    FrrBgp,
    /// FRR, OSPF with BFD
    FrrOspf,
    /// GoBGP on the nodes, BIRD 2 in the router
    Gobgp,
}

/// What routers talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// BGP, both families over sessions of their own
    Bgp,
    /// OSPFv2 and OSPFv3
    Ospf,
}

/// Running daemons, on every node and in the router. Dropping it kills them.
#[derive(Debug)]
pub struct Routing {
    software: Software,
    directory: PathBuf,
    programs: Vec<Program>,
}

/// Why there is no routing.
#[derive(Debug, Error)]
pub enum RoutingError {
    /// A program is missing.
    #[error("no `{program}` was found: install the package {package}")]
    NotInstalled {
        /// Which program.
        program: &'static str,
        /// Debian's package of it.
        package: &'static str,
    },
    /// The daemons become other users.
    #[error("FRR becomes a user of its own, which only root may let it: run the lab as root")]
    NotOfTheMachine,
    /// The router still routes by itself.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A configuration could not be written, or a daemon not be started.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Whom a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Node,
    Router,
}

/// How a daemon is run in one place.
#[derive(Debug)]
struct Arrangement {
    image: PathBuf,
    arguments: Vec<String>,
    /// What is in its directory: names and contents.
    files: Vec<(&'static str, String)>,
}

impl Software {
    /// What it talks.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::BirdBgp | Self::FrrBgp | Self::Gobgp => Protocol::Bgp,
            Self::BirdOspf | Self::FrrOspf => Protocol::Ospf,
        }
    }

    /// Checks that it can be run here.
    pub fn check(self) -> Result<(), RoutingError> {
        match self {
            Self::BirdBgp | Self::BirdOspf => bird::program().map(drop),
            Self::FrrBgp | Self::FrrOspf => frr::check(),
            Self::Gobgp => gobgp::check(),
        }
    }

    fn arrange(
        self,
        role: Role,
        router_id: Ipv4Addr,
        directory: &Path,
    ) -> Result<Arrangement, RoutingError> {
        let arrange = match self {
            Self::BirdBgp | Self::BirdOspf => bird::arrange,
            Self::FrrBgp | Self::FrrOspf => frr::arrange,
            Self::Gobgp => gobgp::arrange,
        };
        arrange(self.protocol(), role, router_id, directory)
    }

    /// The shell command by which somebody sees what the router's daemon knows.
    fn question(self, directory: &Path) -> String {
        match self {
            Self::BirdBgp | Self::BirdOspf | Self::Gobgp => bird::question(directory),
            Self::FrrBgp | Self::FrrOspf => frr::question(directory),
        }
    }

    /// What lists the router's BFD sessions, one a line with the word `up`, where the nodes have BFD.
    fn bfd(self, directory: &Path) -> Option<Command> {
        match self {
            Self::BirdBgp | Self::BirdOspf => Some(bird::bfd(directory)),
            Self::FrrBgp | Self::FrrOspf => Some(frr::bfd(directory)),
            Self::Gobgp => None,
        }
    }
}

impl Routing {
    /// Starts the daemons; what they need goes into `directory`, what they print into `logs`. The
    /// router then knows no route to the nodes but those that it learns.
    pub fn start(
        software: Software,
        topology: &Topology,
        directory: PathBuf,
        logs: &Path,
    ) -> Result<Self, RoutingError> {
        software.check()?;
        topology.leave_routes_to_daemons()?;
        let mut routing = Self { software, directory, programs: Vec::new() };
        routing.start_one(topology.router(), Role::Router, Topology::ROUTER_ID, logs)?;
        for (node, router_id) in topology.nodes().iter().zip(topology.node_ids()) {
            routing.start_one(node, Role::Node, router_id, logs)?;
        }
        Ok(routing)
    }

    /// The daemons.
    pub fn programs(&mut self) -> impl Iterator<Item = &mut Program> {
        self.programs.iter_mut()
    }

    /// The command by which a person sees, with `purelb lab exec`, what the router has learnt.
    pub fn question(&self) -> String {
        self.software.question(&self.directory.join("router"))
    }

    /// How many of the router's BFD sessions are up; none where the nodes have no BFD.
    pub fn watched(&self) -> io::Result<Option<usize>> {
        let Some(mut command) = self.software.bfd(&self.directory.join("router")) else {
            return Ok(None);
        };
        let output = command.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let is_up = |line: &&str| line.split_whitespace().any(|word| word == "up");
        Ok(Some(text.lines().filter(is_up).count()))
    }

    fn start_one(
        &mut self,
        place: &Namespace,
        role: Role,
        router_id: Ipv4Addr,
        logs: &Path,
    ) -> Result<(), RoutingError> {
        let name = place.name();
        let directory = self.directory.join(name);
        let arrangement = self.software.arrange(role, router_id, &directory)?;
        arrangement
            .write(&directory)
            .map_err(failed(format!("write the configuration of {name}")))?;
        let launch = Launch {
            program: "routing",
            image: Image::Foreign(&arrangement.image),
            arguments: &arrangement.arguments.iter().map(String::as_str).collect::<Vec<_>>(),
            environment: &[],
            log: &logs.join(format!("routing-{name}.log")),
        };
        let program = Program::start(place, &launch);
        let program = program.map_err(failed(format!("start a routing daemon on {name}")))?;
        self.programs.push(program);
        Ok(())
    }
}

impl Arrangement {
    fn write(&self, directory: &Path) -> io::Result<()> {
        self.files.iter().try_for_each(|(name, text)| {
            let file = directory.join(name);
            fs::create_dir_all(file.parent().unwrap_or(directory))?;
            fs::write(file, text)
        })
    }
}

fn failed(what: String) -> impl FnOnce(io::Error) -> RoutingError {
    move |source| RoutingError::System { what, source }
}

/// Where a program is.
fn find(program: &'static str, package: &'static str) -> Result<PathBuf, RoutingError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SBIN.map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(program));
    let found = files.find(|file| file.is_file());
    found.ok_or(RoutingError::NotInstalled { program, package })
}
