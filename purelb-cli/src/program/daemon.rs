//! What the two daemons have in common: arguments, how they begin, and why they end.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Parser};
use purelb_k8s::Client;
use purelb_k8s::client::{self, ConnectError};
use purelb_k8s::error::chain;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{error, info};

use crate::recording::{Bytes, Recordable, Recorded};
use crate::telemetry::desk::{Desk, Page};
use crate::telemetry::log;
use crate::telemetry::server::{self, BindError, Listening};

use super::footprint;

/// The arguments of both.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Namespace that PureLB is installed in; without one, this pod's own
    #[arg(long, env = "PURELB_NAMESPACE")]
    namespace: Option<String>,

    /// Kubeconfig file; without one, the cluster that this pod runs in
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<String>,

    /// Address to serve metrics and probes on; empty for all
    #[arg(long, env = "PURELB_HOST", default_value = "")]
    host: String,

    /// Port to serve metrics and probes on
    #[arg(long, default_value_t = server::PORT)]
    port: u16,

    /// How many bytes of what it was told last are kept for `purelb record`, such as 256Ki; 0 for none
    #[arg(long, env = "PURELB_RECORDING_SIZE", default_value_t = Bytes::DEFAULT)]
    recording_size: Bytes,

    /// `info` or `debug`
    #[arg(long, env = "PURELB_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: log::Format,
}

impl Common {
    /// The namespace that PureLB is installed in.
    pub(super) fn namespace(&self) -> Result<String, Failure> {
        client::namespace(self.namespace.as_deref()).ok_or(Failure::NoNamespace)
    }

    /// How much is recorded.
    pub(super) fn recording_size(&self) -> Bytes {
        self.recording_size
    }

    /// Listens where metrics and probes are served.
    pub(super) fn listen(&self) -> Result<Listening, Failure> {
        Ok(Listening::bind(self.host()?, self.port)?)
    }

    /// Connects to the Kubernetes API, by the name of `program`.
    pub(super) async fn connect(&self, program: &str) -> Result<Client, Failure> {
        Ok(client::connect(self.kubeconfig.as_deref(), program).await?)
    }

    fn host(&self) -> Result<Option<IpAddr>, Failure> {
        match self.host.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Failure::Host { text: text.into() }),
        }
    }
}

/// Runs the daemon `name` with the arguments after its name: reads them, starts the log, and serves until
/// it ends. Before all that it listens for signals: the first process of a container never hears of one
/// that comes sooner, and would be waited for until it is killed.
pub(super) fn run<A, E>(
    name: &str,
    args: impl Iterator<Item = OsString>,
    common: impl FnOnce(&A) -> &Common,
    serve: impl AsyncFnOnce(A, Signals) -> Result<(), E>,
) -> ExitCode
where
    A: Parser,
    E: Error + ExitStatus + From<Failure>,
{
    let begun = begin();
    let args = match A::try_parse_from(std::iter::once(name.into()).chain(args)) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let given = common(&args);
    log::start(&given.log_level, given.log_format);
    let ended = begun.map_err(E::from).and_then(|(runtime, signals)| {
        runtime.spawn(footprint::keep_small());
        runtime.block_on(serve(args, signals))
    });
    match ended {
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

fn begin() -> Result<(Runtime, Signals), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    Ok((runtime, signals))
}

/// The page that gives out the recording of a machine.
pub(super) fn recording<M: Recordable + 'static>(desk: &Desk<Recorded<M>>) -> Page {
    desk.file("application/gzip", |machine: &Recorded<M>| {
        let file = machine.file(Instant::now().into_std());
        file.ok_or_else(|| {
            "nothing is recorded: --recording-size (PURELB_RECORDING_SIZE) is 0".into()
        })
    })
}

/// What a failure tells the shell: 2 for what the command line or the environment can mend, 3 for a
/// port that is taken, else 1.
pub(super) trait ExitStatus {
    /// The exit code.
    fn exit_code(&self) -> ExitCode;
}

/// The signals that tell a daemon to stop.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Listens for them from now on.
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::Signals);
        Ok(Self([
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::quit())?,
        ]))
    }

    /// Waits for the next one. Cancel-safe: one that has come is kept.
    pub(super) async fn next(&mut self) {
        let [terminate, interrupt, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Why a daemon ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the task that raises Events ended")]
    EventsEnded,
    #[error("--host (PURELB_HOST) is {text:?}, which is no address: write one, or nothing for all")]
    Host { text: String },
    #[error("cannot make up a name for this process")]
    Identity(#[source] io::Error),
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

impl ExitStatus for Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Host { .. } | Self::NoNamespace => ExitCode::from(2),
            Self::Bind(_) => ExitCode::from(3),
            Self::Connect(_)
            | Self::EventsEnded
            | Self::Identity(_)
            | Self::Runtime(_)
            | Self::ServerEnded
            | Self::Signals(_)
            | Self::WatchesLost => ExitCode::FAILURE,
        }
    }
}
