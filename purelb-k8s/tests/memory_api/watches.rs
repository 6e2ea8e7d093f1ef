//! Watches: order, selectors, bookmarks, the end of history.

use std::pin::{Pin, pin};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, code, in_time};

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>>>>;

async fn watch(services: &Api<Service>, params: &WatchParams, version: &str) -> Events<Service> {
    services.watch(params, version).await.expect("a watch").boxed_local()
}

/// The next event in few words, `+web`, `~web`, `-web`, `!410`; bookmarks are passed over.
async fn next<K: ResourceExt + std::fmt::Debug + Clone>(events: &mut Events<K>) -> String {
    loop {
        let event = in_time("an event", events.try_next()).await.expect("the watch goes on");
        return match event {
            Some(WatchEvent::Added(object)) => format!("+{}", object.name_any()),
            Some(WatchEvent::Modified(object)) => format!("~{}", object.name_any()),
            Some(WatchEvent::Deleted(object)) => format!("-{}", object.name_any()),
            Some(WatchEvent::Error(status)) => format!("!{}", status.code),
            Some(WatchEvent::Bookmark(_)) => continue,
            None => "the end".to_owned(),
        };
    }
}

async fn annotate(services: &Api<Service>, name: &str, patch: Value) -> Service {
    let patch = Patch::Merge(json!({"metadata": patch}));
    services.patch(name, &PatchParams::default(), &patch).await.expect("patched")
}

async fn version_of(services: &Api<Service>) -> String {
    let list = services.list(&ListParams::default()).await.expect("a list");
    list.metadata.resource_version.expect("a version")
}

#[tokio::test]
async fn a_watch_tells_what_happens_after_a_version_in_order() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("before").await;
    let version = version_of(&services).await;
    cluster.load_balancer("early").await;
    let mut events = watch(&services, &WatchParams::default(), &version).await;
    assert_eq!(next(&mut events).await, "+early");
    cluster.load_balancer("late").await;
    annotate(&services, "early", json!({"labels": {"a": "b"}})).await;
    annotate(&services, "early", json!({"labels": {"a": "b"}})).await;
    services.delete("before", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(next(&mut events).await, "+late");
    assert_eq!(next(&mut events).await, "~early");
    assert_eq!(next(&mut events).await, "-before", "the write that changed nothing is not told");
}

#[tokio::test]
async fn a_deleted_object_carries_the_version_of_its_deletion() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let made = cluster.load_balancer("web").await;
    let version = made.resource_version().expect("a version");
    let mut events = watch(&services, &WatchParams::default(), &version).await;
    services.delete("web", &DeleteParams::default()).await.expect("deleted");
    let event = in_time("the deletion", events.try_next()).await.expect("no error");
    let Some(WatchEvent::Deleted(gone)) = event else { panic!("{event:?}") };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    assert!(number(&gone.resource_version().expect("a version")) > number(&version));
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("a").await;
    cluster.load_balancer("b").await;
    let mut events = watch(&services, &WatchParams::default(), "0").await;
    let mut both = [next(&mut events).await, next(&mut events).await];
    both.sort();
    assert_eq!(both, ["+a", "+b"]);
    cluster.load_balancer("c").await;
    assert_eq!(next(&mut events).await, "+c");
}

#[tokio::test]
async fn objects_that_begin_or_stop_to_match_are_added_or_deleted() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    cluster.load_balancer("web").await;
    let version = version_of(&services).await;
    let by_label = WatchParams::default().labels("watched=yes");
    let by_type = WatchParams::default().fields("spec.type=LoadBalancer");
    let mut labelled = watch(&services, &by_label, &version).await;
    let mut balanced = watch(&services, &by_type, &version).await;
    annotate(&services, "web", json!({"labels": {"watched": "no"}})).await;
    annotate(&services, "web", json!({"labels": {"watched": "yes"}})).await;
    assert_eq!(next(&mut labelled).await, "+web");
    annotate(&services, "web", json!({"annotations": {"a": "b"}})).await;
    assert_eq!(next(&mut labelled).await, "~web");
    annotate(&services, "web", json!({"labels": null})).await;
    assert_eq!(next(&mut labelled).await, "-web");

    for expected in ["~web", "~web", "~web", "~web"] {
        assert_eq!(next(&mut balanced).await, expected);
    }
    let patch = Patch::Merge(json!({"spec": {"type": "ClusterIP"}}));
    services.patch("web", &PatchParams::default(), &patch).await.expect("patched");
    let event = in_time("an event", balanced.try_next()).await.expect("no error");
    let Some(WatchEvent::Deleted(last)) = event else { panic!("{event:?}") };
    let spec = last.spec.expect("a spec");
    assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"), "the state that matched last");
    let patch = Patch::Merge(json!({"spec": {"type": "LoadBalancer"}}));
    services.patch("web", &PatchParams::default(), &patch).await.expect("patched");
    assert_eq!(next(&mut balanced).await, "+web");
}

#[tokio::test]
async fn bookmarks_follow_the_whole_api_even_when_nothing_happens_to_a_kind() {
    let (cluster, api) = Cluster::memory().await;
    let leases: Api<Lease> = cluster.api();
    let version = api.version().to_string();
    let params = WatchParams { bookmarks: true, ..WatchParams::default() };
    let mut events = pin!(leases.watch(&params, &version).await.expect("a watch"));
    cluster.load_balancer("web").await;
    let now = api.version();
    for _ in 0..2 {
        let event = in_time("a bookmark", events.try_next()).await.expect("no error");
        let Some(WatchEvent::Bookmark(bookmark)) = event else { panic!("{event:?}") };
        assert_eq!(bookmark.metadata.resource_version, now.to_string());
    }
}

#[tokio::test]
async fn a_watch_that_asks_for_no_bookmarks_gets_none() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let version = version_of(&services).await;
    let params = WatchParams { bookmarks: false, timeout: Some(2), ..WatchParams::default() };
    let mut events = watch(&services, &params, &version).await;
    let event = in_time("the end", events.try_next()).await.expect("no error");
    assert!(event.is_none(), "nothing but the end after timeoutSeconds: {event:?}");
}

#[tokio::test]
async fn history_that_is_no_longer_kept_is_gone() {
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    let old = api.version().to_string();
    cluster.load_balancer("a").await;
    cluster.load_balancer("b").await;
    let mut kept = watch(&services, &WatchParams::default(), &old).await;
    assert_eq!(next(&mut kept).await, "+a");
    api.limit_history(1);
    let mut events = watch(&services, &WatchParams::default(), &old).await;
    assert_eq!(next(&mut events).await, "!410");
    assert_eq!(next(&mut events).await, "the end");
    // The write before the last one may not be missing.
    let last = api.version() - 1;
    let mut events = watch(&services, &WatchParams::default(), &last.to_string()).await;
    assert_eq!(next(&mut events).await, "+b");
}

#[tokio::test]
async fn a_version_that_has_not_happened_is_too_large_for_a_list() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let params =
        ListParams::default().at("999999999").matching(kube::api::VersionMatch::NotOlderThan);
    assert_eq!(code(services.list(&params).await), (504, "Timeout".to_owned()));
}

#[tokio::test]
async fn a_watch_from_a_version_that_has_not_happened_leaves_out_all_until_then() {
    let Some(cluster) = Cluster::any().await else { return };
    let services: Api<Service> = cluster.api();
    let params = WatchParams::default().timeout(2);
    let mut events = watch(&services, &params, "999999999").await;
    cluster.load_balancer("web").await;
    assert_eq!(next(&mut events).await, "the end");
}

#[tokio::test]
async fn a_streaming_list_ends_with_a_bookmark_that_says_so() {
    let Some(cluster) = Cluster::any().await else { return };
    cluster.load_balancer("web").await;
    let services: Api<Service> = cluster.api();
    let params =
        WatchParams { send_initial_events: true, bookmarks: true, ..WatchParams::default() };
    let mut events = watch(&services, &params, "0").await;
    let event = in_time("an event", events.try_next()).await.expect("no error");
    assert!(matches!(event, Some(WatchEvent::Added(_))), "{event:?}");
    let event = in_time("an event", events.try_next()).await.expect("no error");
    let Some(WatchEvent::Bookmark(bookmark)) = event else { panic!("{event:?}") };
    assert_eq!(bookmark.metadata.annotations["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn the_watcher_of_kube_rs_lists_and_follows() {
    let Some(cluster) = Cluster::any().await else { return };
    cluster.load_balancer("a").await;
    let services: Api<Service> = cluster.api();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = pin!(watcher(services.clone(), config));
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "~a") {
            let event = in_time("an event", events.next()).await.expect("endless");
            match event.expect("no error") {
                watcher::Event::Init => told.push("init".to_owned()),
                watcher::Event::InitApply(service) => told.push(format!("+{}", service.name_any())),
                watcher::Event::InitDone => {
                    told.push("done".to_owned());
                    let label = format!(
                        "{:?}",
                        services
                            .list(&ListParams::default())
                            .await
                            .map(|l| l.metadata.resource_version)
                    );
                    annotate(&services, "a", json!({"annotations": {"seen": label}})).await;
                }
                watcher::Event::Apply(service) => told.push(format!("~{}", service.name_any())),
                watcher::Event::Delete(service) => told.push(format!("-{}", service.name_any())),
            }
        }
        assert_eq!(told, ["init", "+a", "done", "~a"]);
    }
}

#[tokio::test]
async fn thousands_of_services_and_many_watches_are_fine() {
    const COUNT: usize = 2000;
    let (cluster, api) = Cluster::memory().await;
    let services: Api<Service> = cluster.api();
    let version = api.version().to_string();
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(watch(&services, &WatchParams::default(), &version).await);
    }
    let creations = (0..COUNT).map(|n| {
        let services = services.clone();
        async move {
            let new = crate::cluster::service(json!({
                "metadata": {"name": format!("s{n}")},
                "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]},
            }));
            services.create(&PostParams::default(), &new).await.expect("created")
        }
    });
    let made = futures::stream::iter(creations).buffer_unordered(16).collect::<Vec<_>>().await;
    let addresses: std::collections::BTreeSet<_> =
        made.iter().filter_map(|s| s.spec.as_ref()?.cluster_ip.clone()).collect();
    assert_eq!(addresses.len(), COUNT, "every Service has an address of its own");
    for events in &mut watches {
        for _ in 0..COUNT {
            assert!(next(events).await.starts_with("+s"));
        }
    }
}
