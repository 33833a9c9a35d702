//! Calls of a frontend: the Dockerfile's, which is built in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use tonic::Status;
use wharf_engine::build::{ContextSource, GraphSource};
use wharf_oci::{ImageConfig, Platform};

use super::attributes::{self, Attributes, Inputs};
use super::solve::{Made, Outcome, Solving};
use super::{BuildKit, cache, error, llb, subrequest};

/// What a frontend came to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The results, by platform; none: what was asked was no build.
    pub(super) results: Vec<(Platform, Arc<Outcome>)>,
    /// Whether they are told apart by platform.
    pub(super) by_platform: bool,
    pub(super) metadata: HashMap<String, Vec<u8>>,
}

/// Calls a frontend.
pub(super) async fn call(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    frontend: &str,
    given: &Attributes,
    definitions: &HashMap<String, pb::Definition>,
) -> Result<Answer, Status> {
    check_frontend(frontend, given)?;
    solving.called_with(given);
    cache::attributed(solving, given);
    for (name, session) in
        given.iter().filter_map(|(name, value)| Some((name.strip_prefix("local-sessionid:")?, value)))
    {
        solving.asked.elsewhere(name, session);
    }
    if let Some(answer) = subrequest::described(given) {
        return Ok(answer);
    }
    let inputs = inputs(state, solving, definitions).await?;
    let request = attributes::request(given, &inputs, solving.entitlements());
    let request = request.map_err(|error| error::plain(&error))?;
    if let Some(answer) = subrequest::answer(solving, given, &request).await? {
        return Ok(answer);
    }
    let by_platform = given.get("multi-platform").is_some_and(|flag| matches!(flag.as_str(), "true" | "1"))
        || request.platforms.len() > 1;
    let solved = solving.build.dockerfile(request).await.map_err(|failure| error::status(&failure))?;
    let mut answer = Answer { by_platform, ..Answer::default() };
    for solved in solved {
        let platform = solved.platform.clone();
        let config = wire_config(&solved.config);
        let key = if by_platform {
            format!("containerimage.config/{platform}")
        } else {
            "containerimage.config".to_owned()
        };
        answer.metadata.insert(key, config);
        answer.results.push((platform, state.solves.keep(solving, Made::Image(Box::new(solved)))));
    }
    let platforms: Vec<&Platform> = answer.results.iter().map(|(platform, _)| platform).collect();
    answer.metadata.insert("refs.platforms".to_owned(), platform_list(&platforms));
    Ok(answer)
}

/// The one frontend there is: by its own name, or by that of the image that others have it in.
fn check_frontend(frontend: &str, given: &Attributes) -> Result<(), Status> {
    let image = match frontend {
        "dockerfile.v0" => given.get("build-arg:BUILDKIT_SYNTAX"),
        "gateway.v0" => given.get("source"),
        other => return Err(Status::unknown(format!("frontend {other} not found"))),
    };
    match image {
        Some(image) if !is_built_in(image) => Err(Status::unimplemented(format!(
            "the frontend {image} cannot be run: Wharf reads Dockerfiles itself and runs no frontend images"
        ))),
        _ => Ok(()),
    }
}

fn is_built_in(image: &str) -> bool {
    let name = image.trim_start_matches("docker.io/");
    let name = name.split(['@', ':', ' ']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// An image's config as metadata has it.
pub(super) fn wire_config(config: &ImageConfig) -> Vec<u8> {
    // A config is strings, numbers and lists, which always serialise.
    serde_json::to_vec(config).unwrap_or_default()
}

/// Which results there are, in the form that exporters read.
pub(super) fn platform_list(platforms: &[&Platform]) -> Vec<u8> {
    let platforms = platforms
        .iter()
        .map(|platform| serde_json::json!({"ID": platform.to_string(), "Platform": platform}));
    serde_json::json!({"Platforms": platforms.collect::<Vec<_>>()}).to_string().into_bytes()
}

/// What definitions stand for that are given as contexts: results of this or another build, or graphs of their own.
async fn inputs(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    definitions: &HashMap<String, pb::Definition>,
) -> Result<Inputs, Status> {
    let mut inputs = Inputs::new();
    for (name, definition) in definitions {
        let (graph, result) = llb::graph(state, solving, definition).await?;
        let source = GraphSource { graph, result, config: None };
        let name = name.split_once("::").map_or(name.as_str(), |(name, _)| name);
        inputs.insert(name.to_owned(), ContextSource::Graph(Box::new(source)));
    }
    Ok(inputs)
}

/// Attributes in order, as the engine wants them.
pub(super) fn sorted(given: &HashMap<String, String>) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_is_built_in_and_others_are_named() {
        let none = Attributes::new();
        assert!(check_frontend("dockerfile.v0", &none).is_ok());
        assert!(check_frontend("other.v0", &none).is_err());
        let with = |name: &str, image: &str| Attributes::from([(name.to_owned(), image.to_owned())]);
        assert!(
            check_frontend("gateway.v0", &with("source", "docker.io/docker/dockerfile:1.7-labs")).is_ok()
        );
        let refused = check_frontend("gateway.v0", &with("source", "example.com/frontend")).unwrap_err();
        assert!(refused.message().contains("example.com/frontend"));
        assert!(check_frontend("dockerfile.v0", &with("build-arg:BUILDKIT_SYNTAX", "x/y")).is_err());
    }

    #[test]
    fn platforms_are_listed_for_exporters() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&platform_list(&[&amd64])).unwrap();
        assert_eq!(listed["Platforms"][0]["ID"], "linux/amd64");
        assert_eq!(listed["Platforms"][0]["Platform"]["os"], "linux");
    }
}
