//! Images that a client has as OCI layouts: their documents are read from its store, their layers become steps.

use std::sync::Arc;

use serde::Deserialize;
use wharf_build::graph::{Edge, Graph, Node, Operation, Source, StoredLayer};
use wharf_build::plan::GraphSource;
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Digest, ImageConfig, Platform};
use wharf_store::Chain;

use super::Place;
use super::document::{Known, Remote};
use super::import::Read;
use crate::build::{Build, BuildFailure};
use crate::error::{Error, Result};

/// Indexes within one another, at most.
const DEEPEST: usize = 4;

/// A manifest or an index: what tells them apart is what they have.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

impl Build {
    /// The image `digest` of a client's store, as a context and as a base; shown as `shown`.
    ///
    /// # Errors
    /// When the client has it not, or not for this platform.
    pub async fn layout(
        self: &Arc<Self>,
        store: String,
        digest: Digest,
        shown: String,
        platform: Platform,
    ) -> std::result::Result<GraphSource, BuildFailure> {
        self.sleeping(move |build| {
            build.step(&format!("[internal] load metadata for {shown}"), |_| {
                Ok(build.layout_of(&store, digest, &shown, &platform)?)
            })
        })
        .await
    }

    fn layout_of(
        &self,
        store: &str,
        mut digest: Digest,
        shown: &str,
        platform: &Platform,
    ) -> Result<GraphSource> {
        let wrong =
            |digest: &Digest, why: serde_json::Error| Error::invalid(format!("{shown}: {digest}: {why}"));
        for _ in 0..DEEPEST {
            let bytes = self.clients_document(store, &digest)?;
            let document: Document = serde_json::from_slice(&bytes).map_err(|why| wrong(&digest, why))?;
            let Some(config) = document.config else {
                let fits = |entry: &&Descriptor| {
                    !entry.is_attestation()
                        && entry.platform.as_ref().is_none_or(|found| found.satisfies(platform))
                };
                let found = document.manifests.iter().find(fits);
                let none = || {
                    Error::not_found(format!(
                        "{shown}: no match for platform {platform} in manifest: not found"
                    ))
                };
                digest = found.ok_or_else(none)?.digest;
                continue;
            };
            let bytes = self.clients_document(store, &config.digest)?;
            let config: ImageConfig =
                serde_json::from_slice(&bytes).map_err(|why| wrong(&config.digest, why))?;
            let diff_ids = config.rootfs.diff_ids.clone();
            let layers = document.layers;
            if diff_ids.len() != layers.len()
                || layers.iter().any(|layer| !media_type::is_layer(&layer.media_type))
            {
                return Err(Error::invalid(format!(
                    "{shown}: its config and its manifest name different layers"
                )));
            }
            let layers = layers.into_iter().zip(diff_ids);
            let layers = layers.map(|(blob, diff_id)| StoredLayer { blob, diff_id }).collect();
            let mut graph = Graph::default();
            let node = graph.add(Node {
                operation: Operation::Source(Source::Stored { store: store.to_owned(), layers }),
                inputs: Vec::new(),
                name: format!("[internal] load {shown}"),
                lines: None,
                platform: platform.clone(),
                ignore_cache: false,
            });
            return Ok(GraphSource { graph, result: Some(Edge { node, output: 0 }), config: Some(config) });
        }
        Err(Error::invalid(format!("{shown}: more than {DEEPEST} indexes are within one another")))
    }

    /// Layers of a client's store as steps, fetched where they are not here.
    pub(in crate::build) fn stored(
        &self,
        store: &str,
        layers: &[StoredLayer],
    ) -> std::result::Result<Chain, String> {
        let read = Read { known: Known::default(), place: Place::Client(store.to_owned()) };
        let fetched = layers.iter().map(|layer| {
            let wanted = Remote { blob: layer.blob.clone(), diff_id: layer.diff_id, created: 0 };
            self.fetched_layer(&read, &wanted)
        });
        fetched.collect::<Result<Chain>>().map_err(|error| error.message().to_owned())
    }
}
