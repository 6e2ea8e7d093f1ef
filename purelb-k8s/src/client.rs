//! The connection to the Kubernetes API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceExt};

use crate::error::chain;

/// Where a pod finds the name of its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After how long without a byte a connection is probed, how often, and how many probes may go
/// unanswered. The kernel does it, so that a quiet connection wakes nobody.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// How long sent bytes may stay unacknowledged before the connection is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(60);

/// Connects to the API server of a kubeconfig file, or of the cluster that this pod runs in.
///
/// `kubeconfig` may name several files as `KUBECONFIG` does, separated by colons. `program` is told
/// to the server as the user agent, with its version. There is no rate limit on our side and no
/// repetition of requests: every caller knows best when to try again.
///
/// # Errors
///
/// If there is no usable configuration. That the server can be reached is not tried.
pub async fn connect(kubeconfig: Option<&str>, program: &str) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig.filter(|path| !path.is_empty()) {
        Some(paths) => from_files(paths).await?,
        None => Config::incluster()
            .map_err(|error| ConnectError::NotInCluster { text: chain(&error) })?,
    };
    let agent = format!("{program}/{}", env!("CARGO_PKG_VERSION"));
    let agent = HeaderValue::try_from(agent).map_err(|_| ConnectError::Program)?;
    config.headers.push((USER_AGENT, agent));
    build(config).map_err(|error| ConnectError::Unusable { text: chain(&error) })
}

/// The namespace that PureLB is installed in: the one given, or this pod's own.
pub fn namespace(given: Option<&str>) -> Option<String> {
    let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    given.and_then(trimmed).or_else(|| trimmed(&std::fs::read_to_string(NAMESPACE_FILE).ok()?))
}

/// Why there is no connection to a Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig was given, and this is not a pod.
    #[error("no kubeconfig was given (--kubeconfig, KUBECONFIG), and this is not a pod: {text}")]
    NotInCluster {
        /// What is missing.
        text: String,
    },
    /// The program's name cannot stand in a header.
    #[error("the program's name is no user agent")]
    Program,
    /// A kubeconfig could not be read.
    #[error("cannot read the kubeconfig {}: {text}", path.display())]
    Kubeconfig {
        /// The file, or the files as given.
        path: PathBuf,
        /// Why not.
        text: String,
    },
    /// The configuration was read, but no client can be made of it.
    #[error("cannot use the configuration of the Kubernetes API: {text}")]
    Unusable {
        /// Why not.
        text: String,
    },
}

async fn from_files(paths: &str) -> Result<Config, ConnectError> {
    let failed = |path: &str, error: &dyn std::error::Error| ConnectError::Kubeconfig {
        path: Path::new(path).to_owned(),
        text: chain(error),
    };
    let mut merged = Kubeconfig::default();
    for path in paths.split(':').filter(|path| !path.is_empty()) {
        let next = Kubeconfig::read_from(path).map_err(|error| failed(path, &error))?;
        merged = merged.merge(next).map_err(|error| failed(path, &error))?;
    }
    let authority = authority_file(&merged);
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(merged, &options).await;
    let mut config = config.map_err(|error| failed(paths, &error))?;
    // Read anew each minute, as a pod's is: whom to trust may change while we run.
    config.root_cert_file = authority;
    Ok(config)
}

/// The file with the certificates that the current context trusts, if it is one.
fn authority_file(config: &Kubeconfig) -> Option<PathBuf> {
    let current = config.current_context.as_deref()?;
    let context = config.contexts.iter().find(|context| context.name == current)?;
    let wanted = &context.context.as_ref()?.cluster;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == *wanted)?;
    let cluster = cluster.cluster.as_ref()?;
    // What stands in the kubeconfig itself comes first.
    let file = cluster.certificate_authority.as_ref();
    file.filter(|_| cluster.certificate_authority_data.is_none()).map(PathBuf::from)
}

fn build(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let (time, interval, retries) = KEEPALIVE;
    connector.set_keepalive(Some(time));
    connector.set_keepalive_interval(Some(interval));
    connector.set_keepalive_retries(Some(retries));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let service = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build::<_, kube::client::Body>(config.rustls_https_connector_with_connector(connector)?)
        .map_err(BoxError::from);
    let base = config.base_uri_layer();
    let headers = config.extra_headers_layer()?;
    let builder =
        ClientBuilder::new(service, config.default_namespace.clone()).with_layer(&headers);
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}
