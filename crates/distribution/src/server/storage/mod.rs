//! What lies on disk, and the order in which it gets there.
//!
//! ```text
//! ROOT/
//!   oci-layout                          {"imageLayoutVersion":"1.0.0"}
//!   blobs/sha256/HEX, blobs/sha512/HEX  bytes, of blobs and manifests alike, once for all repositories
//!   repositories/NAME/
//!     _blobs/DIGEST                     empty: this repository may give the blob out
//!     _manifests/DIGEST                 the media type the manifest came with
//!     _tags/TAG                         a digest
//!     _referrers/SUBJECT/DIGEST         the descriptor of a manifest whose subject is SUBJECT
//!   uploads/ID, uploads/ID.of           bytes received so far; the repository they are meant for
//!   tmp/                                emptied at start
//! ```
//!
//! invariant: bytes are synced before the name that makes them visible exists, and names are synced before a request is
//! answered. What a crash can leave is a blob without a link, which garbage collection finds.
//!
//! invariant: who relies on a blob that is already there refreshes its link's time under [`Storage::hold`]; garbage
//! collection removes only what is older than its own start, and looks again while it alone holds that lock.
//!
//! Everything here blocks; the handlers call it on the pool of blocking threads.

mod blobs;
mod durable;
mod gc;
mod manifests;
mod repositories;
mod tags;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

pub use gc::{Collected, Keep};
pub(crate) use manifests::StoredManifest;

use super::name::{Algorithm, ContentDigest, Repository, Tag};

/// A registry's folder.
#[derive(Debug)]
pub(crate) struct Storage {
    root: PathBuf,
    /// Shared by what relies on blobs being there, alone for the sweep.
    sweeping: RwLock<()>,
}

impl Storage {
    /// Opens a folder, making what is missing of it.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        durable::folder(root)?;
        let root = root.canonicalize()?;
        let storage = Self { root, sweeping: RwLock::new(()) };
        let _ = std::fs::remove_dir_all(storage.temporary());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            durable::folder(&storage.blob_folder(algorithm))?;
        }
        for folder in [storage.temporary(), storage.uploads(), storage.repositories_folder()] {
            durable::folder(&folder)?;
        }
        if !storage.root.join("oci-layout").exists() {
            storage.replace(&storage.root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(storage)
    }

    /// Keeps the sweep away until it is dropped.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.sweeping.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where uploads are kept.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn blob_folder(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    fn blob(&self, digest: &ContentDigest) -> PathBuf {
        self.blob_folder(digest.algorithm()).join(digest.hex())
    }

    fn repositories_folder(&self) -> PathBuf {
        self.root.join("repositories")
    }

    fn repository(&self, name: &Repository) -> PathBuf {
        self.repositories_folder().join(name.as_str())
    }

    fn blob_link(&self, name: &Repository, digest: &ContentDigest) -> PathBuf {
        self.repository(name).join("_blobs").join(digest.to_string())
    }

    fn manifest_link(&self, name: &Repository, digest: &ContentDigest) -> PathBuf {
        self.repository(name).join("_manifests").join(digest.to_string())
    }

    fn tag_file(&self, name: &Repository, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(tag.as_str())
    }

    fn referrers_folder(&self, name: &Repository, subject: &ContentDigest) -> PathBuf {
        self.repository(name).join("_referrers").join(subject.to_string())
    }

    /// Puts `bytes` under `path` so that a reader, and a crash, sees all of them or what was there before.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable::replace(&self.temporary(), path, bytes)
    }
}

/// Marks a link or blob as relied upon now. Only done when the last time is a while ago: most pushes then write nothing.
fn refresh(path: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    if age > Duration::from_secs(1) {
        file.set_modified(SystemTime::now())?;
    }
    Ok(())
}

/// Nothing there is an answer, not a failure.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
