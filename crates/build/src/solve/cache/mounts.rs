//! Directories of cache mounts: who may use one, what one begins with, when it was used.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_layer::{CopyOptions, copy};
use wharf_oci::Hasher;
use wharf_store::Store;
use wharf_sys::root::Root;

use super::{Cache, LOOK};
use crate::dockerfile::Sharing;
use crate::solve::Cancel;

/// The kind of the records among the store's documents.
pub(super) const KIND: &str = "build-mounts";

/// What is known of a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MountRecord {
    /// The mount's name.
    pub(super) name: String,
    /// Milliseconds since 1970.
    pub(super) created: i64,
    /// Likewise.
    pub(super) used: i64,
    pub(super) uses: u64,
}

/// Reads the records; those without a directory go, and directories without a record do.
pub(super) fn load(store: &Store, mounts: &Path) -> Result<HashMap<String, MountRecord>, wharf_store::Error> {
    let documents = store.documents(KIND);
    let mut known = HashMap::new();
    for (key, bytes) in documents.all()? {
        match serde_json::from_slice(&bytes).ok().filter(|_| mounts.join(&key).is_dir()) {
            Some(record) => drop(known.insert(key, record)),
            None => documents.remove(&key)?,
        }
    }
    for entry in std::fs::read_dir(mounts).into_iter().flatten().flatten() {
        let stray = entry.file_name().to_str().is_none_or(|name| !known.contains_key(name));
        // What cannot be removed is met again at the next start.
        if stray {
            drop(wharf_store::remove_slowly(&entry.path()));
        }
    }
    Ok(known)
}

/// A directory, in use until this is dropped.
pub struct MountedCache<'a> {
    cache: &'a Cache,
    path: PathBuf,
    key: String,
}

impl Cache {
    /// The directory of a cache mount, made where it is not there yet, as `begins_with` has it.
    ///
    /// # Errors
    /// When the disk fails, or the build is ended while others use it; in words for the user.
    pub fn directory(
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
        let now = Timestamp::now().as_millisecond();
        let fresh = MountRecord { name: name.to_owned(), created: now, used: now, uses: 0 };
        let record = state.mounts.entry(key.clone()).or_insert(fresh);
        (record.used, record.uses) = (now, record.uses + 1);
        let record = record.clone();
        drop(state);
        let mounted = MountedCache { cache: self, path: self.mounts.join(&key), key };
        let document = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        self.store.documents(KIND).put(&mounted.key, &document).map_err(|error| error.to_string())?;
        mounted.prepare(begins_with, selector)?;
        Ok(mounted)
    }
}

impl std::fmt::Debug for MountedCache<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MountedCache").field("path", &self.path).finish_non_exhaustive()
    }
}

impl MountedCache<'_> {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
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
        let options = CopyOptions { whole: true, ..CopyOptions::default() };
        copy(source, from, &target, &self.key, &options).map_err(|error| error.to_string())
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
