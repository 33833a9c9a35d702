//! What the solver needs of the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_build::graph::{NodeId, StoredLayer};
use wharf_build::solve::{Cancel, Host, Listing, LocalRequest, Process};
use wharf_oci::{Digest, Platform};
use wharf_store::{Chain, ChainLayer};

use super::solve::RunOptions;
use super::vertex::Steps;
use super::{Build, run};

/// One solve of one build.
pub(super) struct Hosted<'a> {
    pub(super) build: &'a Build,
    pub(super) options: &'a RunOptions,
    pub(super) steps: &'a Steps,
}

impl Host for Hosted<'_> {
    fn image(&self, reference: &str, id: &str, _: &Platform, _: NodeId) -> Result<Chain, String> {
        let id = id.parse().map_err(|_| format!("image id {id} is not a digest"))?;
        let image = self.build.builds.store.image_below(&id);
        let image = image.ok_or_else(|| format!("image {reference} was removed while it was built upon"))?;
        Ok(image.layers.iter().map(|layer| ChainLayer::Image(layer.diff_id)).collect())
    }

    fn stored(&self, store: &str, layers: &[StoredLayer], _: NodeId) -> Result<Chain, String> {
        self.build.stored(store, layers)
    }

    fn local(&self, request: &LocalRequest<'_>, node: NodeId) -> Result<PathBuf, String> {
        self.build.local(request, &self.steps.of(node))
    }

    fn revision(&self, directory: &Path) -> Option<u64> {
        self.build.builds.mirrors().revision(directory)
    }

    fn listing(&self, directory: &Path) -> Option<Arc<dyn Listing>> {
        self.build.builds.mirrors().listing(directory)
    }

    fn git(&self, address: &str, keep_git_dir: bool, node: NodeId) -> Result<PathBuf, String> {
        self.build.git(address, keep_git_dir, &self.steps.of(node))
    }

    fn http(
        &self,
        url: &str,
        checksum: Option<&str>,
        file_name: &str,
        node: NodeId,
    ) -> Result<PathBuf, String> {
        self.build.http(url, checksum, file_name, &self.steps.of(node))
    }

    fn execute(&self, process: &Process<'_>, cancel: &Cancel, node: NodeId) -> Result<i32, String> {
        run::execute(self, process, cancel, &self.steps.of(node))
    }

    fn made(&self, chain: &Chain) {
        self.build.early.made(&self.build.builds.store, chain);
    }

    fn elsewhere(&self, key: &Digest, count: usize) -> Option<Vec<Chain>> {
        self.build.elsewhere(key, count)
    }

    fn is_elsewhere(&self, key: &Digest, count: usize) -> bool {
        self.build.is_elsewhere(key, count)
    }

    fn recalled(&self, recipe: &Digest) -> Option<Digest> {
        self.build.recalled(recipe)
    }

    fn has_elsewhere(&self) -> bool {
        self.build.has_elsewhere()
    }
}
