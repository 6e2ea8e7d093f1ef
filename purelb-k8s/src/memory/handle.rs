//! One request, from its bytes to its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::Value;
use tokio::sync::mpsc;

use super::MemoryApi;
use super::discovery;
use super::exec::{Upgrade, Wish};
use super::fault::{Call, Fault};
use super::form::Form;
use super::kind::{KINDS, Kind, PODS};
use super::patch::{self, Patch};
use super::pod_log::LogOptions;
use super::protobuf;
use super::query::Query;
use super::refusal::{self, Refusal};
use super::route::{Connection, Route};
use super::runtime::{Container, Run};
use super::selector::Filter;
use super::store::Object;
use super::watching::{self, Watching};
use super::write::{self, Deletion, Edit, Preconditions, Target, Written};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped, as a fault asked")]
pub(super) struct Dropped;

/// The same limit as that of a real API server.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// Where a request puts what is to become of its connection once it is answered.
pub(super) type Sequel = mpsc::UnboundedSender<BoxFuture<'static, ()>>;

/// Answers one request.
pub(super) async fn handle(
    api: MemoryApi,
    client: SocketAddr,
    sequel: Sequel,
    request: http::Request<Incoming>,
) -> Result<Response<Body>, Dropped> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let route = Route::parse(parts.uri.path());
    let verb = verb(&parts.method, route.as_ref(), &query);
    let call = Call { client, verb, path: parts.uri.path().to_owned() };
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => {
            return Ok(refused(&refusal::too_large()));
        }
        Err(_) => return Err(Dropped),
    };
    let fault = api.fault(&call);
    let work = Work { api, parts, query, body, call, sequel };
    match fault {
        None => Ok(work.answer(route)),
        Some(Fault::Refuse(code)) => Ok(refused(&refusal::injected(code))),
        Some(Fault::Drop) => Err(Dropped),
        Some(Fault::LoseAnswer) => {
            drop(work.answer(route));
            Err(Dropped)
        }
        Some(Fault::Delay(time)) => {
            // In a task of its own, so that a client that gives up does not stop it.
            let late = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                work.answer(route)
            });
            late.await.map_err(|_| Dropped)
        }
    }
}

fn verb(method: &Method, route: Option<&Route>, query: &Query) -> &'static str {
    match (method.as_str(), route) {
        ("GET", Some(Route::Collection { .. })) if query.is_set("watch") => "watch",
        ("GET", Some(Route::Collection { .. })) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "",
    }
}

/// A request with its whole body.
struct Work {
    api: MemoryApi,
    parts: Parts,
    query: Query,
    body: Bytes,
    call: Call,
    sequel: Sequel,
}

impl Work {
    fn answer(self, route: Option<Route>) -> Response<Body> {
        self.try_answer(route).unwrap_or_else(|refusal| refused(&refusal))
    }

    fn try_answer(self, route: Option<Route>) -> Result<Response<Body>, Refusal> {
        let found = |value: Option<Value>| value.ok_or_else(refusal::no_such_path);
        let about_api = match route.ok_or_else(refusal::no_such_path)? {
            Route::Collection { kind, namespace } => return self.collection(kind, namespace),
            Route::Item(target) => return self.item(&target),
            Route::Pod { namespace, name, connection } => {
                return self.connect(&namespace, &name, connection);
            }
            _ if self.parts.method != Method::GET => return Err(refusal::method_not_allowed()),
            Route::Health => return Ok(ok("text/plain", Bytes::from_static(b"ok"))),
            Route::Version => discovery::version(),
            Route::CoreVersions | Route::Groups if self.wants_aggregated() => {
                let core = self.parts.uri.path().trim_end_matches('/') == "/api";
                let body = discovery::aggregated(core).to_string();
                return Ok(ok(discovery::AGGREGATED, body.into()));
            }
            Route::CoreVersions => discovery::core_versions(),
            Route::Groups => discovery::group_list(),
            Route::Group(group) => found(discovery::group(&group))?,
            Route::Resources { group, version } => {
                found(discovery::resource_list(&group, &version))?
            }
            Route::OpenApiV2 => return Ok(ok(discovery::OPENAPI_V2, Bytes::new())),
            Route::OpenApiIndex => discovery::openapi_index(),
            Route::OpenApi { group, version } => found(discovery::openapi(&group, &version))?,
        };
        Ok(json(StatusCode::OK, about_api.to_string().into()))
    }

    fn header(&self, name: &HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn wants_aggregated(&self) -> bool {
        let mut ranges = self.header(&ACCEPT).split(',').map(str::trim);
        ranges.any(|range| range == discovery::AGGREGATED)
    }

    fn form(&self) -> Result<Form, Refusal> {
        Form::parse(self.header(&ACCEPT), self.query.text("includeObject"))
    }

    fn collection(
        self,
        kind: &'static Kind,
        namespace: Option<String>,
    ) -> Result<Response<Body>, Refusal> {
        match self.parts.method.as_str() {
            "GET" => self.list_or_watch(kind, namespace),
            "POST" if namespace.is_some() == kind.namespaced => {
                let form = self.form()?;
                let object = self.object()?;
                let terms = self.query.terms(self.header(&USER_AGENT));
                let namespace = namespace.unwrap_or_default();
                let written =
                    write::create(&mut self.api.store(), kind, &namespace, object, &terms)?;
                Ok(wrote(form, kind, &written))
            }
            _ => Err(refusal::method_not_allowed()),
        }
    }

    fn list_or_watch(
        self,
        kind: &'static Kind,
        namespace: Option<String>,
    ) -> Result<Response<Body>, Refusal> {
        let form = self.form()?;
        let (labels, fields) = (self.query.text("labelSelector"), self.query.text("fieldSelector"));
        let filter = Filter::parse(kind, namespace, labels, fields)?;
        let version = self.query.number("resourceVersion")?.filter(|version| *version > 0);
        if !self.query.is_set("watch") {
            return self.list(kind, form, &filter, version);
        }
        let timeout = self.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let request = watching::Request {
            kind,
            filter,
            form,
            after: version,
            bookmarks: self.query.is_set("allowWatchBookmarks"),
            initial_events: self.query.is_set("sendInitialEvents"),
            timeout: timeout.map(Duration::from_secs),
            call: self.call,
        };
        let watching = Watching::start(&self.api, request);
        let lines = stream::unfold(watching, |mut watching| async {
            let lines = watching.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(lines)), watching))
        });
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        Ok(response)
    }

    fn list(
        &self,
        kind: &'static Kind,
        form: Form,
        filter: &Filter,
        version: Option<u64>,
    ) -> Result<Response<Body>, Refusal> {
        let store = self.api.store();
        let current = store.version();
        match version {
            Some(asked) if asked > current => return Err(refusal::from_the_future(asked, current)),
            Some(asked)
                if self.query.text("resourceVersionMatch") == "Exact" && asked < current =>
            {
                return Err(refusal::expired(asked, current));
            }
            Some(_) | None => {}
        }
        let objects: Vec<Arc<Object>> = store
            .objects(kind, filter.namespace.as_deref())
            .filter(|object| match kind.view {
                Some(_) => filter.selects(&object.shown(kind)),
                None => filter.selects(object.kept()),
            })
            .cloned()
            .collect();
        drop(store);
        Ok(json(StatusCode::OK, form.list(kind, &objects, current)))
    }

    fn item(self, target: &Target) -> Result<Response<Body>, Refusal> {
        let form = self.form()?;
        let kind = target.kind;
        let edit = match self.parts.method.as_str() {
            "GET" => {
                let found = self.api.store().get(kind, &target.namespace, &target.name);
                let object = found.ok_or_else(|| refusal::not_found(kind, &target.name))?;
                return Ok(json(StatusCode::OK, form.one(kind, &object)));
            }
            "DELETE" if !target.status => return self.delete(form, target),
            "PUT" => Edit::Replace(self.object()?),
            "PATCH" => {
                let content_type = media_type(self.header(&CONTENT_TYPE));
                let patch = Patch::parse(content_type, &self.body)?;
                if matches!(patch, Patch::Apply(_)) && self.query.text("fieldManager").is_empty() {
                    let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required \
                               value: is required for apply patch";
                    return Err(refusal::bad_request(why));
                }
                Edit::Patch(patch)
            }
            _ => return Err(refusal::method_not_allowed()),
        };
        let terms = self.query.terms(self.header(&USER_AGENT));
        let written = write::edit(&mut self.api.store(), target, &edit, &terms)?;
        Ok(wrote(form, kind, &written))
    }

    fn delete(self, form: Form, target: &Target) -> Result<Response<Body>, Refusal> {
        let options = match self.body.is_empty() {
            true => Value::Null,
            false => patch::parse_object(&self.body)?,
        };
        let precondition =
            |field: &str| options["preconditions"][field].as_str().map(ToOwned::to_owned);
        let preconditions = Preconditions {
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
        };
        let dry_run = self.query.text("dryRun") == "All" || options["dryRun"][0] == "All";
        match write::delete(&mut self.api.store(), target, &preconditions, dry_run)? {
            Deletion::Gone(uid) => {
                let status = refusal::deleted(target.kind, &target.name, &uid);
                Ok(json(StatusCode::OK, status.to_string().into()))
            }
            Deletion::Waits(object) => Ok(json(StatusCode::OK, form.one(target.kind, &object))),
        }
    }

    /// Shows what a container prints, or lets the client run a command in it.
    fn connect(
        mut self,
        namespace: &str,
        name: &str,
        connection: Connection,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.api.store().get(&KINDS[PODS], namespace, name);
        let pod = pod.ok_or_else(|| refusal::not_found(&KINDS[PODS], name))?;
        let container = Container {
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
            name: container_of(pod.kept(), self.query.text("container"))?,
        };
        let runtime = self.api.runtime().ok_or_else(|| refusal::no_runtime(name))?;
        match (connection, self.parts.method.as_str()) {
            (Connection::Log, "GET") => {
                let previous = self.query.is_set("previous");
                let run = if previous { Run::Previous } else { Run::Present };
                let log = runtime.log(&container, run).ok_or_else(|| {
                    let (which, container) =
                        (if previous { "previous terminated " } else { "" }, container.name);
                    let why = format!("{which}container {container:?} in pod {name:?} not found");
                    refusal::bad_request(why)
                })?;
                let reading = log.read(&LogOptions::parse(&self.query)?);
                let lines = stream::unfold(reading, |mut reading| async {
                    let lines = reading.next().await?;
                    Some((Ok::<_, Infallible>(Frame::data(lines)), reading))
                });
                let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)));
                let text = HeaderValue::from_static("text/plain");
                response.headers_mut().insert(CONTENT_TYPE, text);
                Ok(response)
            }
            (Connection::Exec, "GET" | "POST") => {
                let wish = Wish::parse(&self.query)?;
                let upgrade = Upgrade::take(&mut self.parts)?;
                let response = upgrade.answer(Full::default().boxed_unsync());
                // Its reader is gone only with the connection.
                let _ = self.sequel.send(Box::pin(upgrade.converse(runtime, container, wish)));
                Ok(response)
            }
            (Connection::Log | Connection::Exec, _) => Err(refusal::method_not_allowed()),
        }
    }

    /// The body as an object.
    fn object(&self) -> Result<Value, Refusal> {
        match media_type(self.header(&CONTENT_TYPE)) {
            "" | JSON => patch::parse_object(&self.body),
            "application/vnd.kubernetes.protobuf" => {
                protobuf::parse(&self.body).ok_or_else(|| refusal::unsupported_media_type(JSON))
            }
            _ => Err(refusal::unsupported_media_type(JSON)),
        }
    }
}

/// The container that a client means: the only one, if it names none.
fn container_of(pod: &Value, wanted: &str) -> Result<String, Refusal> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let names: Vec<&str> = containers.filter_map(|c| c["name"].as_str()).collect();
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    match names.as_slice() {
        [only] if wanted.is_empty() => Ok((*only).to_owned()),
        _ if names.contains(&wanted) => Ok(wanted.to_owned()),
        _ if wanted.is_empty() => Err(refusal::bad_request(format!(
            "a container name must be specified for pod {pod}, choose one of: [{}]",
            names.join(" ")
        ))),
        _ => Err(refusal::bad_request(format!("container {wanted} is not valid for pod {pod}"))),
    }
}

const JSON: &str = "application/json";

fn media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

fn wrote(form: Form, kind: &Kind, written: &Written) -> Response<Body> {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(code, form.one(kind, &written.object));
    for warning in &written.warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(code, refusal::to_object(refusal).to_string().into())
}

fn json(code: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = ok(JSON, body);
    *response.status_mut() = code;
    response
}

fn ok(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
