//! Leases: writes that are conditional, and a watch that misses no version.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1 as k8s;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use purelb_core::lease::{Base, Lease, LeaseContent, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::name::Uid;
use purelb_k8s::leases::{self, LeaseWriter};
use purelb_k8s::memory::Fault;
use serde_json::json;

use crate::cluster::{Cluster, in_time, look};

type Events = BoxStream<'static, LeaseEvent>;

fn writer(cluster: &Cluster, node: &str) -> LeaseWriter {
    let uid = Uid::from("00000000-0000-0000-0000-000000000001");
    LeaseWriter::new(cluster.client.clone(), &cluster.namespace, node.into(), uid)
}

fn watch(cluster: &Cluster) -> Events {
    let pace = leases::pace(Duration::from_secs(3));
    leases::watch(cluster.client.clone(), &cluster.namespace, pace)
}

fn content(attempt: u64) -> LeaseContent {
    LeaseContent {
        duration: Duration::from_secs(5),
        subnets: ["192.0.2.0/24", "2001:db8::/64"].map(|net| net.parse().unwrap()).into(),
        join: Some(1),
        seen: Some(Version(7)),
        boot_id: Some("boot".into()),
        instance: "pod".into(),
        attempt,
        ..LeaseContent::default()
    }
}

fn write(attempt: u64, base: Base) -> LeaseWrite {
    let timeout = Duration::from_secs(5);
    LeaseWrite { attempt, base, content: content(attempt), timeout }
}

async fn result(writer: &LeaseWriter, write: LeaseWrite) -> WriteResult {
    let wanted = write.attempt;
    match writer.write(write).await {
        LeaseEvent::Written { attempt, result } if attempt == wanted => result,
        other => panic!("{other:?}"),
    }
}

async fn accepted(writer: &LeaseWriter, write: LeaseWrite) -> Version {
    match result(writer, write).await {
        WriteResult::Accepted { version } => version,
        other => panic!("{other:?}"),
    }
}

/// The next event that is not a bookmark.
async fn next(events: &mut Events) -> LeaseEvent {
    loop {
        match in_time("a lease event", events.next()).await.expect("the watch never ends") {
            LeaseEvent::Bookmark(_) => {}
            event => return event,
        }
    }
}

async fn updated(events: &mut Events) -> Lease {
    match next(events).await {
        LeaseEvent::Updated(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn base(lease: &Lease) -> Base {
    Base::Exactly { uid: lease.uid.clone(), version: lease.version }
}

#[tokio::test]
async fn what_is_written_comes_back_with_its_version() {
    let Some(cluster) = Cluster::any().await else { return };
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    let LeaseEvent::Listed { leases, version: listed } = next(&mut events).await else { panic!() };
    assert!(leases.is_empty());
    let created = accepted(&writer, write(1, Base::Absent)).await;
    let lease = updated(&mut events).await;
    assert_eq!((lease.node.as_str(), lease.version), ("n1", created));
    assert_eq!(lease.content, content(1));
    assert!(listed < created);
    let renewed = accepted(&writer, write(2, base(&lease))).await;
    let lease = updated(&mut events).await;
    assert_eq!((lease.version, lease.content), (renewed, content(2)));
    let mut again = watch(&cluster);
    let LeaseEvent::Listed { leases, version } = next(&mut again).await else { panic!() };
    assert_eq!(leases.len(), 1);
    assert!(version >= renewed);
}

#[tokio::test]
async fn what_is_not_there_any_more_cannot_be_replaced() {
    let Some(cluster) = Cluster::any().await else { return };
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let first = updated(&mut events).await;
    assert_eq!(result(&writer, write(2, Base::Absent)).await, WriteResult::Conflict);
    accepted(&writer, write(3, base(&first))).await;
    assert_eq!(result(&writer, write(4, base(&first))).await, WriteResult::Conflict);

    let api: Api<k8s::Lease> = cluster.api();
    api.delete("purelb-node-n1", &DeleteParams::default()).await.expect("deleted");
    let second = updated(&mut events).await;
    let LeaseEvent::Deleted { node, version } = next(&mut events).await else { panic!() };
    assert_eq!(node.as_str(), "n1");
    assert!(version > second.version, "a deletion is a change of its own");
    assert_eq!(result(&writer, write(5, base(&second))).await, WriteResult::Conflict);
    accepted(&writer, write(6, Base::Absent)).await;
    assert_eq!(result(&writer, write(7, base(&second))).await, WriteResult::Conflict);
    assert_eq!(updated(&mut events).await.content.attempt, 6);
}

#[tokio::test]
async fn a_lease_looks_as_the_go_agents_write_it() {
    let Some(cluster) = Cluster::any().await else { return };
    accepted(&writer(&cluster, "kn1"), write(1, Base::Absent)).await;
    let api: Api<k8s::Lease> = cluster.api();
    let lease = look(&api.get("purelb-node-kn1").await.expect("a lease"));
    assert_eq!(
        lease["metadata"]["labels"],
        json!({ "app.kubernetes.io/component": "lbnodeagent", "app.kubernetes.io/name": "purelb" })
    );
    assert_eq!(
        lease["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "v1", "blockOwnerDeletion": false, "controller": false, "kind": "Node",
            "name": "kn1", "uid": "00000000-0000-0000-0000-000000000001",
        }])
    );
    let annotations = &lease["metadata"]["annotations"];
    assert_eq!(annotations["purelb.io/subnets"], "192.0.2.0/24,2001:db8::/64");
    assert_eq!(annotations["purelb.io/instance"], "pod");
    assert_eq!(annotations.as_object().map(serde_json::Map::len), Some(6));
    let mut spec = lease["spec"].clone();
    let renewed = spec["renewTime"].take();
    assert_eq!(spec["holderIdentity"], "kn1");
    assert_eq!(spec["leaseDurationSeconds"], 5);
    assert_eq!(spec.as_object().map(serde_json::Map::len), Some(3));
    let renewed = renewed.as_str().expect("a time");
    assert_eq!(renewed.len(), "2026-11-22T05:16:55.100520Z".len(), "{renewed}");
}

#[tokio::test]
async fn what_content_no_longer_says_is_gone_from_the_lease() {
    let Some(cluster) = Cluster::any().await else { return };
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let lease = updated(&mut events).await;
    let bare =
        LeaseContent { duration: Duration::from_secs(5), attempt: 2, ..LeaseContent::default() };
    let second = LeaseWrite { content: bare.clone(), ..write(2, base(&lease)) };
    accepted(&writer, second).await;
    assert_eq!(updated(&mut events).await.content, bare);
}

#[tokio::test]
async fn other_leases_are_not_seen() {
    let Some(cluster) = Cluster::any().await else { return };
    let api: Api<k8s::Lease> = cluster.api();
    let other = json!({ "metadata": { "name": "kube-scheduler" } });
    let other: k8s::Lease = serde_json::from_value(other).unwrap();
    api.create(&PostParams::default(), &other).await.expect("a lease");
    let mut events = watch(&cluster);
    let LeaseEvent::Listed { leases, .. } = next(&mut events).await else { panic!() };
    assert!(leases.is_empty());
}

#[tokio::test]
async fn bookmarks_tell_how_far_the_view_reaches() {
    let (cluster, api) = Cluster::memory().await;
    let mut events = watch(&cluster);
    next(&mut events).await;
    // A change of another kind moves the version of everything.
    let node: Node = serde_json::from_value(json!({ "metadata": { "name": "n9" } })).unwrap();
    Api::all(cluster.client.clone()).create(&PostParams::default(), &node).await.expect("a node");
    let reached = in_time("a bookmark", async {
        loop {
            if let Some(LeaseEvent::Bookmark(version)) = events.next().await
                && version.0 >= api.version()
            {
                return version;
            }
        }
    });
    assert_eq!(reached.await.0, api.version());
}

#[tokio::test]
async fn a_request_given_up_may_land_but_never_after_a_newer_one() {
    let (cluster, api) = Cluster::memory().await;
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let first = updated(&mut events).await;
    let patches = Arc::new(AtomicUsize::new(0));
    let (counted, late) = (Arc::clone(&patches), Duration::from_millis(400));
    api.set_fault(move |call| {
        (call.verb == "patch" && counted.fetch_add(1, Ordering::Relaxed) == 0)
            .then_some(Fault::Delay(late))
    });
    let timeout = Duration::from_millis(50);
    let slow = result(&writer, LeaseWrite { timeout, ..write(2, base(&first)) }).await;
    assert!(matches!(slow, WriteResult::Unknown { .. }), "{slow:?}");
    accepted(&writer, write(3, base(&first))).await;
    assert_eq!(updated(&mut events).await.content.attempt, 3);
    let version = Version(api.version());
    // Long after the late one was to land, nothing has changed: a bookmark tells.
    let begun = tokio::time::Instant::now();
    loop {
        match in_time("a bookmark", events.next()).await {
            Some(LeaseEvent::Bookmark(reached)) => {
                assert_eq!(reached, version);
                if begun.elapsed() > late {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_write_comes_back_all_the_same() {
    let (cluster, api) = Cluster::memory().await;
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    api.set_fault(|call| (call.verb == "create").then_some(Fault::LoseAnswer));
    let lost = result(&writer, write(1, Base::Absent)).await;
    assert!(matches!(lost, WriteResult::Unknown { .. }), "{lost:?}");
    assert_eq!(updated(&mut events).await.content.attempt, 1);
}

#[tokio::test]
async fn a_refusal_is_not_a_conflict() {
    let (cluster, api) = Cluster::memory().await;
    api.set_fault(|call| (call.verb == "create").then_some(Fault::Refuse(403)));
    let refused = result(&writer(&cluster, "n1"), write(1, Base::Absent)).await;
    let WriteResult::Unknown { error } = refused else { panic!("{refused:?}") };
    assert!(error.contains("403"), "{error}");
}

#[tokio::test]
async fn a_watch_that_broke_off_goes_on_where_it_was() {
    let (cluster, api) = Cluster::memory().await;
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let first = updated(&mut events).await;
    api.set_fault(|call| (call.verb == "watch").then_some(Fault::Drop));
    let second = accepted(&writer, write(2, base(&first))).await;
    let unseen = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
    assert!(unseen.is_err(), "{unseen:?}");
    api.clear_fault();
    assert_eq!(updated(&mut events).await.version, second);
}

#[tokio::test]
async fn a_silent_watch_is_taken_for_dead() {
    let (cluster, api) = Cluster::memory().await;
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let first = updated(&mut events).await;
    let watches = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&watches);
    // The one that runs delivers nothing any more; one that begins anew does.
    api.set_fault(move |call| {
        (call.verb == "watch" && asked.fetch_add(1, Ordering::Relaxed) == 0)
            .then_some(Fault::Delay(Duration::from_secs(3600)))
    });
    let second = accepted(&writer, write(2, base(&first))).await;
    assert_eq!(updated(&mut events).await.version, second);
}

#[tokio::test]
async fn a_history_that_is_gone_means_a_new_listing() {
    let (cluster, api) = Cluster::memory().await;
    let (writer, mut events) = (writer(&cluster, "n1"), watch(&cluster));
    next(&mut events).await;
    accepted(&writer, write(1, Base::Absent)).await;
    let mut lease = updated(&mut events).await;
    api.set_fault(|call| (call.verb == "watch").then_some(Fault::Drop));
    api.limit_history(1);
    for attempt in 2..5 {
        let version = accepted(&writer, write(attempt, base(&lease))).await;
        lease = Lease { version, ..lease };
    }
    api.clear_fault();
    let LeaseEvent::Listed { leases, version } = next(&mut events).await else { panic!() };
    assert_eq!((leases[0].content.attempt, leases[0].version), (4, version));
}
