//! The Helm chart: without faults for helm, and equal to the kustomize base and overlay.
//!
//! Needs Go, or `target/helm/chart` as `.ci/helm` builds it, and `kubectl` (`KUBEBUILDER_ASSETS`).

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use purelb_k8s::control_plane;
use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What lints and renders charts; nothing, and a word why, where it cannot be built.
fn chart() -> Option<PathBuf> {
    let built = Command::new(workspace().join(".ci/helm")).output().unwrap();
    if !built.status.success() {
        let errors = String::from_utf8_lossy(&built.stderr);
        control_plane::require::skip(&format!("the chart cannot be rendered: {errors}"));
        return None;
    }
    Some(workspace().join("target/helm/chart"))
}

/// `what` is `lint` or `template`.
fn helm(chart: &Path, what: &str, namespace: &str, values: &[&Path]) -> String {
    let mut command = Command::new(chart);
    command.arg(what).arg(workspace().join("deploy/helm/purelb")).arg(namespace).args(values);
    output(command)
}

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

/// What a manifest has but the namespace and the definitions, which are not the chart's to template.
fn objects(text: &str) -> Objects {
    let all: Vec<Option<Value>> = serde_saphyr::from_multiple(text).unwrap();
    let mut objects = Objects::new();
    for mut object in all.into_iter().flatten() {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (word(&object["kind"]), word(&object["metadata"]["name"]));
        if kind == "Namespace" || kind == "CustomResourceDefinition" {
            continue;
        }
        if kind.starts_with("ValidatingAdmission") {
            // Kustomize does not know that these have no namespace; the API server drops it.
            object["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        let twice = objects.insert((kind, name), object);
        assert_eq!(twice, None, "one name twice");
    }
    objects
}

fn kustomize(overlay: &str) -> Option<Objects> {
    let assets = control_plane::require::assets(&workspace())?;
    let mut command = Command::new(assets.program("kubectl").unwrap());
    command.arg("kustomize").arg(workspace().join("deploy").join(overlay));
    Some(objects(&output(command)))
}

fn assert_same(left: &Objects, right: &Objects) {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(left), names(right));
    for (key, object) in left {
        assert_eq!(object, &right[key], "{key:?}");
    }
}

#[test]
fn by_default_the_chart_makes_what_the_base_makes() {
    let Some(chart) = chart() else { return };
    let Some(base) = kustomize("base") else { return };
    assert_same(&objects(&helm(&chart, "template", "purelb", &[])), &base);
}

#[test]
fn with_two_allocators_it_makes_what_the_overlay_ha_makes() {
    let Some(chart) = chart() else { return };
    let Some(overlay) = kustomize("overlays/ha") else { return };
    let directory = tempfile::tempdir().unwrap();
    let values = directory.path().join("values.yaml");
    std::fs::write(&values, "allocator: { replicas: 2 }").unwrap();
    assert_same(&objects(&helm(&chart, "template", "purelb", &[&values])), &overlay);
}

#[test]
fn it_is_without_fault_and_every_value_has_its_effect() {
    let Some(chart) = chart() else { return };
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chart-values.yaml");
    helm(&chart, "lint", "purelb", &[]);
    helm(&chart, "lint", "elsewhere", &[&values]);
    let plain = objects(&helm(&chart, "template", "elsewhere", &[]));
    let rendered = helm(&chart, "template", "elsewhere", &[&values]);
    let all = objects(&rendered);
    for text in [
        "registry.example/purelb:v9",
        "imagePullPolicy: Always",
        "name: pull",
        "value: \"20s\"",
        "name: first",
        "pool: 192.0.2.10-192.0.2.20",
        "priorityClassName: system-cluster-critical",
        "pool: infra",
        "pool: edge",
        "operator: Exists",
        "memory: 64Mi",
        "memory: 65Mi",
        "localInterface: ^eth",
        "multipleDefaultRoutes: LowestMetric",
        "onStop: Keep",
        "release: monitoring",
        "alert: NoLeader",
        "system:serviceaccount:elsewhere:lbnodeagent",
        "system:serviceaccount:elsewhere:allocator",
    ] {
        assert!(rendered.contains(text), "nothing has {text:?}");
    }
    assert!(
        !rendered.contains("system-node-critical") && !rendered.contains("namespace: purelb\n")
    );
    let has = |objects: &Objects, kind: &str, name: &str| {
        objects.contains_key(&(kind.to_owned(), name.to_owned()))
    };
    for (kind, name) in [
        ("ServiceGroup", "first"),
        ("ServiceMonitor", "purelb"),
        ("PrometheusRule", "purelb"),
        ("ConfigMap", "extra"),
        ("PodDisruptionBudget", "allocator"),
    ] {
        assert!(has(&all, kind, name) && !has(&plain, kind, name), "{kind} {name}");
    }
    assert_eq!(all[&("ConfigMap".into(), "extra".into())]["metadata"]["namespace"], "elsewhere");
}
