//! The control plane itself: users, outages, the audit log.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use purelb_k8s::client;
use purelb_k8s::control_plane::{ADMIN, AUDIT_REQUESTS, ControlPlane, Settings, User, require};

/// A control plane of the test's own.
fn start(adjust: impl FnOnce(&mut Settings)) -> Option<ControlPlane> {
    let assets = require::assets(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let mut settings = Settings::new(require::directory(Path::new(env!("CARGO_TARGET_TMPDIR"))));
    adjust(&mut settings);
    Some(ControlPlane::start(&assets, settings).unwrap())
}

fn remove(plane: ControlPlane) {
    let directory = plane.directory().to_owned();
    drop(plane);
    std::fs::remove_dir_all(directory).unwrap();
}

async fn connect(plane: &ControlPlane, user: &str) -> Client {
    let kubeconfig = plane.kubeconfig_file(user).unwrap();
    client::connect(kubeconfig.to_str(), "purelb-test").await.unwrap()
}

#[tokio::test]
async fn it_outlives_its_servers_and_tells_who_asked() {
    let alice = User::new("alice", &["people"]);
    let Some(mut plane) = start(|settings| {
        settings.users.push(alice);
        settings.audit_policy = Some(AUDIT_REQUESTS.to_owned());
    }) else {
        return;
    };
    let admin: Api<ConfigMap> = Api::default_namespaced(connect(&plane, ADMIN).await);
    let alice: Api<ConfigMap> = Api::default_namespaced(connect(&plane, "alice").await);
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some("kept".to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    admin.create(&PostParams::default(), &map).await.unwrap();
    let refused = alice.get("kept").await.unwrap_err();
    assert!(refused.to_string().contains("User \"alice\" cannot get"), "{refused}");

    plane.kill_api_server().unwrap();
    assert!(admin.get("kept").await.is_err());
    plane.start_api_server().unwrap();
    admin.get("kept").await.unwrap();
    plane.stop_api_server().unwrap();
    plane.stop_etcd().unwrap();
    plane.start_etcd().unwrap();
    plane.start_api_server().unwrap();
    admin.get("kept").await.unwrap();

    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    let asked = |line: &str| line.contains("\"alice\"") && line.contains("purelb-test/");
    assert!(log.lines().any(asked), "{log}");
    remove(plane);
}

#[tokio::test]
async fn it_ends_with_the_process_that_started_it() {
    let Some(plane) = start(|_| {}) else { return };
    let processes = [plane.etcd_id(), plane.api_server_id()].map(Option::unwrap);
    let runs = |id: &u32| Path::new("/proc").join(id.to_string()).exists();
    assert!(processes.iter().all(runs));
    remove(plane);
    assert!(!processes.iter().any(runs));
}

#[tokio::test]
async fn a_service_account_gets_a_token_that_the_server_knows() {
    let Some(plane) = start(|_| {}) else { return };
    let admin = connect(&plane, ADMIN).await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(admin);
    let metadata = ObjectMeta { name: Some("agent".to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = TokenRequest::default();
    let answer = accounts.create_token_request("agent", &PostParams::default(), &request).await;
    let token = answer.unwrap().status.unwrap().token;
    let kubeconfig = plane.directory().join("agent.kubeconfig");
    std::fs::write(&kubeconfig, plane.kubeconfig_with_token(&token)).unwrap();
    let agent = client::connect(kubeconfig.to_str(), "purelb-test").await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(agent);
    let refused = maps.get("any").await.unwrap_err();
    assert!(refused.to_string().contains("system:serviceaccount:default:agent"), "{refused}");
    remove(plane);
}

#[tokio::test]
async fn our_resources_can_be_had_once_they_are_installed() {
    let Some(plane) = start(|_| {}) else { return };
    plane.install_definitions().unwrap();
    plane.install_definitions().unwrap();
    let groups: Api<purelb_k8s::api::ServiceGroup> =
        Api::default_namespaced(connect(&plane, ADMIN).await);
    assert_eq!(groups.list(&ListParams::default()).await.unwrap().items.len(), 0);
    remove(plane);
}

#[test]
fn it_runs_where_its_thread_is_led() {
    let (sender, led) = mpsc::channel();
    let Some(plane) = start(|settings| {
        settings.enter = Some(Box::new(move || {
            sender.send(thread::current().id()).map_err(std::io::Error::other)
        }));
    }) else {
        return;
    };
    assert_ne!(led.recv().unwrap(), thread::current().id());
    remove(plane);
}
