//! The gRPC server of `/grpc`: which service answers which path.

use std::convert::Infallible;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use super::BuildKit;
use super::control::Control;
use super::gateway::Bridge;
use super::health::Health;
use super::wire::WINDOW;

/// The largest message that is read, in bytes; BuildKit's own limit.
pub(super) const LARGEST: usize = 16 << 20;

/// Serves a client that speaks HTTP/2 from here on, until it goes.
pub(super) async fn serve<S>(stream: S, state: Arc<BuildKit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(dispatch(request, state).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("serve gRPC: {error}");
    }
}

async fn dispatch(request: Request<Incoming>, state: Arc<BuildKit>) -> Response<Body> {
    tracing::debug!(path = request.uri().path(), "gRPC");
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    match service {
        "moby.buildkit.v1.Control" => {
            answer(ControlServer::new(Control::new(state)).max_decoding_message_size(LARGEST), request).await
        }
        "moby.buildkit.v1.frontend.LLBBridge" => {
            answer(LlbBridgeServer::new(Bridge::new(state)).max_decoding_message_size(LARGEST), request).await
        }
        "grpc.health.v1.Health" => answer(HealthServer::new(Health), request).await,
        other => Status::unimplemented(format!("unknown service {other}")).into_http(),
    }
}

async fn answer<S>(mut service: S, request: Request<Incoming>) -> Response<Body>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    match service.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}
