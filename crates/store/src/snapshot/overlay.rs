//! The overlay driver: layers are stacked by the kernel, each is kept once whatever lies below it.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_layer::Whiteouts;
use wharf_oci::DiffId;
use wharf_sys::mount::Recipe;

use super::{Snapshotter, make_tree, tree};
use crate::error::{Doing, Error, Result, at};

#[derive(Debug)]
pub(super) struct Overlay;

impl Snapshotter for Overlay {
    /// Whiteouts do not depend on what they hide, so that a layer's own digest is name enough.
    fn key(&self, chain: &[DiffId]) -> String {
        chain.last().map_or_else(|| "base".to_owned(), |id| id.0.hex())
    }

    fn stacks(&self) -> bool {
        true
    }

    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Overlay
    }

    fn prepare(&self, layer: &Path, _below: &Path) -> Result<()> {
        make(layer)?;
        make_tree(&tree(layer))
    }

    fn create(&self, active: &Path, _lower: &[PathBuf]) -> Result<()> {
        make(active)?;
        make_tree(&tree(active))?;
        make(&active.join("work"))
    }

    fn recipe(&self, active: &Path, lower: &[PathBuf]) -> Recipe {
        Recipe::Overlay {
            lower: trees(lower),
            upper: tree(active),
            work: active.join("work"),
            volatile: false,
        }
    }

    fn view(&self, lower: &[PathBuf]) -> Recipe {
        Recipe::View { lower: trees(lower) }
    }

    fn data(&self, active: &Path, lower: &[PathBuf]) -> Vec<(&'static str, String)> {
        let lower: Vec<String> = trees(lower).iter().map(|dir| dir.display().to_string()).collect();
        vec![
            ("LowerDir", lower.join(":")),
            ("MergedDir", active.join("merged").display().to_string()),
            ("UpperDir", tree(active).display().to_string()),
            ("WorkDir", active.join("work").display().to_string()),
        ]
    }
}

/// The directories' trees, top first. One that comes twice hides itself below, and the kernel refuses it there.
fn trees(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = std::collections::HashSet::new();
    dirs.iter().filter(|dir| seen.insert(*dir)).map(|dir| tree(dir)).collect()
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir(dir).doing(|| at("create", dir))
}

/// Mounts a throw-away overlay below `dir`: only the kernel knows whether this file system can carry one.
pub(super) fn probe(dir: &Path) -> Result<()> {
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let result = (|| {
        let lower = probe.join("lower");
        make(&probe)?;
        make(&lower)?;
        Overlay.create(&probe.join("active"), &[])?;
        let recipe = Recipe::Overlay {
            lower: vec![lower],
            upper: probe.join("active/fs"),
            work: probe.join("active/work"),
            // Else its end syncs the whole file system.
            volatile: true,
        };
        recipe.mount().map(drop).map_err(Error::from)
    })();
    let cleaned = fs::remove_dir_all(&probe).doing(|| at("remove", &probe));
    result.and(cleaned)
}
