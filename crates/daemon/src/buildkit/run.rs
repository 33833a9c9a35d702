//! A build from its request to what comes out of it.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{self, result};
use tonic::Status;
use wharf_oci::Platform;

use super::export::{self, Response};
use super::frontend::{Answer, call};
use super::solve::{Made, Outcome, Solving};
use super::{BuildKit, attachment, cache, error, llb};

/// Runs a build.
pub(super) async fn run(state: &Arc<BuildKit>, solving: &Arc<Solving>) -> Result<Response, Status> {
    let request = &solving.request;
    if let Some(entitlement) = request.entitlements.iter().find(|name| !is_known(name)) {
        return Err(Status::unknown(format!("unknown entitlement {entitlement}")));
    }
    let exports = cache::exports(solving)?;
    cache::requested(solving);
    let answer = if !request.frontend.is_empty() {
        call(state, solving, &request.frontend, &request.frontend_attrs, &request.frontend_inputs, 0).await?
    } else if let Some(definition) = &request.definition {
        defined(state, solving, definition).await?
    } else {
        led(state, solving).await?
    };
    let products = export::products(&answer)?;
    let mut response = export::all(solving, &products, exports.inline).await?;
    solving.accounted(attachment::accounts(solving, &answer, &products));
    response.extend(cache::write(solving, &answer, exports.written).await?);
    for (name, value) in &answer.metadata {
        if name.starts_with("frontend.") {
            response.insert(name.clone(), String::from_utf8_lossy(value).into_owned());
        }
    }
    Ok(response)
}

fn is_known(entitlement: &str) -> bool {
    matches!(entitlement, "network.host" | "security.insecure") || entitlement.starts_with("device")
}

/// Makes the result of a definition.
pub(super) async fn defined(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    definition: &bollard_buildkit_proto::pb::Definition,
) -> Result<Answer, Status> {
    let (graph, result) = llb::graph(state, solving, definition).await?;
    let platform = result.map_or_else(Platform::host, |edge| graph.node(edge.node).platform.clone());
    let made = solving.build.graph(graph.clone(), result, String::new(), solving.entitlements()).await;
    let tree = made.map_err(|failure| error::status(&failure))?;
    let outcome = state.solves.keep(solving, Made::Files { graph, result, tree });
    Ok(Answer { results: vec![(platform, outcome)], ..Answer::default() })
}

/// Waits for the result of a client that leads its build itself.
async fn led(state: &Arc<BuildKit>, solving: &Arc<Solving>) -> Result<Answer, Status> {
    returned(state, solving.given_back().await)
}

/// What a client or a frontend returned, as exporters take it.
pub(super) fn returned(state: &BuildKit, given: frontend::ReturnRequest) -> Result<Answer, Status> {
    if let Some(status) = given.error {
        return Err(error::given(status));
    }
    let given = given.result.unwrap_or_default();
    let refs: Vec<(String, String)> = match given.result {
        None => Vec::new(),
        Some(result::Result::Ref(one)) => vec![(String::new(), one.id)],
        Some(result::Result::RefDeprecated(id)) => vec![(String::new(), id)],
        Some(result::Result::Refs(map)) => map.refs.into_iter().map(|(key, one)| (key, one.id)).collect(),
        Some(result::Result::RefsDeprecated(map)) => map.refs.into_iter().collect(),
    };
    let mut results = Vec::new();
    let by_platform = refs.len() > 1 || refs.iter().any(|(key, _)| !key.is_empty());
    for (key, id) in refs.into_iter().filter(|(_, id)| !id.is_empty()) {
        let outcome = state.solves.result(&id)?;
        results.push((platform(&key, &outcome), outcome));
    }
    results.sort_by_key(|(platform, _)| platform.to_string());
    Ok(Answer { by_platform, results, metadata: given.metadata })
}

/// The platform of a result: by the name it is returned under, else its own.
fn platform(key: &str, outcome: &Outcome) -> Platform {
    key.parse().unwrap_or_else(|_| match &outcome.made {
        Made::Image(solved) => solved.platform.clone(),
        Made::Files { graph, result, .. } => {
            result.map_or_else(Platform::host, |edge| graph.node(edge.node).platform.clone())
        }
    })
}

/// What a frontend came to, as the gateway answers it; in the form that callers of long ago read, where one says nothing of
/// the other.
pub(super) fn as_result(answer: Answer, new_form: bool) -> frontend::Result {
    if !new_form {
        return as_old_result(answer);
    }
    let reference =
        |outcome: &Outcome| frontend::Ref { id: outcome.id.clone(), def: Some(llb::definition_of(outcome)) };
    let result = if answer.by_platform {
        let named =
            answer.results.iter().map(|(platform, outcome)| (platform.to_string(), reference(outcome)));
        Some(result::Result::Refs(frontend::RefMap { refs: named.collect() }))
    } else {
        let first = answer.results.first().map(|(_, outcome)| reference(outcome));
        Some(result::Result::Ref(first.unwrap_or_default()))
    };
    frontend::Result { metadata: answer.metadata, attestations: HashMap::new(), result }
}

fn as_old_result(answer: Answer) -> frontend::Result {
    let id = |outcome: &Outcome| outcome.id.clone();
    let result = if answer.by_platform {
        let named = answer.results.iter().map(|(platform, outcome)| (platform.to_string(), id(outcome)));
        result::Result::RefsDeprecated(frontend::RefMapDeprecated { refs: named.collect() })
    } else {
        let first = answer.results.first().map(|(_, outcome)| id(outcome));
        result::Result::RefDeprecated(first.unwrap_or_default())
    };
    frontend::Result { metadata: answer.metadata, attestations: HashMap::new(), result: Some(result) }
}
