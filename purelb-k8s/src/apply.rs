//! The allocator's writes: the answer for a Service, and the status of a ServiceGroup.
//!
//! An answer is one server-side apply to `services/status`: the ingress list and our annotations
//! together or neither. What an apply cannot do, taking away an annotation that another field manager
//! set too, is a second request, sent only where the first one's answer shows the need.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, header};
use kube::Client;
use purelb_core::allocator::{Patch, Release, StatusWrite, Ticket, Written};
use purelb_core::name::{ServiceKey, Uid};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::annotation;
use crate::api;
use crate::convert::service_group::status;
use crate::error::ApiError;
use crate::list_watch::within;

/// The allocator's name among those who own fields.
pub const FIELD_MANAGER: &str = "purelb-allocator";

/// Carries out the allocator's writes; clones are the same.
///
/// Each write is a future that begins when it is first polled, takes at most [`TIMEOUT`], and ends in
/// an [`Outcome`]. Dropping it cancels it.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
}

/// How long a write may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A write under way.
pub type Writing = BoxFuture<'static, Outcome>;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The action's.
    pub ticket: Ticket,
    /// What was written, for the log.
    pub object: String,
    /// What the allocator is to be told.
    pub written: Written,
    /// What went wrong, if something did.
    pub error: Option<ApiError>,
}

impl Outcome {
    /// A uid that is another one's is refused as a change of it (422), or as an object that is not
    /// there (409).
    fn new(ticket: Ticket, object: String, result: Result<(), ApiError>) -> Self {
        let error = result.err();
        let written = match &error {
            None => Written::Accepted,
            Some(ApiError::Refused { code: 404, .. }) => Written::Gone,
            Some(ApiError::Refused { code: 409 | 422, message, .. })
                if message.contains("uid mismatch") || message.contains("metadata.uid") =>
            {
                Written::Gone
            }
            Some(error) if error.is_conflict() => Written::Conflict,
            Some(error) => Written::Failed { error: error.to_string() },
        };
        Self { ticket, object, written, error }
    }
}

impl Writer {
    /// Writes Services anywhere, and the ServiceGroups of the install namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Writes the whole answer for a Service.
    pub fn patch(&self, patch: Patch) -> Writing {
        let annotations = patch.marks.iter().flat_map(|marks| marks.annotations()).collect();
        let answer = Answer {
            service: patch.service,
            uid: patch.uid,
            version: Some(patch.version.to_string()),
            ingress: patch.ingress,
            annotations,
            remove: patch.remove,
        };
        self.answer(patch.ticket, answer)
    }

    /// Takes the answer of a Service back.
    pub fn release(&self, release: Release) -> Writing {
        let answer = Answer {
            service: release.service,
            uid: release.uid,
            version: None,
            ingress: Vec::new(),
            annotations: BTreeMap::new(),
            remove: release.remove,
        };
        self.answer(release.ticket, answer)
    }

    /// Removes the annotation `purelb.io/re-evaluate` of a Service.
    pub fn re_evaluated(&self, ticket: Ticket, service: &ServiceKey, uid: &Uid) -> Writing {
        let request = removal(service, uid, None, [annotation::RE_EVALUATE]);
        self.one(ticket, format!("Service {service}"), request)
    }

    /// Writes a group's status. The API server does not compare the uid here: a group that was
    /// deleted and created again in between shows the old one's status until its own is written.
    pub fn status(&self, write: &StatusWrite) -> Writing {
        self.one(write.ticket, format!("ServiceGroup {}", write.group), self.status_request(write))
    }

    fn answer(&self, ticket: Ticket, answer: Answer) -> Writing {
        let client = self.client.clone();
        let object = format!("Service {}", answer.service);
        let write = async move {
            let text = client.request_text(answer.request()?).await?;
            let Shown { metadata: left } = serde_json::from_str(&text)?;
            let remove: Vec<_> = answer
                .remove
                .iter()
                .copied()
                .filter(|key| left.annotations.contains_key(*key))
                .collect();
            if !remove.is_empty() {
                let version = Some(left.resource_version.as_str());
                let request = removal(&answer.service, &answer.uid, version, remove)?;
                client.request_text(request).await?;
            }
            Ok(())
        };
        async move { Outcome::new(ticket, object, within(TIMEOUT, write).await) }.boxed()
    }

    fn one(
        &self,
        ticket: Ticket,
        object: String,
        request: Result<Request<Vec<u8>>, ApiError>,
    ) -> Writing {
        let client = self.client.clone();
        let write = async move {
            client.request_text(request?).await?;
            Ok(())
        };
        async move { Outcome::new(ticket, object, within(TIMEOUT, write).await) }.boxed()
    }

    fn status_request(&self, write: &StatusWrite) -> Result<Request<Vec<u8>>, ApiError> {
        let (group, version) = (api::GROUP, api::VERSION);
        let body = json!({
            "apiVersion": format!("{group}/{version}"),
            "kind": "ServiceGroup",
            "metadata": {
                "name": write.group.as_str(),
                "namespace": self.namespace,
                "uid": write.uid.as_str(),
            },
            "status": status(&write.status),
        });
        let path = format!(
            "/apis/{group}/{version}/namespaces/{}/servicegroups/{}/status",
            self.namespace, write.group
        );
        apply(&path, &body)
    }
}

/// What a Service is to be told.
struct Answer {
    service: ServiceKey,
    uid: Uid,
    version: Option<String>,
    ingress: Vec<IpAddr>,
    annotations: BTreeMap<&'static str, String>,
    remove: Vec<&'static str>,
}

impl Answer {
    fn request(&self) -> Result<Request<Vec<u8>>, ApiError> {
        let ingress: Vec<_> =
            self.ingress.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self.service.name,
                "namespace": self.service.namespace.as_str(),
                "uid": self.uid.as_str(),
                "annotations": self.annotations,
            },
            "status": { "loadBalancer": { "ingress": ingress } },
        });
        if let Some(version) = &self.version {
            body["metadata"]["resourceVersion"] = version.as_str().into();
        }
        apply(&status_path(&self.service), &body)
    }
}

/// What a write's answer shows.
#[derive(Deserialize)]
struct Shown {
    metadata: ShownMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ShownMetadata {
    annotations: BTreeMap<String, String>,
    resource_version: String,
}

fn status_path(service: &ServiceKey) -> String {
    format!("/api/v1/namespaces/{}/services/{}/status", service.namespace, service.name)
}

/// A server-side apply; what others hold of the fields in it becomes ours.
fn apply(path: &str, body: &Value) -> Result<Request<Vec<u8>>, ApiError> {
    Ok(Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager={FIELD_MANAGER}&force=true"))
        .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(body.to_string().into_bytes())?)
}

/// A merge patch that takes annotations away, whoever set them.
fn removal(
    service: &ServiceKey,
    uid: &Uid,
    version: Option<&str>,
    keys: impl IntoIterator<Item = &'static str>,
) -> Result<Request<Vec<u8>>, ApiError> {
    let annotations: BTreeMap<_, _> = keys.into_iter().map(|key| (key, Value::Null)).collect();
    let mut body = json!({ "metadata": { "uid": uid.as_str(), "annotations": annotations } });
    if let Some(version) = version {
        body["metadata"]["resourceVersion"] = version.into();
    }
    Ok(Request::builder()
        .method(Method::PATCH)
        .uri(format!("{}?fieldManager={FIELD_MANAGER}", status_path(service)))
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(body.to_string().into_bytes())?)
}
