//! Two allocators, of which the leading one is killed, frozen or cut off in the middle of 1,000
//! allocations: no address is given twice and none is lost, whenever its last requests arrive.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use purelb_k8s::client;
use purelb_k8s::memory::MemoryApi;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use common::program::Program;
use common::proxy::{Fate, Proxy, Seen};
use common::until;

/// How many Services are given addresses in one test.
const SERVICES: usize = 1000;

/// How many requests of the leader are on their way when it is hit.
const UNDER_WAY: usize = 8;

/// How much later the requests of the next leader arrive than those that it must not meet.
const LATE: Duration = Duration::from_millis(200);

/// Two allocators, each behind a proxy of its own.
struct Pair {
    api: MemoryApi,
    proxies: [Proxy; 2],
    programs: Vec<Program>,
    directory: tempfile::TempDir,
}

impl Pair {
    /// The first one leads, the second stands by; there is nothing to give addresses to yet.
    async fn new() -> Self {
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
                "spec": { "remote": { "v4pools": [
                    { "pool": "10.20.0.0/16", "subnet": "10.20.0.0/16", "aggregation": "/32" },
                ] } },
            }),
        ] {
            api.apply("test", object).expect("a sound object");
        }
        let directory = tempfile::tempdir().unwrap();
        let mut proxies = Vec::new();
        for _ in 0..2 {
            let path = directory.path().join("upstream");
            std::fs::write(&path, MemoryApi::kubeconfig(&url)).unwrap();
            let upstream = client::connect(path.to_str(), "proxy").await.unwrap();
            proxies.push(Proxy::start(upstream).await);
        }
        let proxies = [proxies.remove(0), proxies.remove(0)];
        let mut pair = Self { api, proxies, programs: Vec::new(), directory };
        pair.start(0);
        pair.programs[0].says("leading").await;
        pair.start(1);
        pair.programs[1].says("standing by").await;
        pair
    }

    fn start(&mut self, which: usize) {
        let path: PathBuf = self.directory.path().join(format!("kubeconfig-{which}"));
        std::fs::write(&path, MemoryApi::kubeconfig(&self.proxies[which].url())).unwrap();
        let name = format!("allocator-{which}");
        let env = [
            ("PURELB_NAMESPACE", "purelb"),
            ("DEFAULT_ANNOUNCER", "PureLB"),
            ("PURELB_LEASE_DURATION", "3s"),
            ("HOSTNAME", &name),
        ];
        let allocator = env!("CARGO_BIN_EXE_allocator");
        self.programs.push(Program::start(allocator, &path, &["--log-format=json"], &env));
    }

    /// Creates the Services.
    fn create_services(&self) {
        for number in 0..SERVICES {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": format!("web-{number}"), "namespace": "default" },
                "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
            });
            self.api.apply("test", service).expect("a sound Service");
        }
    }

    /// The address of each Service that has one.
    fn addresses(&self) -> BTreeMap<String, Vec<String>> {
        let address = |service: &Value| {
            let ingress = service["status"]["loadBalancer"]["ingress"].as_array()?;
            let ips = ingress.iter().filter_map(|entry| Some(entry["ip"].as_str()?.to_owned()));
            let name = service["metadata"]["name"].as_str()?.to_owned();
            Some((name, ips.collect::<Vec<_>>())).filter(|(_, ips)| !ips.is_empty())
        };
        self.api.list("Service").iter().filter_map(address).collect()
    }

    /// Waits until the leader is in the middle of it: some have addresses, and some requests are on
    /// their way, for as long as they are not released.
    async fn in_the_middle(&self) {
        let mut passed = 0;
        self.proxies[0].set(move |seen| {
            if !is_answer(seen) {
                return Fate::Pass;
            }
            passed += 1;
            if passed <= SERVICES / 3 { Fate::Pass } else { Fate::Hold }
        });
        self.create_services();
        until("requests are on their way", || self.held().len() >= UNDER_WAY).await;
    }

    /// The answers for Services that the first allocator sent and that do not go through.
    fn held(&self) -> Vec<Seen> {
        let seen = self.proxies[0].seen();
        seen.into_iter().filter(|seen| seen.fate == Fate::Hold).collect()
    }

    /// Waits until every Service has an address, and checks that no two have the same, and that none
    /// has another than it had before.
    async fn all_have_one(&self, before: &BTreeMap<String, Vec<String>>) {
        until("every Service has an address", || self.addresses().len() == SERVICES).await;
        let after = self.addresses();
        let distinct: BTreeSet<_> = after.values().flatten().collect();
        assert_eq!(distinct.len(), SERVICES, "an address was given twice, or a Service has two");
        let moved = before.iter().filter(|(name, ips)| after.get(*name) != Some(ips)).count();
        assert_eq!(moved, 0, "Services lost the addresses that they had");
    }

    /// Lets the requests of the first one arrive, after all: each is refused.
    async fn late_requests_are_refused(&self) {
        let before = self.addresses();
        self.proxies[0].set(|_| Fate::Pass);
        self.proxies[0].release();
        until("they have arrived", || self.held().iter().all(|seen| seen.status.is_some())).await;
        let held = self.held();
        assert!(held.len() >= UNDER_WAY);
        for seen in held {
            assert_eq!(seen.status, Some(409), "{} {}", seen.method, seen.uri);
        }
        assert_eq!(self.addresses(), before);
    }
}

/// Whether a request is the answer for a Service.
fn is_answer(seen: &Seen) -> bool {
    seen.method == Method::PATCH
        && seen.uri.path().ends_with("/status")
        && seen.uri.path().contains("/services/")
}

#[tokio::test]
async fn requests_of_a_killed_leader_that_arrive_in_the_middle_of_the_takeover_are_refused() {
    let mut pair = Pair::new().await;
    pair.in_the_middle().await;
    let before = pair.addresses();
    // As soon as the next one gives out addresses, and before its own requests arrive.
    let first = pair.proxies[0].clone();
    pair.proxies[1].set(move |seen| {
        if !is_answer(seen) || seen.says("purelb.io/term") {
            return Fate::Pass;
        }
        first.release();
        Fate::Late(LATE)
    });
    pair.programs.remove(0).kill().await;
    pair.all_have_one(&before).await;
    pair.late_requests_are_refused().await;
    assert!(pair.programs[0].has_said(&["taking over", "made void"]));
    let leftover = pair
        .api
        .list("Service")
        .iter()
        .any(|service| service["metadata"]["annotations"].get("purelb.io/term").is_some());
    assert!(!leftover, "the number of the term went with the answer");
}

#[tokio::test]
async fn a_leader_that_is_cut_off_leaves_no_address_twice_and_none_lost() {
    let pair = Pair::new().await;
    pair.in_the_middle().await;
    let before = pair.addresses();
    pair.proxies[0].cut(true);
    pair.programs[0].says("no longer leading").await;
    let sent = pair.proxies[0].seen().into_iter().filter(is_answer).count();
    pair.all_have_one(&before).await;
    pair.proxies[0].cut(false);
    pair.late_requests_are_refused().await;
    // It sees who leads now, and sent no answer since.
    until("it stands by", || pair.programs[0].has_said(&["standing by", "allocator-1"])).await;
    assert_eq!(pair.proxies[0].seen().iter().filter(|seen| is_answer(seen)).count(), sent);
}

#[tokio::test]
async fn a_leader_that_is_frozen_leaves_no_address_twice_and_none_lost() {
    let pair = Pair::new().await;
    pair.in_the_middle().await;
    let before = pair.addresses();
    pair.programs[0].signal(Signal::STOP);
    pair.all_have_one(&before).await;
    let sent = pair.proxies[0].seen().iter().filter(|seen| is_answer(seen)).count();
    pair.programs[0].signal(Signal::CONT);
    pair.programs[0].says("no longer leading").await;
    pair.late_requests_are_refused().await;
    let since = pair.proxies[0].seen().iter().filter(|seen| is_answer(seen)).count();
    assert_eq!(since, sent, "it wrote after it woke");
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once_and_nothing_has_to_be_made_void() {
    let mut pair = Pair::new().await;
    pair.create_services();
    until("it is at it", || pair.addresses().len() > SERVICES / 10).await;
    let first = pair.programs.remove(0);
    assert!(first.end().await.success());
    let before = pair.addresses();
    pair.all_have_one(&before).await;
    assert!(!pair.programs[0].has_said(&["made void"]));
    assert_eq!(pair.programs[0].metric("purelb_allocator_leader").await, Some(1.0));
}
