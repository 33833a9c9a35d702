//! Calls of a frontend: the Dockerfile's, which is built in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use tonic::Status;
use wharf_engine::build::{BuildFailure, ContextSource, GraphSource};
use wharf_oci::{ImageConfig, Platform};

use super::attributes::{self, Attributes, Inputs};
use super::solve::{Made, Outcome, Solving};
use super::{BuildKit, cache, error, foreign, llb, subrequest};

/// What a frontend came to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The results, by platform; none: what was asked was no build.
    pub(super) results: Vec<(Platform, Arc<Outcome>)>,
    /// Whether they are told apart by platform.
    pub(super) by_platform: bool,
    pub(super) metadata: HashMap<String, Vec<u8>>,
}

/// Calls a frontend; `depth` others wait for what it comes to.
pub(super) async fn call(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    frontend: &str,
    given: &Attributes,
    definitions: &HashMap<String, pb::Definition>,
    depth: usize,
) -> Result<Answer, Status> {
    solving.called_with(given);
    cache::attributed(solving, given);
    for (name, session) in
        given.iter().filter_map(|(name, value)| Some((name.strip_prefix("local-sessionid:")?, value)))
    {
        solving.asked.elsewhere(name, session);
    }
    if let Some((image, line)) = foreign_image(frontend, given)? {
        let given = forwarded(given, image, line);
        return foreign::call(state, solving, image, &given, definitions, depth).await;
    }
    match built_in(state, solving, given, definitions).await? {
        Read::Here(answer) => Ok(answer),
        Read::Elsewhere(line) => {
            let image = line.split_whitespace().next().unwrap_or_default();
            let given = forwarded(given, image, &line);
            foreign::call(state, solving, image, &given, definitions, depth).await
        }
    }
}

/// Who reads a Dockerfile.
enum Read {
    Here(Answer),
    /// The frontend that the file names itself: an image and more for it.
    Elsewhere(String),
}

/// The attributes for an image's frontend.
fn forwarded(given: &Attributes, image: &str, line: &str) -> Attributes {
    let mut given = given.clone();
    given.insert("source".to_owned(), image.to_owned());
    given.insert("cmdline".to_owned(), line.to_owned());
    given
}

/// The Dockerfile's frontend.
async fn built_in(
    state: &Arc<BuildKit>,
    solving: &Arc<Solving>,
    given: &Attributes,
    definitions: &HashMap<String, pb::Definition>,
) -> Result<Read, Status> {
    if let Some(answer) = subrequest::described(given) {
        return Ok(Read::Here(answer));
    }
    let refused = |failure: BuildFailure| match failure.frontend() {
        Some(line) => Ok(Read::Elsewhere(line)),
        None => Err(error::status(&failure)),
    };
    let mut inputs = inputs(state, solving, definitions).await?;
    let with_layouts = layouts(solving, given, &mut inputs).await?;
    let given = with_layouts.as_ref().unwrap_or(given);
    let request = attributes::request(given, &inputs, solving.entitlements());
    let request = request.map_err(|error| error::plain(&error))?;
    match subrequest::answer(solving, given, &request).await {
        Ok(None) => {}
        Ok(Some(answer)) => return Ok(Read::Here(answer)),
        Err(failure) => return refused(failure),
    }
    let by_platform = given.get("multi-platform").is_some_and(|flag| matches!(flag.as_str(), "true" | "1"))
        || request.platforms.len() > 1;
    let solved = match solving.build.dockerfile(request).await {
        Ok(solved) => solved,
        Err(failure) => return refused(failure),
    };
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
    Ok(Read::Here(answer))
}

/// The image of a frontend that is not built in, and the line that names it.
fn foreign_image<'a>(frontend: &str, given: &'a Attributes) -> Result<Option<(&'a str, &'a str)>, Status> {
    let line = match frontend {
        // Who was called by such a line already is the one that it names.
        "dockerfile.v0" if given.contains_key("cmdline") => None,
        "dockerfile.v0" => given.get("build-arg:BUILDKIT_SYNTAX").map(|line| line.trim()),
        "gateway.v0" => {
            let source = given.get("source").map(String::as_str).filter(|source| !source.is_empty());
            Some(source.ok_or_else(|| Status::unknown("no source specified for gateway"))?)
        }
        other => return Err(Status::unknown(format!("frontend {other} not found"))),
    };
    let image = |line: &'a str| (line.split_whitespace().next().unwrap_or_default(), line);
    Ok(line.map(image).filter(|(image, _)| !image.is_empty() && !is_built_in(image)))
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

/// The images that a client has as OCI layouts, as inputs for each platform; the attributes that name these instead.
async fn layouts(
    solving: &Arc<Solving>,
    given: &Attributes,
    inputs: &mut Inputs,
) -> Result<Option<Attributes>, Status> {
    let layout = |(name, address): (&String, &String)| {
        let address = address.strip_prefix("oci-layout://")?;
        Some((name.strip_prefix("context:")?.to_owned(), address.to_owned()))
    };
    let found: Vec<(String, String)> = given.iter().filter_map(layout).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut platforms = attributes::platforms(given.get("platform").map_or("", String::as_str))
        .map_err(|error| error::plain(&error))?;
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let mut given = given.clone();
    for (name, address) in found {
        let wrong = || Status::unknown(format!("invalid OCI layout address {address}"));
        let (place, digest) = address.split_once('@').ok_or_else(wrong)?;
        let digest: wharf_oci::Digest = digest.parse().map_err(|_| wrong())?;
        let store = place.split(':').next().unwrap_or_default();
        given.remove(&format!("context:{name}"));
        let (plain, of) = name.split_once("::").map_or((name.as_str(), None), |(name, of)| (name, Some(of)));
        for platform in &platforms {
            let key = format!("{plain}::{platform}");
            if of.is_some_and(|of| of != platform.to_string()) {
                continue;
            }
            let source = solving.build.layout(format!("oci:{store}"), digest, key.clone(), platform.clone());
            let source = source.await.map_err(|failure| error::status(&failure))?;
            let input = format!("oci-layout {key}");
            given.insert(format!("context:{key}"), format!("input:{input}"));
            inputs.insert(input, ContextSource::Graph(Box::new(source)));
        }
    }
    Ok(Some(given))
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
        inputs.insert(name.clone(), ContextSource::Graph(Box::new(source)));
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
    fn the_dockerfile_is_built_in_and_others_are_images() {
        let none = Attributes::new();
        assert_eq!(foreign_image("dockerfile.v0", &none).unwrap(), None);
        assert!(foreign_image("other.v0", &none).is_err());
        assert!(foreign_image("gateway.v0", &none).is_err());
        let with = |name: &str, image: &str| Attributes::from([(name.to_owned(), image.to_owned())]);
        let own = with("source", "docker.io/docker/dockerfile:1.7-labs");
        assert_eq!(foreign_image("gateway.v0", &own).unwrap(), None);
        let other = with("source", "example.com/frontend");
        assert_eq!(foreign_image("gateway.v0", &other).unwrap().unwrap().0, "example.com/frontend");
        let mut argument = with("build-arg:BUILDKIT_SYNTAX", "x/y more");
        assert_eq!(foreign_image("dockerfile.v0", &argument).unwrap(), Some(("x/y", "x/y more")));
        argument.insert("cmdline".to_owned(), "x/y more".to_owned());
        assert_eq!(foreign_image("dockerfile.v0", &argument).unwrap(), None);
    }

    #[test]
    fn platforms_are_listed_for_exporters() {
        let amd64: Platform = "linux/amd64".parse().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&platform_list(&[&amd64])).unwrap();
        assert_eq!(listed["Platforms"][0]["ID"], "linux/amd64");
        assert_eq!(listed["Platforms"][0]["Platform"]["os"], "linux");
    }
}
