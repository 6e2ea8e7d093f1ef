//! Events.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use purelb_core::name::ServiceKey;
use purelb_k8s::memory::Fault;
use purelb_k8s::notice::{About, Notice, Severity, recorder};

use crate::cluster::{Cluster, look};

fn notice(cluster: &Cluster, text: &str) -> Notice {
    Notice {
        about: About::Service {
            key: ServiceKey::new(cluster.namespace.as_str(), "web"),
            uid: "u1".into(),
        },
        severity: Severity::Normal,
        reason: "AddressAssigned",
        text: text.into(),
    }
}

#[tokio::test]
async fn equal_events_are_one_with_a_count_and_other_texts_are_others() {
    let Some(cluster) = Cluster::any().await else { return };
    let (recorder, worker) = recorder(cluster.client.clone(), "purelb-allocator", "pod-1");
    for text in
        ["assigned 192.0.2.1", "assigned 192.0.2.1", "assigned 192.0.2.2", "assigned 192.0.2.1"]
    {
        recorder.tell(notice(&cluster, text));
    }
    drop(recorder);
    worker.run().await;
    let events: Api<Event> = cluster.api();
    let events = events.list(&ListParams::default()).await.expect("a list").items;
    let mut found: Vec<_> = events
        .iter()
        .map(|event| {
            (event.note.clone().unwrap(), event.series.as_ref().map(|series| series.count))
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [("assigned 192.0.2.1".to_owned(), Some(3)), ("assigned 192.0.2.2".to_owned(), None)]
    );
    let event = look(&events[0]);
    assert_eq!(event["reason"], "AddressAssigned");
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["reportingController"], "purelb-allocator");
    assert_eq!(event["reportingInstance"], "pod-1");
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["regarding"]["name"], "web");
}

#[tokio::test]
async fn an_event_that_cannot_be_raised_stops_nothing() {
    let (cluster, api) = Cluster::memory().await;
    let (recorder, worker) = recorder(cluster.client.clone(), "purelb-allocator", "");
    api.set_fault(|call| call.path.ends_with("/events").then_some(Fault::Refuse(403)));
    recorder.tell(notice(&cluster, "one"));
    drop(recorder);
    worker.run().await;
    let events: Api<Event> = cluster.api();
    assert!(events.list(&ListParams::default()).await.is_err());
    api.clear_fault();
    assert!(events.list(&ListParams::default()).await.expect("a list").items.is_empty());
}
