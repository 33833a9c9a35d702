//! `SourceOp`: files from outside.

use bollard_buildkit_proto::pb;
use wharf_build::graph::{Edge, Operation, Source};
use wharf_oci::Reference;

use super::{Builder, Result, Shown, reference};
use crate::buildkit::session::OF_SESSION;

/// The image that an address names, normalised.
pub(super) fn image_reference(identifier: &str) -> Option<String> {
    let name = identifier.strip_prefix("docker-image://")?;
    Reference::parse(name).ok().map(|reference| reference.with_default_tag().to_string())
}

impl Builder<'_> {
    /// Adds a source; `None`: an empty tree.
    pub(super) fn source(&mut self, source: &pb::SourceOp, shown: &Shown) -> Result<Option<Edge>> {
        let identifier = source.identifier.as_str();
        if let Some(name) = reference::name(identifier) {
            let (graph, result) =
                self.known.results.get(name).ok_or_else(|| format!("no such ref: {name}"))?;
            return Ok(self.graft(graph, *result));
        }
        let attribute = |name: &str| source.attrs.get(name).map(String::as_str).unwrap_or_default();
        let flag = |name: &str| matches!(attribute(name), "true" | "1");
        let Some((scheme, rest)) = identifier.split_once("://") else {
            return Err(format!("failed to parse source {identifier}"));
        };
        let operation = match scheme {
            "docker-image" => {
                let reference =
                    image_reference(identifier).ok_or_else(|| format!("invalid reference {rest}"))?;
                let found = self.known.images.get(&(reference, shown.platform.to_string()));
                let found = found.ok_or_else(|| format!("image {rest} was not looked up"))?;
                Source::Image { reference: found.reference.clone(), id: found.id.clone() }
            }
            "local" => {
                let session = attribute("local.session");
                let name = match session {
                    "" => rest.to_owned(),
                    session => format!("{rest}{OF_SESSION}{session}"),
                };
                Source::Local {
                    name,
                    include: list(attribute("local.includepattern"))?,
                    exclude: list(attribute("local.excludepatterns"))?,
                    follow: list(attribute("local.followpaths"))?,
                }
            }
            "git" => Source::Git {
                address: git_address(rest, attribute("git.fullurl")),
                keep_git_dir: flag("git.keepgitdir"),
            },
            "http" | "https" => Source::Http {
                url: identifier.to_owned(),
                checksum: Some(attribute("http.checksum").to_owned()).filter(|checksum| !checksum.is_empty()),
                file_name: file_name(attribute("http.filename"), rest)?,
            },
            other => return Err(format!("the source {other} is not supported")),
        };
        Ok(Some(self.node(Operation::Source(operation), Vec::new(), shown)))
    }
}

/// A list of strings in JSON.
fn list(text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| format!("read a list of a source: {error}"))
}

/// A repository's address with what is wanted of it.
fn git_address(rest: &str, full: &str) -> String {
    let (_, wanted) = rest.split_once('#').map_or((rest, ""), |(address, wanted)| (address, wanted));
    let address = if full.is_empty() {
        format!("https://{}", rest.split('#').next().unwrap_or_default())
    } else {
        full.to_owned()
    };
    if wanted.is_empty() || address.contains('#') { address } else { format!("{address}#{wanted}") }
}

/// The name that a file is kept under: one name, no path.
fn file_name(given: &str, rest: &str) -> Result<String> {
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let name = if given.is_empty() { last } else { given };
    match name {
        "" => Ok("download".to_owned()),
        "." | ".." => Err(format!("invalid file name {name:?}")),
        name if name.contains(['/', '\0']) || name.len() > 255 => Err(format!("invalid file name {name:?}")),
        name => Ok(name.to_owned()),
    }
}
