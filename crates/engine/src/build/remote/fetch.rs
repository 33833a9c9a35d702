//! A cache's layer becomes a step of the build's.

use std::io::Write;

use wharf_distribution::client::{BlobEvent, Repository};
use wharf_oci::image::media_type;
use wharf_store::{Batch, ChainLayer, ImageLayer};

use super::Place;
use super::document::Remote;
use super::import::Read;
use crate::build::{Build, Step, canceled};
use crate::error::{Error, Result};

impl Build {
    /// A layer of a cache as a step: known already, or fetched, verified against both of its digests, and unpacked.
    pub(super) fn fetched_layer(&self, read: &Read, wanted: &Remote) -> Result<ChainLayer> {
        let store = &self.builds.store;
        if let Some(id) = store.adopted_step(&wanted.diff_id, wanted.created) {
            self.holder().keep_known(&id);
            let known = ChainLayer::Step(id);
            if store.has_chain(std::slice::from_ref(&known)) {
                return Ok(known);
            }
        }
        let batch = store.batch()?;
        let here = store.image_layer(&wanted.diff_id);
        let here = here.filter(|layer| batch.blob_size(&layer.blob.digest).is_some());
        let layer = match here.filter(|layer| batch.has_layer(&layer.diff_id)) {
            Some(layer) => layer,
            None => self.step(&format!("importing cache layer {}", wanted.blob.digest), |step| {
                Ok(self.bring(step, &batch, read, wanted)?)
            })?,
        };
        let id = store.adopt_step(&batch, layer, wanted.created)?;
        // Held before it is there, so that nothing takes it for one that nobody needs.
        self.holder().keep_known(&id);
        batch.commit(Vec::new(), Vec::new())?;
        Ok(ChainLayer::Step(id))
    }

    fn bring(&self, step: &Step, batch: &Batch, read: &Read, wanted: &Remote) -> Result<ImageLayer> {
        let digest = wanted.blob.digest;
        if !media_type::is_layer(&wanted.blob.media_type) {
            let kind = &wanted.blob.media_type;
            return Err(Error::invalid(format!("blob {digest} is no layer: media type {kind:?}")));
        }
        if batch.blob_size(&digest).is_none() {
            self.download(step, batch, read, wanted)?;
        }
        let blob = batch.open_blob(&digest)?;
        let (diff_id, size) = if batch.has_layer(&wanted.diff_id) {
            (batch.diff_id(blob)?, None)
        } else {
            let unpacked = batch.unpack_compressed(blob)?;
            (unpacked.diff_id, Some(unpacked.size))
        };
        if diff_id != wanted.diff_id {
            let expected = wanted.diff_id;
            return Err(Error::invalid(format!("blob {digest} is layer {diff_id}, not {expected}")));
        }
        let blob = wharf_oci::Descriptor::new(
            &wanted.blob.media_type,
            digest,
            batch.blob_size(&digest).unwrap_or(wanted.blob.size),
        );
        Ok(ImageLayer { diff_id, blob, size: size.unwrap_or_default() })
    }

    fn download(&self, step: &Step, batch: &Batch, read: &Read, wanted: &Remote) -> Result<()> {
        let digest = wanted.blob.digest;
        let started = jiff::Timestamp::now();
        let mut writer = batch.blob()?;
        match &read.place {
            Place::Here => return Err(Error::not_found(format!("blob {digest} is not here"))),
            Place::Registry(repository) => self.download_from(repository, wanted, &mut writer)?,
            Place::Client(store) => {
                let mut take =
                    |bytes: &[u8]| writer.write_all(bytes).map_err(|error| format!("write blob: {error}"));
                self.client().read_blob(store, &digest, &mut take).map_err(Error::invalid)?;
            }
        }
        batch.keep(writer, Some(&digest))?;
        step.status(&digest.to_string(), wanted.blob.size, wanted.blob.size, started, true);
        Ok(())
    }

    fn download_from(&self, repository: &Repository, wanted: &Remote, writer: &mut impl Write) -> Result<()> {
        self.runtime.block_on(async {
            let mut stream = repository.blob(&wanted.blob, 0);
            loop {
                let event = tokio::select! {
                    event = stream.next() => event?,
                    () = canceled(self.cancel()) => return Err(Error::unavailable("context canceled")),
                };
                match event {
                    None => return Ok(()),
                    Some(BlobEvent::Retrying { .. }) => {}
                    Some(BlobEvent::Bytes(bytes)) => {
                        writer.write_all(&bytes).map_err(|error| Error::io("write blob", &error))?;
                    }
                }
            }
        })
    }
}
