//! What earlier builds left: results by key, directories of cache mounts, and who is making what just now.

mod hold;
mod mounts;
mod recipes;
mod usage;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_oci::Digest;
use wharf_store::{Chain, ChainLayer, Store};

use super::Cancel;
use super::checksum::FileDigests;

pub use hold::Hold;
use mounts::MountRecord;
pub use mounts::MountedCache;
use recipes::Recipes;
pub use usage::{CacheKind, CacheUsage};

/// The kind of the records among the store's documents.
const KIND: &str = "build-cache";
/// How often somebody who waits looks whether the build was ended.
const LOOK: Duration = Duration::from_millis(100);

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    chains: Vec<Chain>,
    description: String,
    /// Milliseconds since 1970.
    created: i64,
    /// Likewise.
    used: i64,
    uses: u64,
}

/// The cache of one engine.
#[derive(Debug)]
pub struct Cache {
    store: Arc<Store>,
    mounts: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    digests: FileDigests,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<Digest, Record>,
    /// Keys whose records are newer than the database's.
    dirty: HashSet<Digest>,
    /// Keys of which that is no more than when they were used.
    used: HashSet<Digest>,
    /// Keys by what results are made of.
    recipes: Recipes,
    /// Keys that a build makes right now.
    flying: HashSet<Digest>,
    /// Directories of cache mounts in use: name to the number of users, and whether it is locked.
    mounted: HashMap<String, (usize, bool)>,
    /// What is known of those directories.
    mounts: HashMap<String, MountRecord>,
    /// Steps that builds under way need, by build.
    held: HashMap<u64, HashSet<String>>,
    /// The number of the next build.
    next: u64,
}

/// What a look into the cache gives.
pub(super) enum Found<'a> {
    /// The results.
    Chains(Vec<Chain>),
    /// Nothing: whoever asked makes it.
    Mine(Flight<'a>),
    /// Nothing, and whoever asked does not want it any more.
    Canceled,
}

/// The right to make the result of a key; others wait for it.
pub(super) struct Flight<'a> {
    cache: &'a Cache,
    key: Digest,
}

impl Cache {
    /// The cache whose results are in `store`, and whose cache mounts are below `mounts`. Records whose layers are gone go,
    /// and so do steps that no record names: nobody else may have begun a build in this store.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub fn open(store: Arc<Store>, mounts: PathBuf) -> Result<Self, wharf_store::Error> {
        let documents = store.documents(KIND);
        let mut records = HashMap::new();
        for (key, bytes) in documents.all()? {
            let record = key.parse().ok().zip(serde_json::from_slice::<Record>(&bytes).ok());
            match record.filter(|(_, record)| record.chains.iter().all(|chain| store.has_chain(chain))) {
                Some((key, record)) => drop(records.insert(key, record)),
                None => documents.remove(&key)?,
            }
        }
        let recipes = Recipes::load(&store, |key| records.contains_key(key))?;
        let known = mounts::load(&store, &mounts)?;
        let cache = Self {
            store,
            mounts,
            state: Mutex::new(State { records, recipes, mounts: known, ..State::default() }),
            changed: Condvar::new(),
            digests: FileDigests::default(),
        };
        cache.retain()?;
        Ok(cache)
    }

    pub(super) fn file_digests(&self) -> &FileDigests {
        &self.digests
    }

    /// Takes note of a file's digest, so that it is not read for it again as long as it stays as it is.
    pub fn learn(&self, file: &rustix::fs::Stat, digest: Digest) {
        self.digests.learn(file, digest);
    }

    /// Looks for a key; waits while another build makes it.
    pub(super) fn find(&self, key: Digest, ignore: bool, hold: &Hold, cancel: &Cancel) -> Found<'_> {
        let mut state = self.lock();
        while state.flying.contains(&key) {
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            if cancel.is_set() {
                return Found::Canceled;
            }
            if ignore {
                // What was made meanwhile is as new as can be asked for.
                if let Some(chains) = hit(&mut state, key, &self.store, hold) {
                    return Found::Chains(chains);
                }
            }
        }
        if !ignore && let Some(chains) = hit(&mut state, key, &self.store, hold) {
            return Found::Chains(chains);
        }
        state.flying.insert(key);
        Found::Mine(Flight { cache: self, key })
    }

    /// Writes what changed to the database: called at the end of a build.
    ///
    /// # Errors
    /// When the database fails.
    pub fn save(&self) -> Result<(), wharf_store::Error> {
        let (dirty, used, recipes) = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let bytes =
                |key: &Digest| state.records.get(key).and_then(|record| serde_json::to_vec(record).ok());
            let documents = |keys: HashSet<Digest>| -> Vec<(String, Vec<u8>)> {
                keys.iter().filter_map(|key| bytes(key).map(|bytes| (key.to_string(), bytes))).collect()
            };
            let (dirty, used) = (std::mem::take(&mut state.dirty), std::mem::take(&mut state.used));
            let used = documents(used.difference(&dirty).copied().collect());
            (documents(dirty), used, state.recipes.changes(|key| state.records.contains_key(key)))
        };
        // When something was used last is worth no wait for the disk.
        self.store.documents(KIND).put_all_lazily(&used)?;
        self.store.documents(KIND).put_all(&dirty)?;
        recipes.write(&self.store)
    }

    /// Lets go of steps that no record names and no build under way needs.
    fn retain(&self) -> Result<(), wharf_store::Error> {
        // The lock is kept over the change: a step that is kept meanwhile is held before that.
        let state = self.lock();
        let chains = state.records.values().flat_map(|record| &record.chains).flatten();
        let mut named: BTreeSet<&str> = chains.filter_map(step).collect();
        named.extend(state.held.values().flatten().map(String::as_str));
        self.store.retain_steps(|id| named.contains(id))
    }

    // Only whole changes happen under the lock: a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a step.
fn step(layer: &ChainLayer) -> Option<&str> {
    match layer {
        ChainLayer::Step(id) => Some(id),
        ChainLayer::Image(_) => None,
    }
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// A record that is there with all its layers, marked as used.
fn hit(state: &mut State, key: Digest, store: &Store, hold: &Hold) -> Option<Vec<Chain>> {
    let record = state.records.get_mut(&key)?;
    if !record.chains.iter().all(|chain| store.has_chain(chain)) {
        state.records.remove(&key);
        return None;
    }
    record.used = Timestamp::now().as_millisecond();
    record.uses += 1;
    let chains = record.chains.clone();
    state.used.insert(key);
    let held = state.held.entry(hold.number()).or_default();
    held.extend(chains.iter().flatten().filter_map(step).map(str::to_owned));
    Some(chains)
}

impl Flight<'_> {
    /// Hands in the results.
    pub(super) fn land(self, chains: &[Chain], description: &str) {
        let now = Timestamp::now().as_millisecond();
        let (chains, description) = (chains.to_vec(), description.to_owned());
        let mut state = self.cache.lock();
        state.records.insert(self.key, Record { chains, description, created: now, used: now, uses: 0 });
        state.dirty.insert(self.key);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.cache.lock().flying.remove(&self.key);
        self.cache.changed.notify_all();
    }
}
