//! Failures as gRPC has them, with what lets a client show where they happened.
//!
//! BuildKit's clients read typed details out of a status: each is an `Any` whose address names a Go type and whose value is
//! that type's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use wharf_engine::ErrorKind;
use wharf_engine::build::{BuildFailure, Place};

/// A build's failure as the answer to a call.
pub(super) fn status(failure: &BuildFailure) -> Status {
    let code = if failure.canceled { Code::Cancelled } else { code(failure.kind) };
    let mut details = Vec::new();
    if let Some(vertex) = failure.vertex {
        details.push(detail("errdefs.Vertex+json", &json!({"digest": vertex.to_string()})));
    }
    if let Some(place) = &failure.place {
        details.push(detail("errdefs.Source+json", &source(place)));
    }
    with_details(code, &failure.message, details)
}

/// A failure of this side that is no build's.
pub(super) fn plain(error: &wharf_engine::Error) -> Status {
    Status::new(code(error.kind()), error.message())
}

/// The class of a failure. What a build's own steps fail with has none in BuildKit either, whose clients show the class of
/// all others before the message.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unauthorized => Code::Unauthenticated,
        ErrorKind::NotImplemented => Code::Unimplemented,
        _ => Code::Unknown,
    }
}

fn source(place: &Place) -> serde_json::Value {
    let position = |line: u32| json!({"line": line});
    json!({
        "info": {
            "filename": place.file,
            "data": STANDARD.encode(place.text.as_bytes()),
            "language": "Dockerfile",
        },
        "ranges": [{"start": position(place.lines.first), "end": position(place.lines.last)}],
    })
}

fn detail(name: &str, value: &serde_json::Value) -> Any {
    Any { type_url: format!("github.com/moby/buildkit/{name}"), value: value.to_string().into_bytes() }
}

fn with_details(code: Code, message: &str, details: Vec<Any>) -> Status {
    if details.is_empty() {
        return Status::new(code, message);
    }
    let whole = rpc::Status { code: code.into(), message: message.to_owned(), details };
    Status::with_details(code, message, whole.encode_to_vec().into())
}

/// What a client gave as its own failure, to be answered with.
pub(super) fn given(status: rpc::Status) -> Status {
    let message = status.message.clone();
    match Code::from_i32(status.code) {
        Code::Ok => with_details(Code::Unknown, &message, status.details),
        code => with_details(code, &message, status.details),
    }
}

/// A status as a message has it.
pub(super) fn message(status: &Status) -> rpc::Status {
    let whole = rpc::Status::decode(status.details()).unwrap_or_default();
    rpc::Status { code: status.code().into(), message: status.message().to_owned(), details: whole.details }
}

#[cfg(test)]
mod tests {
    use wharf_build::dockerfile::Lines;

    use super::*;

    #[test]
    fn a_failure_says_where_it_happened() {
        let mut failure = BuildFailure::new(ErrorKind::Invalid, "it failed");
        failure.place =
            Some(Place { file: "Dockerfile".to_owned(), text: "FROM x".into(), lines: Lines::one(1) });
        let status = status(&failure);
        assert_eq!((status.code(), status.message()), (Code::Unknown, "it failed"));
        let whole = rpc::Status::decode(status.details()).unwrap();
        assert_eq!(whole.details[0].type_url, "github.com/moby/buildkit/errdefs.Source+json");
        let value: serde_json::Value = serde_json::from_slice(&whole.details[0].value).unwrap();
        assert_eq!(value["info"]["filename"], "Dockerfile");
        assert_eq!(value["ranges"][0]["end"]["line"], 1);
    }
}
