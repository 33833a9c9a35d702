//! How much disk is used, and by what.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Doing, Result, at};
use crate::{Store, schema};

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its files; those with several names count once.
    pub bytes: u64,
    /// Number of inodes.
    pub inodes: u64,
    /// Bytes of the blocks that files and directories take on the disk.
    pub disk: u64,
}

/// What the whole data root takes for images and snapshots: bytes of blocks on the disk, so that the sum is what `du`
/// counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Blobs as received.
    pub blobs: u64,
    /// Blobs that did not arrive whole, and what is on its way in.
    pub partial: u64,
    /// Unpacked layers, each counted once.
    pub layers: u64,
    /// Removed, but not yet freed.
    pub trash: u64,
    /// The records.
    pub database: u64,
}

impl DiskUsage {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.blobs + self.partial + self.layers + self.trash + self.database
    }
}

impl Store {
    /// What images take. Layers are walked once, the first time that somebody asks.
    #[must_use]
    pub fn disk_usage(&self) -> DiskUsage {
        let disk = |dir: &Path| walk(dir).unwrap_or_default().disk + own(dir);
        if let Err(error) = self.measure_layers() {
            tracing::warn!("measure layers: {error}");
        }
        let layers: u64 = self.read().layers.values().filter_map(|layer| layer.disk).sum();
        DiskUsage {
            blobs: disk(&self.paths.blobs()),
            partial: disk(&self.paths.partials()) + disk(&self.paths.ingest()),
            layers: layers + own(&self.paths.layers()) + disk(&self.paths.base()),
            trash: disk(&self.paths.trash()),
            database: own(&self.paths.database()),
        }
    }

    /// Notes what layers take that nobody has measured yet: they never change.
    fn measure_layers(&self) -> Result<()> {
        let unknown: Vec<String> = {
            let state = self.read();
            let unknown = state.layers.iter().filter(|(_, layer)| layer.disk.is_none());
            unknown.map(|(key, _)| key.clone()).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let mut measured = Vec::with_capacity(unknown.len());
        for key in unknown {
            let dir = self.paths.layers().join(&key);
            measured.push((key, walk(&dir).doing(|| at("read", &dir))?.disk + own(&dir)));
        }
        let _changing = self.change();
        let write = self.database.begin_write()?;
        let mut state = self.write();
        for (key, disk) in measured {
            if let Some(layer) = state.layers.get_mut(&key) {
                layer.disk = Some(disk);
                schema::put(&write, schema::LAYERS, &key, layer)?;
            }
        }
        drop(state);
        write.commit()?;
        Ok(())
    }
}

/// What a file or directory itself takes.
fn own(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * BLOCK)
}

/// The unit of `st_blocks`, bytes.
const BLOCK: u64 = 512;

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
            usage.disk += meta.blocks() * BLOCK;
            if meta.is_file() {
                usage.bytes += meta.len();
            }
        }
    }
    Ok(usage)
}
