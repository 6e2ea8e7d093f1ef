//! `/metrics`, `/healthz`, `/readyz` and, for this host alone, more pages over HTTP. All of them only
//! show.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::SelectAll;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::desk::Pages;
use super::health::{Health, STILL};

/// The port of both programs.
pub const PORT: u16 = 7472;

/// Sockets that listen, not yet served.
#[derive(Debug)]
pub struct Listening {
    listeners: Vec<TcpListener>,
}

/// Why the port is not served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics and probes on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl Listening {
    /// Listens on one address of this host, or on all of both families; a kernel without IPv6 has
    /// only those of IPv4.
    ///
    /// Must be called on a runtime.
    ///
    /// # Errors
    ///
    /// If the port is taken, or the address is none of this host's.
    pub fn bind(host: Option<IpAddr>, port: u16) -> Result<Self, BindError> {
        let hosts = match host {
            Some(host) => vec![host],
            None => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
        };
        let mut listeners = Vec::new();
        for ip in hosts {
            let address = SocketAddr::new(ip, port);
            match listen(address) {
                Ok(listener) => listeners.push(listener),
                Err(error) if host.is_none() && ip.is_ipv6() && is_unsupported(&error) => {
                    tracing::debug!(%error, "this kernel has no IPv6");
                }
                Err(source) => return Err(BindError { address, source }),
            }
        }
        Ok(Self { listeners })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers requests for ever.
    ///
    /// `pages`, by path, show what the program knows and has decided. They are for those who are on
    /// this host already, so they are answered on loopback alone.
    pub async fn serve(self, registry: Registry, health: Health, pages: Pages) {
        let shared = Arc::new(Shared { registry, health, pages });
        let accepting = |listener| {
            futures::stream::unfold(listener, |listener: TcpListener| async {
                let accepted = listener.accept().await;
                if accepted.is_err() {
                    // Out of descriptors, most likely: not at once again.
                    tokio::time::sleep(PAUSE).await;
                }
                Some((accepted, listener))
            })
            .boxed()
        };
        let mut accepted: SelectAll<_> = self.listeners.into_iter().map(accepting).collect();
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                // Cancel-safe: the streams keep what they are waiting for.
                Some(connection) = accepted.next(), if conversations.len() < CONVERSATIONS => {
                    match connection {
                        Ok((stream, peer)) => {
                            conversations.spawn(converse(stream, peer, Arc::clone(&shared)));
                        }
                        Err(error) => tracing::debug!(%error, "cannot accept a connection"),
                    }
                }
                // Cancel-safe: a finished task stays in the set until it is taken.
                Some(_) = conversations.join_next() => {}
                else => return,
            }
        }
    }
}

struct Shared {
    registry: Registry,
    health: Health,
    pages: Pages,
}

async fn converse(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&request, peer.ip(), &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::trace!(%error, "a connection for metrics ended");
    }
}

async fn answer<B>(request: &Request<B>, peer: IpAddr, shared: &Shared) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut text = String::new();
            match encode(&mut text, &shared.registry) {
                Ok(()) => (StatusCode::OK, OPEN_METRICS, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
            }
        }
        // One thread does everything: a loop that keeps it busy leaves this without an answer, one that
        // waits for what never comes is told of.
        (&Method::GET | &Method::HEAD, "/healthz") => match shared.health.hung() {
            None => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Some(name) => {
                let text = format!("the loop of the {name} has not turned for {STILL:?}\n");
                (StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
            }
        },
        (&Method::GET | &Method::HEAD, "/readyz") if shared.health.is_ready() => {
            (StatusCode::OK, PLAIN, "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => (
            StatusCode::SERVICE_UNAVAILABLE,
            PLAIN,
            "not synced, or not able to serve\n".to_owned(),
        ),
        (&Method::GET | &Method::HEAD, path) if let Some(page) = shared.pages.get(path) => {
            if !peer.to_canonical().is_loopback() {
                let text = "only from this host, at its loopback address\n";
                (StatusCode::FORBIDDEN, PLAIN, text.to_owned())
            } else {
                match page(request.uri().clone()).await {
                    Ok(body) => return respond(StatusCode::OK, body.kind, body.bytes),
                    Err(why) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
                }
            }
        }
        _ => (StatusCode::NOT_FOUND, PLAIN, "/metrics, /healthz, /readyz\n".to_owned()),
    };
    respond(status, kind, text.into())
}

fn respond(status: StatusCode, kind: &'static str, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// A listening socket; one of IPv6 takes only IPv6, so that both families can have their own.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    unsupported.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// How many connections may be open at once.
const CONVERSATIONS: usize = 32;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::desk::desk;
    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn loopback(address: SocketAddr) -> SocketAddr {
        let ip: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, address.port())
    }

    #[tokio::test]
    async fn both_families_are_answered() {
        let listening = Listening::bind(None, 0).unwrap();
        let addresses = listening.addresses();
        assert!(!addresses.is_empty());
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        let metrics = super::super::allocator::AllocatorMetrics::new(&mut registry);
        metrics.client.updates.inc();
        let (desk, mut questions) = desk::<u32>();
        let pages = Pages::from([("/view", desk.page(|machine, _| vec![*machine]))]);
        let asked = async {
            for address in addresses.into_iter().map(loopback) {
                let text = get(address, "/metrics").await;
                assert!(text.contains("application/openmetrics-text"), "{text}");
                assert!(text.contains("purelb_k8s_client_updates_total 1"), "{text}");
                assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
                health.set_ready(false);
                assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
                assert!(get(address, "/metrics").await.contains("purelb_ready 0"));
                health.set_ready(true);
                assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
                assert!(get(address, "/metrics").await.contains("purelb_ready 1"));
                let answered = async {
                    match questions.recv().await {
                        Some(question) => question.answer(&7),
                        None => unreachable!("the desk is open"),
                    }
                };
                let (text, ()) = tokio::join!(get(address, "/view"), answered);
                assert!(text.ends_with("[7]"), "{text}");
                assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
            }
        };
        tokio::select! {
            () = listening.serve(registry, health.clone(), pages) => unreachable!("it ended"),
            () = asked => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_fails_the_probe_in_the_time_that_is_promised() {
        let (registry, health) = (Registry::default(), Health::default());
        let shared = Shared { registry, health: health.clone(), pages: Pages::new() };
        let ask = async || {
            let request = Request::get("/healthz").body(()).unwrap();
            answer(&request, Ipv4Addr::LOCALHOST.into(), &shared).await.status()
        };
        let pulse = health.pulse("test");
        assert_eq!(ask().await, StatusCode::OK);
        tokio::time::advance(STILL).await;
        assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
        pulse.beat();
        assert_eq!(ask().await, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_it() {
        let first = Listening::bind(Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
        let port = first.addresses()[0].port();
        let error = Listening::bind(Some(Ipv4Addr::LOCALHOST.into()), port).unwrap_err();
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}
