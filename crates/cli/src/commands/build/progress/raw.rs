//! Every update as a line of JSON, for programs.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use serde_json::{Map, Value, json};

/// Writes an update to standard error.
pub(super) fn write(update: &StatusResponse) {
    let mut document = Map::new();
    let mut put = |name: &str, list: Vec<Value>| {
        if !list.is_empty() {
            document.insert(name.to_owned(), list.into());
        }
    };
    put("vertexes", update.vertexes.iter().map(vertex).collect());
    put("statuses", update.statuses.iter().map(status).collect());
    let log = |log: &bollard_buildkit_proto::moby::buildkit::v1::VertexLog| {
        json!({
            "vertex": log.vertex,
            "stream": log.stream,
            "data": STANDARD.encode(&log.msg),
            "timestamp": time(log.timestamp),
        })
    };
    put("logs", update.logs.iter().map(log).collect());
    put("warnings", update.warnings.iter().map(warning).collect());
    if !document.is_empty() {
        // A closed standard error is nobody's loss.
        let _ = writeln!(std::io::stderr(), "{}", Value::from(document));
    }
}

fn vertex(vertex: &bollard_buildkit_proto::moby::buildkit::v1::Vertex) -> Value {
    let mut document = json!({ "digest": vertex.digest, "name": vertex.name });
    if !vertex.inputs.is_empty() {
        document["inputs"] = json!(vertex.inputs);
    }
    for (name, value) in [("started", vertex.started), ("completed", vertex.completed)] {
        if value.is_some() {
            document[name] = time(value);
        }
    }
    if vertex.cached {
        document["cached"] = true.into();
    }
    if !vertex.error.is_empty() {
        document["error"] = vertex.error.as_str().into();
    }
    document
}

fn status(status: &bollard_buildkit_proto::moby::buildkit::v1::VertexStatus) -> Value {
    let mut document = json!({
        "id": status.id,
        "vertex": status.vertex,
        "current": status.current,
        "timestamp": time(status.timestamp),
    });
    if status.total > 0 {
        document["total"] = status.total.into();
    }
    for (name, value) in [("started", status.started), ("completed", status.completed)] {
        if value.is_some() {
            document[name] = time(value);
        }
    }
    document
}

fn warning(warning: &bollard_buildkit_proto::moby::buildkit::v1::VertexWarning) -> Value {
    let range = |range: &bollard_buildkit_proto::pb::Range| {
        let position = |at: &Option<bollard_buildkit_proto::pb::Position>| json!({ "line": at.as_ref().map_or(0, |at| at.line) });
        json!({ "start": position(&range.start), "end": position(&range.end) })
    };
    json!({
        "vertex": warning.vertex,
        "level": warning.level,
        "short": STANDARD.encode(&warning.short),
        "detail": warning.detail.iter().map(|line| STANDARD.encode(line)).collect::<Vec<_>>(),
        "url": warning.url,
        "sourceInfo": warning.info.as_ref().map(|info| json!({
            "filename": info.filename,
            "data": STANDARD.encode(&info.data),
        })),
        "range": warning.ranges.iter().map(range).collect::<Vec<_>>(),
    })
}

fn time(time: Option<Timestamp>) -> Value {
    let moment = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    moment.map_or(Value::Null, |moment| moment.to_string().into())
}
