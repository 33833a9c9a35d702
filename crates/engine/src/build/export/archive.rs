//! An image as an archive.

use std::io::Write;
use std::sync::Arc;

use super::options::ArchiveExport;
use super::{Exported, Product};
use crate::build::{Build, BuildFailure};
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
            let batch = self.builds.store.batch().map_err(crate::error::Error::from)?;
            let packing = Some(export.wishes.packing.unwrap_or_default());
            let composed = self.compose(step, &batch, products, &export.wishes, &export.names, packing)?;
            let wanted = Wanted { image: Arc::new(composed.record()), names: export.names.clone() };
            step.part("sending tarball", || {
                write_archive(&[wanted], export.docker, output, |digest| Ok(batch.open_blob(digest)?))
            })?;
            Ok(composed.exported(&export.names))
        })
    }
}
