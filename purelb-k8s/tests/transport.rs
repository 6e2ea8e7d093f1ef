//! Exact requests, and answers that no sound server gives, over a transport that the test plays.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    reason = "a test says by panicking what is wrong, and JSON reads best where it is used"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use purelb_core::group::GroupSpec;
use purelb_core::lease::{Base, LeaseContent, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::service::Service;
use purelb_core::store::Change;
use purelb_k8s::leases::{self, LeaseWriter};
use purelb_k8s::watch;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

type Handle = tower_test::mock::Handle<Request<Body>, Response<Body>>;

thread_local! {
    /// Servers that answer no more. Each test has a thread of its own.
    static KEPT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// A request as it came.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    query: String,
    content_type: String,
    body: Value,
}

/// Answers each request with the next of these. After the last it answers no more, but the connection
/// stays open.
fn server(answers: impl IntoIterator<Item = (u16, Value)>) -> (Client, JoinHandle<Vec<Asked>>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let mut answers: VecDeque<_> = answers.into_iter().collect();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        while let Some((status, answer)) = answers.pop_front() {
            let Some((request, respond)) = handle.next_request().await else { break };
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.expect("a body");
            asked.push(Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                content_type: head
                    .headers
                    .get("content-type")
                    .map(|value| value.to_str().unwrap().to_owned())
                    .unwrap_or_default(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            });
            // Of a watch each element is a line.
            let text = match &answer {
                Value::Array(events) => {
                    events.iter().map(|event| format!("{event}\n")).collect::<String>()
                }
                object => object.to_string(),
            };
            let response = Response::builder().status(status).body(Body::from(text.into_bytes()));
            respond.send_response(response.unwrap());
        }
        KEPT.with_borrow_mut(|kept| kept.push(handle));
        asked
    });
    (Client::new(service, "default"), server)
}

fn refusal(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "no", "reason": "No",
    });
    (code, status)
}

fn list(version: &str, items: Value) -> (u16, Value) {
    (200, json!({ "metadata": { "resourceVersion": version }, "items": items }))
}

fn named(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "resourceVersion": "9" },
        "spec": { "type": "LoadBalancer" },
    })
}

fn names(change: &Change<Service>) -> Vec<&str> {
    match change {
        Change::Listed(services) => {
            services.iter().map(|service| service.key.name.as_str()).collect()
        }
        Change::Updated(service) => vec![service.key.name.as_str()],
        Change::Deleted(key) => vec![key.name.as_str()],
    }
}

fn write(base: Base) -> LeaseWrite {
    LeaseWrite {
        attempt: 4,
        base,
        content: LeaseContent {
            duration: Duration::from_secs(5),
            subnets: ["192.0.2.0/24", "2001:db8:1::/64"].map(|net| net.parse().unwrap()).into(),
            seen: Some(Version(41)),
            instance: "uid-kn1".into(),
            attempt: 4,
            ..LeaseContent::default()
        },
        timeout: Duration::from_secs(5),
    }
}

fn writer(client: Client) -> LeaseWriter {
    let uid = "dde191fe-1358-419d-8054-908fa6d18cd1".into();
    LeaseWriter::new(client, "purelb-system", "kn1".into(), uid)
}

/// What the Go agent of kn1 wrote, without what the server adds.
fn go_lease() -> Value {
    let text = include_str!("fixtures/leases.yaml");
    let mut list: Value = serde_saphyr::from_str(text).unwrap();
    let mut lease = list["items"][0].take();
    for key in ["creationTimestamp", "resourceVersion", "uid"] {
        lease["metadata"].as_object_mut().unwrap().remove(key);
    }
    lease
}

#[tokio::test]
async fn a_new_lease_is_what_the_go_agent_writes_and_our_own_annotations() {
    let (client, server) = server([(201, json!({ "metadata": { "resourceVersion": "7" } }))]);
    let event = writer(client).write(write(Base::Absent)).await;
    let result = WriteResult::Accepted { version: Version(7) };
    assert_eq!(event, LeaseEvent::Written { attempt: 4, result });
    let asked = server.await.unwrap().remove(0);
    assert_eq!(asked.method, Method::POST);
    assert_eq!(asked.path, "/apis/coordination.k8s.io/v1/namespaces/purelb-system/leases");
    let mut body = asked.body;
    let annotations = body["metadata"]["annotations"].as_object_mut().unwrap();
    assert_eq!(annotations.remove("purelb.io/attempt"), Some("4".into()));
    assert_eq!(annotations.remove("purelb.io/seen"), Some("41".into()));
    let mut go = go_lease();
    let (ours, theirs) = (body["spec"]["renewTime"].take(), go["spec"]["renewTime"].take());
    assert_eq!(ours.as_str().map(str::len), theirs.as_str().map(str::len));
    assert_eq!(body, go);
}

#[tokio::test]
async fn a_renewal_is_one_merge_patch_on_condition_of_version_and_uid() {
    let (client, server) = server([(200, json!({ "metadata": { "resourceVersion": "8" } }))]);
    let base = Base::Exactly { uid: "u1".into(), version: Version(7) };
    writer(client).write(write(base)).await;
    let asked = server.await.unwrap().remove(0);
    assert_eq!(asked.method, Method::PATCH);
    assert_eq!(asked.content_type, "application/merge-patch+json");
    let collection = "/apis/coordination.k8s.io/v1/namespaces/purelb-system/leases";
    assert_eq!(asked.path, format!("{collection}/purelb-node-kn1"));
    assert_eq!(asked.body["metadata"]["resourceVersion"], "7");
    assert_eq!(asked.body["metadata"]["uid"], "u1");
    let annotations = &asked.body["metadata"]["annotations"];
    let join = annotations.get("purelb.io/join");
    assert_eq!(join, Some(&Value::Null), "what is not said any more is removed");
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_given_up_in_time() {
    let (client, _server) = server([]);
    let begun = tokio::time::Instant::now();
    let event = writer(client).write(write(Base::Absent)).await;
    let LeaseEvent::Written { result: WriteResult::Unknown { error }, .. } = event else {
        panic!()
    };
    assert!(error.contains("5s"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(5100));
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_page_by_page_and_never_from_a_cache() {
    let page = json!({
        "metadata": { "resourceVersion": "5", "continue": "more" }, "items": [named("a")],
    });
    let (client, server) = server([(200, page), list("5", json!([named("b")])), (200, json!([]))]);
    let mut changes = watch::services(client);
    let listed = changes.next().await.unwrap();
    assert_eq!(names(&listed), ["a", "b"]);
    // The watch must have been asked for before the script ends.
    let nothing = tokio::time::timeout(Duration::from_millis(1), changes.next()).await;
    assert!(nothing.is_err());
    let asked = server.await.unwrap();
    assert!(asked[0].query.contains("fieldSelector=spec.type%3DLoadBalancer"), "{asked:?}");
    assert!(asked[1].query.contains("continue=more"), "{asked:?}");
    assert!(asked[..2].iter().all(|asked| !asked.query.contains("resourceVersion")), "{asked:?}");
    assert!(asked[2].query.contains("resourceVersion=5"), "{asked:?}");
    assert!(asked[2].query.contains("allowWatchBookmarks=true"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn where_fields_cannot_be_selected_everything_is_watched() {
    let (client, server) = server([refusal(400), list("5", json!([named("a")])), (200, json!([]))]);
    let mut changes = watch::services(client);
    assert_eq!(names(&changes.next().await.unwrap()), ["a"]);
    let nothing = tokio::time::timeout(Duration::from_millis(1), changes.next()).await;
    assert!(nothing.is_err());
    let asked = server.await.unwrap();
    assert!(asked[0].query.contains("fieldSelector"), "{asked:?}");
    assert!(asked[1..].iter().all(|asked| !asked.query.contains("fieldSelector")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_makes_no_sense_hides_no_other() {
    let broken = json!({ "metadata": { "name": "broken", "resourceVersion": "1" }, "spec": 5 });
    let events = json!([
        { "type": "ADDED", "object": broken },
        { "type": "MODIFIED", "object": named("b") },
        { "type": "DELETED", "object": broken },
    ]);
    let listed = list("5", json!([named("a"), broken, named("c")]));
    let (client, _server) = server([listed, (200, events)]);
    let mut changes = watch::services(client);
    assert_eq!(names(&changes.next().await.unwrap()), ["a", "c"]);
    assert_eq!(names(&changes.next().await.unwrap()), ["b"]);
    assert_eq!(names(&changes.next().await.unwrap()), ["broken"], "its deletion counts");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_makes_no_sense_is_there_as_malformed() {
    let group = |name: &str, spec: Value| {
        json!({
            "metadata": { "name": name, "namespace": "purelb", "generation": 2 }, "spec": spec,
        })
    };
    let pool = json!({ "pool": "192.0.2.0/24", "subnet": "192.0.2.0/24" });
    let items = json!([
        group("good", json!({ "remote": { "v4pool": pool } })),
        group("no-subnet", json!({ "local": { "v4pool": { "pool": "192.0.2.0/24" } } })),
        group("neither", json!({})),
        group("both", json!({ "local": {}, "remote": {} })),
        group("namespaces", json!({ "namespaces": "all", "local": { "v4pool": pool } })),
        group("text", json!("nonsense")),
    ]);
    let (client, _server) = server([list("5", items)]);
    let Some(Change::Listed(groups)) = watch::service_groups(client, "purelb").next().await else {
        panic!()
    };
    let errors: Vec<_> = groups
        .iter()
        .map(|group| match &group.kind {
            GroupSpec::Malformed { error } => error.as_str(),
            GroupSpec::External { .. } | GroupSpec::Local { .. } | GroupSpec::Remote { .. } => "",
        })
        .collect();
    let exactly_one = "exactly one of spec.local, spec.remote and spec.external must be given";
    assert_eq!(
        errors,
        [
            "",
            "spec.local: missing field `subnet`",
            exactly_one,
            exactly_one,
            "spec.namespaces: invalid type: string \"all\", expected a sequence",
            exactly_one,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_server_never_heard_of_means_a_new_list() {
    let (client, server) = server([list("500", json!([])), refusal(504), list("20", json!([]))]);
    let mut events = leases::watch(client, "purelb", leases::pace(Duration::from_secs(5)));
    for wanted in [500, 20] {
        let Some(LeaseEvent::Listed { version, .. }) = events.next().await else { panic!() };
        assert_eq!(version, Version(wanted));
    }
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_broke_off_goes_on_only_where_the_server_has_been() {
    let (client, server) = server([
        list("500", json!([])),
        (200, json!([])),
        list("501", json!([])),
        (200, json!([])),
        list("20", json!([named("other")])),
        list("20", json!([])),
    ]);
    let mut events = leases::watch(client, "purelb", leases::pace(Duration::from_secs(5)));
    for wanted in [500, 20] {
        let Some(LeaseEvent::Listed { version, .. }) = events.next().await else { panic!() };
        assert_eq!(version, Version(wanted));
    }
    let asked = server.await.unwrap();
    let has = |number: usize, text: &str| asked[number].query.contains(text);
    assert!(has(1, "resourceVersion=500") && has(3, "resourceVersion=500"), "{asked:?}");
    for look in [2, 4] {
        assert!(has(look, "limit=1") && !has(look, "resourceVersion"), "{asked:?}");
    }
    assert!(has(5, "labelSelector"), "{asked:?}");
}

/// A watch that the server ends when it was asked to says nothing about the server: no second request.
#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_in_its_time_goes_on_without_a_look() {
    type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Answer>();
    let server = tokio::spawn(async move {
        let (_, respond) = handle.next_request().await.unwrap();
        let list = Full::from(list("5", json!([])).1.to_string());
        respond.send_response(Response::new(list.boxed_unsync()));
        let mut queries = Vec::new();
        for _ in 0..2 {
            let (request, respond) = handle.next_request().await.unwrap();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let seconds = query.split('&').find_map(|part| part.strip_prefix("timeoutSeconds="));
            let limit = Duration::from_secs(seconds.unwrap().parse().unwrap());
            let end = futures::stream::once(tokio::time::sleep(limit));
            let nothing = StreamBody::new(end.map(|()| Ok(Frame::data(Bytes::new()))));
            respond.send_response(Response::new(BodyExt::boxed_unsync(nothing)));
            queries.push(query);
        }
        queries
    });
    let mut changes = watch::services(Client::new(service, "default"));
    assert!(names(&changes.next().await.unwrap()).is_empty());
    tokio::select! {
        change = changes.next() => panic!("{change:?}"),
        queries = server => for query in queries.unwrap() {
            assert!(query.contains("watch=true") && query.contains("resourceVersion=5"), "{query}");
        },
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_asked_again_within_a_third_of_the_lease() {
    let (client, server) = server([
        list("5", json!([])),
        refusal(503),
        refusal(503),
        refusal(503),
        refusal(503),
        refusal(503),
        refusal(503),
        list("5", json!([])),
        (
            200,
            json!([{ "type": "BOOKMARK", "object": {
            "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
            "metadata": { "resourceVersion": "6" },
        } }]),
        ),
    ]);
    let duration = Duration::from_secs(6);
    let mut events = leases::watch(client, "purelb", leases::pace(duration));
    events.next().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(events.next().await, Some(LeaseEvent::Bookmark(Version(6))));
    assert!(begun.elapsed() < 5 * duration / 3, "{:?}", begun.elapsed());
    let asked = server.await.unwrap();
    let watches: Vec<_> = asked.iter().filter(|asked| asked.query.contains("watch")).collect();
    assert_eq!(watches.len(), 2, "{asked:?}");
    assert!(watches.iter().all(|asked| asked.query.contains("resourceVersion=5")), "{asked:?}");
}
