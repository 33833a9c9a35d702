//! What is written down of a build that succeeded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use serde_json::{Map, Value};

use super::{Build, Done};
use crate::error::{CliError, print, reason, say};

/// Writes the files that were asked for, and the image's id where nothing else is shown.
pub(super) fn write(build: &Build, done: &Done) -> Result<(), CliError> {
    let id = id(done);
    if let Some(path) = &build.iidfile {
        save(path, id.unwrap_or_default())?;
    }
    if let Some(path) = &build.metadata_file {
        let document = serde_json::to_string_pretty(&metadata(done))?;
        save(path, &document)?;
    }
    match id.filter(|_| build.quiet) {
        Some(id) => print(id),
        None => Ok(()),
    }
}

/// The image's id.
pub(super) fn id(done: &Done) -> Option<&str> {
    let of = |name: &str| done.response.exporter_response.get(name).map(String::as_str);
    of("containerimage.config.digest").or_else(|| of("containerimage.digest"))
}

fn save(path: &str, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| CliError::new(format!("write {path}: {}", reason(&error))))
}

/// What the daemon said of what came out; documents in it are shown as such.
fn metadata(done: &Done) -> Value {
    let mut document = Map::new();
    document.insert("buildx.build.ref".to_owned(), format!("default/default/{}", done.name).into());
    for (name, value) in &done.response.exporter_response {
        let decoded = STANDARD.decode(value).ok();
        let inner = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let inner = inner.filter(|inner| inner.is_object() || inner.is_array());
        document.insert(name.clone(), inner.unwrap_or_else(|| value.as_str().into()));
    }
    Value::from(document)
}

/// Says what could be better in the Dockerfile.
pub(super) fn warnings(warnings: &[VertexWarning]) {
    if warnings.is_empty() {
        return;
    }
    let (number, noun) = (warnings.len(), if warnings.len() == 1 { "warning" } else { "warnings" });
    let mut text = format!("\n {number} {noun} found (use --check to see more):");
    for warning in warnings {
        let line = warning.ranges.first().and_then(|range| range.start.as_ref()).map(|start| start.line);
        let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        text.push_str(&format!("\n - {}{place}", String::from_utf8_lossy(&warning.short)));
    }
    say(&text);
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::v1::SolveResponse;

    use super::*;

    #[test]
    fn documents_in_the_answer_are_shown_as_documents() {
        let response = [
            ("containerimage.descriptor", STANDARD.encode("{\"size\":7}")),
            ("containerimage.config.digest", "sha256:abc".to_owned()),
        ];
        let exporter_response = response.map(|(name, value)| (name.to_owned(), value)).into();
        let done = Done {
            name: "x".to_owned(),
            response: SolveResponse { exporter_response },
            state: super::super::State::default(),
        };
        let metadata = metadata(&done);
        assert_eq!(metadata["containerimage.descriptor"]["size"], 7);
        assert_eq!(
            (metadata["buildx.build.ref"].as_str(), id(&done)),
            (Some("default/default/x"), Some("sha256:abc"))
        );
    }
}
