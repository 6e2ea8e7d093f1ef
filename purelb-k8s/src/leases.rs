//! The agents' Leases: every change in the API's order, and the writes of one's own.

use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;
use http::{Method, Request, header};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1 as k8s;
use kube::Client;
use purelb_core::lease::{Base, Lease, LeaseEvent, LeaseWrite, Version, WriteResult};
use purelb_core::name::{NodeName, Uid};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::convert::lease;
use crate::error::ApiError;
use crate::list_watch::{Pace, Source, Step, list_watch, within};

/// Every change of an agent's Lease in `namespace`, for ever, beginning with a listing.
///
/// The stream tells the version of each change, and of each bookmark, so that what has been seen is
/// always known.
pub fn watch(client: Client, namespace: &str, pace: Pace) -> BoxStream<'static, LeaseEvent> {
    let [(component, agent), _] = lease::LABELS;
    let source = Source {
        name: "leases",
        path: collection(namespace),
        labels: Some(format!("{component}={agent}")),
        fields: None,
        pace,
    };
    let steps = list_watch(client, source, |object: k8s::Lease| lease::lease(&object));
    steps.filter_map(|step| std::future::ready(event(step))).boxed()
}

/// How patient the watch of leases must be where they last `duration`: it is begun anew within a
/// third of it, and taken for dead after two thirds, in which two renewals of our own should have
/// been seen.
pub fn pace(duration: Duration) -> Pace {
    Pace { request: duration / 3, idle: duration * 2 / 3, retry: duration / 3 }
}

/// Writes the Lease of one node.
#[derive(Clone)]
pub struct LeaseWriter {
    client: Client,
    namespace: String,
    node: NodeName,
    node_uid: Uid,
}

impl LeaseWriter {
    /// Writes the Lease of `node`, which goes when the Node of this uid goes.
    pub fn new(client: Client, namespace: &str, node: NodeName, node_uid: Uid) -> Self {
        Self { client, namespace: namespace.to_owned(), node, node_uid }
    }

    /// Sends one request and says what came of it, as the event to hand to the machine.
    ///
    /// The request begins when the future is first polled, and `renewTime` is that moment. After the
    /// write's timeout, and when the future is dropped, it is cancelled; it may still land, but never
    /// after the version that it is conditional on has been replaced.
    pub fn write(&self, write: LeaseWrite) -> BoxFuture<'static, LeaseEvent> {
        let this = self.clone();
        async move {
            let request = this.request(&write, Timestamp::now());
            let answer = async {
                let text = this.client.request_text(request?).await?;
                accepted(&text)
            };
            let result = match within(write.timeout, answer).await {
                Ok(version) => WriteResult::Accepted { version },
                Err(error) => refused(&write.base, &error),
            };
            LeaseEvent::Written { attempt: write.attempt, result }
        }
        .boxed()
    }

    /// One request: a create, or a merge patch whose version and uid the server checks.
    fn request(&self, write: &LeaseWrite, now: Timestamp) -> Result<Request<Vec<u8>>, ApiError> {
        let collection = collection(&self.namespace);
        let name = lease::name(&self.node);
        let (method, path, content_type, body) = match &write.base {
            Base::Absent => {
                let mut body = self.body(write, now);
                body["apiVersion"] = "coordination.k8s.io/v1".into();
                body["kind"] = "Lease".into();
                body["metadata"]["name"] = name.into();
                body["metadata"]["namespace"] = self.namespace.as_str().into();
                if let Some(annotations) = body["metadata"]["annotations"].as_object_mut() {
                    annotations.retain(|_, value| !value.is_null());
                }
                (Method::POST, collection, "application/json", body)
            }
            Base::Exactly { uid, version } => {
                let mut body = self.body(write, now);
                body["metadata"]["uid"] = uid.as_str().into();
                body["metadata"]["resourceVersion"] = version.to_string().into();
                let path = format!("{collection}/{name}");
                (Method::PATCH, path, "application/merge-patch+json", body)
            }
        };
        Ok(Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.to_string().into_bytes())?)
    }

    fn body(&self, write: &LeaseWrite, now: Timestamp) -> Value {
        json!({
            "metadata": {
                "annotations": lease::annotations(&write.content),
                "labels": lease::LABELS.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                "ownerReferences": [lease::owner(&self.node, &self.node_uid)],
            },
            "spec": {
                "holderIdentity": self.node.as_str(),
                "leaseDurationSeconds": lease::seconds(write.content.duration),
                "renewTime": format!("{now:.6}"),
            },
        })
    }
}

/// The path of a namespace's Leases.
pub(crate) fn collection(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// What a step of the watch says; nothing, if it is about a Lease that is no agent's.
fn event(step: Step<Lease>) -> Option<LeaseEvent> {
    let version = |text: &str| {
        let version = lease::version(text);
        if version.is_none() {
            tracing::error!(resource_version = text, "this API server's versions are no numbers");
        }
        version
    };
    match step {
        Step::Bookmark(text) => version(&text).map(LeaseEvent::Bookmark),
        Step::Deleted(metadata) => Some(LeaseEvent::Deleted {
            node: lease::node(&metadata.name)?,
            version: version(&metadata.resource_version)?,
        }),
        Step::Listed { objects, version: text } => {
            version(&text).map(|version| LeaseEvent::Listed { leases: objects, version })
        }
        Step::Updated(lease) => Some(LeaseEvent::Updated(lease)),
    }
}

/// The version that a write's answer names.
pub(crate) fn accepted(text: &str) -> Result<Version, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        metadata: AnswerMetadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct AnswerMetadata {
        resource_version: String,
    }
    let answer: Answer = serde_json::from_str(text)?;
    let version = &answer.metadata.resource_version;
    lease::version(version).ok_or_else(|| ApiError::Unreadable {
        text: format!("its resourceVersion {version:?} is no number"),
    })
}

/// What a failed write means: only a server that saw another Lease than the write asks for says that
/// it did not land.
pub(crate) fn refused(base: &Base, error: &ApiError) -> WriteResult {
    let replaced = match base {
        Base::Absent => error.is_conflict(),
        Base::Exactly { .. } => error.is_conflict() || error.is_not_found(),
    };
    if replaced { WriteResult::Conflict } else { WriteResult::Unknown { error: error.to_string() } }
}
