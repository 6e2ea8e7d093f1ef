//! Answering as a sidecar.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::wire::{
    AllocateRequest, AllocateResponse, Method, ReleaseRequest, ReleaseResponse, StatsRequest,
    StatsResponse,
};

/// An address book behind a socket. Calls may come at the same time.
pub trait Ipam: Send + Sync + 'static {
    /// Gives a Service addresses; asked again, answers the same.
    ///
    /// # Errors
    ///
    /// With the status that the allocator is to see.
    fn allocate(&self, request: &AllocateRequest) -> Result<AllocateResponse, Status>;

    /// Takes addresses back; what is free already is no error.
    ///
    /// # Errors
    ///
    /// With the status that the allocator is to see.
    fn release(&self, request: &ReleaseRequest) -> Result<(), Status>;

    /// Tells how full a pool is.
    ///
    /// # Errors
    ///
    /// With the status that the allocator is to see.
    fn stats(&self, request: &StatsRequest) -> Result<StatsResponse, Status>;
}

/// Answers what comes to a socket, until the future is dropped.
pub async fn serve(listener: UnixListener, ipam: impl Ipam) {
    let ipam = Arc::new(ipam);
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel-safe: a connection that was not accepted waits for the next call.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(converse(stream, Arc::clone(&ipam)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors: wait for a conversation to end.
                    conversations.join_next().await;
                }
            },
            // Cancel-safe: a finished task stays in the set until it is taken.
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse<I: Ipam>(stream: UnixStream, ipam: Arc<I>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let ipam = Arc::clone(&ipam);
        async move { Ok::<_, Infallible>(answer(request, ipam).await) }
    });
    let server = http2::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a conversation ended");
    }
}

async fn answer<I: Ipam>(request: http::Request<Incoming>, ipam: Arc<I>) -> http::Response<Body> {
    let path = request.uri().path();
    if path == Method::Allocate.path() {
        unary(request, move |body| ipam.allocate(body)).await
    } else if path == Method::Release.path() {
        unary(request, move |body| ipam.release(body).map(|()| ReleaseResponse {})).await
    } else if path == Method::Stats.path() {
        unary(request, move |body| ipam.stats(body)).await
    } else {
        Status::unimplemented(format!("there is no method {path}")).into_http()
    }
}

async fn unary<Q, A>(
    request: http::Request<Incoming>,
    answer: impl Fn(&Q) -> Result<A, Status> + Clone + Send + 'static,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    let service = tower::service_fn(move |request: Request<Q>| {
        std::future::ready(answer(request.get_ref()).map(Response::new))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await
}
