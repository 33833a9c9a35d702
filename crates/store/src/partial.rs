//! Blobs that did not arrive whole: `partial/HEX`, kept while a lease names them, so that a download goes on where it
//! was cut, also after the daemon was.
//!
//! Their bytes are not synced: what a power cut made of them shows when the whole blob's digest is wrong, and then
//! they are thrown away.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use wharf_oci::Digest;

use crate::blob::BlobWriter;
use crate::error::{Doing, Result, at};
use crate::{Batch, Store};

/// The partial blobs that a writer has open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writers(Arc<Mutex<HashSet<Digest>>>);

/// The only writer of one partial blob.
#[derive(Debug)]
pub(crate) struct Writing {
    writers: Writers,
    digest: Digest,
}

impl Writers {
    fn claim(&self, digest: &Digest) -> Option<Writing> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(*digest).then(|| Writing { writers: self.clone(), digest: *digest })
    }

    fn has(&self, digest: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.writers.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

impl Batch {
    /// A writer for the blob `digest` of `size` bytes that may begin with what an earlier attempt left: read that with
    /// [`BlobWriter::replay`] first. Dropped before it is kept, its bytes stay for the next attempt.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn resumable(&self, digest: &Digest, size: u64) -> Result<BlobWriter> {
        let store = self.store();
        match store.writers.claim(digest) {
            Some(writing) => BlobWriter::resume(store.paths.partial(digest), size, writing),
            // Two at a time cannot share a file; the second starts from nothing.
            None => self.blob(),
        }
    }
}

impl Store {
    /// Frees the partial blobs that no lease names and nobody writes. Returns their bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sweep_partials(&self) -> Result<u64> {
        let named: HashSet<Digest> =
            self.read().leases.values().flat_map(|lease| lease.blobs.iter().copied()).collect();
        let dir = self.paths.partials();
        let mut freed = 0;
        for entry in fs::read_dir(&dir).doing(|| at("read", &dir))? {
            let entry = entry.doing(|| at("read", &dir))?;
            let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_some_and(|digest| named.contains(&digest) || self.writers.has(&digest)) {
                continue;
            }
            freed += entry.metadata().map_or(0, |meta| meta.len());
            self.trash.take(&entry.path())?;
        }
        Ok(freed)
    }
}
