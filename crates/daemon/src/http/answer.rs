//! Answers: a status, a content type, a body.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use wharf_api::shape::{self, Document};
use wharf_api::{ApiVersion, ErrorResponse};
use wharf_engine::{ByteStream, Error, ErrorKind, Result};

use crate::http::body::AnswerBody;
use crate::http::status;

/// An answer.
pub(crate) type Answer = Response<AnswerBody>;

/// Content types.
pub(crate) const JSON: &str = "application/json";
pub(crate) const TAR: &str = "application/x-tar";
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// A status and nothing else.
pub(crate) fn empty(code: StatusCode) -> Answer {
    let mut answer = Answer::new(AnswerBody::Empty);
    *answer.status_mut() = code;
    answer
}

/// The answer to HEAD: the head alone, which announces no body either, as Docker's.
pub(crate) fn bare(mut answer: Answer) -> Answer {
    *answer.body_mut() = AnswerBody::Empty;
    answer.headers_mut().insert(hyper::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}

/// 204.
pub(crate) fn no_content() -> Result<Answer> {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A body of a content type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, body: AnswerBody) -> Answer {
    let mut answer = Answer::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A document with a status.
pub(crate) fn json_with<T: Serialize + ?Sized>(code: StatusCode, document: &T) -> Result<Answer> {
    let mut text = serde_json::to_vec(document).map_err(|error| Error::internal(error.to_string()))?;
    text.push(b'\n');
    Ok(typed(code, JSON, AnswerBody::Full(text.into())))
}

/// A document.
pub(crate) fn json<T: Serialize + ?Sized>(document: &T) -> Result<Answer> {
    json_with(StatusCode::OK, document)
}

/// A document that is text already, without the newline at its end.
pub(crate) fn json_text(mut text: Vec<u8>) -> Answer {
    text.push(b'\n');
    typed(StatusCode::OK, JSON, AnswerBody::Full(text.into()))
}

/// A document that differs between versions.
pub(crate) fn shaped<T: Serialize>(kind: Document, document: &T, version: ApiVersion) -> Result<Answer> {
    let text = shape::render(kind, document, version).map_err(|error| Error::internal(error.to_string()))?;
    Ok(typed(StatusCode::OK, JSON, AnswerBody::Full(text.into())))
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(code, "text/plain; charset=utf-8", AnswerBody::Full(text.into()))
}

/// A stream whose status line goes out at once.
pub(crate) fn stream(content_type: &'static str, stream: ByteStream) -> Answer {
    typed(StatusCode::OK, content_type, AnswerBody::Stream(stream))
}

/// A stream whose status line waits for the first piece: an error that comes first is an answer of its own.
pub(crate) async fn checked_stream(content_type: &'static str, mut stream: ByteStream) -> Result<Answer> {
    match stream.next().await {
        Some(Ok(first)) => Ok(typed(StatusCode::OK, content_type, AnswerBody::Begun(first, stream))),
        Some(Err(error)) => Err(error),
        None => Ok(typed(StatusCode::OK, content_type, AnswerBody::Empty)),
    }
}

/// The answer to a request that failed.
pub(crate) fn error(error: &Error) -> Answer {
    let code = status::of(error.kind());
    if error.kind() == ErrorKind::NotModified {
        return empty(code);
    }
    if error.kind() == ErrorKind::Internal {
        tracing::error!("{error}");
    }
    message(code, error.message())
}

/// An error document.
pub(crate) fn message(code: StatusCode, message: &str) -> Answer {
    // A document of one string always serialises.
    json_with(code, &ErrorResponse { message: message.to_owned() }).unwrap_or_else(|_| empty(code))
}
