//! A cluster for one test.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use purelb_k8s::control_plane::{ADMIN, ControlPlane, Settings, require};
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long a fact may take to come true before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An API with a namespace of its own for the test.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// A kubeconfig's text.
    pub(crate) kubeconfig: String,
    server: Option<JoinHandle<()>>,
}

impl Cluster {
    /// What the test program is about: a real cluster, or a new in-memory one. Nothing, and a word
    /// about it, where there is no real one.
    pub(crate) async fn any() -> Option<Self> {
        if !crate::REAL {
            return Some(Self::memory().await.0);
        }
        let kubeconfig = real()?;
        let parsed = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(parsed, &options).await.expect("a config");
        Some(Self::new(config, kubeconfig, None).await)
    }

    /// A new in-memory cluster, and the handle to it.
    pub(crate) async fn memory() -> (Self, MemoryApi) {
        let api = MemoryApi::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
        let kubeconfig = MemoryApi::kubeconfig(&url);
        let served = api.clone();
        let server = tokio::spawn(async move { served.serve(listener).await });
        let config = Config::new(url.parse().expect("a URL"));
        (Self::new(config, kubeconfig, Some(server)).await, api)
    }

    async fn new(mut config: Config, kubeconfig: String, server: Option<JoinHandle<()>>) -> Self {
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some("test-".to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        let namespace = made.expect("a namespace").metadata.name.expect("a name");
        Self { client, namespace, kubeconfig, server }
    }

    /// The objects of a kind in the test's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a Service of type `LoadBalancer` with one port.
    pub(crate) async fn load_balancer(&self, name: &str) -> Service {
        let service = service(json!({
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        }));
        self.api().create(&PostParams::default(), &service).await.expect("a Service")
    }
}

/// The kubeconfig of a real cluster: one that the environment names, or one that is started here, for
/// all tests of this program, with our definitions.
fn real() -> Option<String> {
    static PLANE: OnceLock<Option<ControlPlane>> = OnceLock::new();
    if let Some(path) = std::env::var_os("PURELB_TEST_KUBECONFIG") {
        return Some(std::fs::read_to_string(path).expect("the kubeconfig can be read"));
    }
    let plane = PLANE.get_or_init(|| {
        let assets = require::assets(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
        let directory = require::directory(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let plane = ControlPlane::start(&assets, Settings::new(directory)).expect("it starts");
        plane.install_definitions().expect("definitions that an API server takes");
        Some(plane)
    });
    Some(plane.as_ref()?.kubeconfig(ADMIN))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

/// A Service out of JSON.
pub(crate) fn service(value: Value) -> Service {
    serde_json::from_value(value).expect("a Service")
}

/// Any object as JSON, to look into it.
pub(crate) fn look(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

/// The HTTP status of what should have been refused.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("not refused by the API: {other:?}"),
    }
}

/// Waits for a fact, and fails the test if it does not come true.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}
