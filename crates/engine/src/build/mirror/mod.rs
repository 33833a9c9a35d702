//! Kept copies of clients' directories: what did not change since the last build is not sent again.
//!
//! A [`Mirror`] belongs to one build at a time. Its content is replaced by a [`Sync`]: the client lists its directory in
//! order, and is asked for the content of those files alone whose state differs from what was listed last time. Nobody else
//! writes to a copy, so that the list is kept in memory and nothing is looked at on the disk; a copy whose sync did not
//! come to its end is thrown away.

mod entry;
mod list;
mod sync;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use wharf_build::solve::{Cache, Listing};
use wharf_layer::{CopyOptions, copy};
use wharf_oci::Digest;
pub use wharf_sys::root::Root;

use crate::error::{Error, Result};
use crate::names::new_id;

use entry::Index;
pub use entry::{Entry, EntryKind};
pub use list::{list, list_directory, stat};
pub use sync::{Sync, SyncError};

/// The copies that are kept, at most; the one used longest ago goes first.
const MOST: usize = 64;

/// For so long a copy that was just used is not made into that of another part of the same directory, in seconds.
const SETTLED: i64 = 10;

/// What a copy is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorKey {
    /// Whose directory it is, and which; `None`: one that is not seen again.
    pub directory: Option<String>,
    /// What of it was asked for.
    pub part: String,
}

/// All copies.
pub struct Mirrors {
    top: PathBuf,
    kept: Mutex<Vec<Kept>>,
    revisions: Mutex<Revisions>,
    /// Who is told the digests of files that come.
    cache: Option<Arc<Cache>>,
}

/// What is in the copies.
#[derive(Default)]
struct Revisions {
    /// The last number that was given to the content of one.
    last: u64,
    /// Those of all copies that are whole, or become so again.
    of: HashMap<PathBuf, Revision>,
}

struct Revision {
    number: u64,
    /// `None` while it is not whole.
    index: Option<Arc<Index>>,
}

struct Kept {
    id: String,
    key: MirrorKey,
    index: Arc<Index>,
    created: Timestamp,
    used: Timestamp,
    uses: u64,
}

/// One copy, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUsage {
    /// What it is known by.
    pub id: String,
    /// What it is of.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was used last.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Mirrors").field("top", &self.top).finish_non_exhaustive()
    }
}

impl Mirrors {
    /// The copies below `top`, which is emptied: their lists went with the process that had them. `cache` learns the
    /// digests of their files.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(top: PathBuf, cache: Option<Arc<Cache>>) -> Result<Arc<Self>> {
        let failed = |error: &std::io::Error| Error::io(format!("prepare {}", top.display()), error);
        // What is left of the last process goes in the background, whatever it is worth.
        let gone = top.with_extension("gone");
        match fs::create_dir_all(&gone).and_then(|()| fs::rename(&top, gone.join(new_id()))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => fs::create_dir_all(&top).map_err(|error| failed(&error))?,
        }
        std::thread::spawn(move || remove(&gone));
        wharf_store::spread(&top);
        Ok(Arc::new(Self { top, kept: Mutex::default(), revisions: Mutex::default(), cache }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Copies are put in and taken out whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revisions(&self) -> MutexGuard<'_, Revisions> {
        // One step changes both.
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for what is in the copy at `path`, another one after any change; `None` while it is not whole.
    #[must_use]
    pub fn revision(&self, path: &Path) -> Option<u64> {
        self.revisions().of.get(path).map(|revision| revision.number)
    }

    /// All that is in the copy at `path`; `None` while it is not whole.
    #[must_use]
    pub fn listing(&self, path: &Path) -> Option<Arc<dyn Listing>> {
        let index = self.revisions().of.get(path)?.index.clone()?;
        Some(index)
    }

    /// Takes a copy for one build alone: the one of the same part, else one of the same directory that nobody is about to
    /// use again, else a new one.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn take(self: &Arc<Self>, key: MirrorKey) -> Result<Mirror> {
        let kept = match self.reuse(&key) {
            Some(kept) => kept,
            None => self.make()?,
        };
        let path = self.top.join(&kept.id);
        let root = Root::open(&path).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Mirror { mirrors: self.clone(), kept: Some(Kept { key, ..kept }), path, root, whole: true })
    }

    /// An empty directory that goes when the result is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(self: &Arc<Self>) -> Result<Mirror> {
        self.take(MirrorKey { directory: None, part: String::new() })
    }

    /// The files of an archive, which stands in `packed` under the name `archive`. Sleeps.
    ///
    /// # Errors
    /// When it is no archive, or one that leaves its directory.
    pub fn unpack(self: &Arc<Self>, packed: &Mirror) -> Result<Mirror> {
        let unpacked = self.scratch()?;
        let options = CopyOptions { unpack: true, ..CopyOptions::default() };
        copy(packed.root(), "archive", unpacked.root(), "/", &options)
            .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(unpacked)
    }

    fn reuse(&self, key: &MirrorKey) -> Option<Kept> {
        key.directory.as_ref()?;
        let mut kept = self.lock();
        let settled = Timestamp::now().as_second() - SETTLED;
        let at = kept.iter().position(|other| other.key == *key).or_else(|| {
            kept.iter()
                .position(|other| other.key.directory == key.directory && other.used.as_second() < settled)
        })?;
        Some(kept.remove(at))
    }

    fn make(&self) -> Result<Kept> {
        let id = new_id();
        let path = self.top.join(&id);
        fs::create_dir(&path).map_err(|error| Error::io(format!("create {}", path.display()), &error))?;
        let now = Timestamp::now();
        let key = MirrorKey { directory: None, part: String::new() };
        Ok(Kept { id, key, index: Arc::default(), created: now, used: now, uses: 0 })
    }

    fn give_back(&self, mut copy: Kept) {
        copy.used = Timestamp::now();
        copy.uses += 1;
        let mut kept = self.lock();
        kept.push(copy);
        if kept.len() > MOST {
            let oldest = kept.remove(0);
            drop(kept);
            self.discard(&oldest);
        }
    }

    fn discard(&self, copy: &Kept) {
        let path = self.top.join(&copy.id);
        self.revisions().of.remove(&path);
        // Many files take their time, and whoever ends a build does not wait for them.
        if copy.index.0.len() > 64 {
            std::thread::spawn(move || remove(&path));
        } else {
            remove(&path);
        }
    }

    /// All copies that no build works with.
    pub fn usage(&self) -> Vec<MirrorUsage> {
        let shown = |copy: &Kept| MirrorUsage {
            id: copy.id[..25.min(copy.id.len())].to_owned(),
            description: format!("local source for {}", copy.key.part.split('\0').next().unwrap_or_default()),
            size: copy.index.0.iter().map(|entry| entry.size).sum(),
            created: copy.created,
            used: copy.used,
            uses: copy.uses,
        };
        self.lock().iter().map(shown).collect()
    }

    /// Removes those that `wanted` names; returns them.
    pub fn prune(&self, wanted: impl Fn(&MirrorUsage) -> bool) -> Vec<MirrorUsage> {
        let removed: Vec<MirrorUsage> = self.usage().into_iter().filter(wanted).collect();
        for copy in &removed {
            let mut kept = self.lock();
            let at = kept.iter().position(|other| other.id.starts_with(&copy.id));
            let Some(found) = at.map(|at| kept.remove(at)) else { continue };
            drop(kept);
            self.discard(&found);
        }
        removed
    }
}

fn remove(path: &Path) {
    if let Err(error) = wharf_store::remove_slowly(path) {
        tracing::warn!("remove {}: {error}", path.display());
    }
}

/// A copy that one build has for itself; it goes back when this is dropped.
pub struct Mirror {
    mirrors: Arc<Mirrors>,
    /// `None` once it is given back.
    kept: Option<Kept>,
    path: PathBuf,
    root: Root,
    /// Its files are those of its list.
    whole: bool,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Mirror").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Mirror {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to bring it to what the client lists.
    pub fn sync(&mut self) -> Sync<'_> {
        self.whole = false;
        if let Some(revision) = self.mirrors.revisions().of.get_mut(&self.path) {
            revision.index = None;
        }
        // Taken out by drop alone.
        let before = self.kept.as_mut().map(|kept| std::mem::take(&mut kept.index)).unwrap_or_default();
        // Whoever read it is done: a copy belongs to one build at a time.
        let before = Arc::try_unwrap(before).map_or_else(|shared| shared.0.clone(), |index| index.0);
        Sync::new(self, before)
    }

    /// It is what `index` says; `changed`: something was another before.
    pub(super) fn settle(&mut self, index: Vec<Entry>, changed: bool) {
        let Some(kept) = &mut self.kept else { return };
        kept.index = Arc::new(Index(index));
        let index = Some(kept.index.clone());
        self.whole = true;
        let mut revisions = self.mirrors.revisions();
        let number = match revisions.of.get(&self.path) {
            Some(revision) if !changed => revision.number,
            _ => {
                revisions.last += 1;
                revisions.last
            }
        };
        revisions.of.insert(self.path.clone(), Revision { number, index });
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// A file came whole.
    pub(super) fn learn(&self, file: &rustix::fs::Stat, digest: Digest) {
        if let Some(cache) = &self.mirrors.cache {
            cache.learn(file, digest);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        if self.whole && kept.key.directory.is_some() {
            self.mirrors.give_back(kept);
        } else {
            self.mirrors.discard(&kept);
        }
    }
}
