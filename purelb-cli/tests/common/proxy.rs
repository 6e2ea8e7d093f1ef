//! A proxy between a program and its API server, that does to requests what a test asks for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use purelb_k8s::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes through.
    Pass,
    /// It is answered with this status, and this many seconds in `Retry-After`.
    Refuse(u16, Option<u32>),
    /// It is answered with this text.
    Answer(String),
    /// It waits until it is released, and is carried out then, whether or not anybody still waits.
    Hold,
    /// Nothing ever answers.
    Swallow,
    /// It is carried out, and half of the answer's body comes back.
    Halve,
    /// It is carried out so much later.
    Late(Duration),
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) fate: Fate,
    /// The server's answer, once there is one.
    pub(crate) status: Option<u16>,
}

impl Seen {
    /// Whether its body has this in it.
    pub(crate) fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.uri.query().is_some_and(|query| query.contains("watch=true"))
    }
}

/// Says what is done with each request.
pub(crate) type Rule = Box<dyn FnMut(&Seen) -> Fate + Send>;

type Body = UnsyncBoxBody<Bytes, Broken>;

/// A body that ends before its time.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

/// A running proxy; clones are the same.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Client,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Seen>>,
    /// While it is, nothing goes through in either direction.
    cut: watch::Sender<bool>,
    /// Counts up when held requests are released.
    releases: watch::Sender<u64>,
    /// Counts up when all watches are broken off.
    breaks: watch::Sender<u64>,
}

impl Proxy {
    /// Serves plain HTTP on the loopback address, and passes everything on to `upstream`, with the
    /// headers that it came with.
    pub(crate) async fn start(upstream: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, upstream)
    }

    /// The same at a listener, which may be in another network namespace.
    pub(crate) fn serve(listener: TcpListener, upstream: Client) -> Self {
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            upstream,
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            seen: Mutex::default(),
            cut: watch::channel(false).0,
            releases: watch::channel(0).0,
            breaks: watch::channel(0).0,
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(converse(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `rule` says what is done with each request.
    pub(crate) fn set(&self, rule: impl FnMut(&Seen) -> Fate + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Whether nothing goes through any more, not even what is under way.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.shared.cut.send_replace(is_cut);
    }

    /// Lets the requests go that are held.
    pub(crate) fn release(&self) {
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Ends every answer that is under way, such as watches.
    pub(crate) fn break_off(&self) {
        self.shared.breaks.send_modify(|count| *count += 1);
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests there were so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { serve(shared, request).await }
    });
    // A client that goes away is none of our business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn passable(cut: &watch::Sender<bool>) {
    cut.subscribe().wait_for(|is_cut| !is_cut).await.expect("the proxy lives");
}

async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut seen = Seen {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        headers: parts.headers.clone(),
        body: body.clone(),
        fate: Fate::Pass,
        status: None,
    };
    let fate = (shared.rule.lock().unwrap())(&seen);
    seen.fate = fate.clone();
    let number = {
        let mut all = shared.seen.lock().unwrap();
        all.push(seen);
        all.len() - 1
    };
    passable(&shared.cut).await;
    match &fate {
        Fate::Pass | Fate::Halve => {}
        Fate::Answer(text) => return Ok(Response::new(whole(text.clone()))),
        Fate::Refuse(status, retry_after) => return Ok(refusal(*status, *retry_after)),
        Fate::Hold => {
            let mut releases = shared.releases.subscribe();
            let now = *releases.borrow_and_update();
            let shared = Arc::clone(&shared);
            // A task of its own: whoever asked may be gone by then.
            let late = tokio::spawn(async move {
                releases.wait_for(|count| *count > now).await.expect("the proxy lives");
                forward(&shared, number, parts, body, false).await
            });
            return late.await.expect("it ends");
        }
        Fate::Late(by) => {
            let (shared, by) = (Arc::clone(&shared), *by);
            let late = tokio::spawn(async move {
                tokio::time::sleep(by).await;
                forward(&shared, number, parts, body, false).await
            });
            return late.await.expect("it ends");
        }
        Fate::Swallow => std::future::pending().await,
    }
    forward(&shared, number, parts, body, fate == Fate::Halve).await
}

async fn forward(
    shared: &Arc<Shared>,
    number: usize,
    mut parts: http::request::Parts,
    body: Bytes,
    halve: bool,
) -> Result<Response<Body>, Infallible> {
    for name in [header::HOST, header::CONTENT_LENGTH] {
        parts.headers.remove(name);
    }
    let request = Request::from_parts(parts, body.to_vec().into());
    let Ok(response) = shared.upstream.send(request).await else {
        return Ok(refusal(502, None));
    };
    let (parts, body) = response.into_parts();
    shared.seen.lock().unwrap()[number].status = Some(parts.status.as_u16());
    if halve {
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let half = body.slice(..body.len() / 2);
        let frames = [Ok(Frame::data(half)), Err(Broken)];
        let body = StreamBody::new(futures::stream::iter(frames));
        return Ok(Response::from_parts(parts, body.boxed_unsync()));
    }
    let cut = shared.cut.subscribe();
    let mut breaks = shared.breaks.subscribe();
    breaks.mark_unchanged();
    let frames = futures::stream::unfold((BodyStream::new(body), cut, breaks), |state| async {
        let (mut frames, mut cut, mut breaks) = state;
        let frame = tokio::select! {
            _ = breaks.changed() => None,
            frame = frames.next() => frame,
        };
        cut.wait_for(|is_cut| !is_cut).await.ok()?;
        Some((frame?.map_err(|_| Broken), (frames, cut, breaks)))
    });
    Ok(Response::from_parts(parts, BodyExt::boxed_unsync(StreamBody::new(frames.boxed()))))
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer as the API server gives it.
fn refusal(status: u16, retry_after: Option<u32>) -> Response<Body> {
    let reason = match status {
        401 => "Unauthorized",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let text = format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"refused on purpose","reason":"{reason}","code":{status}}}"#
    );
    let mut response = Response::new(whole(text));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, "application/json".parse().expect("a value"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
