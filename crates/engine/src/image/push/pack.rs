//! Layers that were made here are kept as plain archives until they are pushed: then they are compressed, once, and the
//! image keeps them so. The same archive always gives the same bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, DiffId};
use wharf_store::{Batch, Image, ImageLayer};

use super::super::Images;
use super::super::compose::{assemble, put_manifest};
use super::Job;
use crate::build::export::rebased;
use crate::error::{Error, Result};

/// How hard to compress: above this, much time buys little.
const LEVEL: Compression = Compression::new(4);
/// Read from the disk at once, bytes.
const READ: usize = 256 << 10;
/// Layers compressed at a time.
const PARALLEL: usize = 4;

impl Job {
    /// The image as it can go out.
    pub(super) async fn packed(&self, image: Arc<Image>) -> Result<Arc<Image>> {
        if !image.made || !image.layers.iter().any(is_plain) {
            return Ok(image);
        }
        self.images.run(move |images| images.pack(&image)).await
    }
}

impl Images {
    fn pack(&self, image: &Image) -> Result<Arc<Image>> {
        let batch = self.store.batch()?;
        let known = self.packed_layers(&batch);
        let plain: Vec<&ImageLayer> = image
            .layers
            .iter()
            .filter(|layer| is_plain(layer) && !known.contains_key(&layer.diff_id))
            .collect();
        let mut packed = known;
        for some in plain.chunks(PARALLEL) {
            let made: Result<Vec<(DiffId, Descriptor)>> = std::thread::scope(|scope| {
                let work: Vec<_> =
                    some.iter().map(|layer| scope.spawn(|| self.compress(&batch, layer))).collect();
                let joined = work
                    .into_iter()
                    .map(|one| one.join().unwrap_or_else(|_| Err(Error::internal("the compressor died"))));
                joined.collect()
            });
            packed.extend(made?);
        }
        let layer = |layer: &ImageLayer| match packed.get(&layer.diff_id) {
            Some(blob) if is_plain(layer) => ImageLayer { blob: blob.clone(), ..layer.clone() },
            _ => layer.clone(),
        };
        let layers: Vec<ImageLayer> = image.layers.iter().map(layer).collect();
        let config = self.config(&image.id)?;
        let descriptor = Descriptor::new(media_type::OCI_CONFIG, image.id, image.config_size);
        let manifest = put_manifest(&batch, descriptor.clone(), &layers)?;
        // What an index says of the image beside its manifest is said of the new one.
        let (target, more) = match image.target.digest == image.manifest.digest {
            true => (manifest.clone(), Vec::new()),
            false => rebased(&batch, &image.target, &image.manifest.digest, &manifest)?,
        };
        let new = assemble(&config, &descriptor, manifest, target, layers, more);
        // What the record takes over must not be reclaimed before it is written.
        if !new.blobs.iter().all(|blob| batch.blob_size(blob).is_some()) {
            return Err(Error::not_found(format!("No such image: {}", image.id)));
        }
        let id = new.id;
        batch.replace(Image { made: true, ..new })?;
        self.store.image(&id).ok_or_else(|| Error::not_found(format!("No such image: {id}")))
    }

    /// Compressed blobs that other images have for the same layers.
    fn packed_layers(&self, batch: &Batch) -> HashMap<DiffId, Descriptor> {
        let images = self.store.images();
        let layers = images.iter().flat_map(|image| &image.layers).filter(|layer| !is_plain(layer));
        let kept = layers.filter(|layer| batch.blob_size(&layer.blob.digest).is_some());
        kept.map(|layer| (layer.diff_id, layer.blob.clone())).collect()
    }

    fn compress(&self, batch: &Batch, layer: &ImageLayer) -> Result<(DiffId, Descriptor)> {
        let failed = |error: &io::Error| Error::io(format!("compress layer {}", layer.diff_id), error);
        let mut plain = self.store.open_blob(&layer.blob.digest)?;
        let mut encoder = GzEncoder::new(batch.blob()?, LEVEL);
        let mut buffer = vec![0; READ];
        loop {
            match plain.read(&mut buffer).map_err(|error| failed(&error))? {
                0 => break,
                count => encoder.write_all(&buffer[..count]).map_err(|error| failed(&error))?,
            }
        }
        let writer = encoder.finish().map_err(|error| failed(&error))?;
        let (digest, size) = batch.keep(writer, None)?;
        Ok((layer.diff_id, Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size)))
    }
}

fn is_plain(layer: &ImageLayer) -> bool {
    matches!(layer.blob.media_type.as_str(), media_type::OCI_LAYER | media_type::DOCKER_LAYER)
}
