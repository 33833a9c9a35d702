//! Where things are under the data root.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_oci::Digest;

use crate::error::{Doing, Result, at};

/// The directories of one data root.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Makes the directories that are missing.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        let paths = Self { root: root.to_owned() };
        let all = [
            paths.blobs(),
            paths.partials(),
            paths.layers(),
            paths.actives(),
            paths.steps(),
            crate::snapshot::tree(&paths.empty()),
            paths.trash(),
            paths.ingest(),
        ];
        for dir in all {
            fs::create_dir_all(&dir).doing(|| at("create", &dir))?;
        }
        for unrelated in [paths.layers(), paths.actives(), paths.steps()] {
            wharf_sys::spread::children(&unrelated);
        }
        Ok(paths)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("wharf.redb")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Blobs that did not arrive whole.
    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.hex())
    }

    /// Unpacked layers (overlay) or trees (vfs), one directory each.
    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("snapshots/layers")
    }

    /// Containers' writable snapshots, one directory each.
    pub(crate) fn actives(&self) -> PathBuf {
        self.root.join("snapshots/active")
    }

    /// What build steps left, one directory each.
    pub(crate) fn steps(&self) -> PathBuf {
        self.root.join("snapshots/steps")
    }

    /// A layer with nothing in it.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("snapshots/empty")
    }

    /// The layer below every image: mount points that each container needs.
    pub(crate) fn base(&self) -> PathBuf {
        self.root.join("snapshots/base")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Bytes on their way in; swept at every start.
    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }
}

/// Makes a directory's names durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).doing(|| at("sync", dir))
}
