//! What earlier builds left: results by key, directories of cache mounts, and who is making what just now.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_layer::{CopyOptions, copy};
use wharf_oci::{Digest, Hasher};
use wharf_store::{Chain, ChainLayer, Store};
use wharf_sys::root::Root;

use super::Cancel;
use super::checksum::FileDigests;
use crate::dockerfile::Sharing;

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

/// What a record takes, for `df` and `prune`.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheUsage {
    /// The key.
    pub id: String,
    /// How its step was called.
    pub description: String,
    /// Bytes that it alone takes.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
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
    /// Keys that a build makes right now.
    flying: HashSet<Digest>,
    /// Directories of cache mounts in use: name to the number of users, and whether it is locked.
    mounted: HashMap<String, (usize, bool)>,
}

/// What a look into the cache gives.
pub(super) enum Found<'a> {
    /// The results.
    Chains(Vec<Chain>),
    /// Nothing: whoever asked makes it.
    Mine(Flight<'a>),
}

/// The right to make the result of a key; others wait for it.
pub(super) struct Flight<'a> {
    cache: &'a Cache,
    key: Digest,
}

impl Cache {
    /// The cache whose results are in `store`, and whose cache mounts are below `mounts`. Records whose layers are gone go.
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
        let cache = Self {
            store,
            mounts,
            state: Mutex::new(State { records, ..State::default() }),
            changed: Condvar::new(),
            digests: FileDigests::default(),
        };
        cache.retain()?;
        Ok(cache)
    }

    pub(super) fn file_digests(&self) -> &FileDigests {
        &self.digests
    }

    /// Looks for a key; waits while another build makes it.
    pub(super) fn find(&self, key: Digest, ignore: bool, store: &Store) -> Found<'_> {
        let mut state = self.lock();
        while state.flying.contains(&key) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            if ignore {
                // What was made meanwhile is as new as can be asked for.
                if let Some(chains) = hit(&mut state, key, store) {
                    return Found::Chains(chains);
                }
            }
        }
        if !ignore && let Some(chains) = hit(&mut state, key, store) {
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
        let dirty: Vec<(String, Vec<u8>)> = {
            let mut state = self.lock();
            let keys = std::mem::take(&mut state.dirty);
            let bytes =
                |key: &Digest| state.records.get(key).and_then(|record| serde_json::to_vec(record).ok());
            keys.iter().filter_map(|key| bytes(key).map(|bytes| (key.to_string(), bytes))).collect()
        };
        self.store.documents(KIND).put_all(&dirty)
    }

    /// What all records take, the longest unused first.
    #[must_use]
    pub fn usage(&self) -> Vec<CacheUsage> {
        let state = self.lock();
        let mut usage: Vec<CacheUsage> =
            state.records.iter().map(|(key, record)| self.describe(key, record)).collect();
        usage.sort_by(|left, right| (left.used, &left.id).cmp(&(right.used, &right.id)));
        usage
    }

    fn describe(&self, key: &Digest, record: &Record) -> CacheUsage {
        let own = record.chains.iter().filter_map(|chain| chain.last());
        let size = own.map(|layer| match layer {
            ChainLayer::Step(id) => self.store.step_size(id),
            ChainLayer::Image(_) => 0,
        });
        CacheUsage {
            id: key.hex(),
            description: record.description.clone(),
            size: size.sum(),
            created: timestamp(record.created),
            used: timestamp(record.used),
            uses: record.uses,
        }
    }

    /// Removes the records that `remove` picks; returns what they took.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub fn prune(&self, remove: impl Fn(&CacheUsage) -> bool) -> Result<Vec<CacheUsage>, wharf_store::Error> {
        let gone: Vec<CacheUsage> = self.usage().into_iter().filter(|usage| remove(usage)).collect();
        let documents = self.store.documents(KIND);
        for usage in &gone {
            if let Ok(key) = Digest::from_hex(&usage.id) {
                let mut state = self.lock();
                state.records.remove(&key);
                state.dirty.remove(&key);
                drop(state);
                documents.remove(&key.to_string())?;
            }
        }
        self.retain()?;
        Ok(gone)
    }

    /// Lets go of steps that no record names. Not while something is being made: its steps are in no record yet.
    fn retain(&self) -> Result<(), wharf_store::Error> {
        let state = self.lock();
        if !state.flying.is_empty() {
            return Ok(());
        }
        let chains = state.records.values().flat_map(|record| &record.chains).flatten();
        let named: BTreeSet<&str> = chains
            .filter_map(|layer| match layer {
                ChainLayer::Step(id) => Some(id.as_str()),
                ChainLayer::Image(_) => None,
            })
            .collect();
        self.store.retain_steps(|id| named.contains(id))
    }

    /// The directory of a cache mount, made where it is not there yet, as `begins_with` has it.
    pub(super) fn directory(
        &self,
        name: &str,
        sharing: Sharing,
        begins_with: Option<&Root>,
        selector: &str,
        cancel: &Cancel,
    ) -> Result<MountedCache<'_>, String> {
        let mut hasher = Hasher::new();
        hasher.update(name.as_bytes());
        let base = hasher.finish().hex();
        let mut state = self.lock();
        let mut number = 0;
        let key = loop {
            let key = if number == 0 { base.clone() } else { format!("{base}-{number}") };
            match (state.mounted.get(&key), sharing) {
                (None, _) | (Some((_, false)), Sharing::Shared) => break key,
                (Some(_), Sharing::Private) => number += 1,
                (Some(_), _) => {
                    if cancel.is_set() {
                        return Err("canceled".to_owned());
                    }
                    let waited = self.changed.wait_timeout(state, LOOK);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        let users = state.mounted.entry(key.clone()).or_insert((0, sharing != Sharing::Shared));
        users.0 += 1;
        drop(state);
        let mounted = MountedCache { cache: self, path: self.mounts.join(&key), key };
        mounted.prepare(begins_with, selector)?;
        Ok(mounted)
    }

    // Only whole changes happen under the lock: a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// A record that is there with all its layers, marked as used.
fn hit(state: &mut State, key: Digest, store: &Store) -> Option<Vec<Chain>> {
    let record = state.records.get_mut(&key)?;
    if !record.chains.iter().all(|chain| store.has_chain(chain)) {
        state.records.remove(&key);
        return None;
    }
    record.used = Timestamp::now().as_millisecond();
    record.uses += 1;
    let chains = record.chains.clone();
    state.dirty.insert(key);
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

/// A cache mount's directory, in use until this is dropped.
pub(super) struct MountedCache<'a> {
    cache: &'a Cache,
    path: PathBuf,
    key: String,
}

impl MountedCache<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&self, begins_with: Option<&Root>, selector: &str) -> Result<(), String> {
        let at = |error: std::io::Error| format!("make cache directory {}: {error}", self.path.display());
        if self.path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.path).map_err(at)?;
        let Some(source) = begins_with else { return Ok(()) };
        let target = Root::open(&self.cache.mounts).map_err(|error| error.to_string())?;
        std::fs::remove_dir(&self.path).map_err(at)?;
        let from = if selector.is_empty() { "/" } else { selector };
        copy(source, from, &target, &self.key, &CopyOptions::default()).map_err(|error| error.to_string())
    }
}

impl Drop for MountedCache<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if let Some(users) = state.mounted.get_mut(&self.key) {
            users.0 -= 1;
            if users.0 == 0 {
                state.mounted.remove(&self.key);
            }
        }
        drop(state);
        self.cache.changed.notify_all();
    }
}
