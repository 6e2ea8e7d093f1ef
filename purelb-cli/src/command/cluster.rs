//! What the subcommands that look at a cluster have in common: the connection and one look.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::Args;
use purelb_k8s::Client;
use purelb_k8s::client::{self, ConnectError};
use purelb_k8s::error::chain;
use purelb_k8s::snapshot::{Snapshot, SnapshotError};

/// Which cluster, and where PureLB is in it.
#[derive(Clone, Debug, Args)]
pub struct Cluster {
    /// Kubeconfig file
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", global = true)]
    kubeconfig: Option<String>,
    /// Namespace that PureLB is installed in
    #[arg(
        short,
        long,
        env = "PURELB_NAMESPACE",
        value_name = "NAME",
        default_value = "purelb",
        global = true
    )]
    namespace: String,
}

/// Why a cluster could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection can be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No runtime for the requests.
    #[error("cannot start the runtime")]
    Runtime(#[from] io::Error),
    /// The objects could not be listed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Cluster {
    /// The namespace that PureLB is installed in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kubeconfig file, if one was named.
    pub fn kubeconfig(&self) -> Option<&str> {
        self.kubeconfig.as_deref().filter(|path| !path.is_empty())
    }

    /// Lists everything once, and lets `then` go on with it and the connection.
    ///
    /// # Errors
    ///
    /// If there is no connection, or something cannot be listed.
    pub fn look<T, F: Future<Output = T>>(
        &self,
        then: impl FnOnce(Client, Snapshot) -> F,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let home = std::env::var("HOME").map(|home| format!("{home}/.kube/config")).ok();
            let kubeconfig = self.kubeconfig.clone().or(home);
            let client = client::connect(kubeconfig.as_deref(), "purelb").await?;
            let snapshot = Snapshot::take(&client, &self.namespace).await?;
            Ok(then(client, snapshot).await)
        })
    }

    /// Lists everything once and hands it to `show`, which says how it went.
    pub fn show(&self, show: impl FnOnce(&Snapshot) -> ExitCode) -> ExitCode {
        self.look(async |_, snapshot| show(&snapshot)).unwrap_or_else(|failure| complain(&failure))
    }
}

/// Says what went wrong; the exit status is 3.
pub fn complain(failure: &dyn std::error::Error) -> ExitCode {
    eprintln!("purelb: {}", chain(failure));
    ExitCode::from(3)
}
