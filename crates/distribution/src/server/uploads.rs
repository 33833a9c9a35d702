//! Uploads: bytes on their way to become blobs.
//!
//! The file is the truth: its length is how far the upload is, so that one can go on after a restart. The running
//! digest is kept in memory only; where it is missing, or ends elsewhere than the file, the file is read again.
//!
//! A request that adds to an upload takes it over: one that still waits for bytes of a connection that is in fact gone
//! is told to end, so that a client which comes back is not kept waiting for a timeout.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::{Notify, OwnedMutexGuard};

use super::name::{Algorithm, ContentDigest, Hasher, Repository, UploadId};
use super::tail::Tail;

/// Blobs this many bytes are hashed and written at once.
const READ_AGAIN: usize = 1 << 18;
/// Files are written in blocks of this many bytes, at multiples of it: the page cache takes such a block as one, while
/// pieces as a connection happens to give them cost twice the time.
const BLOCK: usize = 256 << 10;
/// How much room is asked for at once, of what is announced: an extent found beforehand is cheaper than one found page
/// by page, and nobody gets more than this for an announcement alone.
const ROOM: u64 = 16 << 20;

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
    /// What came after the last whole block, hashed but not written.
    tail: Tail,
    /// Where the upload will end, if a request said so.
    announced: u64,
    /// Up to where the file has its room.
    reserved: u64,
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
        let running = Running {
            file: None,
            hasher: Hasher::new(algorithm),
            hashed: 0,
            tail: Tail::default(),
            announced: 0,
            reserved: 0,
        };
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

    /// Says that `length` more bytes will come.
    pub(crate) fn announce(&mut self, length: u64) {
        self.running.announced = self.written().saturating_add(length);
    }

    /// Forgets the bytes behind `end`. Blocks.
    pub(crate) fn cut_to(&mut self, end: u64) -> io::Result<()> {
        self.running.forget_tail();
        self.running.open(&self.upload.path)?.set_len(end)?;
        self.running.hash_again();
        self.upload.written.store(end, Ordering::Release);
        Ok(())
    }

    /// Adds bytes at the end; those after the last whole block are written by [`Self::flush`]. Blocks.
    pub(crate) fn append(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        let written = self.written();
        for piece in pieces {
            self.running.take(written, piece);
        }
        let end = (written + self.running.tail.size() as u64) / BLOCK as u64 * BLOCK as u64;
        self.write_to(end.max(written))
    }

    /// Writes all that was added. Blocks.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_to(self.written() + self.running.tail.size() as u64)
    }

    fn write_to(&mut self, end: u64) -> io::Result<()> {
        let written = self.written();
        if end == written {
            return Ok(());
        }
        let outcome = self.running.write(&self.upload.path, written, end);
        if outcome.is_ok() {
            self.upload.written.store(end, Ordering::Release);
        }
        outcome
    }

    /// Of what was announced and did not come.
    fn give_room_back(&self) {
        let written = self.written();
        if let Some(file) = self.running.file.as_ref().filter(|_| self.running.reserved > written) {
            let _ = file.set_len(written);
        }
    }

    /// The digest of all bytes by `algorithm`, with the file they are in and its path. Blocks.
    pub(crate) fn digest(&mut self, algorithm: Algorithm) -> io::Result<(ContentDigest, &File, &Path)> {
        self.flush()?;
        let written = self.written();
        self.running.open(&self.upload.path)?;
        let Running { file: Some(file), hasher, hashed, .. } = &mut *self.running else {
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
    /// What came of a request that was given up is kept, and uploads that nobody adds to hold no descriptor.
    fn drop(&mut self) {
        if self.is_open() {
            // The next request learns from `written` what could not be.
            let _ = self.flush();
            self.give_room_back();
        }
        self.running.forget_tail();
        (self.running.file, self.running.announced, self.running.reserved) = (None, 0, 0);
    }
}

impl Running {
    fn open(&mut self, path: &Path) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().read(true).write(true).open(path)?,
        };
        Ok(self.file.insert(file))
    }

    /// Takes a piece that follows what is in the file, `written` bytes, and in the tail.
    fn take(&mut self, written: u64, piece: Bytes) {
        if self.hashed == written + self.tail.size() as u64 {
            self.hasher.update(&piece);
            self.hashed += piece.len() as u64;
        }
        self.tail.push(piece);
    }

    /// Writes the tail from `start` up to `end`. What a write that failed has written does not count, and is cut off.
    fn write(&mut self, path: &Path, start: u64, end: u64) -> io::Result<()> {
        let room = self.announced.min(start.saturating_add(ROOM));
        self.open(path)?;
        let Self { file: Some(file), tail, reserved, .. } = self else { return Ok(()) };
        if end > *reserved && room.saturating_sub(start) > BLOCK as u64 {
            // Whether there is room is for the write to say: some file systems cannot tell beforehand.
            let _ = fallocate(&*file, FallocateFlags::KEEP_SIZE, start, room - start);
            *reserved = room;
        }
        let outcome = tail.write(file, start, usize::try_from(end - start).unwrap_or(usize::MAX));
        if outcome.is_err() {
            file.set_len(start)?;
            self.forget_tail();
        }
        outcome
    }

    /// Drops what is not written.
    fn forget_tail(&mut self) {
        if self.tail.size() > 0 {
            self.tail = Tail::default();
            self.hash_again();
        }
    }

    fn hash_again(&mut self) {
        (self.hasher, self.hashed) = (Hasher::new(self.hasher.algorithm()), 0);
    }
}

/// Takes the running digest from where it is to the end of the file.
fn read_again(file: &File, hasher: &mut Hasher, hashed: &mut u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; READ_AGAIN];
    while *hashed < end {
        let left = usize::try_from(end - *hashed).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read_at(&mut buffer[..left], *hashed)?;
        if read == 0 {
            return Err(io::Error::other("the upload's file is shorter than it was"));
        }
        hasher.update(&buffer[..read]);
        *hashed += read as u64;
    }
    Ok(())
}
