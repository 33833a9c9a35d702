//! Caches elsewhere that clients name: as part of their request, of a frontend's call, or of its attributes.

use std::collections::HashMap;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::CacheOptionsEntry;
use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use serde::Deserialize;
use tonic::Status;
use wharf_engine::build::CacheOptions;

use super::error;
use super::export::{Response, products, sleeping};
use super::frontend::{Answer, sorted};
use super::solve::Solving;

/// What a build is to write.
#[derive(Debug, Default)]
pub(super) struct Exports {
    /// Into the image's own config.
    pub(super) inline: bool,
    /// Elsewhere.
    pub(super) written: Vec<CacheOptions>,
}

/// A cache as attributes have it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Type", alias = "type", default)]
    kind: String,
    #[serde(rename = "Attrs", alias = "attrs", default)]
    attributes: Option<HashMap<String, String>>,
}

fn options(kind: &str, attributes: &HashMap<String, String>) -> CacheOptions {
    CacheOptions { kind: kind.to_owned(), attributes: sorted(attributes) }
}

fn listed(entries: &[CacheOptionsEntry]) -> Vec<CacheOptions> {
    entries.iter().map(|entry| options(&entry.r#type, &entry.attrs)).collect()
}

/// What a request wants written. A kind that cannot be is refused: whoever asks for it relies on it.
pub(super) fn exports(solving: &Solving) -> Result<Exports, Status> {
    let mut exports = Exports::default();
    let Some(caches) = &solving.request.cache else { return Ok(exports) };
    let mut entries = listed(&caches.exports);
    if entries.is_empty() && !caches.export_ref_deprecated.is_empty() {
        let mut attributes = sorted(&caches.export_attrs_deprecated);
        attributes.insert("ref".to_owned(), caches.export_ref_deprecated.clone());
        entries.push(CacheOptions { kind: "registry".to_owned(), attributes });
    }
    for entry in entries {
        match entry.kind.as_str() {
            "inline" => exports.inline = true,
            "registry" | "local" => exports.written.push(entry),
            other => {
                let message = format!("cache export of type {other} is not supported");
                return Err(Status::unimplemented(message));
            }
        }
    }
    Ok(exports)
}

/// The build may take from the caches that its request names.
pub(super) fn requested(solving: &Solving) {
    let Some(caches) = &solving.request.cache else { return };
    let named = caches.import_refs_deprecated.iter().map(|name| CacheOptions::registry(name));
    solving.build.import_from(listed(&caches.imports).into_iter().chain(named).collect());
}

/// The build may take from the caches that the attributes of a frontend name.
pub(super) fn attributed(solving: &Solving, given: &HashMap<String, String>) {
    let all = match given.get("cache-imports") {
        Some(text) => {
            let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_else(|error| {
                tracing::warn!("cache-imports of a build: {error}");
                Vec::new()
            });
            let entry = |entry: &Entry| options(&entry.kind, &entry.attributes.clone().unwrap_or_default());
            entries.iter().map(entry).collect()
        }
        None => {
            let names = given.get("cache-from").map_or("", String::as_str).split(',').map(str::trim);
            names.filter(|name| !name.is_empty()).map(CacheOptions::registry).collect()
        }
    };
    solving.build.import_from(all);
}

/// The build may take from the caches that a call of the gateway names.
pub(super) fn called(solving: &Solving, entries: &[frontend::CacheOptionsEntry]) {
    solving.build.import_from(entries.iter().map(|entry| options(&entry.r#type, &entry.attrs)).collect());
}

/// Writes what the request wants written.
pub(super) async fn write(
    solving: &Arc<Solving>,
    answer: &Answer,
    wanted: Vec<CacheOptions>,
) -> Result<Response, Status> {
    let mut response = Response::new();
    if wanted.is_empty() {
        return Ok(response);
    }
    let products = products(answer)?;
    for options in wanted {
        let (build, products, wanted) = (solving.build.clone(), products.clone(), options.clone());
        match sleeping(move || build.export_cache(&products, &wanted)).await {
            Ok(said) => response.extend(said),
            Err(failure) if options.ignores_errors() => tracing::warn!("write build cache: {failure}"),
            Err(failure) => return Err(error::status(&failure)),
        }
    }
    Ok(response)
}
