//! A cluster of the Go PureLB is taken over: its objects as it wrote them, and no address changed.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use common::program::Program;
use common::{go, until};

/// A cluster with everything that the Go programs left in it.
struct Left {
    api: MemoryApi,
    kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
}

impl Left {
    async fn new() -> Self {
        let api = MemoryApi::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = api.clone();
        tokio::spawn(async move { served.serve(listener).await });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "purelb-system" },
        });
        api.apply("test", namespace).unwrap();
        go::leave(&api, &[]);
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, MemoryApi::kubeconfig(&url)).unwrap();
        Self { api, kubeconfig, _directory: directory }
    }

    fn addresses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        go::addresses(&self.api)
    }
}

#[tokio::test]
async fn services_of_the_go_purelb_keep_their_addresses_and_new_ones_get_others() {
    let left = Left::new().await;
    let before = left.addresses();
    assert!(before.len() > 8, "{before:?}");
    let env = [
        ("PURELB_NAMESPACE", "purelb-system"),
        ("DEFAULT_ANNOUNCER", "PureLB"),
        ("PURELB_LEASE_DURATION", "3s"),
    ];
    let allocator = env!("CARGO_BIN_EXE_allocator");
    let allocator = Program::start(allocator, &left.kubeconfig, &["--log-format=json"], &env);
    // There is no leader lease in such a cluster: it is made first.
    allocator.says("leading").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "new", "namespace": "default" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    });
    left.api.apply("test", service).unwrap();
    until("the new one has an address", || left.addresses().contains_key("new")).await;
    let mut after = left.addresses();
    let new = after.remove("new").unwrap();
    assert_eq!(after, before);
    assert!(!before.values().flatten().any(|ip| new.contains(ip)), "{new:?} is another's");
    assert!(allocator.end().await.success());
    assert_eq!(left.addresses().len(), before.len() + 1);
}

#[tokio::test]
async fn validate_names_what_would_change_and_only_that() {
    let left = Left::new().await;
    let validate = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_purelb"))
            .args(["validate", "-n", "purelb-system", "--default-announcer", "-o", "json"])
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&left.kubeconfig)
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).expect(&errors);
        (output.status.code(), report)
    };
    let (code, report) = validate(&[]).await;
    assert_eq!((code, &report["fail"]), (Some(0), &json!(0)), "{report:#}");
    let (code, _) = validate(&["--strict"]).await;
    assert_eq!(code, Some(1), "old leases have run out, which is to be looked at");

    // A wish that the Go allocator never followed.
    let wish = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "plain", "namespace": "default",
            "annotations": { "purelb.io/addresses": "192.0.2.116" },
        },
    });
    left.api.apply("somebody", wish).unwrap();
    let (code, report) = validate(&[]).await;
    assert_eq!(code, Some(1));
    let checks = report["checks"].as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["status"] == "FAIL").collect();
    assert_eq!(
        failed[0]["message"],
        "Service default/plain would have 192.0.2.116 instead of 192.0.2.100"
    );
    assert_eq!(failed.len(), 1);
}
