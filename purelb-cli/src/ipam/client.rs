//! Asking sidecars.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use purelb_core::allocator::{IpamAnswer, IpamCall, IpamError, IpamReply, IpamRequest};
use purelb_core::host::Family;
use purelb_core::usage::{FamilyUsage, Usage};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::wire::{
    AllocateRequest, AllocateResponse, FamilyRequest, Method, ReleaseRequest, ReleaseResponse,
    Selector, StatsRequest, StatsResponse, Target,
};

/// How long a sidecar may take to answer a call, connecting included.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls one sidecar is asked at once; further ones wait for these.
const AT_ONCE: usize = 16;

/// The sidecars that have been asked so far: one connection for each socket, made when it is first
/// needed and again whenever it has broken.
#[derive(Debug, Default)]
pub struct Sidecars {
    sockets: BTreeMap<String, Sidecar>,
}

#[derive(Clone, Debug)]
struct Sidecar {
    channel: Channel,
    turns: Arc<Semaphore>,
}

/// What came of a call, for metrics and the log beside the reply.
#[derive(Clone, Debug)]
pub struct Called {
    /// For the machine.
    pub reply: IpamReply,
    /// The socket that was asked.
    pub socket: String,
    /// What was called.
    pub method: Method,
    /// The status code by its name in the gRPC libraries, such as `OK` or `Unavailable`.
    pub code: String,
    /// The sidecar's own words, or the transport's, if it failed.
    pub text: String,
    /// How long it took, without the wait for its turn.
    pub took: Duration,
}

impl Sidecars {
    /// Asks. Must be called on a runtime. The future does nothing until it is polled, and however
    /// long one sidecar takes, it holds up no call of another.
    pub fn ask(&mut self, request: IpamRequest) -> BoxFuture<'static, Called> {
        let socket = request.socket.clone();
        let sidecar = self.sockets.entry(socket.clone()).or_insert_with(|| Sidecar::new(&socket));
        call(sidecar.clone(), request).boxed()
    }
}

impl Sidecar {
    fn new(socket: &str) -> Self {
        let path = PathBuf::from(socket);
        // The name is for the :authority header alone; the connector goes to the socket.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(PATIENCE);
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        Self { channel, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

async fn call(sidecar: Sidecar, request: IpamRequest) -> Called {
    // A semaphore that nobody closes gives every turn.
    let _turn = sidecar.turns.acquire().await;
    let began = Instant::now();
    let (method, answered) = match &request.call {
        IpamCall::Allocate { service, sharing, families } => {
            let body = AllocateRequest {
                pool: request.group.to_string(),
                service: service.to_string(),
                sharing_key: sharing.as_ref().map(ToString::to_string).unwrap_or_default(),
                selector: Some(Selector::Families(FamilyRequest {
                    want_ipv4: families.contains(&Family::V4),
                    want_ipv6: families.contains(&Family::V6),
                })),
            };
            let method = Method::Allocate;
            (
                method,
                unary(&sidecar.channel, method, body).await.and_then(|answer| allocated(&answer)),
            )
        }
        IpamCall::Release { service, ip } => {
            let body = ReleaseRequest {
                pool: request.group.to_string(),
                service: service.to_string(),
                target: Some(ip.map_or(Target::All(true), |ip| Target::Ip(ip.to_string()))),
            };
            let method = Method::Release;
            let answered = unary(&sidecar.channel, method, body).await;
            (method, answered.map(|_: ReleaseResponse| IpamAnswer::Released))
        }
        IpamCall::Stats => {
            let body = StatsRequest { pool: request.group.to_string() };
            let method = Method::Stats;
            (method, unary(&sidecar.channel, method, body).await.map(stats))
        }
    };
    let (code, text) = match &answered {
        Ok(_) => ("OK".to_owned(), String::new()),
        Err(Failed { status, .. }) => (format!("{:?}", status.code()), status.message().to_owned()),
    };
    Called {
        reply: IpamReply {
            ticket: request.ticket,
            result: answered.map_err(|failed| failed.error),
        },
        socket: request.socket,
        method,
        code,
        text,
        took: began.elapsed(),
    }
}

/// A call that gave nothing usable.
struct Failed {
    status: Status,
    error: IpamError,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let error = match status.code() {
            Code::Aborted => IpamError::Aborted,
            Code::DeadlineExceeded => IpamError::TimedOut,
            Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound => IpamError::Invalid,
            Code::ResourceExhausted => IpamError::Exhausted,
            Code::Unavailable => IpamError::Unavailable,
            Code::Ok
            | Code::AlreadyExists
            | Code::Cancelled
            | Code::DataLoss
            | Code::Internal
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::Unknown => IpamError::Other { code: screaming(status.code()) },
        };
        Self { status, error }
    }
}

/// The code's name as the gRPC specification writes it.
fn screaming(code: Code) -> String {
    let mut text = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}

async fn unary<Q, A>(channel: &Channel, method: Method, body: Q) -> Result<A, Failed>
where
    Q: prost::Message + Default + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    let asked = async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(method.path());
        grpc.unary(Request::new(body), path, ProstCodec::default()).await
    };
    match timeout(PATIENCE, asked).await {
        Ok(answered) => Ok(answered?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer in time").into()),
    }
}

fn allocated(answer: &AllocateResponse) -> Result<IpamAnswer, Failed> {
    let ips: Result<Vec<IpAddr>, _> = answer.ips.iter().map(|given| given.ip.parse()).collect();
    ips.map(IpamAnswer::Allocated).map_err(|_| Failed {
        status: Status::unknown("an address in its answer is none"),
        error: IpamError::Unreadable,
    })
}

fn stats(answer: StatsResponse) -> IpamAnswer {
    let family = |used: u64, size: u64| FamilyUsage {
        allocated: used.into(),
        available: answer.has_known_capacity.then(|| size.saturating_sub(used).into()),
    };
    IpamAnswer::Stats {
        usage: Usage {
            v4: family(answer.in_use_v4, answer.size_v4),
            v6: family(answer.in_use_v6, answer.size_v6),
        },
        addresses: answer.display_addresses,
    }
}
