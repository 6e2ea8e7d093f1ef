//! A real Kubernetes API server and its etcd, for the lab and for tests.
//!
//! ```no_run
//! # fn run() -> Result<(), purelb_k8s::control_plane::PlaneError> {
//! use std::path::Path;
//! use purelb_k8s::control_plane::{Assets, ControlPlane, Settings, User};
//!
//! let assets = Assets::find(Path::new("."))?;
//! let agent = User::new("system:serviceaccount:purelb:lbnodeagent", &["system:serviceaccounts"]);
//! let settings = Settings { users: vec![agent.clone()], ..Settings::new("/tmp/plane") };
//! let mut plane = ControlPlane::start(&assets, settings)?;
//! plane.install_definitions()?;
//! std::fs::write("kubeconfig", plane.kubeconfig(&agent.name)).expect("a writable directory");
//! plane.kill_api_server()?;
//! plane.start_api_server()?;
//! # Ok(())
//! # }
//! ```
//!
//! There is no controller, no scheduler and no kubelet: what they would write, such as EndpointSlices,
//! the user writes. Dropping a [`ControlPlane`] kills its programs; the kernel does so if the process
//! ends without that.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

pub use assets::{Assets, AssetsError};
pub use keeper::Enter;

use crate::error::ApiError;
use crate::list_watch::within;
use crate::{api, client};
use keeper::Keeper;
use server::Server;

mod assets;
mod keeper;
#[doc(hidden)]
pub mod require;
mod server;

/// The user who may do everything.
pub const ADMIN: &str = "admin";

/// An audit policy that notes each request once, when it has been answered: who, what, and how it went.
pub const AUDIT_REQUESTS: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
";

/// The ranges of the Services' cluster addresses, those of the in-memory API.
const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:96::/112";

/// The directory of etcd's data, in that of the control plane.
const ETCD_DATA: &str = "etcd";

/// How long the programs may take until they answer, on a small and busy machine.
const START: Duration = Duration::from_secs(120);

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a program may take to end when asked to.
const STOP: Duration = Duration::from_secs(10);

/// How often is looked whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The name in the server's certificate that is the same at whatever address it is reached.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// How a control plane is to be.
pub struct Settings {
    /// Where everything of it is kept: data, keys, logs, kubeconfigs. Made if it is missing; what an
    /// earlier control plane left there is removed.
    pub directory: PathBuf,
    /// Where the API server listens, inside the place that [`enter`](Self::enter) leads to.
    pub address: IpAddr,
    /// Its port; any free one if not given.
    pub port: Option<u16>,
    /// Who, besides [`ADMIN`], can log in with a token.
    pub users: Vec<User>,
    /// Admission plugins on top of the default ones. `ServiceAccount` is off: nobody makes the
    /// accounts' default objects here.
    pub admission_plugins: Vec<String>,
    /// What the audit log notes, as a policy in YAML, such as [`AUDIT_REQUESTS`].
    pub audit_policy: Option<String>,
    /// More arguments of the API server.
    pub arguments: Vec<String>,
    /// What moves a thread to where the programs are to run, such as a network namespace; they run
    /// right here without.
    pub enter: Option<Enter>,
}

/// Somebody who logs in with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As RBAC has it: `alice`, `system:serviceaccount:purelb:allocator`.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

/// A running API server with its etcd. Dropping it kills both; the directory stays.
///
/// * [`start`](Self::start), [`install_definitions`](Self::install_definitions).
/// * [`kubeconfig`](Self::kubeconfig), [`kubeconfig_file`](Self::kubeconfig_file),
///   [`kubeconfig_with_token`](Self::kubeconfig_with_token): ways in, one per user.
/// * [`stop_api_server`](Self::stop_api_server), [`kill_api_server`](Self::kill_api_server),
///   [`start_api_server`](Self::start_api_server), and the same for etcd: outages.
/// * [`audit_log`](Self::audit_log): who asked for what.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: the API server before what it needs.
    api_server: Server,
    etcd: Server,
    keeper: Keeper,
    address: SocketAddr,
    directory: PathBuf,
    assets: Assets,
    tokens: Vec<(User, String)>,
}

/// Why there is no control plane, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The programs are not there.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended by itself.
    #[error("{} ended by itself; its last words: {last_words}", log.display())]
    Ended {
        /// Where it wrote.
        log: PathBuf,
        /// The last of that.
        last_words: String,
    },
    /// The API server does not answer as it should.
    #[error("the API server is not ready after {} s: {why}; its last words: {last_words}", START.as_secs())]
    NotReady {
        /// What it answered instead.
        why: String,
        /// The end of its log.
        last_words: String,
    },
    /// The definitions of our resources were not accepted.
    #[error("cannot install the definitions of PureLB's resources: {0}")]
    Definitions(#[source] ApiError),
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> PlaneError {
    let what = what.into();
    move |source| PlaneError::System { what, source }
}

impl Settings {
    /// On a free port of the loopback address, for nobody but the administrator.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: None,
            users: Vec::new(),
            admission_plugins: Vec::new(),
            audit_policy: None,
            arguments: Vec::new(),
            enter: None,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl User {
    /// A user of that name in these groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Self { name: name.to_owned(), groups }
    }
}

impl ControlPlane {
    /// Starts etcd and the API server and returns once the server says that it is ready: some
    /// seconds.
    ///
    /// # Errors
    ///
    /// If a program cannot be started, ends, or does not get ready within two minutes.
    pub fn start(assets: &Assets, mut settings: Settings) -> Result<Self, PlaneError> {
        let keeper = Keeper::start(settings.enter.take()).map_err(failed("enter the namespace"))?;
        let mut plane = Self::prepare(assets, &settings, keeper)?;
        // A port that was free a moment ago may be somebody else's by now.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match plane.start_both() {
                Err(PlaneError::Ended { last_words, .. })
                    if attempts > 0 && last_words.contains("address already in use") =>
                {
                    plane = Self::prepare(assets, &settings, plane.into_keeper())?;
                }
                result => return result.map(|()| plane),
            }
        }
    }

    /// Writes all files and chooses the ports.
    fn prepare(assets: &Assets, settings: &Settings, keeper: Keeper) -> Result<Self, PlaneError> {
        let directory = settings.directory.clone();
        let in_directory = |name: &str| directory.join(name);
        empty(&directory).map_err(failed(format!("prepare {}", directory.display())))?;

        let users = [User::new(ADMIN, &["system:masters"])];
        let users = users.into_iter().chain(settings.users.iter().cloned());
        let tokens: Vec<_> = users.map(|user| (user, secret())).collect();
        let write = |name: &str, text: &str| {
            write_private(&in_directory(name), text).map_err(failed(format!("write {name}")))
        };
        write("tokens.csv", &token_file(&tokens))?;
        let (private, public) = keys();
        write("service-account.key", &private)?;
        write("service-account.pub", &public)?;

        let ports = settings.address;
        let free = move |address: IpAddr| {
            TcpListener::bind((address, 0)).and_then(|listener| Ok(listener.local_addr()?.port()))
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let [own, client, peer] = keeper
            .run(move || Ok([free(ports)?, free(loopback)?, free(loopback)?]))
            .and_then(|ports| ports)
            .map_err(failed("find a free port"))?;
        let address = SocketAddr::new(settings.address, settings.port.unwrap_or(own));
        let etcd_url = format!("http://{loopback}:{client}");

        let path = |name: &str| in_directory(name).display().to_string();
        let etcd = vec![
            format!("--data-dir={}", path(ETCD_DATA)),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls=http://{loopback}:{peer}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        let mut api_server = vec![
            format!("--etcd-servers={etcd_url}"),
            format!("--bind-address={}", address.ip()),
            format!("--advertise-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--cert-dir={}", path("certificates")),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path("service-account.pub")),
            format!("--service-account-signing-key-file={}", path("service-account.key")),
            format!("--service-cluster-ip-range={SERVICE_RANGES}"),
            "--authorization-mode=RBAC".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        if !settings.admission_plugins.is_empty() {
            let plugins = settings.admission_plugins.join(",");
            api_server.push(format!("--enable-admission-plugins={plugins}"));
        }
        if let Some(policy) = &settings.audit_policy {
            write("audit-policy.yaml", policy)?;
            api_server.push(format!("--audit-policy-file={}", path("audit-policy.yaml")));
            api_server.push(format!("--audit-log-path={}", path("audit.log")));
        }
        api_server.extend(settings.arguments.iter().cloned());

        let server = |program, arguments| -> Result<Server, PlaneError> {
            let log = in_directory(&format!("{program}.log"));
            Ok(Server::new(assets.program(program)?, arguments, log))
        };
        Ok(Self {
            api_server: server("kube-apiserver", api_server)?,
            etcd: server("etcd", etcd)?,
            keeper,
            address,
            directory,
            assets: assets.clone(),
            tokens,
        })
    }

    fn start_both(&mut self) -> Result<(), PlaneError> {
        self.start_etcd()?;
        self.start_api_server()
    }

    /// The certificate that the server makes for itself, with its issuer.
    fn certificate(&self) -> PathBuf {
        self.directory.join("certificates/apiserver.crt")
    }

    fn into_keeper(self) -> Keeper {
        self.keeper
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of the settings.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where etcd keeps its data. A copy that was made while etcd was stopped is a backup; put back while
    /// it is, a restored one.
    pub fn etcd_data(&self) -> PathBuf {
        self.directory.join(ETCD_DATA)
    }

    /// The programs it was made of.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The file that `audit_policy` fills, a JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// The process of the API server, if it runs.
    pub fn api_server_id(&self) -> Option<u32> {
        self.api_server.id()
    }

    /// The process of etcd, if it runs.
    pub fn etcd_id(&self) -> Option<u32> {
        self.etcd.id()
    }

    /// A kubeconfig for [`ADMIN`] or a user of the settings, whose default namespace is `default`.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn kubeconfig(&self, user: &str) -> String {
        self.kubeconfig_at(self.address, user)
    }

    /// The same, for who reaches the server at another address.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn kubeconfig_at(&self, address: SocketAddr, user: &str) -> String {
        let found = self.tokens.iter().find(|(known, _)| known.name == user);
        let Some((_, token)) = found else { panic!("the control plane has no user {user:?}") };
        self.config(address, token)
    }

    /// A kubeconfig for the owner of a token, such as one of a ServiceAccount.
    pub fn kubeconfig_with_token(&self, token: &str) -> String {
        self.config(self.address, token)
    }

    /// The kubeconfig of a user as a file that only we can read.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    pub fn kubeconfig_file(&self, user: &str) -> Result<PathBuf, PlaneError> {
        let path = self.directory.join(format!("{}.kubeconfig", user.replace([':', '/'], "-")));
        let written = write_private(&path, &self.kubeconfig(user));
        written.map_err(failed(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// A kubeconfig in JSON, which is YAML.
    fn config(&self, address: SocketAddr, token: &str) -> String {
        let name = "purelb";
        let certificate = self.certificate();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://{address}"), "tls-server-name": SERVER_NAME,
                "certificate-authority": certificate,
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "users": [{"name": name, "user": {"token": token}}],
        });
        format!("{config:#}\n")
    }

    /// Creates the definitions of our resources and waits until the server knows them.
    ///
    /// # Errors
    ///
    /// If it refuses them, or does not know them in time.
    pub fn install_definitions(&self) -> Result<(), PlaneError> {
        let kubeconfig = self.kubeconfig_file(ADMIN)?;
        let work = async move { within(START, install(connect(&kubeconfig).await?)).await };
        let installed = self.run(work).map_err(failed("start a runtime"))?;
        installed.map_err(PlaneError::Definitions)
    }

    /// Starts etcd, unless it runs.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start_etcd(&mut self) -> Result<(), PlaneError> {
        self.etcd.start(&self.keeper).map_err(failed("start etcd"))
    }

    /// Asks etcd to end, and kills it after ten seconds.
    ///
    /// # Errors
    ///
    /// If it can be neither asked nor killed.
    pub fn stop_etcd(&mut self) -> Result<(), PlaneError> {
        self.etcd.stop(STOP).map_err(failed("stop etcd"))
    }

    /// Kills etcd.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill_etcd(&mut self) -> Result<(), PlaneError> {
        self.etcd.kill().map_err(failed("kill etcd"))
    }

    /// Starts the API server, unless it runs, and returns once it is ready. etcd must run.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or does not get ready within two minutes.
    pub fn start_api_server(&mut self) -> Result<(), PlaneError> {
        self.api_server.start(&self.keeper).map_err(failed("start kube-apiserver"))?;
        self.await_ready()
    }

    /// Asks the API server to end, and kills it after ten seconds.
    ///
    /// # Errors
    ///
    /// If it can be neither asked nor killed.
    pub fn stop_api_server(&mut self) -> Result<(), PlaneError> {
        self.api_server.stop(STOP).map_err(failed("stop kube-apiserver"))
    }

    /// Kills the API server.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill_api_server(&mut self) -> Result<(), PlaneError> {
        self.api_server.kill().map_err(failed("kill kube-apiserver"))
    }

    /// Waits until the server says that it is ready.
    fn await_ready(&mut self) -> Result<(), PlaneError> {
        let start = Instant::now();
        loop {
            let why = match self.ask_whether_ready() {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            for server in [&mut self.etcd, &mut self.api_server] {
                if !server.runs().map_err(failed("wait for a process"))? {
                    let (log, last_words) = (server.log().to_owned(), server.last_words());
                    return Err(PlaneError::Ended { log, last_words });
                }
            }
            if start.elapsed() >= START {
                return Err(PlaneError::NotReady { why, last_words: self.api_server.last_words() });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn ask_whether_ready(&mut self) -> Result<(), String> {
        // It makes its certificate itself.
        let certificate = fs::read(self.certificate()).map_err(|error| error.to_string())?;
        if !certificate.ends_with(b"-----END CERTIFICATE-----\n") {
            return Err("it has no certificate yet".to_owned());
        }
        let kubeconfig = self.kubeconfig_file(ADMIN).map_err(|error| error.to_string())?;
        let asked = self.run(async move {
            let client = connect(&kubeconfig).await?;
            let request = Request::get("/readyz").body(Vec::new())?;
            let ask = async { Ok(client.request_text(request).await?) };
            within(ANSWER, ask).await
        });
        match asked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Runs a future where the programs run.
    fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(future))
        };
        self.keeper.run(work)?
    }
}

async fn connect(kubeconfig: &Path) -> Result<Client, ApiError> {
    let client = client::connect(kubeconfig.to_str(), "purelb-control-plane").await;
    client.map_err(|error| ApiError::Transport { text: error.to_string() })
}

async fn install(client: Client) -> Result<(), ApiError> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, definition) in api::definitions() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let params = PatchParams::apply("purelb-control-plane").force();
        definitions.patch(&name, &params, &Patch::Apply(definition)).await?;
    }
    for plural in ["servicegroups", "lbnodeagents"] {
        let path = format!("/apis/{}/{}/{plural}", api::GROUP, api::VERSION);
        loop {
            match client.request_text(Request::get(&path).body(Vec::new())?).await {
                Ok(_) => break,
                Err(error) => {
                    let error = ApiError::from(error);
                    if !error.is_not_found() && !error.is_temporary() {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Makes a private directory that holds nothing.
fn empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    DirBuilder::new().mode(0o700).recursive(true).create(directory)
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The API server's file: token, name, uid, groups.
fn token_file(tokens: &[(User, String)]) -> String {
    let line = |(user, token): &(User, String)| {
        let (name, groups) = (&user.name, user.groups.join(","));
        format!("{token},\"{name}\",\"{name}\",\"{groups}\"\n")
    };
    tokens.iter().map(line).collect()
}

/// What nobody can guess: 128 bits in hexadecimal digits.
fn secret() -> String {
    let mut bytes = [0; 16];
    // The kernel has always random numbers once it has booted.
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new private and public key, by which the server knows the tokens that it gave to
/// ServiceAccounts.
fn keys() -> (String, String) {
    /// What comes before the point in a SubjectPublicKeyInfo for P-256 (RFC 5480).
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    // As above; nothing else can fail, and what was just made can be read.
    let private =
        EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("the kernel gives random numbers");
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random)
        .expect("ring reads its own keys");
    let public = [&HEAD, pair.public_key().as_ref()].concat();
    let pem = |tag: &str, bytes: &[u8]| pem::encode(&pem::Pem::new(tag, bytes));
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &public))
}
