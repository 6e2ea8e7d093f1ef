//! The leader's Lease: every change of it, and its writes.

use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use http::{Method, Request, header};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1 as k8s;
use kube::Client;
use purelb_core::leadership::{Event, LeaderContent, LeaderLease, LeaderWrite};
use purelb_core::lease::{Base, WriteResult};
use purelb_core::name::Uid;
use serde_json::{Value, json};

use crate::annotation;
use crate::convert::lease;
use crate::error::ApiError;
use crate::leases::{accepted, collection, pace, refused};
use crate::list_watch::{Source, Step, list_watch, within};

/// The name of the allocators' Lease.
pub const NAME: &str = "purelb-allocator";

/// The labels of the allocators' Lease.
const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/component", "allocator"), ("app.kubernetes.io/name", "purelb")];

/// Every change of the Lease in `namespace`, for ever, beginning with a listing. The watch is as
/// patient as a lease of `duration` allows.
pub fn watch(client: Client, namespace: &str, duration: Duration) -> BoxStream<'static, Event> {
    let source = Source {
        name: "leader lease",
        path: collection(namespace),
        labels: None,
        fields: Some(format!("metadata.name={NAME}")),
        pace: pace(duration),
    };
    let steps = list_watch(client, source, |object: k8s::Lease| leader_lease(&object));
    steps.filter_map(|step| std::future::ready(event(step))).boxed()
}

/// Writes the Lease; clones are the same.
#[derive(Clone)]
pub struct LeaderWriter {
    client: Client,
    namespace: String,
}

impl LeaderWriter {
    /// Writes the Lease in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Sends one request and says what came of it, as the event to hand to the machine.
    ///
    /// The request begins when the future is first polled, and `renewTime` is that moment, for people.
    pub fn write(&self, write: LeaderWrite) -> BoxFuture<'static, Event> {
        let this = self.clone();
        async move {
            let request = this.request(&write, Timestamp::now());
            let answer = async { accepted(&this.client.request_text(request?).await?) };
            let result = match within(write.timeout, answer).await {
                Ok(version) => WriteResult::Accepted { version },
                Err(error) => refused(&write.base, &error),
            };
            Event::Written { attempt: write.content.attempt, result }
        }
        .boxed()
    }

    fn request(&self, write: &LeaderWrite, now: Timestamp) -> Result<Request<Vec<u8>>, ApiError> {
        let collection = collection(&self.namespace);
        let mut body = body(write, now);
        let (method, path, content_type) = match &write.base {
            Base::Absent => {
                body["apiVersion"] = "coordination.k8s.io/v1".into();
                body["kind"] = "Lease".into();
                body["metadata"]["name"] = NAME.into();
                body["metadata"]["namespace"] = self.namespace.as_str().into();
                (Method::POST, collection, "application/json")
            }
            Base::Exactly { uid, version } => {
                body["metadata"]["uid"] = uid.as_str().into();
                body["metadata"]["resourceVersion"] = version.to_string().into();
                let path = format!("{collection}/{NAME}");
                (Method::PATCH, path, "application/merge-patch+json")
            }
        };
        Ok(Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.to_string().into_bytes())?)
    }
}

/// An empty holder is how others write that there is none; null would be dropped from a create.
fn body(write: &LeaderWrite, now: Timestamp) -> Value {
    let LeaderContent { holder, duration, transitions, attempt, late_writes } = &write.content;
    let now = format!("{now:.6}");
    let mut body = json!({
        "metadata": {
            "annotations": {
                (annotation::ATTEMPT): attempt.to_string(),
                (annotation::LATE_WRITES): late_writes.to_string(),
            },
            "labels": LABELS.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        },
        "spec": {
            "holderIdentity": holder.as_deref().unwrap_or_default(),
            "leaseDurationSeconds": lease::seconds(*duration),
            "leaseTransitions": transitions,
            "renewTime": now,
        },
    });
    if write.is_acquisition {
        body["spec"]["acquireTime"] = now.into();
    }
    body
}

/// The Lease as the core sees it; `None` if the API gave it no version.
fn leader_lease(object: &k8s::Lease) -> Option<LeaderLease> {
    let metadata = &object.metadata;
    let spec = object.spec.clone().unwrap_or_default();
    let annotations = metadata.annotations.as_ref();
    let text = |key| annotations.and_then(|all| all.get(key)).map(String::as_str);
    Some(LeaderLease {
        version: lease::version(metadata.resource_version.as_deref()?)?,
        uid: Uid::from(metadata.uid.as_deref().unwrap_or_default()),
        content: LeaderContent {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(
                spec.lease_duration_seconds.and_then(|secs| secs.try_into().ok()).unwrap_or(0),
            ),
            transitions: spec
                .lease_transitions
                .and_then(|count| count.try_into().ok())
                .unwrap_or(0),
            attempt: text(annotation::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0),
            late_writes: text(annotation::LATE_WRITES) == Some("true"),
        },
    })
}

fn event(step: Step<LeaderLease>) -> Option<Event> {
    match step {
        Step::Bookmark(_) => None,
        Step::Deleted(metadata) => {
            (metadata.name == NAME).then_some(())?;
            lease::version(&metadata.resource_version).map(Event::Deleted)
        }
        Step::Listed { objects, version } => Some(Event::Listed {
            lease: objects.into_iter().next(),
            version: lease::version(&version)?,
        }),
        Step::Updated(lease) => Some(Event::Updated(lease)),
    }
}

#[cfg(test)]
mod tests {
    use purelb_core::lease::Version;

    use super::*;

    fn written(content: LeaderContent) -> LeaderWrite {
        LeaderWrite {
            base: Base::Exactly { uid: "u".into(), version: Version(7) },
            content,
            is_acquisition: true,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_content_survives_a_round_trip() {
        for holder in [Some("pod-1".to_owned()), None] {
            let content = LeaderContent {
                holder,
                duration: Duration::from_secs(5),
                transitions: 4,
                attempt: 9,
                late_writes: true,
            };
            let mut object = body(&written(content.clone()), Timestamp::UNIX_EPOCH);
            object["metadata"]["resourceVersion"] = "8".into();
            object["metadata"]["uid"] = "u".into();
            let lease = leader_lease(&serde_json::from_value(object).unwrap()).unwrap();
            let expected = LeaderLease { version: Version(8), uid: "u".into(), content };
            assert_eq!(lease, expected);
        }
    }

    #[test]
    fn a_lease_that_says_nothing_is_held_by_nobody() {
        let object = json!({ "metadata": { "name": NAME, "resourceVersion": "3" } });
        let lease = leader_lease(&serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(lease.content, LeaderContent::default());
    }
}
