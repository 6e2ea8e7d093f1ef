//! Faults that a test asks for.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use purelb_k8s::memory::Fault;
use serde_json::json;

use crate::cluster::{Cluster, DEADLINE, code, in_time};

#[tokio::test]
async fn a_request_may_be_refused_or_dropped_or_lose_its_answer() {
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let patch = |value: &str| Patch::Merge(json!({"metadata": {"annotations": {"a": value}}}));
    let params = PatchParams::default();
    let value = || {
        let namespace = cluster.namespace.as_str();
        api.get("Service", namespace, "web").expect("it is there")["metadata"]["annotations"]["a"]
            .clone()
    };

    api.set_fault(|call| (call.verb == "patch").then_some(Fault::Refuse(500)));
    assert_eq!(code(services.patch("web", &params, &patch("1")).await).0, 500);
    assert!(services.get("web").await.is_ok(), "other verbs go well");
    api.set_fault(|call| (call.verb == "patch").then_some(Fault::Drop));
    assert!(services.patch("web", &params, &patch("2")).await.is_err());
    assert!(value().is_null());
    api.set_fault(|call| call.path.ends_with("/services/web").then_some(Fault::LoseAnswer));
    assert!(services.patch("web", &params, &patch("3")).await.is_err());
    assert_eq!(value(), "3");
    api.clear_fault();
    assert!(services.patch("web", &params, &patch("4")).await.is_ok());
}

#[tokio::test]
async fn a_delayed_write_lands_even_if_its_client_has_given_up() {
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    let version = api.version().to_string();
    let params = WatchParams::default();
    let mut events = services.watch(&params, &version).await.expect("a watch").boxed_local();
    let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    api.set_fault(move |call| {
        (call.verb == "create").then(|| {
            sender.send(()).ok();
            Fault::Delay(Duration::from_millis(300))
        })
    });
    tokio::select! {
        _ = cluster.load_balancer("web") => panic!("answered before the request was seen"),
        seen = in_time("the request", arrived.recv()) => assert!(seen.is_some()),
    }
    let event = in_time("the late write", events.try_next()).await.expect("no error");
    assert!(matches!(event, Some(WatchEvent::Added(_))), "{event:?}");
}

#[tokio::test]
async fn a_watch_may_be_held_back_or_end() {
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    let version = api.version().to_string();
    let params = WatchParams::default();
    let mut events = services.watch(&params, &version).await.expect("a watch").boxed_local();
    let held = Duration::from_millis(200);
    api.set_fault(move |call| (call.verb == "watch").then_some(Fault::Delay(held)));
    let created = Instant::now();
    cluster.load_balancer("a").await;
    let event = in_time("the first", events.try_next()).await.expect("no error");
    assert!(matches!(event, Some(WatchEvent::Added(_))), "{event:?}");
    assert!(created.elapsed() >= held);
    api.set_fault(|call| (call.verb == "watch").then_some(Fault::Drop));
    cluster.load_balancer("b").await;
    let end = in_time("the end", events.try_next()).await;
    assert!(matches!(end, Ok(None)), "{end:?}");
}

#[tokio::test]
async fn a_rule_sees_who_asks() {
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    api.set_fault(move |call| {
        sender.send(call.clone()).ok();
        None
    });
    assert_eq!(code(services.get_status("none").await).0, 404);
    let call = tokio::time::timeout(DEADLINE, seen.recv()).await.expect("in time").expect("a call");
    assert!(call.client.ip().is_loopback());
    assert_eq!(call.verb, "get");
    assert_eq!(call.path, format!("/api/v1/namespaces/{}/services/none/status", cluster.namespace));
}
