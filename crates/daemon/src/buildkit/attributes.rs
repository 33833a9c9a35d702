//! Attributes of the Dockerfile frontend, as `buildx` sends them, as a request to the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_engine::build::{BuildRequest, ContextSource, DockerfileSource, Entitlements, Limits};
use wharf_engine::{Error, Result};
use wharf_oci::{ImageConfig, Platform};

use super::session::{UPLOAD, UPLOAD_HOST};

/// Attributes by name.
pub(super) type Attributes = HashMap<String, String>;

/// What may stand for a context that another build's result is: by the name that attributes give it.
pub(super) type Inputs = HashMap<String, ContextSource>;

/// The main context's and the Dockerfile's directory where no attribute names another.
const CONTEXT: &str = "context";
const DOCKERFILE: &str = "dockerfile";

/// Reads attributes.
///
/// # Errors
/// What they say that cannot be done.
pub(super) fn request(given: &Attributes, inputs: &Inputs, allowed: Entitlements) -> Result<BuildRequest> {
    let text = |name: &str| given.get(name).map_or("", String::as_str);
    let path = match text("filename") {
        "" => "Dockerfile",
        other => other,
    };
    let (context, dockerfile) = sources(given, inputs, path)?;
    let arguments: BTreeMap<String, String> = prefixed(given, "build-arg:");
    let mut allowed = allowed;
    let network = text("force-network-mode").to_owned();
    if network == "host" && !allowed.network_host {
        return Err(Error::forbidden("network.host is not allowed"));
    }
    allowed.network_host |= network == "host";
    Ok(BuildRequest {
        context,
        dockerfile,
        target: given.get("target").filter(|target| !target.is_empty()).cloned(),
        hostname: arguments
            .get("BUILDKIT_SANDBOX_HOSTNAME")
            .or(given.get("hostname"))
            .cloned()
            .unwrap_or_default(),
        arguments,
        labels: prefixed(given, "label:"),
        platforms: platforms(text("platform"))?,
        no_cache: given
            .get("no-cache")
            .map(|stages| list(stages).map(str::to_owned).collect::<BTreeSet<_>>()),
        pull: text("image-resolve-mode") == "pull",
        hosts: hosts(text("add-hosts"))?,
        contexts: named(given, inputs)?,
        network,
        limits: limits(given)?,
        entitlements: allowed,
    })
}

/// The attributes whose names begin with `prefix`, without it.
fn prefixed(given: &Attributes, prefix: &str) -> BTreeMap<String, String> {
    let named =
        given.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())));
    named.collect()
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Where the main context and the Dockerfile are.
fn sources(given: &Attributes, inputs: &Inputs, path: &str) -> Result<(ContextSource, DockerfileSource)> {
    let key = |name: &str, usual: &str| given.get(name).cloned().unwrap_or_else(|| usual.to_owned());
    let own_directory =
        DockerfileSource::Local { name: key("dockerfilekey", DOCKERFILE), path: path.to_owned() };
    let remote = given.get("context").map(|address| context(address, inputs)).transpose()?;
    let context = match (remote, inputs.get(CONTEXT)) {
        (Some(remote), _) => remote,
        (None, Some(input)) => input.clone(),
        (None, None) => return Ok((local(&key("contextkey", CONTEXT)), own_directory)),
    };
    let elsewhere = given.contains_key("dockerfilekey");
    Ok((context, if elsewhere { own_directory } else { DockerfileSource::Context { path: path.to_owned() } }))
}

fn local(name: &str) -> ContextSource {
    ContextSource::Local { name: name.to_owned(), ignored: Vec::new() }
}

/// What a context's address means.
fn context(address: &str, inputs: &Inputs) -> Result<ContextSource> {
    let upload = address.strip_prefix("http://").and_then(|rest| rest.strip_prefix(UPLOAD_HOST));
    if let Some(id) = upload.and_then(|rest| rest.strip_prefix('/')) {
        return Ok(local(&format!("{UPLOAD}{id}")));
    }
    if is_git(address) {
        return Ok(ContextSource::Git(address.to_owned()));
    }
    let Some((scheme, rest)) = address.split_once(':') else {
        return Err(Error::invalid(format!("invalid build context {address}")));
    };
    match scheme {
        "http" | "https" => Ok(ContextSource::Archive(address.to_owned())),
        "docker-image" => Ok(ContextSource::Image(rest.trim_start_matches('/').to_owned())),
        "local" => Ok(local(rest)),
        "input" => {
            let found = inputs.get(rest).cloned();
            found.ok_or_else(|| Error::invalid(format!("invalid input {rest} for build context")))
        }
        other => Err(Error::invalid(format!("unsupported context source {other} for {rest}"))),
    }
}

/// Whether an address is a repository's: by its scheme, its host, or its end.
pub(super) fn is_git(address: &str) -> bool {
    let begins = ["git://", "git@", "ssh://", "github.com/"];
    let base = address.split(['#', '?']).next().unwrap_or_default();
    let by_http = base.starts_with("http://") || base.starts_with("https://");
    begins.iter().any(|begin| address.starts_with(begin)) || (by_http && base.ends_with(".git"))
}

/// Named contexts, those for one platform alone, `name::linux/amd64`, among them.
fn named(given: &Attributes, inputs: &Inputs) -> Result<BTreeMap<String, ContextSource>> {
    let mut contexts = BTreeMap::new();
    for (name, address) in given {
        let Some(name) = name.strip_prefix("context:") else { continue };
        let mut source = context(address, inputs)?;
        if let ContextSource::Graph(graph) = &mut source
            && let Some(input) = address.strip_prefix("input:")
            && let Some(metadata) = given.get(&format!("input-metadata:{input}"))
        {
            graph.config = config(metadata)?.or(graph.config.take());
        }
        contexts.insert(name.to_owned(), source);
    }
    Ok(contexts)
}

/// The config of an image that was another build's result.
fn config(metadata: &str) -> Result<Option<ImageConfig>> {
    let wrong = |error: &dyn std::fmt::Display| Error::invalid(format!("read input metadata: {error}"));
    let fields: HashMap<String, String> = serde_json::from_str(metadata).map_err(|error| wrong(&error))?;
    let Some(config) = fields.get("containerimage.config") else { return Ok(None) };
    let config = STANDARD.decode(config).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&config).map(Some).map_err(|error| wrong(&error))
}

/// `linux/amd64,linux/arm64`.
pub(super) fn platforms(text: &str) -> Result<Vec<Platform>> {
    let platform = |text: &str| {
        text.parse().map_err(|_| Error::invalid(format!("failed to parse target platform {text}")))
    };
    list(text).map(platform).collect()
}

/// `name=address,name=address`.
fn hosts(text: &str) -> Result<Vec<(String, String)>> {
    let host = |word: &str| {
        let (name, address) =
            word.split_once('=').ok_or_else(|| Error::invalid(format!("invalid key-value pair {word}")))?;
        Ok((name.to_owned(), address.to_owned()))
    };
    list(text).map(host).collect()
}

fn limits(given: &Attributes) -> Result<Limits> {
    let shm_size = match given.get("shm-size") {
        None => 0,
        Some(text) => text.parse().map_err(|_| Error::invalid(format!("failed to parse shm-size {text}")))?,
    };
    let ulimit = |word: &str| {
        let wrong = || Error::invalid(format!("invalid ulimit {word}"));
        let (name, values) = word.split_once('=').ok_or_else(wrong)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
        Ok((name.to_owned(), number(soft)?, number(hard)?))
    };
    Ok(Limits {
        shm_size,
        ulimits: list(given.get("ulimit").map_or("", String::as_str)).map(ulimit).collect::<Result<_>>()?,
        cgroup_parent: given.get("cgroup-parent").cloned().unwrap_or_default(),
        ..Limits::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<BuildRequest> {
        request(&given(pairs), &Inputs::new(), Entitlements::default())
    }

    #[test]
    fn a_plain_build_has_two_directories() {
        let request =
            read(&[("filename", "Other"), ("build-arg:A", "1"), ("label:b", "2"), ("no-cache", "")]).unwrap();
        assert!(matches!(&request.context, ContextSource::Local { name, .. } if name == "context"));
        assert!(matches!(&request.dockerfile,
            DockerfileSource::Local { name, path } if name == "dockerfile" && path == "Other"));
        assert_eq!((request.arguments["A"].as_str(), request.labels["b"].as_str()), ("1", "2"));
        assert_eq!(request.no_cache, Some(BTreeSet::new()));
        assert_eq!(read(&[("no-cache", "a,b")]).unwrap().no_cache.unwrap().len(), 2);
    }

    #[test]
    fn a_remote_context_has_its_own_dockerfile() {
        let address = "https://example.com/project.git#main:dir";
        let request = read(&[("context", address)]).unwrap();
        assert!(matches!(&request.context, ContextSource::Git(found) if found == address));
        assert!(matches!(&request.dockerfile, DockerfileSource::Context { path } if path == "Dockerfile"));
        let request =
            read(&[("context", "https://example.com/a.tar"), ("dockerfilekey", "dockerfile")]).unwrap();
        assert!(matches!(request.context, ContextSource::Archive(_)));
        assert!(matches!(request.dockerfile, DockerfileSource::Local { .. }));
        let request = read(&[("context", "http://buildkit-session/x1")]).unwrap();
        assert!(matches!(&request.context, ContextSource::Local { name, .. } if name == "upload:x1"));
    }

    #[test]
    fn lists_are_read() {
        let request = read(&[
            ("add-hosts", "a=1.2.3.4,b=::1"),
            ("ulimit", "nofile=1:2"),
            ("shm-size", "64"),
            ("platform", "linux/amd64,linux/arm64"),
            ("context:base", "docker-image://busybox"),
            ("context:dir::linux/amd64", "local:dir"),
        ]);
        let request = request.unwrap();
        assert_eq!(request.hosts[1], ("b".to_owned(), "::1".to_owned()));
        assert_eq!(request.limits.ulimits, [("nofile".to_owned(), 1, 2)]);
        assert_eq!((request.limits.shm_size, request.platforms.len()), (64, 2));
        assert!(matches!(&request.contexts["base"], ContextSource::Image(name) if name == "busybox"));
        assert!(
            matches!(&request.contexts["dir::linux/amd64"], ContextSource::Local { name, .. } if name == "dir")
        );
    }

    #[test]
    fn what_is_not_allowed_or_not_known_is_refused() {
        assert!(read(&[("force-network-mode", "host")]).is_err());
        assert!(read(&[("context:a", "input:b")]).is_err());
        assert!(read(&[("context:a", "gopher:b")]).is_err());
        assert!(read(&[("platform", "no/such/thing/at/all")]).is_err());
        assert!(read(&[("ulimit", "nofile")]).is_err());
    }
}
