//! The gRPC server of `/grpc`: which service answers which path.

use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::v1::control_server::ControlServer;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use wharf_api::content;
use wharf_api::rpc::{self, Health, LARGEST, answer};

use super::BuildKit;
use super::attachment;
use super::control::Control;
use super::gateway::Bridge;

/// Serves a client that speaks HTTP/2 from here on, until it goes.
pub(super) async fn serve<S>(stream: S, state: Arc<BuildKit>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = rpc::serve(stream, move |request| dispatch(request, state.clone())).await {
        tracing::debug!("serve gRPC: {error}");
    }
}

async fn dispatch(request: Request<Incoming>, state: Arc<BuildKit>) -> Response<Body> {
    tracing::debug!(path = request.uri().path(), "gRPC");
    match rpc::service_of(&request) {
        "moby.buildkit.v1.Control" => {
            answer(ControlServer::new(Control::new(state)).max_decoding_message_size(LARGEST), request).await
        }
        "moby.buildkit.v1.frontend.LLBBridge" => {
            answer(LlbBridgeServer::new(Bridge::new(state)).max_decoding_message_size(LARGEST), request).await
        }
        content::SERVICE => attachment::answer(&state, request).await,
        "grpc.health.v1.Health" => answer(HealthServer::new(Health), request).await,
        other => rpc::unknown(other),
    }
}
