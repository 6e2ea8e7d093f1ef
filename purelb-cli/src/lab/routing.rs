//! Routing software as users run it: on each node, to tell the router what is on `kube-lb0`, and in
//! the router, to learn it. It is configured by the very files under `examples/routing`.

mod bird;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use thiserror::Error;

use super::namespace::Namespace;
use super::process::{Image, Launch, Program};
use super::topology::{Topology, TopologyError};

/// Where routing daemons are, beside what the PATH names: some users have no `sbin` there.
const SBIN: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Which software, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Software {
    /// BIRD 2, BGP with BFD
    BirdBgp,
    /// BIRD 2, OSPF with BFD
    BirdOspf,
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
    /// Looks for the programs.
    pub fn find(self) -> Result<(), RoutingError> {
        match self {
            Self::BirdBgp | Self::BirdOspf => bird::program().map(drop),
        }
    }

    fn arrange(
        self,
        role: Role,
        router_id: Ipv4Addr,
        directory: &Path,
    ) -> Result<Arrangement, RoutingError> {
        match self {
            Self::BirdBgp | Self::BirdOspf => bird::arrange(self, role, router_id, directory),
        }
    }

    /// The shell command by which somebody in that directory's place sees what the daemon knows.
    fn question(self, directory: &Path) -> String {
        match self {
            Self::BirdBgp | Self::BirdOspf => bird::question(directory),
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
        software.find()?;
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
        fs::create_dir_all(&directory)
            .and_then(|()| arrangement.write(&directory))
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
        self.files.iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
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
