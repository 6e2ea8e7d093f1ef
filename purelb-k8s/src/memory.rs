//! An in-memory Kubernetes API, served over HTTP.
//!
//! It is for the lab, where it takes the place of a control plane, and for tests, which make it
//! fail in the ways they choose. It is not a Kubernetes API server: it knows the kinds and verbs
//! that PureLB's programs and a user's `kubectl` need, it has no authentication and no TLS, no
//! controller acts on what it holds, and what it holds is gone with the process. What it does, it
//! does as a Kubernetes API server does it, and the same tests run against both.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use purelb_k8s::memory::MemoryApi;
//!
//! let api = MemoryApi::new();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let kubeconfig = MemoryApi::kubeconfig(&format!("http://{}", listener.local_addr()?));
//! std::fs::write("kubeconfig", kubeconfig)?;
//! api.serve(listener).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it knows
//!
//! * Kinds: Service, Node, Namespace, Pod, Event (in both its groups), Lease, EndpointSlice,
//!   ServiceGroup and LBNodeAgent. A Service gets cluster addresses out of 10.96.0.0/16 and
//!   fd00:96::/112, and node ports. PureLB's own kinds are held to their definitions.
//! * Verbs: get, list, watch, create, update, patch of all four types, delete; `/status`.
//!   A pod's `log` and `exec`, where a [`PodRuntime`] stands behind the pods.
//!   Label selectors, the field selectors of a real server, dry runs, field validation.
//! * Versions: one strictly increasing `resourceVersion` for everything, a history of each kind for
//!   watches and 410 for what is older, bookmarks once per second when nothing else happens.
//! * Ownership of fields and server-side apply with conflicts.
//! * Discovery and tables, for `kubectl`.
//!
//! # What it does not
//!
//! Protobuf (but for what `kubectl create namespace` and `create service` send) and YAML bodies,
//! `limit` and `continue` (a list is always whole), deletion of
//! collections, cascading deletion by owner references, admission webhooks, `kubectl explain`.
//! A namespace is gone with everything in it at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::core::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use fault::{Call, Fault};
pub use pod_log::PodLog;
pub use runtime::{Container, Exec, PodRuntime, Run, TerminalSize};

use kind::Kind;
use patch::Patch;
use store::Store;
use write::{Edit, Preconditions, Target, Terms, UnknownFields};

mod admit;
mod age;
mod allotment;
mod custom;
mod discovery;
mod event;
mod exec;
mod fault;
mod fields;
mod form;
mod handle;
mod identity;
mod kind;
mod ownership;
mod patch;
mod pod_log;
mod protobuf;
mod query;
mod refusal;
mod route;
mod runtime;
mod schema;
mod selector;
mod service;
mod service_rules;
mod shape;
mod store;
mod table;
mod watching;
mod write;

/// A handle to the API; clones are handles to the same objects.
///
/// Made by [`new`](Self::new), served by [`serve`](Self::serve) on any number of listeners.
/// [`get`](Self::get), [`list`](Self::list), [`create`](Self::create), [`apply`](Self::apply),
/// [`apply_status`](Self::apply_status) and [`delete`](Self::delete) are for the program that runs
/// it. [`set_pod_runtime`](Self::set_pod_runtime) puts something behind its pods.
/// [`set_fault`](Self::set_fault) and [`limit_history`](Self::limit_history) make it fail.
#[derive(Clone)]
pub struct MemoryApi(Arc<Inner>);

type Rule = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

struct Inner {
    store: Mutex<Store>,
    rule: RwLock<Option<Rule>>,
    runtime: RwLock<Option<Arc<dyn PodRuntime>>>,
}

impl std::fmt::Debug for MemoryApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryApi").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Default for MemoryApi {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryApi {
    /// An API with what a new cluster has: its namespaces and the Service `kubernetes`.
    pub fn new() -> Self {
        let api = Self(Arc::new(Inner {
            store: Mutex::new(Store::new()),
            rule: RwLock::new(None),
            runtime: RwLock::new(None),
        }));
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            api.found(&json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
            }));
        }
        api.found(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": "10.96.0.1",
                "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
            },
        }));
        api
    }

    /// Creates an object that every cluster has.
    fn found(&self, object: &Value) {
        if let Err(refusal) = self.create(object.clone()) {
            // The objects are constants of this file, and a test creates them all.
            unreachable!("a new cluster's own object is refused: {refusal}");
        }
    }

    /// Answers requests that come to a listener, until the future is dropped; then every
    /// connection is closed.
    ///
    /// HTTP/1.1, or HTTP/2 to a client that begins with it. No TLS, no authentication.
    pub async fn serve(&self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%client, %error, "cannot set TCP_NODELAY");
                        }
                        connections.spawn(self.clone().converse(stream, client));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        // Out of descriptors: wait for a connection to end.
                        connections.join_next().await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Answers the requests of one connection, whatever carries it, until it ends. Rules about
    /// faults see the client as port 0 of this host.
    pub async fn serve_connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        self.converse(stream, SocketAddr::from(([127, 0, 0, 1], 0))).await;
    }

    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: SocketAddr,
    ) {
        let (sequel, mut sequels) = mpsc::unbounded_channel();
        let service = service_fn(move |request| {
            handle::handle(self.clone(), client, sequel.clone(), request)
        });
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%client, %error, "connection ended");
        }
        // A command in a pod has the connection from now on.
        if let Ok(sequel) = sequels.try_recv() {
            sequel.await;
        }
    }

    /// A kubeconfig for a server at this URL, as YAML.
    pub fn kubeconfig(server: &str) -> String {
        let quoted = json!(server);
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: purelb-lab\n  \
               cluster:\n    \
                 server: {quoted}\n\
             contexts:\n\
             - name: purelb-lab\n  \
               context:\n    \
                 cluster: purelb-lab\n    \
                 user: purelb-lab\n\
             current-context: purelb-lab\n\
             users:\n\
             - name: purelb-lab\n  \
               user: {{}}\n"
        )
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.store().version()
    }

    /// One object by its kind and name; `namespace` is empty for kinds without.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let object = self.store().get(Kind::named(kind)?, namespace, name)?;
        Some(object.kept().clone())
    }

    /// All objects of a kind, ordered by namespace and name; none of an unknown kind.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let Some(kind) = Kind::named(kind) else { return Vec::new() };
        self.store().objects(kind, None).map(|object| object.kept().clone()).collect()
    }

    /// Creates an object in the namespace that it names.
    ///
    /// # Errors
    ///
    /// What a client would be answered.
    pub fn create(&self, object: Value) -> Result<Value, Box<Status>> {
        let target = target_of(&object)?;
        let terms = terms("purelb-memory");
        let written =
            write::create(&mut self.store(), target.kind, &target.namespace, object, &terms)?;
        Ok(written.object.shown(target.kind))
    }

    /// Applies a configuration on the server side as `manager`, with force.
    ///
    /// # Errors
    ///
    /// What a client would be answered.
    pub fn apply(&self, manager: &str, configuration: Value) -> Result<Value, Box<Status>> {
        self.apply_to(&target_of(&configuration)?, manager, configuration)
    }

    /// The same to `/status`, for an object that exists.
    ///
    /// # Errors
    ///
    /// What a client would be answered.
    pub fn apply_status(&self, manager: &str, configuration: Value) -> Result<Value, Box<Status>> {
        let target = Target { status: true, ..target_of(&configuration)? };
        self.apply_to(&target, manager, configuration)
    }

    fn apply_to(
        &self,
        target: &Target,
        manager: &str,
        configuration: Value,
    ) -> Result<Value, Box<Status>> {
        let edit = Edit::Patch(Patch::Apply(configuration));
        let written = write::edit(&mut self.store(), target, &edit, &terms(manager))?;
        Ok(written.object.shown(target.kind))
    }

    /// Deletes an object by its kind and name; `namespace` is empty for kinds without.
    ///
    /// # Errors
    ///
    /// What a client would be answered.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Box<Status>> {
        let kind = Kind::named(kind).ok_or_else(refusal::no_such_path)?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let target = Target { kind, namespace, name, status: false };
        write::delete(&mut self.store(), &target, &Preconditions::default(), false).map(drop)
    }

    /// From now on asks `runtime` for what the pods print, and to run commands in them.
    pub fn set_pod_runtime(&self, runtime: Arc<dyn PodRuntime>) {
        *self.0.runtime.write().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }

    fn runtime(&self) -> Option<Arc<dyn PodRuntime>> {
        self.0.runtime.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on asks `rule` what goes wrong with each request.
    ///
    /// It is asked while the request waits, so it must not block.
    pub fn set_fault(&self, rule: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) {
        *self.0.rule.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(rule));
    }

    /// Lets every request go well again.
    pub fn clear_fault(&self) {
        *self.0.rule.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Remembers at most `limit` changes of each kind from now on; a watch that asks for more, and
    /// one that falls so far behind, is answered with 410.
    pub fn limit_history(&self, limit: usize) {
        self.store().limit_history(limit);
    }

    fn fault(&self, call: &Call) -> Option<Fault> {
        let rule = self.0.rule.read().unwrap_or_else(PoisonError::into_inner);
        rule.as_ref().and_then(|rule| rule(call))
    }

    /// The objects. Each write leaves them whole, so a panic elsewhere does not spoil them.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a Kubernetes API server would know each field of an object and its type, as it checks for
/// `kubectl apply`. An object of a kind that [`MemoryApi`] does not know is no error.
///
/// # Errors
///
/// With the server's words, which name the field.
pub fn check_fields(object: &Value) -> Result<(), String> {
    let Some(kind) = Kind::of(object) else { return Ok(()) };
    let decoded = admit::decode(kind, &mut object.clone(), UnknownFields::Refuse);
    decoded.map(|_| ()).map_err(|status| status.message)
}

fn target_of(object: &Value) -> Result<Target, Box<Status>> {
    let kind = Kind::of(object).ok_or_else(refusal::no_such_path)?;
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let namespace = if kind.namespaced { text("namespace") } else { String::new() };
    Ok(Target { kind, namespace, name: text("name"), status: false })
}

fn terms(manager: &str) -> Terms {
    Terms {
        manager: manager.to_owned(),
        force: true,
        dry_run: false,
        unknown_fields: UnknownFields::Refuse,
    }
}
