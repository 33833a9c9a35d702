//! How much disk is used, and by what.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use wharf_oci::DiffId;

use crate::Store;

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its files; those with several names count once.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
}

/// What the whole data root takes for images and snapshots, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Blobs as received.
    pub blobs: u64,
    /// Unpacked layers, each counted once.
    pub layers: u64,
    /// Removed, but not yet freed.
    pub trash: u64,
}

impl Store {
    /// What images take. Walks the trash, reads the rest from the records.
    #[must_use]
    pub fn disk_usage(&self) -> DiskUsage {
        let trash = walk(&self.paths.trash()).unwrap_or_default().bytes;
        let state = self.read();
        let layers: HashMap<DiffId, u64> = state
            .images
            .values()
            .flat_map(|image| &image.layers)
            .map(|layer| (layer.diff_id, layer.size))
            .collect();
        DiskUsage {
            blobs: state.blobs.values().map(|blob| blob.size).sum(),
            layers: layers.values().sum(),
            trash,
        }
    }
}

/// Counts a tree without following links. What vanishes while walking is not counted.
pub(crate) fn walk(dir: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = std::collections::HashSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let meta = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() > 1 && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            usage.inodes += 1;
            if meta.is_file() {
                usage.bytes += meta.len();
            }
        }
    }
    Ok(usage)
}
