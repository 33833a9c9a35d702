//! From a tree to the layers of an image.

use std::path::Path;

use jiff::Timestamp;
use wharf_build::solve::Tree;
use wharf_layer::CopyOptions;
use wharf_oci::DiffId;
use wharf_store::{Batch, ChainLayer, ImageLayer};
use wharf_sys::root::Root;

use super::history::Dated;
use crate::build::Build;
use crate::error::{Error, Result};

/// A tree's layers, base first.
#[derive(Debug, Clone, Default)]
pub(super) struct Layers {
    pub(super) layers: Vec<ImageLayer>,
    pub(super) dated: Vec<Dated>,
}

impl Build {
    /// The layers of a tree, packed where they are not yet. In new ones nothing is newer than `epoch`; a base image's are
    /// what they are.
    pub(super) fn layers(
        &self,
        batch: &Batch,
        tree: Option<&Tree>,
        epoch: Option<Timestamp>,
    ) -> Result<Layers> {
        let mut found = Layers::default();
        let chain = match tree {
            None => return Ok(found),
            Some(Tree::Chain(chain)) => chain.clone(),
            Some(Tree::Directory(path)) => vec![self.directory_layer(path)?],
        };
        for layer in chain {
            let (layer, created) = match layer {
                ChainLayer::Image(diff_id) => (self.image_layer(batch, diff_id)?, None),
                ChainLayer::Step(id) => {
                    let created = self.builds.store.step_created(&id);
                    let created = created.and_then(|time| Timestamp::from_millisecond(time).ok());
                    let latest = epoch.map(Timestamp::as_second);
                    let layer = match self.early.take(&id, latest) {
                        Some(packed) => self.builds.store.export_packed(batch, packed)?,
                        None => self.builds.store.export_step(batch, &id, latest)?,
                    };
                    (layer, created)
                }
            };
            found.dated.push(Dated { diff_id: layer.diff_id, created });
            found.layers.push(layer);
        }
        Ok(found)
    }

    /// The blob of a layer that came with an image.
    fn image_layer(&self, batch: &Batch, diff_id: DiffId) -> Result<ImageLayer> {
        let layer = self.builds.store.image_layer(&diff_id);
        let kept = layer.filter(|layer| batch.blob_size(&layer.blob.digest).is_some());
        kept.ok_or_else(|| Error::not_found(format!("layer {diff_id} is of no image any more")))
    }

    /// A directory as a layer of its own.
    fn directory_layer(&self, path: &Path) -> Result<ChainLayer> {
        let opened = |error: wharf_sys::root::RootError| Error::internal(error.to_string());
        let step = self.builds.store.begin_step(&[])?;
        let (from, to) = (Root::open(path).map_err(opened)?, Root::open(step.upper()).map_err(opened)?);
        wharf_layer::copy(&from, "/", &to, "/", &CopyOptions::default())
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(self.hold.keep(step)?)
    }
}
