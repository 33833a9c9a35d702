//! One client's connection: requests one after another, until it ends or leaves HTTP.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use wharf_api::ApiVersion;
use wharf_engine::Error;

use crate::http::answer::{self, Answer};
use crate::http::call::Call;
use crate::http::hijack::{Client, Takeover};
use crate::http::query::{self, Query};
use crate::http::route::{self, Kind, Route};
use crate::listen::Socket;
use crate::server::App;

/// Serves a client until the connection ends. `closing` turns true when the daemon goes: a request that is being
/// answered then is the last.
pub(crate) async fn serve(socket: Socket, app: Arc<App>, mut closing: watch::Receiver<bool>) {
    let (sender, mut takeovers) = mpsc::channel(1);
    let caller = socket.caller();
    let service = service_fn(move |request| {
        let (app, sender) = (app.clone(), sender.clone());
        async move { Ok::<_, Infallible>(answer(request, app, caller, sender).await) }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(socket), service);
    let mut told = false;
    let takeover = loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!("serve a connection: {error}");
                }
                return;
            }
            Some(takeover) = takeovers.recv() => break takeover,
            _ = closing.wait_for(|closing| *closing), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    takeover.run(Client { socket: parts.io.into_inner(), read_ahead: parts.read_buf }).await;
}

/// Answers one request.
async fn answer(
    request: Request<Incoming>,
    app: Arc<App>,
    caller: Option<(u32, u32)>,
    takeover: mpsc::Sender<Takeover>,
) -> Answer {
    if request.method() == Method::OPTIONS {
        return app.dress(answer::empty(StatusCode::OK));
    }
    let path = query::decode(request.uri().path(), false);
    let (version, path) = route::split_version(&path);
    let Some((route, params)) = route::find(request.method(), path) else {
        return answer::message(StatusCode::NOT_FOUND, "page not found");
    };
    let version = match version.map(str::parse::<ApiVersion>) {
        None => ApiVersion::MAX,
        Some(Ok(version)) => version,
        Some(Err(error)) => return app.dress_plainly(answer::error(&Error::invalid(error.to_string()))),
    };
    if let Some(refusal) = refused(version, app.oldest) {
        return app.dress_plainly(refusal);
    }
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    tracing::debug!(method = %parts.method, path, %version, "request");
    let call =
        Call { app: app.clone(), version, params, query, headers: parts.headers, body, caller, takeover };
    let answer = app.dress(match run(route, call).await {
        Ok(answer) => answer,
        Err(error) => answer::error(&error),
    });
    if parts.method == Method::HEAD { answer::bare(answer) } else { answer }
}

/// Runs a route's handler. What changes something is finished even when its client goes away meanwhile.
async fn run(route: &Route, mut call: Call) -> wharf_engine::Result<Answer> {
    if route.kind != Kind::Body {
        call.read_form().await?;
    }
    if route.kind != Kind::Change {
        return (route.handler)(call).await;
    }
    let done = tokio::spawn((route.handler)(call)).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("answer a request: {error}"))))
}

/// The answer to versions that are not served.
fn refused(version: ApiVersion, oldest: ApiVersion) -> Option<Answer> {
    let bad = StatusCode::BAD_REQUEST;
    if version > ApiVersion::MAX {
        let newest = ApiVersion::MAX;
        let text = format!("client version {version} is too new. Maximum supported API version is {newest}");
        return Some(answer::message(bad, &text));
    }
    if version >= oldest {
        return None;
    }
    let text = format!(
        "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your client \
         to a newer version"
    );
    // The oldest clients do not read JSON errors.
    Some(if version < ApiVersion::MIN { answer::text(bad, text + "\n") } else { answer::message(bad, &text) })
}
