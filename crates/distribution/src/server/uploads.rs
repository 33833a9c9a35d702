//! Uploads: bytes on their way to become blobs.
//!
//! The file is the truth: its length is how far the upload is, so that one can go on after a restart. The running
//! digest is kept in memory only; where it is missing, or ends elsewhere than the file, the file is read again.
//!
//! A request that adds to an upload takes it over: one that still waits for bytes of a connection that is in fact gone
//! is told to end, so that a client which comes back is not kept waiting for a timeout.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedMutexGuard};

use super::name::{Algorithm, ContentDigest, Hasher, Repository, UploadId};

/// Blobs this many bytes are hashed and written at once.
const READ_AGAIN: usize = 1 << 18;

/// A write that took this long had to wait for the disk.
const SLOW: Duration = Duration::from_millis(50);
/// For how long it is believed that the next ones would have to wait, too.
const SLOW_SPELL: Duration = Duration::from_millis(500);

/// All uploads under way.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    limit: usize,
    pace: Pace,
    open: Mutex<HashMap<UploadId, Arc<Upload>>>,
}

/// Whether writes go to memory, as they do until the kernel has more to write back than it likes, or wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    slow_since: Mutex<Option<Instant>>,
}

impl Pace {
    /// Whether a write is likely not to wait.
    pub(crate) fn is_quick(&self) -> bool {
        let slow_since = *self.slow_since.lock().unwrap_or_else(PoisonError::into_inner);
        slow_since.is_none_or(|since| since.elapsed() >= SLOW_SPELL)
    }

    /// Learns from a write.
    pub(crate) fn took(&self, time: Duration) {
        if time >= SLOW {
            *self.slow_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

/// One upload.
#[derive(Debug)]
pub(crate) struct Upload {
    id: UploadId,
    repository: Repository,
    path: PathBuf,
    /// Bytes that are in the file, for who asks while more come in.
    written: AtomicU64,
    /// Finished or cancelled.
    closed: AtomicBool,
    /// Told to a request that holds the upload when another wants it.
    taken_over: Notify,
    /// How many requests wait for it.
    waiting: AtomicUsize,
    state: Arc<tokio::sync::Mutex<Running>>,
}

/// What is known of the bytes so far.
#[derive(Debug)]
pub(crate) struct Running {
    file: Option<File>,
    hasher: Hasher,
    hashed: u64,
}

/// Exclusive use of an upload.
#[derive(Debug)]
pub(crate) struct Held {
    upload: Arc<Upload>,
    running: OwnedMutexGuard<Running>,
}

impl Uploads {
    /// The uploads of a folder, of which at most `limit` may be open.
    pub(crate) fn open(folder: PathBuf, limit: usize) -> io::Result<Self> {
        let uploads = Self { folder, limit, pace: Pace::default(), open: Mutex::default() };
        for entry in std::fs::read_dir(&uploads.folder)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(UploadId::parse) else { continue };
            if let Ok(upload) = uploads.read(&id) {
                uploads.lock().insert(id, Arc::new(upload));
            }
        }
        Ok(uploads)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Arc<Upload>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, id: &UploadId) -> io::Result<Upload> {
        let repository = std::fs::read_to_string(self.owner(id))?;
        let repository =
            Repository::parse(&repository).ok_or_else(|| io::Error::other("no repository's name"))?;
        let length = std::fs::metadata(self.folder.join(id.as_str()))?.len();
        Ok(self.upload(id.clone(), repository, Algorithm::Sha256, length))
    }

    fn upload(&self, id: UploadId, repository: Repository, algorithm: Algorithm, written: u64) -> Upload {
        let running = Running { file: None, hasher: Hasher::new(algorithm), hashed: 0 };
        Upload {
            path: self.folder.join(id.as_str()),
            id,
            repository,
            written: AtomicU64::new(written),
            closed: AtomicBool::new(false),
            taken_over: Notify::new(),
            waiting: AtomicUsize::new(0),
            state: Arc::new(tokio::sync::Mutex::new(running)),
        }
    }

    fn owner(&self, id: &UploadId) -> PathBuf {
        self.folder.join(format!("{}.of", id.as_str()))
    }

    /// How the disk keeps up.
    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Begins an upload; nothing when too many are open. Blocks.
    pub(crate) fn begin(
        &self,
        repository: &Repository,
        algorithm: Algorithm,
    ) -> io::Result<Option<Arc<Upload>>> {
        let id = UploadId::random()?;
        let upload = Arc::new(self.upload(id.clone(), repository.clone(), algorithm, 0));
        {
            let mut open = self.lock();
            if open.len() >= self.limit {
                return Ok(None);
            }
            open.insert(id.clone(), upload.clone());
        }
        // The owner first: a file of bytes without one would be nobody's after a restart.
        let made = std::fs::write(self.owner(&id), repository.as_str())
            .and_then(|()| File::create_new(&upload.path));
        if let Err(error) = made {
            self.forget(&upload);
            return Err(error);
        }
        Ok(Some(upload))
    }

    /// The upload of that id, if it belongs to `repository`.
    pub(crate) fn find(&self, repository: &Repository, id: &UploadId) -> Option<Arc<Upload>> {
        self.lock().get(id).filter(|upload| upload.repository == *repository).cloned()
    }

    /// Removes an upload and what is left of its bytes. Blocks.
    pub(crate) fn forget(&self, upload: &Upload) {
        upload.closed.store(true, Ordering::Release);
        self.lock().remove(&upload.id);
        let _ = std::fs::remove_file(&upload.path);
        let _ = std::fs::remove_file(self.owner(&upload.id));
    }

    /// Removes uploads to which nothing was added for `idle`, and files that belong to none; how many. Blocks.
    pub(crate) fn expire(&self, idle: Duration) -> io::Result<u64> {
        let mut removed = 0;
        let open: Vec<_> = self.lock().values().cloned().collect();
        for upload in open {
            // A request that holds it is adding to it.
            let Ok(_held) = upload.state.clone().try_lock_owned() else { continue };
            let age = std::fs::metadata(&upload.path).and_then(|metadata| metadata.modified());
            if age.is_ok_and(|age| age.elapsed().unwrap_or_default() >= idle) {
                self.forget(&upload);
                removed += 1;
            }
        }
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let known =
                UploadId::parse(name.trim_end_matches(".of")).is_some_and(|id| self.lock().contains_key(&id));
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            if !known && age.is_ok_and(|age| age.elapsed().unwrap_or_default() >= idle) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(removed)
    }
}

impl Upload {
    /// Its id.
    pub(crate) const fn id(&self) -> &UploadId {
        &self.id
    }

    /// Where its bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes have arrived.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends when another request wants this upload.
    pub(crate) async fn wanted_elsewhere(&self) {
        // Made before the look, so that who comes between the two is heard.
        let told = self.taken_over.notified();
        if self.waiting.load(Ordering::Acquire) == 0 {
            told.await;
        }
    }

    /// Takes the upload, from whoever has it.
    pub(crate) async fn hold(self: Arc<Self>) -> Held {
        if let Ok(running) = self.state.clone().try_lock_owned() {
            return Held { upload: self, running };
        }
        let waiting = Waiting::on(&self);
        self.taken_over.notify_waiters();
        let running = self.state.clone().lock_owned().await;
        drop(waiting);
        Held { upload: self, running }
    }
}

/// A request that waits for an upload, counted until it has it or is gone.
struct Waiting(Arc<Upload>);

impl Waiting {
    fn on(upload: &Arc<Upload>) -> Self {
        upload.waiting.fetch_add(1, Ordering::AcqRel);
        Self(upload.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Held {
    /// How many bytes have arrived.
    pub(crate) fn written(&self) -> u64 {
        self.upload.written()
    }

    /// Whether the upload is still there: another request may have finished or cancelled it.
    pub(crate) fn is_open(&self) -> bool {
        !self.upload.closed.load(Ordering::Acquire)
    }

    /// The upload that is held.
    pub(crate) const fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// Forgets the bytes behind `end`. Blocks.
    pub(crate) fn cut_to(&mut self, end: u64) -> io::Result<()> {
        self.append(&[])?;
        let Running { file: Some(file), hasher, hashed } = &mut *self.running else { return Ok(()) };
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        (*hasher, *hashed) = (Hasher::new(hasher.algorithm()), 0);
        self.upload.written.store(end, Ordering::Release);
        Ok(())
    }

    /// Adds bytes at the end. Blocks.
    pub(crate) fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let written = self.written();
        if self.running.file.is_none() {
            let mut file = File::options().read(true).write(true).open(&self.upload.path)?;
            file.seek(SeekFrom::Start(written))?;
            self.running.file = Some(file);
        }
        let Running { file: Some(file), hasher, hashed } = &mut *self.running else { return Ok(()) };
        let mut end = written;
        for piece in pieces {
            if let Err(error) = file.write_all(piece) {
                // What is behind the last whole piece does not count, and is written over.
                file.set_len(end)?;
                file.seek(SeekFrom::Start(end))?;
                return Err(error);
            }
            if *hashed == end {
                hasher.update(piece);
                *hashed += piece.len() as u64;
            }
            end += piece.len() as u64;
            self.upload.written.store(end, Ordering::Release);
        }
        Ok(())
    }

    /// The digest of all bytes by `algorithm`, with the file they are in and its path. Blocks.
    pub(crate) fn digest(&mut self, algorithm: Algorithm) -> io::Result<(ContentDigest, &File, &Path)> {
        let written = self.written();
        self.append(&[])?;
        let Running { file: Some(file), hasher, hashed } = &mut *self.running else {
            return Err(io::Error::other("the upload has no file"));
        };
        if hasher.algorithm() != algorithm {
            (*hasher, *hashed) = (Hasher::new(algorithm), 0);
        }
        if *hashed != written {
            read_again(file, hasher, hashed, written)?;
        }
        Ok((hasher.clone().finish(), file, &self.upload.path))
    }
}

impl Drop for Held {
    /// Uploads that nobody adds to hold no descriptor.
    fn drop(&mut self) {
        self.running.file = None;
    }
}

/// Takes the running digest from where it is to the end of the file.
fn read_again(file: &mut File, hasher: &mut Hasher, hashed: &mut u64, end: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(*hashed))?;
    let mut buffer = vec![0; READ_AGAIN];
    while *hashed < end {
        let left = usize::try_from(end - *hashed).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read(&mut buffer[..left])?;
        if read == 0 {
            return Err(io::Error::other("the upload's file is shorter than it was"));
        }
        hasher.update(&buffer[..read]);
        *hashed += read as u64;
    }
    file.seek(SeekFrom::Start(end)).map(drop)
}
