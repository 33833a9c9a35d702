//! Connections to the daemon that turn from HTTP/1.1 into gRPC.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::codegen::Service;
use wharf_api::client::{Client, Connection};

use crate::error::CliError;

/// What a peer may have on its way at once, bytes.
pub(super) const WINDOW: u32 = 4 << 20;
/// The largest message that is read, bytes; BuildKit's own limit.
pub(super) const LARGEST: usize = 16 << 20;

/// Turns a connection to the daemon into gRPC at `path`, where `headers` say for what.
///
/// # Errors
/// When the daemon cannot be reached or does not build in this way.
pub(super) async fn upgrade(
    client: &Client,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Pin<Box<dyn Connection>>, CliError> {
    let mut all = vec![("Connection", "Upgrade"), ("Upgrade", "h2c")];
    all.extend(headers);
    let answer = client.send(hyper::Method::POST, path, wharf_api::client::Body::Empty, &all).await?;
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Err(CliError::new(format!(
            "unable to upgrade to h2c, received {}",
            answer.status().as_u16()
        )));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| CliError::new(error.to_string()))?;
    Ok(Box::pin(TokioIo::new(upgraded)))
}

/// Calls the daemon's gRPC server; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    sender: http2::SendRequest<Body>,
}

impl Caller {
    /// Begins to speak over a connection.
    ///
    /// # Errors
    /// When the daemon does not speak HTTP/2 there.
    pub(super) async fn connect(stream: Pin<Box<dyn Connection>>) -> Result<Self, CliError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_frame_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| CliError::new(error.to_string()))?;
        // Its end is seen by the calls over it.
        tokio::spawn(connection);
        Ok(Self { sender })
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
