//! The `allocator` program: gives `LoadBalancer` Services their addresses.

mod people;
mod subnets;
mod world;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use prometheus_client::registry::Registry;
use purelb_core::allocator::{Allocator, Settings};
use purelb_k8s::notice::recorder;
use tracing::info;

use crate::driver::drive;
use crate::telemetry::allocator::AllocatorMetrics;
use crate::telemetry::desk::Pages;
use crate::telemetry::server::Readiness;

use super::daemon::{self, Common, Failure};
use world::{Ended, World};

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
}

/// Runs the `allocator` with the arguments after the program's name, until it ends.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    daemon::run("allocator", args, |args: &Args| &args.common, serve)
}

async fn serve(args: Args) -> Result<(), Failure> {
    let namespace = args.common.namespace()?;
    let default_announcer = args.default_announcer == "PureLB";
    let version = env!("CARGO_PKG_VERSION");
    info!(version, %namespace, default_announcer, "starting");

    let mut registry = Registry::default();
    let metrics = AllocatorMetrics::new(&mut registry);
    let readiness = Readiness::default();
    let listening = args.common.listen()?;
    let client = args.common.connect(COMPONENT).await?;
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
        () = listening.serve(registry, readiness, Pages::new()) => Err(Failure::ServerEnded),
        () = events.run() => Err(Failure::EventsEnded),
    }
}
