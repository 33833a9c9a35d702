//! One request, taken apart for its handler.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use wharf_api::ApiVersion;
use wharf_engine::{ByteStream, Engine, Error, Result};

use crate::http::body;
use crate::http::hijack::Takeover;
use crate::http::query::Query;
use crate::server::App;

/// The longest document that is read, in bytes.
const DOCUMENT_LIMIT: usize = 16 << 20;

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) version: ApiVersion,
    /// What the route's placeholders stand for, in their order.
    pub(crate) params: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    /// The user and group of who called; not known of other machines.
    pub(crate) caller: Option<(u32, u32)>,
    pub(crate) takeover: mpsc::Sender<Takeover>,
}

impl Call {
    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.app.engine
    }

    /// The first placeholder: what the request is about.
    pub(crate) fn id(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// A header's text; empty when it is missing or no text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the client asks to leave HTTP.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The length of the body as announced: `None` for one that comes in chunks.
    pub(crate) fn body_length(&self) -> Option<u64> {
        match self.content_length() {
            Some(length) => Some(length),
            None if self.headers.contains_key(TRANSFER_ENCODING) => None,
            None => Some(0),
        }
    }

    /// A body that is there must be JSON.
    fn check_json(&self) -> Result<()> {
        let Some(given) = self.headers.get(CONTENT_TYPE) else {
            return match self.body_length() {
                Some(0) => Ok(()),
                _ => Err(unsupported("")),
            };
        };
        let given = given.to_str().unwrap_or_default();
        let media_type = given.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(unsupported(given)) }
    }

    /// The request's document; an empty body is the zero value.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        self.check_json()?;
        if self.body_length() == Some(0) { Ok(T::default()) } else { self.read_json().await }
    }

    /// The request's document; an empty body is an error.
    pub(crate) async fn json_required<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.check_json()?;
        self.read_json().await
    }

    async fn read_json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.bytes(DOCUMENT_LIMIT).await?;
        wharf_api::from_slice(&bytes).map_err(|error| Error::invalid(error.to_string()))
    }

    /// The whole body, of `limit` bytes at most.
    pub(crate) async fn bytes(&mut self, limit: usize) -> Result<Bytes> {
        let read = Limited::new(&mut self.body, limit).collect().await;
        read.map(|body| body.to_bytes())
            .map_err(|error| Error::invalid(format!("read request body: {error}")))
    }

    /// Adds the pairs of a form body to the query, as Docker's parsing of parameters does.
    pub(crate) async fn read_form(&mut self) -> Result<()> {
        let form = self.header("content-type").starts_with("application/x-www-form-urlencoded");
        if form && !self.body.is_end_stream() {
            let bytes = self.bytes(DOCUMENT_LIMIT).await?;
            self.query.extend(&String::from_utf8_lossy(&bytes));
        }
        Ok(())
    }

    /// The body as a stream.
    pub(crate) fn into_stream(self) -> ByteStream {
        body::into_stream(self.body)
    }

    /// Ends HTTP on this connection: `takeover` gets it. This future never resolves; it is dropped when the
    /// connection has changed hands.
    pub(crate) async fn take_over(self, takeover: Takeover) -> Infallible {
        // The connection's loop owns the receiver for as long as this future is polled.
        let _ = self.takeover.send(takeover).await;
        std::future::pending().await
    }
}

fn unsupported(given: &str) -> Error {
    if given.is_empty() {
        Error::invalid("malformed Content-Type header (): mime: no media type")
    } else {
        Error::invalid(format!("unsupported Content-Type header ({given}): must be 'application/json'"))
    }
}
