//! Caches elsewhere: what a build made is written so that a build on another machine finds it.
//!
//! ```text
//! export   keys of the build ── results in the cache ── layers ──> manifest, or an entry in the image's config
//! import   a key that the cache has not ──> records of the caches named ──> layers fetched, verified, unpacked as steps
//! ```
//! Nothing is asked of a cache before a key is missed. A cache that cannot be read costs time alone; one that cannot be
//! written fails the build, unless its client said otherwise.

mod document;
mod export;
mod fetch;
mod import;
mod layout;

use std::collections::BTreeMap;

use wharf_distribution::client::Repository;
use wharf_oci::Reference;

use crate::error::{Error, Result};

pub(super) use import::Source;

/// A cache as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// `registry`, `inline`, ….
    pub kind: String,
    /// `ref`, `mode` and the like.
    pub attributes: BTreeMap<String, String>,
}

impl CacheOptions {
    /// An image, or a cache at a registry, by its name.
    #[must_use]
    pub fn registry(reference: &str) -> Self {
        let attributes = BTreeMap::from([("ref".to_owned(), reference.to_owned())]);
        Self { kind: "registry".to_owned(), attributes }
    }

    /// What it is shown as.
    #[must_use]
    pub fn shown(&self) -> &str {
        let named = ["ref", "src", "dest"].iter().find_map(|name| self.attributes.get(*name));
        named.unwrap_or(&self.kind)
    }

    /// Whether the build goes on when it cannot be written.
    #[must_use]
    pub fn ignores_errors(&self) -> bool {
        self.attributes.get("ignore-error").is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    /// Whether the results of all steps are wanted, not the image's alone.
    fn max(&self) -> Result<bool> {
        match self.attributes.get("mode").map(String::as_str) {
            None | Some("" | "min") => Ok(false),
            Some("max") => Ok(true),
            Some(other) => Err(Error::invalid(format!("invalid cache export mode {other:?}: min or max"))),
        }
    }

    /// The client's store that a cache of files is in: `src` where it is read, `dest` where it is written.
    fn store(&self, name: &str) -> Result<String> {
        match self.attributes.get(name).map(String::as_str) {
            None | Some("") => Err(Error::invalid(format!("local cache needs {name}"))),
            Some(path) => Ok(format!("{LOCAL}{path}")),
        }
    }

    fn reference(&self) -> Result<Reference> {
        let text = self.attributes.get("ref").map(String::as_str).unwrap_or_default();
        if text.is_empty() {
            return Err(Error::invalid("a registry cache needs a name: ref=NAME"));
        }
        let reference = Reference::parse(text)
            .map_err(|error| Error::invalid(format!("cache reference {text:?}: {error}")))?;
        Ok(reference.with_default_tag())
    }
}

/// What the names of clients' stores begin with that are directories of caches.
const LOCAL: &str = "local:";

/// Where the blobs of a cache are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a repository of a registry.
    Registry(Box<Repository>),
    /// In a store of the client's.
    Client(String),
    /// Here, or nowhere.
    Here,
}

/// Where credentials for Docker Hub are kept under.
const HUB: &str = "docker.io";

/// The host whose credentials a name needs.
fn host(reference: &Reference) -> &str {
    if reference.domain().is_empty() { HUB } else { reference.domain() }
}
