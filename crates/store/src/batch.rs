//! Bringing bytes in: blobs, unpacked layers, images and names that appear together or not at all.
//!
//! Worked example, one image whose layer arrives as `stream`:
//! ```text
//! let batch = store.batch()?;
//! let mut writer = batch.blob()?;                 // io::copy(stream, writer)
//! let layer = batch.keep(writer, Some(&digest))?; // verified; another digest is refused
//! let sizes = batch.unpack(&layers)?;             // verified against the diff ids
//! batch.commit(vec![image], vec![(name, id)])?;   // synced, renamed, recorded
//! ```
//! A batch that is dropped before its commit leaves nothing. What it relies on in the store is kept until it ends.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_oci::{DiffId, Digest, Reference};
use wharf_sys::failpoint;

use crate::blob::{self, BlobWriter, Received};
use crate::error::{Doing, Result, at};
use crate::image::{Blob, Image, Layer, Name};
use crate::lease::Held;
use crate::paths::sync_dir;
use crate::step::{Exported, StepRecord};
use crate::{Store, schema};

/// Work under way; see the module's text.
#[derive(Debug)]
pub struct Batch {
    store: Arc<Store>,
    /// Made when the first thing comes in.
    dir: PathBuf,
    made: Mutex<bool>,
    next: AtomicU64,
    pending: Mutex<Pending>,
}

/// A layer unpacked before the ones below it were known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// What it turned out to be.
    pub diff_id: DiffId,
    /// Bytes of its files, as its tar counts them.
    pub size: u64,
}

#[derive(Debug, Default)]
struct Pending {
    blobs: HashMap<Digest, Received>,
    /// By the snapshotter's key: the directory, and the bytes of its files.
    layers: HashMap<String, (PathBuf, u64)>,
    /// Build steps that become layers.
    steps: Vec<Exported>,
    /// Layers of other engines' builds that become steps, by their ids.
    adopted: Vec<(String, StepRecord)>,
    pinned_blobs: HashSet<Digest>,
    pinned_layers: HashSet<String>,
    lease: Option<Held>,
}

impl Store {
    /// Starts to bring something in.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn batch(self: &Arc<Self>) -> Result<Batch> {
        let dir = self.paths.ingest().join(self.number().to_string());
        let (made, next) = (Mutex::new(false), AtomicU64::new(0));
        Ok(Batch { store: Arc::clone(self), dir, made, next, pending: Mutex::default() })
    }
}

impl Batch {
    /// A new blob to write to.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn blob(&self) -> Result<BlobWriter> {
        BlobWriter::create(self.place()?)
    }

    /// Ends a blob. With `expected`, refuses other bytes than those.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`], or when the disk fails.
    pub fn keep(&self, writer: BlobWriter, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        self.take_in(writer.finish(expected)?)
    }

    /// Takes in a blob that is complete, from another batch maybe, whose directory it stays in until the commit.
    pub(crate) fn take_in(&self, received: Received) -> Result<(Digest, u64)> {
        let (digest, size) = (received.digest, received.size);
        if self.blob_size(&digest).is_some() {
            fs::remove_file(&received.path).doing(|| at("remove", &received.path))?;
        } else {
            self.pending().blobs.insert(digest, received);
        }
        Ok((digest, size))
    }

    /// Brings in a blob that is in memory.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest).is_some() {
            return Ok(digest);
        }
        let mut writer = self.blob()?;
        std::io::Write::write_all(&mut writer, bytes).doing(|| "write blob".to_owned())?;
        Ok(self.keep(writer, None)?.0)
    }

    /// Leaves out of the commit what came in and is not `wanted`: what only an archive needed to be read.
    pub fn keep_only(&self, wanted: &HashSet<Digest>) {
        self.pending().blobs.retain(|digest, _| wanted.contains(digest));
    }

    /// The length of a blob that is here or in the store; one in the store is kept while the batch lives.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let mut pending = self.pending();
        if let Some(received) = pending.blobs.get(digest) {
            return Some(received.size);
        }
        let mut state = self.store.write();
        let size = state.blobs.get(digest)?.size;
        if pending.pinned_blobs.insert(*digest) {
            *state.pinned_blobs.entry(*digest).or_default() += 1;
        }
        Some(size)
    }

    /// Opens a blob that is here or in the store.
    ///
    /// # Errors
    /// [`crate::Error::NoBlob`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        blob::open(&self.blob_path(digest), digest)
    }

    /// Reads a small blob that is here or in the store.
    ///
    /// # Errors
    /// [`crate::Error::NoBlob`], or when it has more than `limit` bytes.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        blob::read(&self.blob_path(digest), digest, limit)
    }

    /// Syncs, renames and records everything, the names last. Images that are there already keep what they have.
    ///
    /// # Errors
    /// When the disk fails; what was renamed but not recorded is swept at the next start.
    pub fn commit(self, images: Vec<Image>, names: Vec<(Reference, Digest)>) -> Result<()> {
        self.commit_with(|store| merge(store, images, names))
    }

    /// Like [`Self::commit`], for an image that was made here and is made again with other blobs for the same layers:
    /// its names follow, and the old blobs are freed where nothing else has them.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn replace(self, image: Image) -> Result<()> {
        let store = Arc::clone(&self.store);
        self.commit_with(|store| renamed(store, image))?;
        store.collect()
    }

    fn commit_with(self, records: impl FnOnce(&Store) -> (Vec<Image>, Vec<(String, Name)>)) -> Result<()> {
        let mut pending = std::mem::take(&mut *self.pending());
        let pinned = Pending {
            pinned_blobs: std::mem::take(&mut pending.pinned_blobs),
            pinned_layers: std::mem::take(&mut pending.pinned_layers),
            ..Pending::default()
        };
        // Put back, so that the drop releases them whatever happens below.
        *self.pending() = pinned;
        // What takes long is done before others have to wait.
        pending.blobs.values_mut().try_for_each(Received::sync)?;
        let store = &self.store;
        let _changing = store.change();
        let blobs = self.place_blobs(pending.blobs)?;
        failpoint::pass("images.blobs");
        let mut layers = store.place_layers(pending.layers)?;
        let steps = store.place_steps(&pending.steps)?;
        layers.extend(steps.layers);
        let mut records_of_steps = steps.records;
        records_of_steps.extend(pending.adopted);
        failpoint::pass("images.layers");
        let (images, names) = records(store);
        let complete = !images.is_empty();
        let write = store.database.begin_write()?;
        for (digest, blob) in &blobs {
            schema::put(&write, schema::BLOBS, &digest.to_string(), blob)?;
        }
        for (key, layer) in &layers {
            schema::put(&write, schema::LAYERS, key, layer)?;
        }
        for image in &images {
            schema::put(&write, schema::IMAGES, &image.id.to_string(), image)?;
        }
        for (name, target) in &names {
            schema::put(&write, schema::NAMES, name, target)?;
        }
        for (id, step) in &records_of_steps {
            schema::put(&write, schema::STEPS, id, step)?;
        }
        if let Some(lease) = &pending.lease {
            schema::delete(&write, schema::LEASES, &lease.key)?;
        }
        write.commit()?;
        failpoint::pass("images.recorded");
        let mut state = store.write();
        if let Some(lease) = &pending.lease {
            state.leases.remove(&lease.key);
        }
        state.blobs.extend(blobs);
        state.layers.extend(layers);
        state.steps.extend(records_of_steps);
        state.images.extend(images);
        state.names.extend(names);
        drop(state);
        // Layers on their own are part of something that has not ended.
        if complete {
            store.sync_in_background();
        }
        Ok(())
    }

    fn place_blobs(&self, blobs: HashMap<Digest, Received>) -> Result<Vec<(Digest, Blob)>> {
        let mut placed = Vec::with_capacity(blobs.len());
        for (digest, received) in blobs {
            let (from, size) = (&received.path, received.size);
            let to = self.store.paths.blob(&digest);
            fs::rename(from, &to).doing(|| at("rename to", &to))?;
            placed.push((digest, Blob { size }));
        }
        if !placed.is_empty() {
            sync_dir(&self.store.paths.blobs())?;
        }
        Ok(placed)
    }

    /// An empty directory on the store's disk that goes with the batch.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn scratch(&self) -> Result<PathBuf> {
        let place = self.place()?;
        fs::create_dir(&place).doing(|| at("create", &place))?;
        Ok(place)
    }

    /// Ends the lease: what was to come is worth nothing to another attempt.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn give_up(self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let lease = self.pending().lease.take();
        drop(self);
        lease.map_or(Ok(()), |lease| store.end_lease(lease))
    }

    /// Keeps a lease until the batch ends.
    pub(crate) fn hold(&self, lease: Held) {
        self.pending().lease = Some(lease);
    }

    /// A build step becomes a layer with the commit.
    pub(crate) fn export(&self, step: Exported) {
        self.pending().steps.push(step);
    }

    /// A layer becomes a build step's with the commit.
    pub(crate) fn add_step(&self, id: String, record: StepRecord) {
        self.pending().adopted.push((id, record));
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A path of its own for something on its way in. Names never repeat, see [`spread`].
    pub(crate) fn place(&self) -> Result<PathBuf> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !*made {
            fs::create_dir(&self.dir).doing(|| at("create", &self.dir))?;
            spread(&self.dir);
            *made = true;
        }
        drop(made);
        let nanos = jiff::Timestamp::now().as_nanosecond();
        Ok(self.dir.join(format!("{nanos:x}-{}", self.next.fetch_add(1, Ordering::Relaxed))))
    }

    /// The size of a layer that is here, or that a build step becomes.
    pub(crate) fn pending_layer(&self, key: &str) -> Option<u64> {
        let pending = self.pending();
        let step = |step: &&Exported| step.bound.is_none() && step.layer.diff_id.0.hex() == key;
        let known = pending.layers.get(key).map(|(_, size)| *size);
        known.or_else(|| pending.steps.iter().find(step).map(|step| step.layer.size))
    }

    /// The directory of a layer that is here or in the store.
    pub(crate) fn layer_dir(&self, key: &str) -> PathBuf {
        let pending = self.pending();
        pending.layers.get(key).map_or_else(|| self.store.paths.layers().join(key), |(dir, _)| dir.clone())
    }

    /// Whether the store has the layer, which is then kept while the batch lives.
    pub(crate) fn pin_layer(&self, key: &str) -> bool {
        let mut pending = self.pending();
        let mut state = self.store.write();
        if !state.layers.contains_key(key) {
            return false;
        }
        if pending.pinned_layers.insert(key.to_owned()) {
            *state.pinned_layers.entry(key.to_owned()).or_default() += 1;
        }
        true
    }

    /// Takes in an unpacked layer; the directory goes if there is one already.
    pub(crate) fn add_layer(&self, key: String, dir: PathBuf, size: u64) -> Result<()> {
        let previous = self.pending().layers.insert(key, (dir, size));
        previous.map_or(Ok(()), |(dir, _)| self.discard(&dir))
    }

    /// Takes away something of this batch.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        self.store.trash.take(path)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let pending = self.pending();
        pending
            .blobs
            .get(digest)
            .map_or_else(|| self.store.paths.blob(digest), |received| received.path.clone())
    }

    // Only plain inserts and removes happen under the lock: a panic elsewhere leaves it whole.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut *self.pending());
        {
            let mut state = self.store.write();
            for digest in pending.pinned_blobs {
                release(&mut state.pinned_blobs, &digest);
            }
            for key in pending.pinned_layers {
                release(&mut state.pinned_layers, &key);
            }
        }
        if let Err(error) = self.store.trash.take(&self.dir) {
            tracing::warn!("{error}");
        }
    }
}

impl Store {
    /// Renames unpacked layers into place; called with `changing` held. They are unsynced as yet.
    pub(crate) fn place_layers(
        &self,
        layers: HashMap<String, (PathBuf, u64)>,
    ) -> Result<Vec<(String, Layer)>> {
        let mut placed = Vec::with_capacity(layers.len());
        for (key, (from, size)) in layers {
            if self.read().layers.contains_key(&key) {
                continue;
            }
            let to = self.paths.layers().join(&key);
            // Nothing recorded stands there: at most what a failed commit left.
            self.trash.take(&to)?;
            fs::rename(&from, &to).doing(|| at("rename to", &to))?;
            placed.push((key, Layer { unsynced: Some(self.boot.clone()), size, disk: None }));
        }
        Ok(placed)
    }
}

/// Asks ext4 to place each directory made in `dir` in a part of the disk of its own, chosen by its name, which should never
/// repeat. Otherwise a new layer's files go where the last removed image's were, and there ext4 spends half a load on stepping over inodes
/// that were freed in the last minutes (`recently_deleted`). Other file systems refuse, which is fine.
pub fn spread(dir: &Path) {
    let Ok(dir) = File::open(dir) else { return };
    let flags = rustix::fs::ioctl_getflags(&dir).unwrap_or(rustix::fs::IFlags::empty());
    let _ = rustix::fs::ioctl_setflags(&dir, flags | rustix::fs::IFlags::TOPDIR);
}

fn release<K: std::hash::Hash + Eq>(pins: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = pins.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            pins.remove(key);
        }
    }
}

/// A made image with its names, as they are when it is made again.
fn renamed(store: &Store, image: Image) -> (Vec<Image>, Vec<(String, Name)>) {
    let state = store.read();
    let Some(known) = state.images.get(&image.id) else { return (Vec::new(), Vec::new()) };
    let old = known.target.digest;
    let named = state.names.iter().filter(|(_, name)| name.image == image.id && name.target == old);
    let target = Name { image: image.id, target: image.target.digest };
    let names = named.map(|(name, _)| (name.clone(), target)).collect();
    let (parent, tagged) = (known.parent, known.tagged.clone());
    (vec![Image { parent, tagged, removed: known.removed, ..image }], names)
}

/// What an image known already gains from being brought in again: another manifest's blobs, a new life after removal.
fn merge(
    store: &Store,
    images: Vec<Image>,
    names: Vec<(Reference, Digest)>,
) -> (Vec<Image>, Vec<(String, Name)>) {
    let state = store.read();
    let mut merged: Vec<Image> = Vec::with_capacity(images.len());
    for mut image in images {
        if let Some(known) = state.images.get(&image.id) {
            let more =
                known.blobs.iter().filter(|blob| !image.blobs.contains(blob)).copied().collect::<Vec<_>>();
            image.blobs.extend(more);
            image.parent = image.parent.or(known.parent);
            image.tagged = image.tagged.or_else(|| known.tagged.clone());
        }
        merged.push(image);
    }
    let now = jiff::Timestamp::now().to_string();
    let mut records = Vec::with_capacity(names.len());
    for (name, id) in names {
        let target = match merged.iter_mut().find(|image| image.id == id) {
            Some(image) => {
                image.tagged = Some(now.clone());
                image.target.digest
            }
            None => match state.images.get(&id) {
                Some(known) => {
                    merged.push(Image { tagged: Some(now.clone()), removed: false, ..(**known).clone() });
                    known.target.digest
                }
                None => continue,
            },
        };
        records.push((name.to_string(), Name { image: id, target }));
    }
    (merged, records)
}
