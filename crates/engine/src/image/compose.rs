//! Making images here: a config, layers and a manifest for them.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, DiffId, Digest, History, ImageConfig, Manifest, Reference};
use wharf_store::{Batch, Image, ImageLayer};

use super::Images;
use crate::error::{Error, Result};

/// An uncompressed layer that was just brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLayer {
    /// Its digest: that of the blob too, as nothing compresses it.
    pub diff_id: DiffId,
    /// Length of the blob.
    pub blob_size: u64,
}

/// An image being made.
pub(super) struct Draft {
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<ImageLayer>,
    pub(super) parent: Option<Digest>,
}

impl Images {
    /// Makes an image of `parent` with one more layer: what `docker commit` does with a container's diff. `history` is
    /// the new step; `config` has everything but root file system and history. Names it, if asked to.
    pub fn create_from_diff(
        &self,
        parent: Option<&Digest>,
        mut config: ImageConfig,
        history: History,
        diff: &mut dyn Read,
        name: Option<&Reference>,
    ) -> Result<Arc<Image>> {
        let batch = self.store.batch()?;
        let layer = keep_layer(&batch, diff)?;
        let mut layers = Vec::new();
        if let Some(parent) = parent {
            let below = self
                .store
                .image_below(parent)
                .ok_or_else(|| Error::not_found(format!("No such image: {parent}")))?;
            config.history = self.config(parent)?.history;
            layers.clone_from(&below.layers);
        }
        config.history.push(history);
        layers.push(layer);
        let listed = parent.copied().filter(|parent| self.store.image(parent).is_some());
        let image = finish(&batch, Draft { config, layers, parent: listed })?;
        let id = image.id;
        batch.commit(vec![image], name.map(|name| (name.clone(), id)).into_iter().collect())?;
        self.store.image(&id).ok_or_else(|| Error::internal(format!("image {id} vanished")))
    }
}

/// Brings in an uncompressed layer. It is unpacked with its image.
pub(super) fn keep_layer(batch: &Batch, input: &mut dyn Read) -> Result<ImageLayer> {
    let mut writer = batch.blob()?;
    std::io::copy(input, &mut writer).map_err(|error| Error::io("read layer", &error))?;
    let (digest, size) = batch.keep(writer, None)?;
    Ok(ImageLayer {
        diff_id: DiffId(digest),
        blob: Descriptor::new(media_type::OCI_LAYER, digest, size),
        size: 0,
    })
}

/// Unpacks an image's layers and brings in its config and a manifest.
pub(super) fn finish(batch: &Batch, draft: Draft) -> Result<Image> {
    let Draft { mut config, mut layers, parent } = draft;
    unpack(batch, &mut layers)?;
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let bytes = serde_json::to_vec(&config).map_err(|error| Error::internal(error.to_string()))?;
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, batch.put(&bytes)?, bytes.len() as u64);
    let manifest = put_manifest(batch, config_descriptor.clone(), &layers)?;
    Ok(Image {
        parent,
        made: true,
        ..assemble(&config, &config_descriptor, manifest.clone(), manifest, layers, Vec::new())
    })
}

/// Unpacks layers and notes their sizes.
pub(super) fn unpack(batch: &Batch, layers: &mut [ImageLayer]) -> Result<()> {
    let sizes = batch.unpack(layers)?;
    for (layer, size) in layers.iter_mut().zip(sizes) {
        layer.size = size.unwrap_or(layer.size);
    }
    Ok(())
}

/// Writes a manifest for what came without one.
pub(super) fn put_manifest(batch: &Batch, config: Descriptor, layers: &[ImageLayer]) -> Result<Descriptor> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config,
        layers: layers.iter().map(|layer| layer.blob.clone()).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Descriptor::new(media_type::OCI_MANIFEST, batch.put(&bytes)?, bytes.len() as u64))
}

/// The record of an image. `more` are blobs to keep beside its own.
pub(crate) fn assemble(
    config: &ImageConfig,
    descriptor: &Descriptor,
    manifest: Descriptor,
    target: Descriptor,
    layers: Vec<ImageLayer>,
    more: Vec<Digest>,
) -> Image {
    let mut blobs = vec![descriptor.digest, manifest.digest, target.digest];
    blobs.extend(layers.iter().map(|layer| layer.blob.digest));
    blobs.extend(more);
    blobs.sort_unstable();
    blobs.dedup();
    Image {
        id: descriptor.digest,
        config_size: descriptor.size,
        manifest,
        target,
        layers,
        blobs,
        parent: None,
        tagged: None,
        created: config.created.clone(),
        platform: config.platform(),
        labels: config.config.labels.clone(),
        made: false,
        removed: false,
    }
}
