//! An image of this engine: kept, named, and pushed where that is asked for.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use wharf_api::JsonMessage;
use wharf_oci::{Digest, Reference};
use wharf_store::{Batch, Image};

use super::options::ImageExport;
use super::{Exported, Packing, Product};
use crate::build::{Build, BuildFailure, Step};
use crate::error::{Error, Result};
use crate::image::PushOptions;

/// The largest manifest, bytes.
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// Where credentials for Docker Hub are kept under.
const HUB: &str = "docker.io";

impl Build {
    /// Makes an image of the results, one for each platform, and names it. On a thread that may sleep.
    ///
    /// # Errors
    /// When the disk fails, or a registry refuses it.
    pub fn export_image(&self, products: &[Product], export: &ImageExport) -> Result<Exported, BuildFailure> {
        self.step("exporting to image", |step| Ok(self.make_image(step, products, export)?))
    }

    fn make_image(&self, step: &Step, products: &[Product], export: &ImageExport) -> Result<Exported> {
        if export.push && export.names.is_empty() {
            return Err(Error::invalid("tag is needed when pushing to registry"));
        }
        let batch = self.builds.store.batch()?;
        let (wishes, names) = (&export.wishes, &export.names[..]);
        // Otherwise compressed when they are pushed, if they ever are.
        let early = export.push || products.len() > 1;
        let packing = wishes.packing.or_else(|| early.then(Packing::default));
        let composed = self.compose(step, &batch, products, wishes, names, packing)?;
        let exported = composed.exported(names);
        let record = Image { made: packing.is_none() && wishes.annotations.is_empty(), ..composed.record() };
        step.part(&format!("writing image {}", exported.id), || self.keep(batch, record, names))?;
        for name in names {
            step.part(&format!("naming to {name}"), || ());
        }
        if let Some(image) = self.builds.store.image(&exported.id) {
            names.iter().for_each(|name| self.builds.images.emit("tag", &image, &name.familiar()));
            self.builds.images.emit_id("create", &image);
        }
        if export.push {
            names.iter().try_for_each(|name| self.push(step, name))?;
        }
        Ok(exported)
    }

    /// A manifest or an index of an image that was made, as it is kept.
    #[must_use]
    pub fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.builds.store.read_blob(digest, LARGEST_DOCUMENT).ok()
    }

    /// Records the image with its names; what is known already costs nothing.
    fn keep(&self, batch: Batch, mut image: Image, names: &[Reference]) -> Result<()> {
        let store = &self.builds.store;
        let known = store.image(&image.id).filter(|known| known.target.digest == image.target.digest);
        let named = |name: &Reference| {
            store.name(name).is_some_and(|at| at.image == image.id && at.target == image.target.digest)
        };
        if known.is_some() && names.iter().all(named) {
            return Ok(());
        }
        let sizes = batch.unpack(&image.layers)?;
        for (layer, size) in image.layers.iter_mut().zip(sizes) {
            layer.size = size.unwrap_or(layer.size);
        }
        let id = image.id;
        Ok(batch.commit(vec![image], names.iter().map(|name| (name.clone(), id)).collect())?)
    }

    /// Sends what a name means to its registry.
    fn push(&self, step: &Step, name: &Reference) -> Result<()> {
        let host = if name.domain().is_empty() { HUB } else { name.domain() };
        let options = PushOptions {
            reference: name.clone(),
            platform: None,
            credentials: self.client().credentials(host),
        };
        step.part(&format!("pushing {name}"), || {
            let images = Arc::clone(&self.builds.images);
            let progress = self.runtime.block_on(async move { images.push(options).await })?;
            for line in BufReader::new(progress.into_reader()).lines() {
                let line = line.map_err(|error| Error::io(format!("push {name}"), &error))?;
                let message: JsonMessage = serde_json::from_str(&line).unwrap_or_default();
                if !message.error.is_empty() {
                    let error = message.error;
                    return Err(Error::unavailable(format!("failed to push {}: {error}", name.familiar())));
                }
            }
            Ok(())
        })
    }
}
