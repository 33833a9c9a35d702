//! Leases: what a request holds in the store while it works, on the disk before its first byte.
//!
//! A lease names blobs and layers that are to come. What has come is kept by it, though no image has it yet; so are
//! partial blobs. It goes in the very transaction that records the image. The lease of a request that failed, or of a
//! daemon that died, stays for [`KEPT`], so that the next attempt goes on where this one ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wharf_oci::{DiffId, Digest};

use crate::error::Result;
use crate::{Batch, Store, schema};

/// How long what was cut short is kept.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The record of a lease, under `BOOT/TIME-NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// When it was taken, seconds since 1970.
    pub(crate) taken: i64,
    /// Blobs, whole or in part.
    pub(crate) blobs: Vec<Digest>,
    /// Unpacked layers, by the snapshotter's keys.
    pub(crate) layers: Vec<String>,
}

impl Lease {
    /// Whether it is too old to be of use; one from the future is not trusted either.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        !(0..i64::try_from(KEPT.as_secs()).unwrap_or(i64::MAX)).contains(&(now - self.taken))
    }
}

/// A lease that a request holds. Dropped without [`Held::forget`], its record stays.
#[derive(Debug)]
pub(crate) struct Held {
    store: Arc<Store>,
    pub(crate) key: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.write().held.remove(&self.key);
    }
}

impl Batch {
    /// Takes a lease on what is to come for an image: its blobs, and its layers, base first. Until the commit (which
    /// ends it), all of that is kept as it arrives, also if this batch fails or the daemon dies, for a day.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn lease(&self, blobs: &[Digest], chain: &[DiffId]) -> Result<()> {
        let store = self.store();
        store.expire()?;
        let now = Timestamp::now();
        let key = format!("{}/{:x}-{}", store.boot, now.as_nanosecond(), store.number());
        let lease = Lease { taken: now.as_second(), blobs: blobs.to_vec(), layers: store.chain_keys(chain) };
        let _changing = store.change();
        let write = store.database.begin_write()?;
        schema::put(&write, schema::LEASES, &key, &lease)?;
        write.commit()?;
        let mut state = store.write();
        state.leases.insert(key.clone(), lease);
        state.held.insert(key.clone());
        drop(state);
        self.hold(Held { store: Arc::clone(store), key });
        Ok(())
    }
}

impl Store {
    /// Ends leases that nobody holds and whose day is over, and frees what only they kept.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn expire(&self) -> Result<()> {
        let now = Timestamp::now().as_second();
        self.end_leases(|lease| lease.is_over(now)).map(drop)
    }

    /// Ends every lease that nobody holds: the user wants the room. Returns the bytes of partial blobs given up.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_partials(&self) -> Result<u64> {
        self.end_leases(|_| true)
    }

    /// Ends a lease that its holder gives up.
    pub(crate) fn end_lease(&self, lease: Held) -> Result<()> {
        let key = lease.key.clone();
        drop(lease);
        self.remove_leases(&[key]).map(drop)
    }

    pub(crate) fn end_leases(&self, over: impl Fn(&Lease) -> bool) -> Result<u64> {
        let ended: Vec<String> = {
            let state = self.read();
            let free = state.leases.iter().filter(|(key, lease)| !state.held.contains(*key) && over(lease));
            free.map(|(key, _)| key.clone()).collect()
        };
        if ended.is_empty() {
            return Ok(0);
        }
        self.remove_leases(&ended)
    }

    fn remove_leases(&self, ended: &[String]) -> Result<u64> {
        {
            let _changing = self.change();
            let write = self.database.begin_write()?;
            for key in ended {
                schema::delete(&write, schema::LEASES, key)?;
            }
            write.commit()?;
            let mut state = self.write();
            ended.iter().for_each(|key| drop(state.leases.remove(key)));
        }
        let freed = self.sweep_partials()?;
        self.collect()?;
        Ok(freed)
    }
}
