//! An image as an archive.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use wharf_oci::Digest;

use super::options::ArchiveExport;
use super::{Exported, Product};
use crate::build::{Build, BuildFailure};
use crate::error::Error;
use crate::image::{Wanted, write_archive};

impl Build {
    /// Writes an image of the results to `output`: Docker's form of an archive, or an OCI layout. On a thread that may
    /// sleep.
    ///
    /// # Errors
    /// When the disk fails, or `output`.
    pub fn export_archive(
        &self,
        products: &[Product],
        export: &ArchiveExport,
        output: impl Write,
    ) -> Result<Exported, BuildFailure> {
        let title = if export.docker { "docker" } else { "oci" };
        self.step(&format!("exporting to {title} image format"), |step| {
            let batch = self.builds.store.batch().map_err(Error::from)?;
            let packing = Some(export.wishes.packing.unwrap_or_default());
            let composed = self.compose(step, &batch, products, &export.wishes, &export.names, packing)?;
            let wanted = Wanted { image: Arc::new(composed.record()), names: export.names.clone() };
            step.part("sending tarball", || {
                write_archive(&[wanted], export.docker, output, |digest| Ok(batch.open_blob(digest)?))
            })?;
            Ok(composed.exported(&export.names))
        })
    }

    /// Writes the blobs of an image of the results to a store of the client's, which lists the image itself. On a thread
    /// that may sleep.
    ///
    /// # Errors
    /// When the disk fails, or the client.
    pub fn export_blobs(
        &self,
        products: &[Product],
        export: &ArchiveExport,
        store: &str,
    ) -> Result<Exported, BuildFailure> {
        let title = if export.docker { "docker" } else { "oci" };
        self.step(&format!("exporting to {title} image format"), |step| {
            let batch = self.builds.store.batch().map_err(Error::from)?;
            let packing = Some(export.wishes.packing.unwrap_or_default());
            let composed = self.compose(step, &batch, products, &export.wishes, &export.names, packing)?;
            let record = composed.record();
            let blobs: BTreeSet<&Digest> = record.blobs.iter().chain([&record.target.digest]).collect();
            step.part("sending blobs", || {
                blobs.into_iter().try_for_each(|digest| {
                    let gone = || Error::not_found(format!("No such blob: {digest}"));
                    let size = batch.blob_size(digest).ok_or_else(gone)?;
                    let mut file = batch.open_blob(digest)?;
                    self.client().write_blob(store, digest, size, &mut file).map_err(Error::invalid)
                })
            })?;
            Ok(composed.exported(&export.names))
        })
    }
}
