//! What the cache takes, and letting go of it.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::FileType;
use wharf_oci::Digest;
use wharf_sys::root::Root;

use super::{Cache, KIND, Record, State, mounts, step, timestamp};

/// What sort of thing a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// The result of a step.
    Regular,
    /// The directory of a cache mount.
    Mount,
    /// A copy of a client's directory, which the engine keeps beside the cache.
    Local,
}

/// What a record takes, for `df` and `prune`.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheUsage {
    /// The key.
    pub id: String,
    /// What it is.
    pub kind: CacheKind,
    /// The records that it stands upon.
    pub parents: Vec<String>,
    /// How its step was called.
    pub description: String,
    /// Bytes that it takes; of one that is shared they are the image's too.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
    /// A build under way needs it.
    pub in_use: bool,
    /// An image has it too: letting go of it frees nothing.
    pub shared: bool,
}

impl Cache {
    /// What all records take, the longest unused first.
    #[must_use]
    pub fn usage(&self) -> Vec<CacheUsage> {
        let mut usage = self.listed(true);
        // Walked without the lock: directories may be large.
        for directory in usage.iter_mut().filter(|usage| usage.kind == CacheKind::Mount) {
            directory.size = size_of(&self.mounts.join(&directory.id));
        }
        usage
    }

    /// All records, the longest unused first; what takes long to find out of their sizes is left out.
    #[must_use]
    pub fn unmeasured(&self) -> Vec<CacheUsage> {
        self.listed(false)
    }

    fn listed(&self, measure: bool) -> Vec<CacheUsage> {
        let sizes = self.store.step_sizes(measure);
        let state = self.lock();
        let makers = makers(&state);
        let records =
            state.records.iter().map(|(key, record)| describe(&state, &makers, &sizes, key, record));
        let mut usage: Vec<CacheUsage> = records.chain(directories(&state)).collect();
        drop(state);
        usage.sort_by(|left, right| (left.used, &left.id).cmp(&(right.used, &right.id)));
        usage
    }

    /// Removes the records that `remove` picks, but none that is in use; returns what they took.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub fn prune(&self, remove: impl Fn(&CacheUsage) -> bool) -> Result<Vec<CacheUsage>, wharf_store::Error> {
        let picked = self.usage().into_iter().filter(|usage| !usage.in_use && remove(usage));
        let mut gone = Vec::new();
        for usage in picked {
            let removed = match usage.kind {
                CacheKind::Regular => self.forget(&usage.id)?,
                CacheKind::Mount => self.forget_directory(&usage.id)?,
                CacheKind::Local => false,
            };
            if removed {
                gone.push(usage);
            }
        }
        self.retain()?;
        Ok(gone)
    }

    fn forget(&self, id: &str) -> Result<bool, wharf_store::Error> {
        let Ok(key) = Digest::from_hex(id) else { return Ok(false) };
        let mut state = self.lock();
        let known = state.records.remove(&key).is_some();
        state.dirty.remove(&key);
        state.used.remove(&key);
        drop(state);
        self.store.documents(KIND).remove(&key.to_string())?;
        Ok(known)
    }

    /// Removes a directory, unless somebody began to use it.
    fn forget_directory(&self, id: &str) -> Result<bool, wharf_store::Error> {
        let mut state = self.lock();
        if state.mounted.contains_key(id) || state.mounts.remove(id).is_none() {
            return Ok(false);
        }
        // Under another name first, so that whoever wants it next begins anew.
        let (path, gone) = (self.mounts.join(id), self.mounts.join(format!("{id}.gone")));
        let renamed = std::fs::rename(&path, &gone);
        drop(state);
        self.store.documents(mounts::KIND).remove(id)?;
        if renamed.is_ok() {
            // What cannot be removed now is a stray at the next start.
            drop(wharf_store::remove_slowly(&gone));
        }
        Ok(true)
    }
}

fn describe(
    state: &State,
    makers: &HashMap<&str, Digest>,
    sizes: &HashMap<String, (u64, bool)>,
    key: &Digest,
    record: &Record,
) -> CacheUsage {
    let own: Vec<&str> = record.chains.iter().filter_map(|chain| chain.last()).filter_map(step).collect();
    let held = |id: &str| state.held.values().any(|held| held.contains(id));
    let size = |id: &&str| sizes.get(*id).copied().unwrap_or_default();
    CacheUsage {
        id: key.hex(),
        kind: CacheKind::Regular,
        parents: parents(makers, key, record),
        description: record.description.clone(),
        size: own.iter().map(|id| size(id).0).sum(),
        created: timestamp(record.created),
        used: timestamp(record.used),
        uses: record.uses,
        in_use: own.iter().any(|id| held(id)),
        shared: !own.is_empty() && own.iter().all(|id| size(id).1),
    }
}

/// Which record made which step.
fn makers(state: &State) -> HashMap<&str, Digest> {
    let made = state.records.iter().flat_map(|(key, record)| {
        let own = record.chains.iter().filter_map(|chain| chain.last()).filter_map(step);
        own.map(move |id| (id, *key))
    });
    made.collect()
}

/// The records whose steps lie right below those of a record.
fn parents(makers: &HashMap<&str, Digest>, key: &Digest, record: &Record) -> Vec<String> {
    let below = record.chains.iter().filter_map(|chain| {
        let (_, below) = chain.split_last()?;
        below.iter().rev().filter_map(step).find_map(|id| makers.get(id))
    });
    let mut parents: Vec<String> = below.filter(|parent| *parent != key).map(Digest::hex).collect();
    parents.sort_unstable();
    parents.dedup();
    parents
}

fn directories(state: &State) -> Vec<CacheUsage> {
    let describe = |(key, record): (&String, &mounts::MountRecord)| CacheUsage {
        id: key.clone(),
        kind: CacheKind::Mount,
        parents: Vec::new(),
        description: format!("cached mount {}", record.name),
        size: 0,
        created: timestamp(record.created),
        used: timestamp(record.used),
        uses: record.uses,
        in_use: state.mounted.contains_key(key),
        shared: false,
    };
    state.mounts.iter().map(describe).collect()
}

/// As deep as a directory is looked into.
const DEEPEST: usize = 1024;

/// What a directory takes on the disk, bytes; what goes meanwhile does not count. A process may work in it: no link that
/// it puts there leads elsewhere, and no depth that it makes exhausts the stack.
fn size_of(path: &Path) -> u64 {
    let Ok(top) = Root::open(path).and_then(|root| root.top()) else { return 0 };
    let mut size = 0;
    let mut above = vec![(top.entries().unwrap_or_default(), top)];
    while let Some((entries, dir)) = above.last_mut() {
        let Some(entry) = entries.pop() else {
            above.pop();
            continue;
        };
        let Ok(stat) = dir.stat(&entry.name) else { continue };
        size += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        let below =
            (FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then(|| dir.dir(&entry.name));
        if let Some(Ok(below)) = below
            && above.len() < DEEPEST
        {
            above.push((below.entries().unwrap_or_default(), below));
        }
    }
    size
}
