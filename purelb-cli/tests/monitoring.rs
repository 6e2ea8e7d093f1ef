//! The dashboard and the alert rules use the metrics and labels that the programs have, and no others; the
//! programs count what they say that they count.
//!
//! The last needs iproute2, and the right to make network namespaces.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;
mod monitoring {
    #![allow(dead_code, reason = "the reference is made elsewhere")]

    pub(crate) mod exposed;
    pub(crate) mod promql;
}

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use purelb_cli::lab::ip::ip_batch;
use purelb_cli::lab::require;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use common::node::Node;
use common::program::Program;
use common::{in_time, until};
use monitoring::exposed::{Exposed, agent, allocator, difference};
use monitoring::promql::Query;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key:?} is no text in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key:?} is no list in {value}"))
}

/// The rules, checked for what Prometheus takes.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    assert_eq!(keys(&file), ["groups"]);
    let mut groups = BTreeSet::new();
    let mut rules = Vec::new();
    for group in list(&file, "groups") {
        assert_eq!(keys(group), ["name", "rules"]);
        assert!(groups.insert(text(group, "name")), "two groups of one name");
        rules.extend(list(group, "rules").iter().cloned());
    }
    rules
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The labels that a text such as a legend or an annotation names, each after `before`.
fn named(text: &str, before: &str) -> Vec<String> {
    let rest = text.split(before).skip(1);
    let is_of_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    rest.map(|rest| rest.chars().take_while(is_of_name).collect()).collect()
}

#[test]
fn alert_rules_use_what_is_exposed_and_say_what_to_do() {
    let exposed = Exposed::of_both();
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = text(&rule, "alert").to_owned();
        for key in keys(&rule) {
            assert!(["alert", "annotations", "expr", "for", "labels"].contains(&key), "{key}");
        }
        if let Some(span) = rule.get("for") {
            let (number, unit) = span.as_str().unwrap().split_at(span.as_str().unwrap().len() - 1);
            assert!(number.parse::<u32>().is_ok() && ["s", "m", "h"].contains(&unit), "{name}");
        }
        assert_eq!(keys(&rule["labels"]), ["severity"]);
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")), "{name}");
        let annotations = &rule["annotations"];
        assert_eq!(keys(annotations), ["action", "description", "summary"], "{name}");
        let query = Query::parse(text(&rule, "expr"));
        let labels = exposed.check(&query);
        for key in ["action", "description", "summary"] {
            for label in named(text(annotations, key), "$labels.") {
                assert!(labels.contains(&label), "{name}: its {key} names {label}");
                assert!(query.keeps(&label), "{name}: {label} is aggregated away");
            }
        }
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
    assert!(names.len() > 10, "{names:?}");
}

/// The reasons of Events in the core, each of which has a series from the beginning: an increase from
/// nothing is none to Prometheus. Rules select no others.
#[test]
fn every_reason_of_an_event_counts_from_zero_and_rules_select_no_others() {
    let source = read("purelb-core/src/node/notice.rs");
    let (_, rest) = source.split_once("fn reason(&self)").unwrap();
    let (body, _) = rest.split_once("\n    }\n").unwrap();
    let given: BTreeSet<_> = body.split('"').skip(1).step_by(2).collect();
    let page = agent();
    let series = page.lines().filter_map(|line| {
        line.strip_prefix("purelb_events_total{reason=\"")?.strip_suffix("\"} 0")
    });
    assert_eq!(series.collect::<BTreeSet<_>>(), given);
    let mut selected = 0;
    for rule in rules() {
        for reason in text(&rule, "expr").split("reason=\"").skip(1) {
            assert!(given.contains(reason.split('"').next().unwrap()), "{reason}");
            selected += 1;
        }
    }
    assert!(selected > 0 && given.len() > 8, "{selected} of {given:?}");
}

#[test]
fn the_dashboard_uses_what_is_exposed_and_asks_for_its_data_source() {
    let exposed = Exposed::of_both();
    let board: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let input = &list(&board, "__inputs")[0];
    assert_eq!((text(input, "type"), text(input, "pluginId")), ("datasource", "prometheus"));
    let variable = &list(&board["templating"], "list")[0];
    assert_eq!((text(variable, "name"), text(variable, "type")), ("datasource", "datasource"));
    assert_eq!(variable["current"]["value"], format!("${{{}}}", text(input, "name")));
    let (mut ids, mut queries, mut used) = (BTreeSet::new(), 0, BTreeSet::new());
    for panel in list(&board, "panels") {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        for target in list(panel, "targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let query = Query::parse(text(target, "expr"));
            let labels = exposed.check(&query);
            for label in named(text(target, "legendFormat"), "{{") {
                assert!(labels.contains(&label) && query.keeps(&label), "{label} in {target}");
            }
            used.extend(query.metrics());
            queries += 1;
        }
    }
    assert!(queries > 30 && used.len() > 20, "{queries} queries of {}", used.len());
}

/// What the check is worth: what is not exposed is found.
#[test]
fn a_query_of_what_is_not_there_is_found() {
    let exposed = Exposed::of_both();
    for wrong in [
        "purelb_allocator_laeder",
        "purelb_lbnodeagent_garp_sent",
        "purelb_lbnodeagent_repair_duration_seconds",
        "purelb_ready{pool=\"a\"}",
        "sum by (pool) (purelb_ready)",
        "histogram_quantile(0.5, sum by (le) (purelb_ready))",
        "rate(other_metric[5m])",
    ] {
        let query = Query::parse(wrong);
        assert!(exposed.complaint(&query).is_some(), "{wrong}");
    }
}

#[test]
fn the_page_explains_every_alert_and_no_other() {
    let page = read("docs/operating.md");
    let rules = rules();
    let there: BTreeSet<_> = rules.iter().map(|rule| text(rule, "alert")).collect();
    let told: BTreeSet<_> =
        page.split('`').skip(1).step_by(2).filter(|word| word.starts_with("PureLB")).collect();
    assert_eq!(told, there);
}

/// The probes of the manifests leave a loop the time that it is promised, and the page tells the sum.
#[test]
fn the_probes_are_those_that_the_page_tells_of() {
    let page = read("docs/operating.md");
    for (file, kind) in [("allocator", "Deployment"), ("lbnodeagent", "DaemonSet")] {
        let all: Vec<Option<Value>> =
            serde_saphyr::from_multiple(&read(&format!("deploy/base/{file}.yaml"))).unwrap();
        let object = all.into_iter().flatten().find(|object| object["kind"] == kind).unwrap();
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let (live, ready) = (&container["livenessProbe"], &container["readinessProbe"]);
        assert_eq!(live["httpGet"]["path"], "/healthz");
        assert_eq!(ready["httpGet"]["path"], "/readyz");
        let period = live["periodSeconds"].as_u64().unwrap();
        // Kubernetes' own, unless set.
        let failures = live["failureThreshold"].as_u64().unwrap_or(3);
        let still = purelb_cli::telemetry::health::STILL.as_secs();
        assert!(page.contains(&format!("not turned for {still} s")));
        assert!(page.contains(&format!("within {} s", still + failures * period)));
    }
}

const NOTHING: [&str; 0] = [];

/// A cluster with one group of one address, and a kubeconfig of it.
async fn cluster() -> (MemoryApi, tempfile::TempDir) {
    let api = MemoryApi::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = api.clone();
    tokio::spawn(async move { served.serve(listener).await });
    for object in [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "purelb" } }),
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "purelb-allocator", "namespace": "purelb" },
        }),
        json!({
            "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
            "metadata": { "name": "default", "namespace": "purelb" },
            "spec": { "remote": { "v4pools": [{
                "pool": "192.0.2.1/32", "subnet": "192.0.2.0/24", "aggregation": "/32",
            }] } },
        }),
    ] {
        api.apply("test", object).expect("a sound object");
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kubeconfig"), MemoryApi::kubeconfig(&url)).unwrap();
    (api, directory)
}

#[tokio::test]
async fn an_allocator_exposes_what_its_registry_has_and_times_allocations() {
    let (api, directory) = cluster().await;
    let env = [("PURELB_NAMESPACE", "purelb"), ("DEFAULT_ANNOUNCER", "PureLB")];
    let kubeconfig = directory.path().join("kubeconfig");
    let allocator_program = Program::start(env!("CARGO_BIN_EXE_allocator"), &kubeconfig, &[], &env);
    for name in ["a", "b"] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        });
        api.apply("test", service).expect("a sound Service");
    }
    let value = async |name: &str| allocator_program.metric(name).await;
    in_time("one has an address, and one is refused", async {
        while allocator_program.log().is_empty()
            || value("purelb_address_pool_allocation_rejected_total{").await != Some(1.0)
            || value("purelb_allocator_allocation_duration_seconds_count").await != Some(1.0)
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(value("purelb_ready").await, Some(1.0));
    assert!(allocator_program.ask("GET", "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(allocator_program.ask("GET", "/healthz").await.starts_with("HTTP/1.1 200"));
    let shown = allocator_program.ask("GET", "/metrics").await;
    assert_eq!(difference(&shown, &allocator()), NOTHING);
}

#[test]
fn an_agent_exposes_what_its_registry_has_and_times_hand_overs_and_repairs() {
    require::privileged(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let node = Node::start(|_, _| {}).await;
            node.service("web", "default", "192.0.2.240");
            node.is_at("it is new", "192.0.2.240", Some("eth0")).await;
            let counts = |name: &str, count: u32| {
                let line = format!("purelb_lbnodeagent_{name} {count}\n");
                let node = &node;
                async move { until(&line, || node.metrics().contains(&line)).await }
            };
            counts("handover_duration_seconds_count{from=\"new\"}", 1).await;
            counts("repair_duration_seconds_count", 0).await;
            ip_batch(node.host(), "addr del 192.0.2.240/24 dev eth0\n").unwrap();
            counts("repair_duration_seconds_count", 1).await;
            counts("handover_duration_seconds_count{from=\"new\"}", 1).await;
            assert_eq!(node.place("192.0.2.240").as_deref(), Some("eth0"));
            let shown = node.metrics();
            assert!(shown.contains("\npurelb_ready 1\n"), "{shown}");
            assert_eq!(difference(&shown, &agent()), NOTHING);
        });
    });
}
