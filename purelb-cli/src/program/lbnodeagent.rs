//! The `lbnodeagent` program: one per node, in the node's own network namespace.

mod world;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use prometheus_client::registry::Registry;
use purelb_core::membership::{DEFAULT_DURATION, MIN_DURATION, Settings};
use purelb_core::node::NodeAgent;
use purelb_core::time::Origin;
use purelb_k8s::client::{self, ConnectError};
use purelb_k8s::go_duration;
use purelb_netlink::{Kernel, LockError, NamespaceLock, WatchError};
use tracing::{error, info};

use crate::driver::drive;
use crate::telemetry::agent::AgentMetrics;
use crate::telemetry::log;
use crate::telemetry::server::{self, BindError, Listening, Readiness};

use world::{Ended, World};

/// The name that one agent per host holds.
const LOCK: &str = "purelb.io/lbnodeagent";

/// How long a stopping agent waits for the kernel and the API.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Puts the addresses of LoadBalancer Services on the right interface of this node.
#[derive(Debug, Parser)]
#[command(name = "lbnodeagent", version)]
struct Args {
    /// Namespace that PureLB is installed in
    #[arg(long, env = "PURELB_NAMESPACE")]
    namespace: Option<String>,

    /// Name of the Node that this process runs on
    #[arg(long, env = "PURELB_NODE_NAME")]
    node_name: String,

    /// What tells this process from others on the node, such as its pod's uid
    #[arg(long, env = "PURELB_POD_UID", default_value = "")]
    pod_uid: String,

    /// Kubeconfig file; without one, the cluster that this pod runs in
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<String>,

    /// Address to serve metrics and probes on; empty for all
    #[arg(long, env = "PURELB_HOST", default_value = "")]
    host: String,

    /// Port to serve metrics and probes on
    #[arg(long, default_value_t = server::PORT)]
    port: u16,

    /// How long this node's lease lasts, such as 5s; at least 5s
    #[arg(long, env = "PURELB_LEASE_DURATION", value_parser = go_duration::parse)]
    lease_duration: Option<Duration>,

    /// `info` or `debug`
    #[arg(long, env = "PURELB_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: log::Format,
}

/// Runs the `lbnodeagent` with the arguments after the program's name, until it ends.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once("lbnodeagent".into()).chain(args)) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    log::start(&args.log_level, args.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::Runtime).and_then(|runtime| runtime.block_on(serve(args))) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            error!("{}", purelb_k8s::error::chain(&failure));
            failure.exit_code()
        }
    }
}

async fn serve(args: Args) -> Result<(), Failure> {
    let namespace = client::namespace(args.namespace.as_deref()).ok_or(Failure::NoNamespace)?;
    let duration = args.lease_duration.unwrap_or(DEFAULT_DURATION);
    if duration < MIN_DURATION {
        return Err(Failure::LeaseTooShort { duration });
    }
    let host = match args.host.trim() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| Failure::Host { text: text.into() })?),
    };
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
    let readiness = Readiness::default();
    let listening = Listening::bind(host, args.port)?;
    let client = client::connect(args.kubeconfig.as_deref(), "purelb-lbnodeagent").await?;
    let kernel = Kernel::open(Origin::new(start))?;
    if !kernel.marks_supported() {
        return Err(Failure::KernelTooOld);
    }

    let mut machine = NodeAgent::new(settings.clone(), start);
    let mut world = World::new(
        client,
        &namespace,
        &settings,
        kernel,
        metrics,
        readiness.clone(),
        STOP_PATIENCE,
    )
    .map_err(Failure::Signals)?;
    let events = world.take_worker();
    tokio::select! {
        // Cancel-safe: nothing is done with any of them after this.
        ended = drive(&mut machine, &mut world) => match ended {
            Ended::Stopped => Ok(()),
            Ended::Unfinished => Err(Failure::Unfinished),
            Ended::KernelLost(error) => Err(error.into()),
            Ended::WatchesLost => Err(Failure::WatchesLost),
        },
        () = listening.serve(registry, readiness) => Err(Failure::ServerEnded),
        () = events => Err(Failure::EventsEnded),
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
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot read what the kernel says of its boot")]
    BootId(#[source] io::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the task that raises Events ended")]
    EventsEnded,
    #[error("--host (PURELB_HOST) is {text:?}, which is no address: write one, or nothing for all")]
    Host { text: String },
    #[error(transparent)]
    Kernel(#[from] WatchError),
    #[error(
        "this kernel does not keep the mark of an address (IFA_PROTO): Linux 5.18 or later is needed to tell PureLB's addresses from others"
    )]
    KernelTooOld,
    #[error(
        "--lease-duration (PURELB_LEASE_DURATION) is {duration:?}: it must be at least {MIN_DURATION:?}, or there is no time to renew it"
    )]
    LeaseTooShort { duration: Duration },
    #[error("cannot make sure that this is the only agent of this host")]
    Lock(#[from] LockError),
    #[error("say which namespace PureLB is installed in: --namespace or PURELB_NAMESPACE")]
    NoNamespace,
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("the server of metrics and probes ended")]
    ServerEnded,
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("stopped before everything was withdrawn; what is left goes when its lifetime ends")]
    Unfinished,
    #[error("the watches of the Kubernetes API ended")]
    WatchesLost,
}

impl Failure {
    /// 2 for what the command line or the environment can mend, 3 for a port that is taken, else 1.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Host { .. } | Self::LeaseTooShort { .. } | Self::NoNamespace => ExitCode::from(2),
            Self::Bind(_) => ExitCode::from(3),
            Self::BootId(_)
            | Self::Connect(_)
            | Self::EventsEnded
            | Self::Kernel(_)
            | Self::KernelTooOld
            | Self::Lock(_)
            | Self::Runtime(_)
            | Self::ServerEnded
            | Self::Signals(_)
            | Self::Unfinished
            | Self::WatchesLost => ExitCode::FAILURE,
        }
    }
}
