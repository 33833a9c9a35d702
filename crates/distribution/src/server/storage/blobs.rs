//! Blobs: bytes once for all repositories, a link for each repository that has them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::{Storage, durable, found, refresh};
use crate::server::name::{ContentDigest, Repository};

impl Storage {
    /// Opens a blob of a repository; its bytes' number with it.
    pub(crate) fn open_blob(
        &self,
        name: &Repository,
        digest: &ContentDigest,
    ) -> io::Result<Option<(File, u64)>> {
        if !self.blob_link(name, digest).exists() {
            return Ok(None);
        }
        let Some(file) = found(File::open(self.blob(digest)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    /// The size of a repository's blob, which from now on counts as just used: a client that hears it will not send it.
    pub(crate) fn relied_on(&self, name: &Repository, digest: &ContentDigest) -> io::Result<Option<u64>> {
        let _held = self.hold();
        if found(refresh(&self.blob_link(name, digest)))?.is_none() {
            return Ok(None);
        }
        Ok(found(std::fs::metadata(self.blob(digest)))?.map(|metadata| metadata.len()))
    }

    /// Gives `name` a blob that `from` has, or that any repository has; whether there was one.
    pub(crate) fn mount(
        &self,
        name: &Repository,
        digest: &ContentDigest,
        from: Option<&Repository>,
    ) -> io::Result<bool> {
        let _held = self.hold();
        if from.is_some_and(|from| !self.blob_link(from, digest).exists()) {
            return Ok(false);
        }
        if found(refresh(&self.blob(digest)))?.is_none() {
            return Ok(false);
        }
        durable::mark(&self.blob_link(name, digest))?;
        Ok(true)
    }

    /// Makes the verified bytes of `file`, which lies at `path` on the same file system, the blob `digest` of `name`.
    pub(crate) fn keep_blob(
        &self,
        name: &Repository,
        digest: &ContentDigest,
        file: &File,
        path: &Path,
    ) -> io::Result<()> {
        let blob = self.blob(digest);
        let synced = !blob.exists();
        if synced {
            // The last byte may have come long ago, and for a moment nothing will refer to the blob.
            file.set_modified(SystemTime::now())?;
            file.sync_data()?;
        }
        let _held = self.hold();
        if found(refresh(&blob))?.is_some() {
            std::fs::remove_file(path)?;
        } else {
            if !synced {
                file.sync_data()?;
            }
            // Two uploads of the same blob may both come here: the second rename replaces equal bytes.
            std::fs::rename(path, &blob)?;
        }
        durable::mark(&self.blob_link(name, digest))?;
        // Last, and also for a blob that was there: whoever brought it may not have come this far. Most file systems have
        // written both names with the first of the two syncs.
        durable::sync_folder(&self.blob_folder(digest.algorithm()))
    }

    /// Takes a blob from a repository; whether it had it. The bytes go with the next garbage collection.
    pub(crate) fn remove_blob(&self, name: &Repository, digest: &ContentDigest) -> io::Result<bool> {
        durable::remove(&self.blob_link(name, digest))
    }
}
