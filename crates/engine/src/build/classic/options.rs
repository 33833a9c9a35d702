//! What `POST /build` can be asked.

use std::collections::{BTreeMap, BTreeSet};

use wharf_api::JsonMessage;
use wharf_distribution::client::Credentials;
use wharf_oci::{Platform, Reference};

use super::super::request::{BuildRequest, ContextSource, DockerfileSource, Entitlements, Limits};
use super::super::{Build, BuildFailure, Planned};
use super::stream_message;
use crate::error::{Error, ErrorKind, Result};

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct ClassicOptions {
    /// Names of the image.
    pub names: Vec<Reference>,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// An address instead of an archive; empty: the archive.
    pub remote: String,
    /// Say the image's id and nothing else.
    pub quiet: bool,
    /// Run every step.
    pub no_cache: bool,
    /// Ask registries for base images that are here.
    pub pull: bool,
    /// Build arguments with their values.
    pub arguments: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The stage to build; empty: the last.
    pub target: String,
    /// What to build for; `None`: this machine.
    pub platform: Option<Platform>,
    /// `name:address`.
    pub extra_hosts: Vec<String>,
    /// The network of `RUN`.
    pub network: String,
    /// What `RUN` may take.
    pub limits: Limits,
    /// Images whose steps may be taken over.
    pub caches: Vec<String>,
    /// Its id for [`super::Builds::cancel`].
    pub build_id: String,
    /// Credentials by registry.
    pub credentials: BTreeMap<String, Credentials>,
}

impl ClassicOptions {
    pub(super) fn check(&self) -> Result<()> {
        for host in &self.extra_hosts {
            if !host.contains([':', '=']) {
                return Err(Error::invalid(format!("bad format for add-host: \"{host}\"")));
            }
        }
        Ok(())
    }

    pub(super) fn request(&self) -> BuildRequest {
        let path = if self.dockerfile.is_empty() { "Dockerfile" } else { &self.dockerfile };
        let path = path.trim_start_matches('/').trim_start_matches("./").to_owned();
        let host = |text: &String| {
            let (name, address) = text.split_once(['=', ':'])?;
            Some((name.to_owned(), address.trim_matches(['[', ']']).to_owned()))
        };
        BuildRequest {
            context: match self.remote.as_str() {
                "" => ContextSource::Local { name: "context".to_owned(), ignored: Vec::new() },
                remote if is_git(remote) => ContextSource::Git(remote.to_owned()),
                remote => ContextSource::Archive(remote.to_owned()),
            },
            dockerfile: DockerfileSource::Context { path },
            target: Some(self.target.clone()).filter(|target| !target.is_empty()),
            arguments: self.arguments.clone(),
            labels: self.labels.clone(),
            platforms: self.platform.iter().cloned().collect(),
            no_cache: self.no_cache.then(BTreeSet::new),
            pull: self.pull,
            hosts: self.extra_hosts.iter().filter_map(host).collect(),
            hostname: String::new(),
            contexts: BTreeMap::new(),
            network: self.network.clone(),
            limits: self.limits.clone(),
            // Whoever reaches this API may start any container.
            entitlements: Entitlements { network_host: true, insecure: false },
        }
    }

    /// Whether the image's config is to say which layers came of which steps.
    #[must_use]
    pub fn inline_cache(&self) -> bool {
        self.arguments
            .get("BUILDKIT_INLINE_CACHE")
            .is_some_and(|value| matches!(value.as_str(), "1" | "true"))
    }

    /// Arguments that nothing in the Dockerfile declares.
    pub(super) fn unused(&self, planned: &Planned) -> Vec<String> {
        let names = self.arguments.keys().filter(|name| !PREDEFINED.contains(&name.as_str()));
        names.filter(|name| !Build::declares(planned, name)).cloned().collect()
    }

    /// What is said at the end.
    pub(super) fn last_words(&self, id: &str, unused: &[String]) -> Vec<JsonMessage> {
        if self.quiet {
            return vec![stream_message(format!("{id}\n"))];
        }
        let mut words = Vec::new();
        if !unused.is_empty() {
            let names = unused.join(" ");
            words.push(stream_message(format!(
                "[Warning] One or more build-args [{names}] were not consumed\n"
            )));
        }
        let aux = serde_json::json!({ "ID": id });
        words.push(JsonMessage { aux: Some(aux), ..JsonMessage::default() });
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        words.push(stream_message(format!("Successfully built {}\n", hex.get(..12).unwrap_or(hex))));
        words.extend(
            self.names
                .iter()
                .map(|name| stream_message(format!("Successfully tagged {}\n", name.familiar()))),
        );
        words
    }
}

/// Arguments that every build knows.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

fn is_git(remote: &str) -> bool {
    let path = remote.split('#').next().unwrap_or_default();
    let web = remote.starts_with("http://") || remote.starts_with("https://");
    ["git://", "ssh://", "git@", "github.com/"].iter().any(|begin| remote.starts_with(begin))
        || (web && path.ends_with(".git"))
}

/// A plan that could not be made, in the words of the builder that this one stands for.
pub(super) fn refused(failure: BuildFailure) -> BuildFailure {
    let missing = failure.message.strip_prefix("failed to read dockerfile: open ");
    match missing.and_then(|rest| rest.strip_suffix(": no such file or directory")) {
        Some(path) => {
            BuildFailure::new(ErrorKind::Internal, format!("Cannot locate specified Dockerfile: {path}"))
        }
        None => failure,
    }
}
