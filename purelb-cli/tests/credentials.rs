//! What a pod is given to reach the API changes while the program runs: its token, and the certificate of
//! the authority that vouches for the server. It is followed within a minute, without a loop meanwhile,
//! and the log says what was wrong.
//!
//! Needs a control plane (`KUBEBUILDER_ASSETS`, or Go), and the right to make mount namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use purelb_cli::lab::require;
use purelb_k8s::control_plane::{self, ADMIN, ControlPlane, Settings};
use purelb_k8s::{Client, client};
use serde_json::{Value, json};
use tokio::process::Command;

use common::program::Program;
use common::{in_time, processor_time};

/// Where a pod finds what it is given.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a fault lasts that is to show whether somebody loops.
const OUTAGE: Duration = Duration::from_secs(5);

/// The most processor time in a second of outage, in hundredths.
const BUSY_PER_SECOND: u64 = 20;

/// The most lines of the log in a second of outage.
const LINES_PER_SECOND: usize = 10;

/// A real API server, and an allocator that reaches it as it would in a pod.
struct Stage {
    plane: ControlPlane,
    admin: Client,
    mount: PathBuf,
    allocator: Program,
}

impl Stage {
    async fn new(plane: ControlPlane) -> Self {
        let admin = connect(&plane).await;
        for (path, object) in objects() {
            send(&admin, "POST", path, &object).await.unwrap();
        }
        let mount = plane.directory().join("mount");
        fs::create_dir_all(&mount).unwrap();
        fs::write(mount.join("namespace"), "purelb").unwrap();
        let first = token(&admin, "first").await;
        fs::write(mount.join("token"), first).unwrap();
        fs::copy(authority(&plane), mount.join("ca.crt")).unwrap();
        let allocator = in_pod(&plane, &mount);
        Self { plane, admin, mount, allocator }
    }

    /// A Service of this name gets an address; which one.
    async fn serves(&self, name: &str) -> String {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        });
        send(&self.admin, "POST", SERVICES, &service).await.unwrap();
        in_time(&format!("{name} has an address"), async {
            loop {
                if let Some(address) = self.address(name).await {
                    return address;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
    }

    async fn address(&self, name: &str) -> Option<String> {
        let path = format!("{SERVICES}/{name}");
        let service = send(&self.admin, "GET", &path, &Value::Null).await.ok()?;
        Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
    }

    /// Waits until the log says one of these, and sees that nobody loops.
    async fn says_without_a_loop(&self, words: &[&str]) {
        in_time(&format!("{words:?}"), async {
            while !words.iter().any(|words| self.allocator.has_said(&[words])) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        let id = self.allocator.pid().as_raw_nonzero().get().unsigned_abs();
        let (busy, lines) = (processor_time(id), self.allocator.log().len());
        tokio::time::sleep(OUTAGE).await;
        let (busy, lines) = (processor_time(id) - busy, self.allocator.log().len() - lines);
        let seconds = OUTAGE.as_secs();
        assert!(busy <= BUSY_PER_SECOND * seconds, "{busy} hundredths in {seconds} s");
        assert!(lines <= LINES_PER_SECOND * seconds as usize, "{lines} lines in {seconds} s");
    }
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SECRETS: &str = "/api/v1/namespaces/purelb/secrets";

/// What is there before the allocator starts.
fn objects() -> Vec<(&'static str, Value)> {
    let secret =
        |name: &str| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
    vec![
        (
            "/api/v1/namespaces",
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "purelb" } }),
        ),
        (
            "/api/v1/namespaces/purelb/serviceaccounts",
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "allocator" },
            }),
        ),
        // What it may do is not what this is about.
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": { "name": "allocator" },
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [
                    { "kind": "ServiceAccount", "name": "allocator", "namespace": "purelb" },
                ],
            }),
        ),
        (SECRETS, secret("first")),
        (SECRETS, secret("second")),
        (
            "/apis/coordination.k8s.io/v1/namespaces/purelb/leases",
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": "purelb-allocator" },
            }),
        ),
        (
            "/apis/purelb.io/v2/namespaces/purelb/servicegroups",
            json!({
                "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
                "metadata": { "name": "default" },
                "spec": { "remote": { "v4pools": [
                    { "pool": "192.0.2.0/24", "subnet": "192.0.2.0/24", "aggregation": "/32" },
                ] } },
            }),
        ),
    ]
}

/// A token of the account, good for as long as the Secret of that name is there.
async fn token(admin: &Client, secret: &str) -> String {
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Secret", "name": secret } },
    });
    let path = "/api/v1/namespaces/purelb/serviceaccounts/allocator/token";
    let answer = send(admin, "POST", path, &request).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() });
    let text = client.request_text(request.unwrap()).await.map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&text).unwrap())
}

async fn connect(plane: &ControlPlane) -> Client {
    let kubeconfig = plane.kubeconfig_file(ADMIN).unwrap();
    client::connect(kubeconfig.to_str(), "purelb-test").await.unwrap()
}

/// The certificate of the authority that the API server has made for itself.
fn authority(plane: &ControlPlane) -> PathBuf {
    plane.directory().join("certificates/apiserver.crt")
}

/// Starts the allocator as in a pod: no kubeconfig, but what is mounted.
fn in_pod(plane: &ControlPlane, mount: &Path) -> Program {
    let script = format!(
        "mount -t tmpfs tmpfs /var/run/; mkdir -p {MOUNT}; mount --bind {} {MOUNT}; exec \"$@\"",
        mount.display()
    );
    let mut command = Command::new("unshare");
    let address = plane.address();
    command
        .args(["--mount", "sh", "-ec", &script, "sh", env!("CARGO_BIN_EXE_allocator")])
        .arg("--log-format=json")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string())
        .env("DEFAULT_ANNOUNCER", "PureLB")
        .env("PURELB_LEASE_DURATION", "3s");
    Program::run(command)
}

/// As the kubelet does it: the file is another at once.
fn replace(path: &Path, contents: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, contents).unwrap();
    fs::rename(new, path).unwrap();
}

async fn followed(plane: ControlPlane) {
    let mut stage = Stage::new(plane).await;
    let first = stage.serves("first").await;

    // The token is worth nothing any more.
    let second = token(&stage.admin, "second").await;
    let secret = format!("{SECRETS}/first");
    send(&stage.admin, "DELETE", &secret, &Value::Null).await.unwrap();
    stage.says_without_a_loop(&["answered 401"]).await;
    replace(&stage.mount.join("token"), second);

    // Nor is the certificate: the server has another, of another authority.
    stage.plane.kill_api_server().unwrap();
    fs::remove_dir_all(authority(&stage.plane).parent().unwrap()).unwrap();
    stage.plane.start_api_server().unwrap();
    stage.admin = connect(&stage.plane).await;
    stage.says_without_a_loop(&["invalid peer certificate"]).await;
    replace(&stage.mount.join("ca.crt"), fs::read(authority(&stage.plane)).unwrap());

    let after = stage.serves("after").await;
    assert_ne!(first, after);
    assert_eq!(stage.address("first").await, Some(first));
    assert!(stage.allocator.end().await.success());
    let directory = stage.plane.directory().to_owned();
    drop(stage.plane);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_token_and_an_authority_that_are_replaced_are_followed_within_a_minute() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(assets) = control_plane::require::assets(&workspace) else { return };
    require::privileged(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let settings = Settings::new(control_plane::require::directory(parent));
        let plane = ControlPlane::start(&assets, settings).unwrap();
        plane.install_definitions().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(followed(plane));
    });
}
