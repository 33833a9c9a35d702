//! What each place of the API does. One file per noun.

mod blobs;
mod manifests;
mod tags;
mod uploads;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::Registry;
use super::body::Answer;
use super::error::{Code, Doing, Refusal};
use super::route::{Query, Route};

pub(crate) use manifests::{local as local_manifest, local_referrers};
pub(crate) use tags::local_tags;

/// What a handler gives.
pub(crate) type Reply = Result<Response<Answer>, Refusal>;

/// Answers a request of somebody who is let in.
pub(crate) async fn answer(registry: &Arc<Registry>, request: Request<Incoming>) -> Reply {
    let route = Route::parse(request.uri().path())?;
    let query = Query::parse(request.uri().query());
    let method = request.method().clone();
    let reading = matches!(method, Method::GET | Method::HEAD);
    if !reading {
        registry.writable()?;
    }
    match (route, method) {
        (Route::Base, _) if reading => Ok(json(StatusCode::OK, "{}".to_owned())),
        (Route::Catalog, Method::GET) => tags::catalog(registry, &query).await,
        (Route::Tags(name), Method::GET) => tags::list(registry, name, &query).await,
        (Route::Manifest(name, reference), Method::GET | Method::HEAD) => {
            manifests::get(registry, name, reference, &request).await
        }
        (Route::Manifest(name, reference), Method::PUT) => {
            manifests::put(registry, name, reference, request).await
        }
        (Route::Manifest(name, reference), Method::DELETE) => {
            manifests::delete(registry, name, reference).await
        }
        (Route::Blob(name, digest), Method::GET) => blobs::get(registry, name, digest, &request).await,
        (Route::Blob(name, digest), Method::HEAD) => blobs::head(registry, name, digest).await,
        (Route::Blob(name, digest), Method::DELETE) => blobs::delete(registry, name, digest).await,
        (Route::Uploads(name), Method::POST) => uploads::post(registry, name, &query, request).await,
        (Route::Upload(name, id), Method::GET) => uploads::status(registry, &name, &id),
        (Route::Upload(name, id), Method::PATCH) => uploads::patch(registry, &name, &id, request).await,
        (Route::Upload(name, id), Method::PUT) => uploads::put(registry, &name, &id, &query, request).await,
        (Route::Upload(name, id), Method::DELETE) => uploads::cancel(registry, &name, &id).await,
        (Route::Referrers(name, digest), Method::GET) => {
            manifests::referrers(registry, name, digest, &query).await
        }
        (_, method) => Err(Refusal::new(Code::Unsupported, format!("{method} is not possible here"))),
    }
}

/// Runs what blocks on the pool for it.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let joined = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    joined.flatten().doing(doing)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = status;
    response
}

/// A JSON document as answer.
pub(crate) fn json(status: StatusCode, document: String) -> Response<Answer> {
    let mut response = Response::new(Answer::bytes(document));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// Sets a header to a text that the server made or has checked.
pub(crate) fn set(response: &mut Response<Answer>, name: HeaderName, value: &str) {
    // A value with control characters cannot be sent; none of ours has any.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Sets the length of what a HEAD request would have got.
pub(crate) fn set_length(response: &mut Response<Answer>, length: u64) {
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// A request's header as text.
pub(crate) fn header<'a, B>(request: &'a Request<B>, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Headers of the spec that hyper does not name.
pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
