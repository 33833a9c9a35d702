//! Questions to the frontend that build nothing: `--check`, `--call=outline`, `--call=targets`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use serde_json::Value;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use wharf_api::client::Client;
use wharf_api::rpc::{Caller, LARGEST};

use super::super::Outcome;
use super::wire;
use super::{Build, failure, random, session};
use crate::connect::Target;
use crate::error::{CliError, print};

/// Asks one question and prints the answer; the exit code is the frontend's.
pub(super) async fn call(build: &Build, client: &Client, target: &Target, question: &str) -> Outcome {
    let name = match question.split(',').next().unwrap_or_default() {
        "check" | "lint" => "frontend.lint",
        "outline" => "frontend.outline",
        "targets" => "frontend.targets",
        other => return Err(CliError::new(format!("unknown call method {other:?}"))),
    };
    let id = random(13);
    let (mut request, offer, shared_key) = build.prepare(target, &id)?;
    session::open(client, &request.session, &shared_key, offer).await?;
    let caller = wire::caller(wire::upgrade(client, "/grpc", &[]).await?).await?;
    let mut options = std::mem::take(&mut request.frontend_attrs);
    options.insert("requestid".to_owned(), name.to_owned());
    let asked = frontend::SolveRequest {
        frontend: std::mem::take(&mut request.frontend),
        frontend_opt: options,
        allow_result_return: true,
        ..frontend::SolveRequest::default()
    };
    request.exporters.clear();
    let mut control = ControlClient::new(caller.clone()).max_decoding_message_size(LARGEST);
    let (answer, led) = tokio::join!(ask(caller, &id, asked), control.solve(request));
    let metadata = answer.map_err(|status| failure::error(&status))?.metadata;
    led.map_err(|status| failure::error(&status))?;
    let text =
        |name: &str| String::from_utf8_lossy(metadata.get(name).map_or(&[], Vec::as_slice)).into_owned();
    let document = text("result.json");
    let shown = if name == "frontend.lint" && !question.contains("format=json") {
        findings(&serde_json::from_str(&document)?)
    } else {
        document
    };
    print(shown.trim_end())?;
    Ok(text("result.statuscode").parse().unwrap_or(0))
}

/// Asks within a build that this side leads, and ends it with nothing.
async fn ask(caller: Caller, id: &str, asked: frontend::SolveRequest) -> Result<frontend::Result, Status> {
    let mut bridge = LlbBridgeClient::new(caller).max_decoding_message_size(LARGEST);
    let solved = bridge.solve(within(id, asked)?).await;
    let mut given = frontend::ReturnRequest::default();
    match &solved {
        Ok(_) => given.result = Some(frontend::Result::default()),
        Err(status) => {
            let (code, message) = (status.code().into(), status.message().to_owned());
            given.error =
                Some(bollard_buildkit_proto::google::rpc::Status { code, message, details: Vec::new() });
        }
    }
    bridge.r#return(within(id, given)?).await?;
    Ok(solved?.into_inner().result.unwrap_or_default())
}

/// A call of a build.
fn within<T>(id: &str, message: T) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let id = MetadataValue::try_from(id).map_err(|error| Status::internal(error.to_string()))?;
    request.metadata_mut().insert("buildkit-controlapi-buildid", id);
    Ok(request)
}

/// What could be better and what is wrong, for people.
fn findings(document: &Value) -> String {
    let source = &document["sources"][0];
    let decoded = STANDARD.decode(source["data"].as_str().unwrap_or_default()).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    let file = source["filename"].as_str().unwrap_or("Dockerfile");
    let place = |location: &Value| {
        let line = |end: &str| {
            location["ranges"][0][end]["line"].as_u64().and_then(|line| usize::try_from(line).ok())
        };
        let first = line("start")?;
        Some(failure::framed(file, &text, first, line("end").unwrap_or(first).max(first)))
    };
    let warnings: Vec<&Value> = document["warnings"].as_array().into_iter().flatten().collect();
    let broken = document.get("buildError").filter(|error| !error.is_null());
    let mut out = match (warnings.len(), broken) {
        (0, None) => return "Check complete, no warnings found.".to_owned(),
        (_, Some(_)) => String::new(),
        (1, _) => "Check complete, 1 warning has been found!\n".to_owned(),
        (many, _) => format!("Check complete, {many} warnings have been found!\n"),
    };
    for warning in warnings {
        let word = |name: &str| warning[name].as_str().unwrap_or_default();
        let link = if word("url").is_empty() { String::new() } else { format!(" - {}", word("url")) };
        let _ = write!(out, "\nWARNING: {}{link}\n{}\n", word("ruleName"), word("detail"));
        let _ = writeln!(out, "{}", place(&warning["location"]).unwrap_or_default());
    }
    if let Some(error) = broken {
        let _ = writeln!(out, "{}", place(&error["location"]).unwrap_or_default());
        let _ = write!(out, "ERROR: {}", error["message"].as_str().unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_are_shown_where_they_are() {
        assert_eq!(findings(&json!({ "warnings": null })), "Check complete, no warnings found.");
        let document = json!({
            "warnings": [{
                "ruleName": "FromAsCasing", "url": "https://x", "detail": "casing differs",
                "location": { "ranges": [{ "start": { "line": 1 }, "end": { "line": 1 } }] },
            }],
            "sources": [{ "filename": "Dockerfile", "data": STANDARD.encode("FROM a as b\n") }],
        });
        let shown = findings(&document);
        assert!(
            shown.starts_with(
                "Check complete, 1 warning has been found!\n\nWARNING: FromAsCasing - https://x\n"
            )
        );
        assert!(shown.contains("   1 | >>> FROM a as b"), "{shown}");
    }
}
