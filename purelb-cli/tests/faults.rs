//! What goes wrong between a program and its API server, and what the allocator makes of it: the right
//! state in the end, no busy loop meanwhile, and a log line that says what happened.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use purelb_k8s::client;
use purelb_k8s::memory::MemoryApi;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use common::program::Program;
use common::proxy::{Fate, Proxy, Rule, Seen};
use common::{outage, until};

/// How long a fault lasts that is to show whether somebody loops.
const OUTAGE: Duration = Duration::from_secs(12);

/// The most requests in a second of outage: four watches and a lease, each with growing pauses, and
/// what the first moments bring.
const CALLS_PER_SECOND: usize = 8;

/// The most processor time in a second of outage, in hundredths.
const BUSY_PER_SECOND: u64 = 20;

/// A token that nothing else is like.
const TOKEN: &str = "tell-nobody-4f1c9a7e";

/// An allocator with debug logs behind a proxy, and the in-memory API.
struct Stage {
    api: MemoryApi,
    proxy: Proxy,
    allocator: Program,
    _directory: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with something done to the API and the proxy before the program starts.
    async fn with(prepare: impl FnOnce(&Proxy)) -> Self {
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
            group("default", "192.0.2.0/24"),
        ] {
            api.apply("test", object).expect("a sound object");
        }
        let directory = tempfile::tempdir().unwrap();
        let upstream = directory.path().join("upstream");
        std::fs::write(&upstream, MemoryApi::kubeconfig(&url)).unwrap();
        let upstream = client::connect(upstream.to_str(), "proxy").await.unwrap();
        let proxy = Proxy::start(upstream).await;
        prepare(&proxy);
        let path = directory.path().join("kubeconfig");
        let mut config: Value =
            serde_saphyr::from_str(&MemoryApi::kubeconfig(&proxy.url())).unwrap();
        config["users"][0]["user"] = json!({ "token": TOKEN });
        std::fs::write(&path, config.to_string()).unwrap();
        let allocator = start(&path);
        Self { api, proxy, allocator, _directory: directory }
    }

    fn service(&self, name: &str) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        });
        self.api.apply("test", service).expect("a sound Service");
    }

    fn address(&self, name: &str) -> Option<String> {
        let service = self.api.get("Service", "default", name)?;
        Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
    }

    async fn has_address(&self, name: &str) {
        until(&format!("{name} has an address"), || self.address(name).is_some()).await;
    }

    /// A Service that is new now gets an address, and all that had one still have the same.
    async fn works(&self, name: &str, before: &[(&str, Option<String>)]) {
        self.service(name);
        self.has_address(name).await;
        for (name, address) in before {
            assert_eq!(self.address(name), *address, "{name}");
        }
    }

    /// Lets the present fault last, and sees that nobody loops.
    async fn nobody_loops(&self) {
        let (calls, busy) = (self.proxy.count(), self.allocator.processor_time());
        let outage = outage(OUTAGE);
        tokio::time::sleep(outage).await;
        let calls = self.proxy.count() - calls;
        let busy = self.allocator.processor_time() - busy;
        let seconds = outage.as_secs();
        assert!(calls <= CALLS_PER_SECOND * seconds as usize, "{calls} requests in {seconds} s");
        assert!(busy <= BUSY_PER_SECOND * seconds, "{busy} hundredths in {seconds} s");
    }

    /// A fault for every request, while it lasts and after.
    async fn outage(&self, words: &str, mut fate: impl FnMut(&Seen) -> Fate + Send + 'static) {
        self.service("first");
        self.has_address("first").await;
        let before = [("first", self.address("first"))];
        self.proxy.set(move |seen| fate(seen));
        self.proxy.break_off();
        self.service("meanwhile");
        self.nobody_loops().await;
        assert!(self.allocator.has_said(&[words]), "nothing was said of {words:?}");
        self.proxy.set(|_| Fate::Pass);
        // What was swallowed stays so.
        self.proxy.break_off();
        self.has_address("meanwhile").await;
        self.works("after", &before).await;
    }
}

fn start(kubeconfig: &std::path::Path) -> Program {
    let env = [
        ("PURELB_NAMESPACE", "purelb"),
        ("DEFAULT_ANNOUNCER", "PureLB"),
        ("PURELB_LOG_LEVEL", "debug"),
        ("PURELB_LEASE_DURATION", "3s"),
    ];
    Program::start(env!("CARGO_BIN_EXE_allocator"), kubeconfig, &["--log-format=json"], &env)
}

fn group(name: &str, range: &str) -> Value {
    json!({
        "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
        "metadata": { "name": name, "namespace": "purelb" },
        "spec": { "remote": { "v4pools": [
            { "pool": range, "subnet": range, "aggregation": "/32" },
        ] } },
    })
}

fn is_answer(seen: &Seen) -> bool {
    seen.method == Method::PATCH && seen.uri.path().contains("/services/")
}

/// All at once: they mostly wait.
#[tokio::test]
async fn while_the_server_fails_it_is_waited_for_and_then_all_goes_on() {
    let no_definitions = |seen: &Seen| match seen.uri.path().contains("/purelb.io/") {
        true => Fate::Refuse(404, None),
        false => Fate::Pass,
    };
    let nonsense = || Fate::Answer("<html>it works!</html>".into());
    let faults: [(&str, Rule); 9] = [
        // Broken, down, asking for patience.
        ("500", Box::new(|_| Fate::Refuse(500, None))),
        ("503", Box::new(|_| Fate::Refuse(503, None))),
        ("429", Box::new(|_| Fate::Refuse(429, Some(1)))),
        // An expired token, a missing right; both are given later.
        ("401", Box::new(|_| Fate::Refuse(401, None))),
        ("403", Box::new(|_| Fate::Refuse(403, None))),
        // What never answers is given up, and asked again; what breaks off or makes no sense is no fact.
        ("no answer from the API server", Box::new(|_| Fate::Swallow)),
        ("cannot watch", Box::new(|_| Fate::Halve)),
        ("makes no sense", Box::new(move |_| nonsense())),
        ("404", Box::new(no_definitions)),
    ];
    join_all(faults.map(async |(words, fate)| Stage::new().await.outage(words, fate).await)).await;
}

#[tokio::test]
async fn resource_definitions_that_are_missing_at_the_start_are_waited_for() {
    let stage = Stage::with(|proxy| {
        proxy.set(|seen| match seen.uri.path().contains("/purelb.io/") {
            true => Fate::Refuse(404, None),
            false => Fate::Pass,
        });
    })
    .await;
    stage.service("web");
    stage.allocator.says("404").await;
    assert!(stage.allocator.ask("GET", "/readyz").await.starts_with("HTTP/1.1 503"));
    stage.nobody_loops().await;
    stage.proxy.set(|_| Fate::Pass);
    stage.has_address("web").await;
}

/// Whether a request is a watch of anything but leases, which would end the term.
fn is_other_watch(seen: &Seen) -> bool {
    seen.is_watch() && !seen.uri.path().ends_with("/leases")
}

#[tokio::test]
async fn watches_that_end_at_once_are_begun_again_without_a_loop() {
    let stage = Stage::new().await;
    stage.service("first");
    stage.has_address("first").await;
    let before = [("first", stage.address("first"))];
    stage.proxy.set(|seen| match is_other_watch(seen) {
        true => Fate::Answer(String::new()),
        false => Fate::Pass,
    });
    stage.proxy.break_off();
    stage.nobody_loops().await;
    stage.proxy.set(|_| Fate::Pass);
    stage.works("after", &before).await;
}

#[tokio::test]
async fn where_every_watch_is_gone_lists_tell_what_is_new_without_a_loop() {
    let stage = Stage::new().await;
    stage.service("first");
    stage.has_address("first").await;
    let before = [("first", stage.address("first"))];
    stage.proxy.set(|seen| match is_other_watch(seen) {
        true => Fate::Refuse(410, None),
        false => Fate::Pass,
    });
    stage.proxy.break_off();
    stage.works("meanwhile", &before).await;
    stage.nobody_loops().await;
    stage.proxy.set(|_| Fate::Pass);
    stage.works("after", &before).await;
}

#[tokio::test]
async fn a_watch_that_brings_bookmarks_only_goes_on_from_there() {
    let stage = Stage::new().await;
    stage.service("first");
    stage.has_address("first").await;
    let before = [("first", stage.address("first"))];
    let version = stage.api.version();
    stage.proxy.set(move |seen| {
        if !seen.is_watch() || !seen.uri.path().ends_with("/services") {
            return Fate::Pass;
        }
        let text = format!(
            r#"{{"type":"BOOKMARK","object":{{"kind":"Service","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}}}}}}"#
        );
        Fate::Answer(format!("{text}\n{text}\n"))
    });
    stage.proxy.break_off();
    stage.nobody_loops().await;
    stage.proxy.set(|_| Fate::Pass);
    stage.works("after", &before).await;
}

#[tokio::test]
async fn a_conflict_is_answered_by_a_look_not_by_the_same_again() {
    let stage = Stage::new().await;
    let mut refused = 0;
    stage.proxy.set(move |seen| {
        if is_answer(seen) && refused < 3 {
            refused += 1;
            return Fate::Refuse(409, None);
        }
        Fate::Pass
    });
    stage.service("web");
    stage.has_address("web").await;
    let answers = stage.proxy.seen().into_iter().filter(is_answer).count();
    assert!(answers <= 6, "{answers} answers");
    stage.allocator.says("nothing was written").await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_made_good_without_a_second_address() {
    let stage = Stage::new().await;
    let mut lost = 0;
    stage.proxy.set(move |seen| {
        if is_answer(seen) && lost < 2 {
            lost += 1;
            return Fate::Halve;
        }
        Fate::Pass
    });
    for name in ["one", "two", "three"] {
        stage.service(name);
    }
    for name in ["one", "two", "three"] {
        stage.has_address(name).await;
    }
    let all: std::collections::BTreeSet<_> =
        ["one", "two", "three"].map(|name| stage.address(name)).into();
    assert_eq!(all.len(), 3);
    stage.allocator.says("a write failed").await;
}

#[tokio::test]
async fn one_malformed_object_hides_no_other() {
    let stage = Stage::with(|proxy| {
        // The server would not take such objects; an older one, or another definition, may have.
        proxy.set(|seen| {
            let list = !seen.is_watch() && seen.method == Method::GET;
            if list && seen.uri.path().ends_with("/servicegroups") {
                let mut good = group("default", "192.0.2.0/24");
                good["metadata"]["uid"] = "u1".into();
                good["metadata"]["resourceVersion"] = "1".into();
                let bad = json!({
                    "apiVersion": "purelb.io/v2", "kind": "ServiceGroup",
                    "metadata": { "name": "bad", "namespace": "purelb", "uid": "u2",
                        "resourceVersion": "1" },
                    "spec": { "local": { "v4pools": "not a list" } },
                });
                let list = json!({
                    "kind": "ServiceGroupList", "apiVersion": "purelb.io/v2",
                    "metadata": { "resourceVersion": "1" },
                    "items": [bad, { "metadata": 7 }, "nothing", good],
                });
                return Fate::Answer(list.to_string());
            }
            Fate::Pass
        });
    })
    .await;
    stage.service("web");
    stage.has_address("web").await;
    assert!(stage.allocator.has_said(&["malformed"]));
    assert!(stage.allocator.has_said(&["bad", "ParseFailed"]));
}

#[tokio::test]
async fn neither_logs_nor_events_nor_metrics_tell_a_token() {
    let stage = Stage::new().await;
    stage.service("web");
    stage.has_address("web").await;
    stage.proxy.set(|_| Fate::Refuse(401, None));
    stage.proxy.break_off();
    stage.allocator.says("401").await;
    stage.proxy.set(|_| Fate::Halve);
    stage.allocator.says("cannot watch").await;
    let sent = stage.proxy.seen();
    let with_token = |seen: &Seen| {
        seen.headers
            .get("authorization")
            .is_some_and(|value| value.as_bytes().ends_with(TOKEN.as_bytes()))
    };
    assert!(sent.iter().all(with_token), "the token is used");
    assert!(!sent.iter().any(|seen| seen.says(TOKEN)), "a body has it, such as an Event");
    assert!(stage.allocator.has_said(&["\"level\":\"DEBUG\""]));
    let metrics = stage.allocator.ask("GET", "/metrics").await;
    for line in stage.allocator.log().iter().chain([&metrics]) {
        assert!(!line.contains(TOKEN), "{line}");
    }
}

#[tokio::test]
async fn the_port_of_metrics_changes_nothing_whatever_is_asked_of_it() {
    let stage = Stage::new().await;
    stage.service("web");
    stage.has_address("web").await;
    let version = stage.api.version();
    let paths = ["/", "/metrics", "/healthz", "/readyz", "/debug/pprof", "/quit", "/state"];
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PURGE"] {
        for path in paths {
            let answer = stage.allocator.ask(method, path).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(matches!(status, "400" | "404" | "405"), "{method} {path}: {answer}");
        }
    }
    assert!(stage.allocator.ask("GET", "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(stage.allocator.ask("GET", "/readyz").await.starts_with("HTTP/1.1 200"));
    let answers = stage.proxy.seen().into_iter().filter(is_answer).count();
    assert_eq!(answers, 1, "at version {version}");
}
