//! Blobs: immutable bytes in `blobs/sha256/HEX`, verified as they come in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use wharf_oci::{Digest, Hasher};

use crate::error::{Doing, Error, Result, at};
use crate::partial::Writing;

/// Bytes written between two requests to start writing them to the disk: the final sync then has little left.
const FLUSH_EVERY: u64 = 32 << 20;

/// How much of an earlier attempt is read at once, bytes.
const REPLAY: usize = 256 * 1024;

/// A blob on its way in. Dropped without being kept, its bytes vanish, unless it is resumable.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    flushed: u64,
    flusher: Option<JoinHandle<io::Result<()>>>,
    fate: Fate,
}

/// What becomes of the bytes when the writer is dropped.
#[derive(Debug)]
enum Fate {
    Vanish,
    /// They wait for the next attempt.
    Stay(Writing),
    /// They belong to someone else.
    Kept,
}

/// A blob whose bytes are complete and named by their digest, but not yet on the disk.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
    file: File,
    flusher: Option<JoinHandle<io::Result<()>>>,
    /// Held until the file has its name, so that nobody else opens it to go on writing.
    _writing: Option<Writing>,
}

impl BlobWriter {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .doing(|| at("create", &path))?;
        Ok(Self::new(file, path, Fate::Vanish))
    }

    /// Goes on with what an earlier attempt at a blob of `size` bytes left at `path`.
    pub(crate) fn resume(path: PathBuf, size: u64, writing: Writing) -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.doing(|| at("open", &path))?;
        if file.metadata().doing(|| at("read", &path))?.len() > size {
            file.set_len(0).doing(|| at("truncate", &path))?;
        }
        Ok(Self::new(file, path, Fate::Stay(writing)))
    }

    fn new(file: File, path: PathBuf, fate: Fate) -> Self {
        Self { file, path, hasher: Hasher::new(), size: 0, flushed: 0, flusher: None, fate }
    }

    /// Reads what an earlier attempt left, giving it to `each` piece by piece until that declines; returns how much
    /// there was. To be called before anything is written.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn replay(&mut self, mut each: impl FnMut(Vec<u8>)) -> Result<u64> {
        loop {
            let mut piece = Vec::with_capacity(REPLAY);
            let read = (&self.file).take(REPLAY as u64).read_to_end(&mut piece);
            read.doing(|| at("read", &self.path))?;
            if piece.is_empty() {
                self.flushed = self.size;
                return Ok(self.size);
            }
            self.hasher.update(&piece);
            self.size += piece.len() as u64;
            each(piece);
        }
    }

    /// Throws away everything so far: what came was wrong.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).doing(|| at("truncate", &self.path))?;
        self.hasher = Hasher::new();
        (self.size, self.flushed) = (0, 0);
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Ends the blob; with `expected`, refuses other bytes than those.
    pub(crate) fn finish(mut self, expected: Option<&Digest>) -> Result<Received> {
        let digest = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            // Wrong bytes are of no use to the next attempt.
            if let Fate::Stay(_) = self.fate {
                self.fate = Fate::Vanish;
            }
            return Err(Error::Mismatch { expected: expected.to_string(), actual: digest.to_string() });
        }
        let file = self.file.try_clone().doing(|| at("duplicate", &self.path))?;
        let writing = match std::mem::replace(&mut self.fate, Fate::Kept) {
            Fate::Stay(writing) => Some(writing),
            _ => None,
        };
        let (path, flusher) = (self.path.clone(), self.flusher.take());
        Ok(Received { digest, size: self.size, path, file, flusher, _writing: writing })
    }

    /// Lets the disk start on what is written while more arrives.
    fn flush_early(&mut self) -> io::Result<()> {
        if self.flusher.as_ref().is_some_and(|flusher| !flusher.is_finished()) {
            return Ok(());
        }
        self.flushed = self.size;
        if let Some(previous) = self.flusher.replace(flusher(&self.file)?) {
            joined(previous)?;
        }
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if self.size - self.flushed >= FLUSH_EVERY {
            self.flush_early()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let empty = self.size == 0 && self.file.metadata().is_ok_and(|meta| meta.len() == 0);
        if matches!(self.fate, Fate::Vanish) || matches!(self.fate, Fate::Stay(_)) && empty {
            // Its directory is swept as well.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Received {
    /// Lets the disk start on what [`Self::sync`] will wait for.
    pub(crate) fn flush_early(&mut self) -> Result<()> {
        if self.flusher.is_none() {
            self.flusher = Some(flusher(&self.file).doing(|| at("sync", &self.path))?);
        }
        Ok(())
    }

    /// Waits until the bytes are on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if let Some(flusher) = self.flusher.take() {
            joined(flusher).doing(|| at("sync", &self.path))?;
        }
        self.file.sync_data().doing(|| at("sync", &self.path))
    }
}

fn flusher(file: &File) -> io::Result<JoinHandle<io::Result<()>>> {
    let file = file.try_clone()?;
    std::thread::Builder::new().stack_size(64 * 1024).spawn(move || file.sync_data())
}

fn joined(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the flusher died")))
}

/// Opens a blob's file; one that should be there and is not is [`Error::NoBlob`].
pub(crate) fn open(path: &Path, digest: &Digest) -> Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoBlob(*digest)),
        other => other.doing(|| at("open", path)),
    }
}

/// Reads a small blob whole and verifies it: a damaged one is found when it is used.
pub(crate) fn read(path: &Path, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, digest)?.take(limit + 1).read_to_end(&mut bytes).doing(|| at("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::io(at("read", path), io::Error::other(format!("larger than {limit} bytes"))));
    }
    let actual = Digest::of(&bytes);
    if actual != *digest {
        return Err(Error::Mismatch { expected: digest.to_string(), actual: actual.to_string() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BlobWriter::create(dir.path().join("x")).unwrap();
        writer.write_all(b"hello").unwrap();
        let error = writer.finish(Some(&Digest::of(b"other"))).unwrap_err();
        assert!(error.is_input(), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_found_when_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, b"damaged").unwrap();
        assert!(matches!(read(&path, &Digest::of(b"good"), 100), Err(Error::Mismatch { .. })));
        assert_eq!(read(&path, &Digest::of(b"damaged"), 7).unwrap(), b"damaged");
        assert!(read(&path, &Digest::of(b"damaged"), 6).is_err());
    }
}
