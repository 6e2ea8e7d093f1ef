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
use purelb_core::service::Service;
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

    /// Whether the request may still arrive, or take effect, at any later time.
    pub fn may_be_late(&self) -> bool {
        match &self.error {
            None | Some(ApiError::Unreadable { .. }) => false,
            Some(ApiError::Refused { code, .. }) => *code >= 500,
            Some(ApiError::TimedOut(_) | ApiError::Transport { .. }) => true,
        }
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

    /// Takes the answer of a Service back, unless it is a `LoadBalancer` again.
    ///
    /// The Service is read first, so that the write is conditional on a version: one that arrives late
    /// must not take away what was given to it again in the meantime.
    pub fn release(&self, release: Release) -> Writing {
        let client = self.client.clone();
        let object = format!("Service {}", release.service);
        let ticket = release.ticket;
        let write = async move {
            let path = service_path(&release.service);
            let mut tries = 1;
            loop {
                let get = Request::get(&path).body(Vec::new())?;
                let shown: Shown = serde_json::from_str(&client.request_text(get).await?)?;
                shown.must_be_released(&release.uid)?;
                let answer = Answer {
                    service: release.service.clone(),
                    uid: release.uid.clone(),
                    version: Some(shown.metadata.resource_version),
                    ingress: Vec::new(),
                    annotations: BTreeMap::new(),
                    remove: release.remove.clone(),
                };
                match apply_answer(&client, &answer).await {
                    Err(error) if error.is_conflict() && tries < RELEASE_TRIES => tries += 1,
                    result => return result,
                }
            }
        };
        async move { Outcome::new(ticket, object, within(TIMEOUT, write).await) }.boxed()
    }

    /// Makes void whatever an earlier leader may still have under way for a Service: says once more what
    /// it shows, with the number of the term beside it, so that it is another version from now on. The
    /// next [`patch`](Self::patch) takes the number away again.
    ///
    /// [`Conflict`](Written::Conflict) and [`Gone`](Written::Gone) are as good: then somebody else has
    /// changed it.
    pub fn void(&self, service: &Service, term: u32) -> Writing {
        let ours = &service.annotations;
        let texts = [
            (annotation::ALLOCATED_BY, ours.allocated_by.clone()),
            (annotation::ALLOCATED_FROM, ours.allocated_from.clone()),
            (annotation::POOL_TYPE, ours.pool_type.clone()),
            (annotation::SKIP_IPV6_DAD, ours.skip_ipv6_dad.then(|| "true".to_owned())),
            (annotation::TERM, Some(term.to_string())),
        ];
        let annotations = texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect();
        let answer = Answer {
            service: service.key.clone(),
            uid: service.uid.clone(),
            version: Some(service.version.to_string()),
            ingress: service.ingress.clone(),
            annotations,
            remove: Vec::new(),
        };
        self.answer(Ticket(0), answer)
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
        let write = async move { apply_answer(&client, &answer).await };
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

/// Sends an answer, and a second request for what an apply cannot take away.
async fn apply_answer(client: &Client, answer: &Answer) -> Result<(), ApiError> {
    let text = client.request_text(answer.request()?).await?;
    let Shown { metadata: left, .. } = serde_json::from_str(&text)?;
    let remove: Vec<_> =
        answer.remove.iter().copied().filter(|key| left.annotations.contains_key(*key)).collect();
    if !remove.is_empty() {
        let version = Some(left.resource_version.as_str());
        let request = removal(&answer.service, &answer.uid, version, remove)?;
        client.request_text(request).await?;
    }
    Ok(())
}

/// How often a release is tried while others change the Service.
const RELEASE_TRIES: u32 = 5;

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
                "name": self.service.name.as_str(),
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
    #[serde(default)]
    spec: ShownSpec,
}

impl Shown {
    /// Whether its answer is to be taken back: it is the very Service, and none for us.
    fn must_be_released(&self, uid: &Uid) -> Result<(), ApiError> {
        let refused = |code, reason: &str, message: &str| ApiError::Refused {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if self.metadata.uid != uid.as_str() {
            return Err(refused(404, "NotFound", "it is another Service of that name now"));
        }
        if self.spec.kind == "LoadBalancer" {
            return Err(refused(409, "Conflict", "it is a LoadBalancer again"));
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
struct ShownSpec {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ShownMetadata {
    annotations: BTreeMap<String, String>,
    resource_version: String,
    uid: String,
}

fn service_path(service: &ServiceKey) -> String {
    format!("/api/v1/namespaces/{}/services/{}", service.namespace, service.name)
}

fn status_path(service: &ServiceKey) -> String {
    format!("{}/status", service_path(service))
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
