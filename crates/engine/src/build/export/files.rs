//! The files of a result themselves.

use std::io::Write;

use jiff::Timestamp;
use wharf_build::solve::Tree;
use wharf_oci::Platform;
use wharf_sys::root::Root;

use super::Product;
use super::options::FilesExport;
use crate::build::{Build, BuildFailure};
use crate::error::{Error, Result};

/// One platform's files.
#[derive(Debug)]
pub struct Part {
    /// The directory they go to, `linux_amd64`; empty: the top.
    pub prefix: String,
    /// Their top, read-only.
    pub root: Root,
    /// Nothing is newer than this, in seconds since 1970.
    pub latest: Option<i64>,
}

impl Build {
    /// The results as trees, for somebody who sends them.
    ///
    /// # Errors
    /// When a tree cannot be mounted.
    pub fn parts(&self, products: &[Product], export: &FilesExport) -> Result<Vec<Part>, BuildFailure> {
        let split = export.platform_split.unwrap_or(products.len() > 1);
        let latest = export.epoch.map(Timestamp::as_second);
        let mut parts = Vec::with_capacity(products.len());
        for product in products {
            let prefix = if split { directory(&product.platform) } else { String::new() };
            parts.push(Part { prefix, root: self.tree(product.tree.as_ref())?, latest });
        }
        Ok(parts)
    }

    /// Writes the results as one archive to `output`. On a thread that may sleep.
    ///
    /// # Errors
    /// When the disk fails, or `output`.
    pub fn export_tar(
        &self,
        products: &[Product],
        export: &FilesExport,
        output: impl Write,
    ) -> Result<(), BuildFailure> {
        self.step("exporting to client tarball", |step| {
            let parts = self.parts(products, export)?;
            let trees: Vec<_> = parts.iter().map(|part| (&part.root, part.prefix.as_bytes())).collect();
            let latest = export.epoch.map(Timestamp::as_second);
            let failed = |error: wharf_layer::Error| Error::internal(format!("write archive: {error}"));
            step.part("sending tarball", || wharf_layer::pack_all(&trees, latest, output).map(drop))
                .map_err(failed)?;
            Ok(())
        })
    }

    /// A tree's top, read-only.
    fn tree(&self, tree: Option<&Tree>) -> Result<Root> {
        let failed = |error: wharf_sys::root::RootError| Error::internal(error.to_string());
        match tree {
            Some(Tree::Directory(path)) => Root::open(path).map_err(failed),
            Some(Tree::Chain(chain)) => self.mounted(chain),
            None => self.mounted(&[]),
        }
    }

    fn mounted(&self, chain: &[wharf_store::ChainLayer]) -> Result<Root> {
        let view = self.builds.store.chain_view(chain)?;
        let mount = view.mount().map_err(|error| Error::internal(error.to_string()))?;
        Ok(Root::from_fd(mount.into_fd()))
    }
}

/// `linux_arm64`, as BuildKit names a platform's directory.
fn directory(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}
