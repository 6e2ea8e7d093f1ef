//! The `lbnodeagent` program: one per node, in the node's own network namespace.

mod announcements;
mod world;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use prometheus_client::registry::Registry;
use purelb_core::host::Ownership;
use purelb_core::membership::{DEFAULT_DURATION, Pace, PaceError, Settings};
use purelb_core::node::NodeAgent;
use purelb_core::time::Origin;
use purelb_k8s::go_duration;
use purelb_netlink::{Kernel, LockError, NamespaceLock, WatchError};
use tracing::{info, warn};

use crate::driver::drive;
use crate::recording::{AgentSettings, Recorded};
use crate::telemetry::agent::AgentMetrics;
use crate::telemetry::desk::{Pages, desk};
use crate::telemetry::health::Health;

use super::daemon::{self, Common, ExitStatus, Signals};
use world::{Ended, Sources, World};

/// The name that one agent per host holds.
const LOCK: &str = "purelb.io/lbnodeagent";

/// Puts the addresses of LoadBalancer Services on the right interface of this node.
#[derive(Debug, Parser)]
#[command(name = "lbnodeagent", version)]
struct Args {
    #[command(flatten)]
    common: Common,

    /// Name of the Node that this process runs on
    #[arg(long, env = "PURELB_NODE_NAME")]
    node_name: String,

    /// What tells this process from others on the node, such as its pod's uid
    #[arg(long, env = "PURELB_POD_UID", default_value = "")]
    pod_uid: String,

    /// How long this node's lease lasts, at least 5s, which it is unless set
    #[arg(long, env = "PURELB_LEASE_DURATION", value_parser = go_duration::parse)]
    lease_duration: Option<Duration>,

    /// How long addresses are kept after the last renewal of the lease that succeeded; unless set,
    /// the lease's duration less 2 % and 1.3s, which is also the most
    #[arg(long, env = "PURELB_RENEW_DEADLINE", value_parser = go_duration::parse)]
    renew_deadline: Option<Duration>,

    /// From one renewal of the lease to the next; unless set, a third of its duration. At most half of
    /// the renew deadline
    #[arg(long, env = "PURELB_RETRY_PERIOD", value_parser = go_duration::parse)]
    retry_period: Option<Duration>,
}

/// The command line, for its manual page.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Runs the `lbnodeagent` with the arguments after the program's name, until it ends.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run("lbnodeagent", args, |args: &Args| &args.common, serve)
}

async fn serve(args: Args, signals: Signals) -> Result<(), Failure> {
    let namespace = args.common.namespace()?;
    let duration = args.lease_duration.unwrap_or(DEFAULT_DURATION);
    let pace = Pace::new(duration, args.renew_deadline, args.retry_period)?;
    let _lock = NamespaceLock::take(LOCK)?;
    let start = Instant::now();
    let settings = Settings {
        node: args.node_name.as_str().into(),
        boot_id: boot_id()?.into(),
        instance: instance(&args.pod_uid)?,
        duration,
    };
    info!(version = env!("CARGO_PKG_VERSION"), node = %settings.node, %namespace, "starting");

    let mut registry = Registry::default();
    let metrics = AgentMetrics::new(&mut registry);
    let health = Health::new(&mut registry);
    let listening = args.common.listen()?;
    let client = args.common.connect("purelb-lbnodeagent").await?;
    let kernel = Kernel::open(Origin::new(start))?;
    let ownership = match kernel.marks_supported() {
        true => Ownership::Mark,
        false => Ownership::PoolAndLink,
    };
    if ownership == Ownership::PoolAndLink {
        warn!(
            "this kernel does not keep the mark of an address (IFA_PROTO, Linux 5.18): addresses inside a pool on an interface that PureLB uses are taken for PureLB's"
        );
    }

    let (desk, questions) = desk();
    let view = desk.page(|agent: &Recorded<NodeAgent>, _| agent.view());
    let pages = Pages::from([("/recording", daemon::recording(&desk)), ("/view", view)]);
    let made_with = AgentSettings { lease: settings.clone(), pace: Some(pace), ownership };
    let name = settings.node.as_str();
    let mut machine = Recorded::new(made_with, name, args.common.recording_size(), start);
    let sources = Sources { kernel, questions, signals };
    let mut world = World::new(client, &namespace, &settings, sources, metrics, health.clone());
    let events = world.take_worker();
    let pulse = health.pulse("lbnodeagent");
    tokio::select! {
        // Cancel-safe: nothing is done with any of them after this.
        ended = drive(&mut machine, &mut world, &pulse) => match ended {
            Ended::Stopped => Ok(()),
            Ended::Unfinished => Err(Failure::Unfinished),
            Ended::KernelLost(error) => Err(error.into()),
            Ended::WatchesLost => Err(daemon::Failure::WatchesLost.into()),
        },
        () = listening.serve(registry, health, pages) => Err(daemon::Failure::ServerEnded.into()),
        () = events => Err(daemon::Failure::EventsEnded.into()),
    }
}

/// What the running kernel says of its boot.
fn boot_id() -> Result<String, Failure> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).map_err(Failure::BootId)
}

/// A name for this process that none before it had: the pod's uid and a number of the kernel's.
fn instance(pod_uid: &str) -> Result<String, Failure> {
    let number =
        std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(Failure::BootId)?;
    let number = number.trim();
    Ok(if pod_uid.is_empty() { number.to_owned() } else { format!("{pod_uid}/{number}") })
}

/// Why the program ended, or did not begin.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot read what the kernel says of its boot")]
    BootId(#[source] io::Error),
    #[error(transparent)]
    Daemon(#[from] daemon::Failure),
    #[error(transparent)]
    Kernel(#[from] WatchError),
    #[error("cannot make sure that this is the only agent of this host")]
    Lock(#[from] LockError),
    #[error(
        "the lease cannot be kept with these of --lease-duration (PURELB_LEASE_DURATION), --renew-deadline (PURELB_RENEW_DEADLINE) and --retry-period (PURELB_RETRY_PERIOD)"
    )]
    Pace(#[from] PaceError),
    #[error("stopped before everything was withdrawn; what is left goes when its lifetime ends")]
    Unfinished,
}

impl ExitStatus for Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Pace(_) => ExitCode::from(2),
            Self::Daemon(failure) => failure.exit_code(),
            Self::BootId(_) | Self::Kernel(_) | Self::Lock(_) | Self::Unfinished => {
                ExitCode::FAILURE
            }
        }
    }
}
