//! The vfs driver: every layer and every container is a whole tree. For file systems that carry no overlay.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_layer::Whiteouts;
use wharf_oci::DiffId;
use wharf_sys::mount::Recipe;

use super::{Snapshotter, chain_key, copy, tree};
use crate::error::{Doing, Result, at};

#[derive(Debug)]
pub(super) struct Vfs;

impl Snapshotter for Vfs {
    /// A tree holds what lies below it, so that its name must too.
    fn key(&self, chain: &[DiffId]) -> String {
        chain_key(chain)
    }

    fn stacks(&self) -> bool {
        false
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Apply
    }

    fn prepare(&self, layer: &Path, below: &Path) -> Result<()> {
        fs::create_dir(layer).doing(|| at("create", layer))?;
        copy::tree(&tree(below), &tree(layer))
    }

    fn create(&self, active: &Path, lower: &[PathBuf]) -> Result<()> {
        fs::create_dir(active).doing(|| at("create", active))?;
        // The topmost tree is whole; there is always one, the base if no other.
        lower.first().map_or(Ok(()), |top| copy::tree(&tree(top), &tree(active)))
    }

    fn recipe(&self, active: &Path, _lower: &[PathBuf]) -> Recipe {
        Recipe::Bind { source: tree(active) }
    }

    fn view(&self, lower: &[PathBuf]) -> Recipe {
        Recipe::Bind { source: lower.first().map(|top| tree(top)).unwrap_or_default() }
    }

    fn data(&self, _active: &Path, _lower: &[PathBuf]) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
