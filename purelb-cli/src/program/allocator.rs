//! The `allocator` program: gives `LoadBalancer` Services their addresses.

mod election;
mod office;
mod people;
mod subnets;
mod world;
mod writes;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus_client::registry::Registry;
use purelb_core::allocator::Settings;
use purelb_core::leadership::{self, DEFAULT_DURATION, Leadership, MIN_DURATION};
use purelb_k8s::go_duration;
use purelb_k8s::notice::recorder;
use tokio::sync::Mutex;
use tracing::info;

use crate::driver::drive;
use crate::telemetry::allocator::AllocatorMetrics;
use crate::telemetry::desk::{Pages, desk};
use crate::telemetry::health::Health;

use super::daemon::{self, Common, Failure, Signals};
use election::Election;
use office::Office;

/// What this program is called in the API.
const COMPONENT: &str = "purelb-allocator";

/// Gives LoadBalancer Services their addresses.
#[derive(Debug, Parser)]
#[command(name = "allocator", version)]
struct Args {
    #[command(flatten)]
    common: Common,

    /// `PureLB`: Services without a loadBalancerClass are served too
    #[arg(long, env = "DEFAULT_ANNOUNCER", default_value = "")]
    default_announcer: String,

    /// How long the leader's lease lasts, at least 1s, 5s unless set; one that has to take over
    /// waits as long
    #[arg(long, env = "PURELB_LEASE_DURATION", value_parser = go_duration::parse)]
    lease_duration: Option<Duration>,
}

/// The command line, for its manual page.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// Runs the `allocator` with the arguments after the program's name, until it ends.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run("allocator", args, |args: &Args| &args.common, serve)
}

async fn serve(args: Args, signals: Signals) -> Result<(), Failure> {
    let namespace = args.common.namespace()?;
    let default_announcer = args.default_announcer == "PureLB";
    let duration = args.lease_duration.unwrap_or(DEFAULT_DURATION).max(MIN_DURATION);
    let version = env!("CARGO_PKG_VERSION");
    info!(version, %namespace, default_announcer, "starting");

    let mut registry = Registry::default();
    let metrics = AllocatorMetrics::new(&mut registry);
    let health = Health::new(&mut registry);
    let listening = args.common.listen()?;
    let client = args.common.connect(COMPONENT).await?;
    // A pod's host name is its own name.
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let (recorder, events) = recorder(client.clone(), COMPONENT, &pod);
    let settings = Settings { default_announcer, ..Settings::default() };
    let identity = identity(&pod).map_err(Failure::Identity)?;
    let mut leadership =
        Leadership::new(leadership::Settings { identity: identity.clone(), duration });
    let (mut election, seat) = Election::new(&client, &namespace, duration, &identity);
    let (desk, questions) = desk();
    let pages = Pages::from([("/recording", daemon::recording(&desk))]);
    let office = Office {
        client,
        namespace,
        settings,
        recorder,
        metrics,
        health: health.clone(),
        seat,
        signals,
        questions: Arc::new(Mutex::new(questions)),
        recording: (identity, args.common.recording_size()),
    };
    let pulse = health.pulse("leadership");
    tokio::select! {
        // The lease goes first: whether anything may be sent is known before it is.
        biased;
        // Cancel-safe: nothing is done with any of them after this.
        ended = drive(&mut leadership, &mut election, &pulse) => match ended {
            election::Ended::Retired => Ok(()),
            election::Ended::WatchLost => Err(Failure::WatchesLost),
        },
        failure = office.run() => Err(failure),
        () = listening.serve(registry, health, pages) => Err(Failure::ServerEnded),
        () = events.run() => Err(Failure::EventsEnded),
    }
}

/// A name for this process that none before it had.
fn identity(pod: &str) -> io::Result<String> {
    let number = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(format!("{}_{}", if pod.is_empty() { "allocator" } else { pod }, number.trim()))
}
