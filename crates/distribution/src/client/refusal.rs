//! A registry's error answers, read as distribution's client reads them.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use jiff::Timestamp;
use serde::Deserialize;

use super::challenge;
use super::error::{Error, ErrorCode, Refusal};
use super::transport::Answer;

/// Errors and letters of a message that are kept: they reach logs and terminals.
const ERROR_LIMIT: usize = 16;
const TEXT_LIMIT: usize = 2000;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    errors: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: Option<serde_json::Value>,
}

/// The error that an answer of any status but a success is.
pub(crate) async fn refusal_of(answer: &mut Answer) -> Error {
    let status = answer.status;
    let retry_after = answer.header(RETRY_AFTER).and_then(|value| wait_of(value, Timestamp::now()));
    let kind = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
    let body = answer.body.beginning().await;
    let mut errors = Vec::new();
    if status.is_client_error() {
        errors.extend(token_error(answer));
        errors.extend(listed(status.as_u16(), &kind, &body));
    } else {
        let reason = status.canonical_reason().unwrap_or_default();
        let text = format!("received unexpected HTTP status: {} {reason}", status.as_u16());
        errors.push(ErrorCode::Bare(text.trim_end().to_owned()));
    }
    errors.truncate(ERROR_LIMIT);
    Error::Refused(Refusal { status: status.as_u16(), errors, retry_after })
}

/// What a bearer challenge says about the token that was shown (RFC 6750, 3.1).
fn token_error(answer: &Answer) -> Option<ErrorCode> {
    let values = answer.headers.get_all(WWW_AUTHENTICATE).iter().take(8);
    let challenges = values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse);
    for challenge in challenges.filter(|challenge| challenge.scheme == "bearer") {
        let (code, message) = match challenge.get("error") {
            Some("invalid_token") => ("UNAUTHORIZED", "authentication required"),
            Some("insufficient_scope") => ("DENIED", "requested access to the resource is denied"),
            _ => continue,
        };
        let message = challenge.get("error_description").unwrap_or(message);
        return Some(coded(code, message));
    }
    None
}

fn coded(code: &str, message: &str) -> ErrorCode {
    ErrorCode::Coded { code: printable(code), message: printable(message) }
}

fn listed(status: u16, kind: &str, body: &[u8]) -> Vec<ErrorCode> {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !kind.ends_with("+json") {
        return vec![by_status(status, &String::from_utf8_lossy(body))];
    }
    let parsed = serde_json::from_slice::<Document>(body);
    let reason = match parsed {
        Ok(Document { details: Some(details), .. }) if !details.is_empty() => {
            return vec![by_status(status, &details)];
        }
        Ok(Document { errors: Some(entries), .. }) if !entries.is_empty() => {
            return entries.iter().take(ERROR_LIMIT).map(entry).collect();
        }
        Ok(_) => "no error details found in HTTP response body".to_owned(),
        Err(error) => error.to_string(),
    };
    if status == 401 {
        return vec![coded("UNAUTHORIZED", "authentication required")];
    }
    let text = printable(&String::from_utf8_lossy(body));
    vec![ErrorCode::Bare(format!("error parsing HTTP {status} response body: {reason}: {text:?}"))]
}

/// An entry without a message gets the one that its code has in the specification; one that says no more than that is
/// told by its code alone, and codes that nobody knows are all the same.
fn entry(entry: &Entry) -> ErrorCode {
    let code = entry.code.as_deref().unwrap_or("UNKNOWN").to_ascii_uppercase();
    let (code, standard) = standard(&code).map_or(("UNKNOWN", "unknown error"), |text| (code.as_str(), text));
    let message = entry.message.as_deref().filter(|message| !message.is_empty()).unwrap_or(standard);
    let detailed = entry.detail.as_ref().is_some_and(|detail| !detail.is_null());
    if message == standard && !detailed {
        return ErrorCode::Plain(code.to_owned());
    }
    coded(code, message)
}

/// The message of a code (distribution-spec, "Error Codes", and Docker's own).
fn standard(code: &str) -> Option<&'static str> {
    Some(match code {
        "UNSUPPORTED" => "The operation is unsupported.",
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "UNAVAILABLE" => "service unavailable",
        "TOOMANYREQUESTS" => "too many requests",
        "DIGEST_INVALID" => "provided digest did not match uploaded content",
        "SIZE_INVALID" => "provided length did not match content length",
        "NAME_INVALID" => "invalid repository name",
        "TAG_INVALID" => "manifest tag did not match URI",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "MANIFEST_INVALID" => "manifest invalid",
        "MANIFEST_UNVERIFIED" => "manifest failed signature verification",
        "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" => "blob unknown to registry",
        "BLOB_UPLOAD_UNKNOWN" => "blob upload unknown to registry",
        "BLOB_UPLOAD_INVALID" => "blob upload invalid",
        "RANGE_INVALID" => "invalid content range",
        "PAGINATION_NUMBER_INVALID" => "invalid number of results requested",
        _ => return None,
    })
}

/// The error that a bare text with this status stands for.
fn by_status(status: u16, text: &str) -> ErrorCode {
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    coded(code, text)
}

/// A text that is safe to show: no control characters, not too long.
fn printable(text: &str) -> String {
    let visible =
        text.chars().map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter });
    visible.take(TEXT_LIMIT).collect()
}

/// How long `Retry-After` asks to wait: seconds, or until a date.
fn wait_of(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let wait = date.timestamp().duration_since(now);
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, kind: &str, body: &str) -> String {
        let errors = listed(status, kind, body.as_bytes());
        Refusal { status, errors, retry_after: None }.to_string()
    }

    #[test]
    fn error_documents_read_as_docker_prints_them() {
        let json = "application/json; charset=utf-8";
        let known =
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(text(404, json, known), "manifest unknown: manifest unknown");
        let two = r#"{"errors":[{"code":"DENIED"},{"code":"UNAUTHORIZED","message":"who?"}]}"#;
        assert_eq!(text(401, json, two), "errors:\ndenied\nunauthorized: who?\n");
        let own = r#"{"errors":[{"code":"FULL","message":"no room","detail":null}]}"#;
        assert_eq!(text(400, json, own), "unknown: no room");
        assert_eq!(text(403, "text/plain", "no"), "denied: no");
        assert_eq!(
            text(401, json, r#"{"details":"incorrect username or password"}"#),
            "unauthorized: incorrect username or password"
        );
        assert_eq!(text(401, json, "{"), "unauthorized: authentication required");
        assert_eq!(
            text(404, json, "{}"),
            "error parsing HTTP 404 response body: no error details found in HTTP response body: \"{}\""
        );
        assert_eq!(text(404, "text/html", "\u{1b}[2J"), "unknown: \u{fffd}[2J");
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let now: Timestamp = "2026-11-21T15:00:00Z".parse().unwrap();
        assert_eq!(wait_of("7", now), Some(Duration::from_secs(7)));
        assert_eq!(wait_of("Sat, 21 Nov 2026 15:00:05 GMT", now), Some(Duration::from_secs(5)));
        assert_eq!(wait_of("Sat, 21 Nov 2026 14:00:05 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait_of("soon", now), None);
    }
}
