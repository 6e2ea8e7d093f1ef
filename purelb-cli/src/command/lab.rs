//! `purelb lab`.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use purelb_k8s::control_plane::Assets;

use crate::lab::bench::{self, BenchError, Case, Row};
use crate::lab::campaign::{Plan, Setup, Verdict, campaign};
use crate::lab::cluster::{Blueprint, Cluster, ClusterError};
use crate::lab::demo::{Outcome, demo};
use crate::lab::manifest::Component;
use crate::lab::routing::Software;
use crate::lab::state::{Directory, Labs};
use crate::lab::stop::Stop;
use crate::lab::{ip, join, privilege, samples};

/// A small cluster of network namespaces on this machine, to try PureLB without Kubernetes
#[derive(Debug, Args)]
pub struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show in half a minute what PureLB does
    Demo {
        /// Keep the programs' logs in this directory
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
    },
    /// Kill, freeze, cut off and stop agents again and again, and count on the wire every moment in
    /// which two nodes answer for one address, and every outage
    ///
    /// The trials are kept in a file; a campaign that was ended goes on from there.
    Campaign(Campaign),
    /// Measure how fast PureLB is and what it costs, beside what the API alone costs
    Bench {
        /// What to measure; everything if none is named
        #[arg(value_enum)]
        cases: Vec<Case>,
        /// On a real control plane: a directory with etcd, kube-apiserver and kubectl
        #[arg(long, value_name = "DIR")]
        assets: Option<PathBuf>,
        /// Keep the programs' logs in this directory
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
    },
    /// Start a lab and keep it until Ctrl-C or `purelb lab down`
    Up {
        /// Keep the programs' logs in this directory
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
        /// Run on a real control plane, with kube-proxy and a pod on each node: a directory with etcd,
        /// kube-apiserver, kube-proxy and kubectl, such as .ci/control-plane builds
        #[arg(long, value_name = "DIR")]
        assets: Option<PathBuf>,
        /// Let the router learn the way to the nodes from routing software, which is to be installed
        #[arg(long, value_enum, value_name = "SOFTWARE")]
        routing: Option<Software>,
    },
    /// Run a command inside a running lab: purelb lab exec node1 -- ip addr show dev kube-lb0
    Exec {
        /// Where: node1, node2, node3, router, client or hub; pod1, pod2 or pod3
        place: String,
        /// What to run; without one, a shell
        #[arg(last = true)]
        command: Vec<OsString>,
        #[command(flatten)]
        which: Which,
    },
    /// End a running lab, and wait until it is gone
    Down {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Campaign {
    /// The file that the trials are appended to, one JSON object a line
    #[arg(long, value_name = "FILE", default_value = "campaign.jsonl")]
    records: PathBuf,
    /// How many trials of each fault the file shall hold, those not counted in which the lab itself got
    /// no time
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    trials: usize,
    /// How many labs run beside each other
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    labs: usize,
    /// How many Services there are, each with an IPv4 and an IPv6 address
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    services: u16,
    /// How often each address is asked for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// The control: let the kernel keep addresses for ever, so that doubles must be seen
    #[arg(long)]
    fence_off: bool,
    /// Keep the programs' logs in this directory; without it, beside the file
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Which {
    /// The process id of the lab, if several are running
    #[arg(long, value_name = "PID")]
    lab: Option<i32>,
}

/// Runs `purelb lab`.
pub fn run(lab: Lab) -> ExitCode {
    match lab.command {
        Command::Demo { logs } => match prepare() {
            Ok(directory) => match demo(directory, logs) {
                Outcome::Complete => ExitCode::SUCCESS,
                Outcome::Failed => ExitCode::FAILURE,
                Outcome::Interrupted => ExitCode::from(130),
            },
            Err(code) => code,
        },
        Command::Campaign(arguments) => match prepare() {
            Ok(directory) => measure(&directory, arguments),
            Err(code) => code,
        },
        Command::Bench { cases, assets, logs } => prepare()
            .and_then(|directory| time(&directory, cases, assets.as_deref(), logs))
            .map_or_else(|code| code, |()| ExitCode::SUCCESS),
        Command::Up { logs, assets, routing } => prepare()
            .and_then(|directory| up(directory, logs, assets.as_deref(), routing))
            .map_or_else(|code| code, |()| ExitCode::SUCCESS),
        Command::Exec { place, command, which } => {
            match Labs::of_this_user().and_then(|labs| labs.find(which.lab)) {
                Ok(state) => complain(&join::exec(&state, &place, &command)),
                Err(error) => complain(&error),
            }
        }
        Command::Down { which } => {
            let found = Labs::of_this_user().and_then(|labs| Ok((labs.find(which.lab)?, labs)));
            let ended = found.and_then(|(state, labs)| {
                state.end(Duration::from_secs(10))?;
                // Removes what a lab that had to be killed left.
                labs.running().map(drop)
            });
            ended.map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS)
        }
    }
}

/// What comes before any lab, in this order: who the user is, then rights, then nothing but tools.
fn prepare() -> Result<Directory, ExitCode> {
    let directory = Labs::of_this_user().and_then(|labs| labs.start());
    let directory = directory.map_err(|error| complain(&error))?;
    privilege::obtain().map_err(|error| complain(&error))?;
    ip::is_installed().map_err(|error| complain(&error))?;
    Ok(directory)
}

fn measure(directory: &Directory, arguments: Campaign) -> ExitCode {
    let Campaign { records, trials, labs, services, every, fence_off, logs } = arguments;
    let logs = logs.unwrap_or_else(|| records.with_extension("logs"));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let setup = Setup {
        services,
        every_ms: every,
        fence_off,
        kernel: kernel.trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match campaign(directory, &Plan { trials, labs, setup, records, logs }) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Ok(Verdict::Interrupted) => ExitCode::from(130),
        Err(error) => complain(&error),
    }
}

fn time(
    directory: &Directory,
    cases: Vec<Case>,
    assets: Option<&Path>,
    logs: Option<PathBuf>,
) -> Result<(), ExitCode> {
    let cases = if cases.is_empty() { Case::ALL.to_vec() } else { cases };
    let assets = assets.map(Assets::in_directory).transpose().map_err(|error| complain(&error))?;
    let plan = bench::Plan { cases, assets, logs };
    let stop = Stop::default();
    let tell = |row: &Row| eprintln!("{}: {} ({})", row.what, row.measured, row.beside);
    match bench::bench(directory, &plan, &stop, tell) {
        Ok(rows) => {
            // Without a reader it was of no use anyway.
            let _ = write!(std::io::stdout(), "{}", bench::table(&rows));
            Ok(())
        }
        Err(BenchError::Interrupted) => Err(ExitCode::from(130)),
        Err(error) => Err(complain(&error)),
    }
}

fn up(
    directory: Directory,
    logs: Option<PathBuf>,
    assets: Option<&Path>,
    routing: Option<Software>,
) -> Result<(), ExitCode> {
    let stop = Stop::default();
    let assets = assets.map(Assets::in_directory).transpose().map_err(|error| complain(&error))?;
    let blueprint = Blueprint { pods: assets.is_some(), assets, routing, ..Blueprint::default() };
    let mut cluster = match start(directory, logs, &stop, blueprint) {
        Ok(cluster) => cluster,
        Err(_) if stop.is_requested() => return Ok(()),
        Err(error) => return Err(complain(&error)),
    };
    let learnt = cluster.routing().map(|routing| {
        format!(
            "\n    kubectl apply --server-side -f deploy/samples/service-routed.yaml\
             \n    purelb lab exec router -- ip route\
             \n    purelb lab exec router -- {}",
            routing.question()
        )
    });
    // A real API server has no kubelet to ask for what is in a pod.
    let inside = cluster.api().memory().map(|_| {
        format!(
            "\n    kubectl get pods -n purelb -o wide\
             \n    kubectl exec -it -n purelb {} -- ip addr show dev kube-lb0",
            Component::NodeAgent.pod(cluster.node(0).name())
        )
    });
    let words = format!(
        "The lab is up: {places}.\n\
         \n\
         In another terminal:\n\
         \n    export KUBECONFIG={kubeconfig}\n\
         \n    kubectl apply --server-side -f deploy/samples/service-local.yaml\
         \n    kubectl get services\
         \n    purelb lab exec node1 -- ip addr show dev eth0\
         \n    purelb lab exec node1 -- ip addr show dev kube-lb0\
         \n    purelb lab exec client -- curl http://192.0.2.240/{inside}{learnt}\n\
         \n\
         The logs are in {logs}.\n\
         Ctrl-C, or `purelb lab down`, ends it.",
        places = cluster.places().join(", "),
        kubeconfig = cluster.kubeconfig().display(),
        logs = cluster.logs().display(),
        inside = inside.unwrap_or_default(),
        learnt = learnt.unwrap_or_default(),
    );
    // Without a reader the lab is of as much use.
    let _ = writeln!(std::io::stdout(), "{words}");
    let fallen = stop.wait_or(|| cluster.fallen());
    let mut problems = cluster.end_programs();
    if let Some((program, status)) = fallen {
        problems.insert(0, format!("{program} ended by itself: {status}"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(complain(&problems.join("; ")))
}

fn start(
    directory: Directory,
    logs: Option<PathBuf>,
    stop: &Stop,
    blueprint: Blueprint,
) -> Result<Cluster, ClusterError> {
    let mut cluster = Cluster::build(directory, logs, stop, blueprint)?;
    let client = cluster.api().client();
    for sample in [samples::NODE_AGENT, samples::LOCAL_GROUP, samples::ROUTED_GROUP] {
        client.apply(sample)?;
    }
    cluster.start_programs()?;
    cluster.publish()?;
    Ok(cluster)
}

fn complain(error: &dyn Display) -> ExitCode {
    eprintln!("purelb: {error}");
    ExitCode::FAILURE
}
