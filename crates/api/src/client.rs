//! A client of the Docker Engine API: one connection a request, streams and hijacked connections included.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The newest API version this client speaks.
pub const NEWEST: &str = "1.51";

/// Where a daemon listens.
#[derive(Debug, Clone)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        tls: Option<Arc<rustls::ClientConfig>>,
    },
    /// A command whose standard streams are the connection (`ssh HOST docker system dial-stdio`).
    Command(Vec<String>),
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("Cannot connect to the daemon at {address}. Is it running?")]
    Unreachable { address: String, source: std::io::Error },
    /// The daemon refused; `message` is its own.
    #[error("Error response from daemon: {message}")]
    Api { status: u16, message: String },
    #[error("error during connect: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The status code of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A connection that carries bytes both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The body of a request.
#[derive(Debug)]
pub enum Body {
    Empty,
    Json(Vec<u8>),
    /// A tar archive or other bytes, sent in chunks as they come.
    Stream(tokio::sync::mpsc::Receiver<Bytes>),
}

/// Speaks to one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    version: String,
}

type RequestBody = BoxBody<Bytes, std::convert::Infallible>;

impl Client {
    /// Finds the daemon and agrees on an API version with it.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, ClientError> {
        let mut client = Self { endpoint, version: String::new() };
        let answer = client.send(Method::HEAD, "/_ping", Body::Empty, &[]).await?;
        let offered = answer
            .headers()
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("1.24")
            .to_owned();
        client.version = match std::env::var("DOCKER_API_VERSION") {
            Ok(wanted) if !wanted.is_empty() => wanted.trim_start_matches('v').to_owned(),
            _ if older(&offered, NEWEST) => offered,
            _ => NEWEST.to_owned(),
        };
        Ok(client)
    }

    /// The API version agreed on.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The daemon's address as a person would write it.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.endpoint {
            Endpoint::Unix(path) => format!("unix://{}", path.display()),
            Endpoint::Tcp { host, port, .. } => format!("tcp://{host}:{port}"),
            Endpoint::Command(words) => words.join(" "),
        }
    }

    /// `GET path`, the answer as a document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        document(self.send(Method::GET, path, Body::Empty, &[]).await?).await
    }

    /// `POST path` with a document, the answer as a document.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        document(self.send(Method::POST, path, json(body)?, &[]).await?).await
    }

    /// `METHOD path` whose answer has nothing to read.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(method, path, Body::Empty, &[]).await?.into_body().collect().await?;
        Ok(())
    }

    /// The whole answer's bytes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn bytes(&self, method: Method, path: &str, body: Body) -> Result<Bytes, ClientError> {
        Ok(self.send(method, path, body, &[]).await?.into_body().collect().await?.to_bytes())
    }

    /// Any request; an answer of 400 and above is an error. 304 is an answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let head = method == Method::HEAD;
        let answer = self.exchange(method, path, body, headers).await?;
        if answer.status().as_u16() < 400 {
            return Ok(answer);
        }
        let status = answer.status();
        let body = if head { Bytes::new() } else { answer.into_body().collect().await?.to_bytes() };
        Err(refusal(status, &body))
    }

    /// Asks for a connection that both sides write to freely (attach, exec start).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hijack(&self, path: &str, body: Body) -> Result<Pin<Box<dyn Connection>>, ClientError> {
        let headers = [(CONNECTION.as_str(), "Upgrade"), (UPGRADE.as_str(), "tcp")];
        let answer = self.send(Method::POST, path, body, &headers).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Protocol(format!(
                "unable to upgrade to tcp, received {}",
                answer.status().as_u16()
            )));
        }
        let upgraded = hyper::upgrade::on(answer).await?;
        Ok(Box::pin(TokioIo::new(upgraded)))
    }

    /// A connection to the daemon on which nothing was said yet.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn raw(&self) -> Result<Box<dyn Connection>, ClientError> {
        self.dial().await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let connection = self.dial().await?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await?;
        tokio::spawn(driver.with_upgrades());
        let prefix = if self.version.is_empty() { String::new() } else { format!("/v{}", self.version) };
        let mut request =
            Request::builder().method(method).uri(format!("{prefix}{path}")).header(HOST, "api.wharf");
        request = request.header("User-Agent", concat!("Wharf-Client/", env!("CARGO_PKG_VERSION")));
        if let Body::Json(_) = body {
            request = request.header(CONTENT_TYPE, "application/json");
        } else if let Body::Stream(_) = body {
            request = request.header(CONTENT_TYPE, "application/x-tar");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(wire(body)).map_err(|error| ClientError::Protocol(error.to_string()))?;
        Ok(sender.send_request(request).await?)
    }

    async fn dial(&self) -> Result<Box<dyn Connection>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: self.address(), source };
        match &self.endpoint {
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
            Endpoint::Tcp { host, port, tls } => {
                let stream = TcpStream::connect(address(host, *port).map_err(unreachable)?)
                    .await
                    .map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                let Some(tls) = tls else { return Ok(Box::new(stream)) };
                let name = rustls::pki_types::ServerName::try_from(host.clone())
                    .map_err(|error| ClientError::Protocol(format!("{host}: {error}")))?;
                let stream = tokio_rustls::TlsConnector::from(tls.clone())
                    .connect(name, stream)
                    .await
                    .map_err(unreachable)?;
                Ok(Box::new(stream))
            }
            Endpoint::Command(words) => dial_command(words).map_err(unreachable),
        }
    }
}

/// An address to connect to. Names other than `localhost` are left to `ssh://` and address literals: this static
/// binary has no name service of the C library.
fn address(host: &str, port: u16) -> std::io::Result<std::net::SocketAddr> {
    let literal =
        if host == "localhost" { "127.0.0.1" } else { host.trim_start_matches('[').trim_end_matches(']') };
    let address: std::net::IpAddr = literal.parse().map_err(|_| {
        std::io::Error::other(format!("{host} is no IP address; give the daemon's address as a number"))
    })?;
    Ok((address, port).into())
}

fn dial_command(words: &[String]) -> std::io::Result<Box<dyn Connection>> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| std::io::Error::other("no command to connect through"))?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let theirs = std::os::fd::OwnedFd::from(theirs);
    std::process::Command::new(program).args(arguments).stdin(theirs.try_clone()?).stdout(theirs).spawn()?;
    Ok(Box::new(UnixStream::from_std(ours)?))
}

/// A document as a request's body.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn json(document: &impl Serialize) -> Result<Body, ClientError> {
    serde_json::to_vec(document).map(Body::Json).map_err(|error| ClientError::Protocol(error.to_string()))
}

fn wire(body: Body) -> RequestBody {
    match body {
        Body::Empty => Full::new(Bytes::new()).boxed(),
        Body::Json(bytes) => Full::new(Bytes::from(bytes)).boxed(),
        Body::Stream(receiver) => StreamBody::new(Receiver(receiver)).boxed(),
    }
}

/// A channel as a stream of body frames.
struct Receiver(tokio::sync::mpsc::Receiver<Bytes>);

impl futures_core::Stream for Receiver {
    type Item = Result<Frame<Bytes>, std::convert::Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn document<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, ClientError> {
    let bytes = answer.into_body().collect().await?.to_bytes();
    crate::from_slice(&bytes).map_err(|error| ClientError::Protocol(format!("the daemon's answer: {error}")))
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|document| document["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    ClientError::Api { status: status.as_u16(), message }
}

/// Whether API version `a` is older than `b`.
fn older(a: &str, b: &str) -> bool {
    let number = |text: &str| -> (u32, u32) {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
    };
    number(a) < number(b)
}

/// Escapes a path segment or query value.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(older("1.9", "1.10"));
        assert!(!older("1.51", "1.51"));
    }

    #[test]
    fn escapes_what_a_query_cannot_hold() {
        assert_eq!(escape("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }
}
