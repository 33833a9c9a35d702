//! Connections that turned from HTTP/1.1 into gRPC: this side serves, or calls the other side.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::body::Body;
use tonic::codegen::Service;

use crate::http::hijack::Client;
use crate::listen::Socket;

/// What a peer may have on its way at once, in bytes: as much as a file's content takes to never wait for a window.
pub(super) const WINDOW: u32 = 4 << 20;

/// A connection of which the first bytes were read already.
#[derive(Debug)]
pub(super) struct Ahead {
    ahead: Bytes,
    socket: Socket,
}

impl From<Client> for Ahead {
    fn from(client: Client) -> Self {
        Self { ahead: client.read_ahead, socket: client.socket }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, into);
        }
        let length = self.ahead.len().min(into.remaining());
        into.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The head of an answer to a request that turns into another protocol.
pub(super) fn head(protocol: &str) -> Vec<u8> {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
        .into_bytes()
}

/// Calls the gRPC server at the other end of a connection; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    sender: http2::SendRequest<Body>,
}

impl Caller {
    /// Begins to speak over `stream`. The future ends with the connection, and must be polled for calls to move.
    pub(super) async fn connect<S>(
        stream: S,
    ) -> hyper::Result<(Self, impl Future<Output = hyper::Result<()>> + Send)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_frame_size(1 << 20)
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
        // HTTP/2 names whom it speaks to; over a hijacked connection there is but one.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(hyper::http::uri::Scheme::HTTP);
        parts.authority = Some(hyper::http::uri::Authority::from_static("localhost"));
        if let Ok(uri) = hyper::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.sender.send_request(request))
    }
}
