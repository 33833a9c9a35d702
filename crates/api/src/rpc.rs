//! gRPC over a connection that was HTTP/1.1 before: what BuildKit's API and its sessions are spoken in, in both directions.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, health_server,
};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Once;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Status, async_trait};

/// What a peer may have on its way at once, in bytes: as much as a file's content takes to never wait for a window.
const WINDOW: u32 = 4 << 20;
/// The largest frame, in bytes.
const FRAME: u32 = 1 << 20;
/// The largest message that is read, in bytes; BuildKit's own limit.
pub const LARGEST: usize = 16 << 20;

/// Calls the gRPC server at the other end of a connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    sender: http2::SendRequest<Body>,
}

impl Caller {
    /// Begins to speak over `stream`. The future ends with the connection, and must be polled for calls to move.
    ///
    /// # Errors
    /// When the other end does not speak HTTP/2.
    pub async fn connect<S>(
        stream: S,
    ) -> hyper::Result<(Self, impl Future<Output = hyper::Result<()>> + Send + use<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok((Self { sender }, connection))
    }
}

impl Service<Request<Body>> for Caller {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // HTTP/2 names whom it speaks to; over this connection there is but one.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(hyper::http::uri::Scheme::HTTP);
        parts.authority = Some(hyper::http::uri::Authority::from_static("localhost"));
        if let Ok(uri) = hyper::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// Answers every request that comes over `stream` with `dispatch`, until the peer goes.
///
/// # Errors
/// When the peer breaks off or breaks the protocol.
pub async fn serve<S, D, F>(stream: S, dispatch: D) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = dispatch(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_frame_size(FRAME)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// What a request is for: the first part of its path, as `moby.buildkit.v1.Control`.
pub fn service_of(request: &Request<Incoming>) -> &str {
    request.uri().path().split('/').nth(1).unwrap_or_default()
}

/// The answer of one service.
pub async fn answer<S>(mut service: S, request: Request<Incoming>) -> Response<Body>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    match service.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// The answer to a request for a service that is not there.
pub fn unknown(service: &str) -> Response<Body> {
    Status::unimplemented(format!("unknown service {service}")).into_http()
}

/// The health service: who answers is well.
#[derive(Debug, Clone, Copy)]
pub struct Health;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        Ok(tonic::Response::new(serving()))
    }

    async fn list(
        &self,
        _: tonic::Request<HealthListRequest>,
    ) -> Result<tonic::Response<HealthListResponse>, Status> {
        let statuses = [(String::new(), serving())].into();
        Ok(tonic::Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Once<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Ok(tonic::Response::new(tokio_stream::once(Ok(serving()))))
    }
}
