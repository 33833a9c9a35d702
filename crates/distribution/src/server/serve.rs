//! Connections: accepted up to a limit, read with bounds, answered, logged, and ended in peace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::Entry;
use super::body::Answer;
use super::error::{Code, Refusal};
use super::log;
use super::outlet::{Outlet, Plain};
use super::patience::Patient;
use super::tls::Certificates;
use super::{Registry, handle};

/// How long a client may take for the head of a request, and be silent between requests.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// How long a client may take none of what it is sent.
const TAKING_TIME: Duration = Duration::from_secs(60);
/// How long a client may take for its handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The most that is read ahead of a request, its head included.
const BUFFER: usize = 128 << 10;
/// The most headers of a request.
const HEADERS: usize = 64;

const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
const SNIFFING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// What connections are served with.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) registry: Arc<Registry>,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) connection_limit: usize,
    pub(super) stop: watch::Receiver<bool>,
}

/// Accepts until told to stop, then waits for the connections that are left.
pub(super) async fn accept(listener: TcpListener, setting: Setting) {
    let room = Arc::new(Semaphore::new(setting.connection_limit));
    let mut stop = setting.stop.clone();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let setting = setting.clone();
                connections.spawn(async move {
                    connection(stream, peer, setting).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                log::say(&format!("accept: {error}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, setting: Setting) {
    // Answers are written whole; waiting for more to say would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(certificates) = &setting.certificates else {
        let outlet = Arc::<Outlet>::default();
        return http(Plain::new(stream, outlet.clone()), Some(outlet), peer, setting).await;
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(certificates.current());
    // One who cannot shake hands is told so by TLS itself; scanners would fill the log.
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        http(TokioIo::new(stream), None, peer, setting).await;
    }
}

async fn http<I>(io: I, outlet: Option<Arc<Outlet>>, peer: SocketAddr, setting: Setting)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let Setting { registry, mut stop, .. } = setting;
    let service = service_fn(move |request| {
        let (registry, outlet) = (registry.clone(), outlet.clone());
        async move {
            let mut response = respond(&registry, request, peer).await;
            response.body_mut().leave_by(outlet);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER).max_headers(HEADERS);
    let mut connection = std::pin::pin!(builder.serve_connection(Patient::new(io, TAKING_TIME), service));
    // What ends a connection early was the client's doing, and its request is in the log.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Answers one request and writes its line.
async fn respond(registry: &Arc<Registry>, request: Request<Incoming>, peer: SocketAddr) -> Response<Answer> {
    let started = Instant::now();
    let line = registry.options.access_log.then(|| Line::of(&request, peer));
    let mut who = None;
    let reply = match let_in(registry, &request, &mut who).await {
        Ok(()) => handle::answer(registry, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = reply.unwrap_or_else(refuse);
    for (name, value) in [VERSION, SNIFFING] {
        response.headers_mut().insert(name, value);
    }
    if let Some(line) = line {
        line.write(&response, who.as_deref(), started.elapsed());
    }
    response
}

async fn let_in(
    registry: &Registry,
    request: &Request<Incoming>,
    who: &mut Option<String>,
) -> Result<(), Refusal> {
    let Some(access) = &registry.access else { return Ok(()) };
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match access.check(header).await {
        Entry::As(name) => {
            *who = Some(name);
            Ok(())
        }
        Entry::Refused => Err(Refusal::new(Code::Unauthorized, "authentication required")),
    }
}

fn refuse(refusal: Refusal) -> Response<Answer> {
    let mut response = Response::new(Answer::bytes(refusal.body()));
    *response.status_mut() = refusal.status();
    handle::set(&mut response, CONTENT_TYPE, "application/json");
    for (name, value) in &refusal.headers {
        handle::set(&mut response, HeaderName::from_static(name), value);
    }
    if refusal.code == Code::Unauthorized {
        handle::set(&mut response, WWW_AUTHENTICATE, "Basic realm=\"Wharf registry\", charset=\"UTF-8\"");
    }
    response
}

/// What the log says of a request.
struct Line {
    peer: SocketAddr,
    request: String,
    agent: String,
}

impl Line {
    fn of(request: &Request<Incoming>, peer: SocketAddr) -> Self {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        let request = format!("{} {}", request.method(), log::word(target));
        Self { peer, request, agent: agent.unwrap_or_default().chars().take(80).collect() }
    }

    fn write(&self, response: &Response<Answer>, who: Option<&str>, took: Duration) {
        log::say(&format!(
            "{} {} \"{}\" {} {} {:.1}ms \"{}\"",
            self.peer,
            log::word(who.unwrap_or_default()),
            self.request,
            response.status().as_u16(),
            response.body().length(),
            took.as_secs_f64() * 1e3,
            self.agent.replace(['"', '\\'], "?"),
        ));
    }
}
