//! The `allocator` program: gives `LoadBalancer` Services their addresses.

mod people;
mod subnets;
mod world;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Parser;
use prometheus_client::registry::Registry;
use purelb_core::allocator::{Allocator, Settings};
use purelb_k8s::client::{self, ConnectError};
use purelb_k8s::error::chain;
use purelb_k8s::notice::recorder;
use tracing::{error, info};

use crate::driver::drive;
use crate::telemetry::allocator::AllocatorMetrics;
use crate::telemetry::log;
use crate::telemetry::server::{self, BindError, Listening, Readiness};

use world::{Ended, World};

/// What this program is called in the API.
const COMPONENT: &str = "purelb-allocator";

/// Gives LoadBalancer Services their addresses.
#[derive(Debug, Parser)]
#[command(name = "allocator", version)]
struct Args {
    /// Namespace that PureLB is installed in; without one, this pod's own
    #[arg(long, env = "PURELB_NAMESPACE")]
    namespace: Option<String>,

    /// Kubeconfig file; without one, the cluster that this pod runs in
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<String>,

    /// `PureLB`: Services without a loadBalancerClass are served too
    #[arg(long, env = "DEFAULT_ANNOUNCER", default_value = "")]
    default_announcer: String,

    /// Address to serve metrics and probes on; empty for all
    #[arg(long, env = "PURELB_HOST", default_value = "")]
    host: String,

    /// Port to serve metrics and probes on
    #[arg(long, default_value_t = server::PORT)]
    port: u16,

    /// `info` or `debug`
    #[arg(long, env = "PURELB_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: log::Format,
}

/// Runs the `allocator` with the arguments after the program's name, until it ends.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once("allocator".into()).chain(args)) {
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
            error!("{}", chain(&failure));
            failure.exit_code()
        }
    }
}

async fn serve(args: Args) -> Result<(), Failure> {
    let namespace = client::namespace(args.namespace.as_deref()).ok_or(Failure::NoNamespace)?;
    let host = match args.host.trim() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| Failure::Host { text: text.into() })?),
    };
    let default_announcer = args.default_announcer == "PureLB";
    let version = env!("CARGO_PKG_VERSION");
    info!(version, %namespace, default_announcer, "starting");

    let mut registry = Registry::default();
    let metrics = AllocatorMetrics::new(&mut registry);
    let readiness = Readiness::default();
    let listening = Listening::bind(host, args.port)?;
    let client = client::connect(args.kubeconfig.as_deref(), COMPONENT).await?;
    // A pod's host name is its own name.
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let (recorder, events) = recorder(client.clone(), COMPONENT, &pod);
    let settings = Settings { default_announcer, ..Settings::default() };
    let mut world = World::new(&client, &namespace, settings, recorder, metrics, readiness.clone())
        .map_err(Failure::Signals)?;
    let mut machine = Allocator::new();
    tokio::select! {
        // Cancel-safe: nothing is done with any of them after this.
        ended = drive(&mut machine, &mut world) => match ended {
            Ended::Stopped => Ok(()),
            Ended::WatchesLost => Err(Failure::WatchesLost),
        },
        () = listening.serve(registry, readiness) => Err(Failure::ServerEnded),
        () = events.run() => Err(Failure::EventsEnded),
    }
}

/// Why the program ended, or did not begin.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the task that raises Events ended")]
    EventsEnded,
    #[error("--host (PURELB_HOST) is {text:?}, which is no address: write one, or nothing for all")]
    Host { text: String },
    #[error("say which namespace PureLB is installed in: --namespace or PURELB_NAMESPACE")]
    NoNamespace,
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("the server of metrics and probes ended")]
    ServerEnded,
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("the watches of the Kubernetes API ended")]
    WatchesLost,
}

impl Failure {
    /// 2 for what the command line or the environment can mend, 3 for a port that is taken, else 1.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Host { .. } | Self::NoNamespace => ExitCode::from(2),
            Self::Bind(_) => ExitCode::from(3),
            Self::Connect(_)
            | Self::EventsEnded
            | Self::Runtime(_)
            | Self::ServerEnded
            | Self::Signals(_)
            | Self::WatchesLost => ExitCode::FAILURE,
        }
    }
}
