//! All bytes under the data root: blobs, snapshots, names, reclaim.
//!
//! - [`Store`] is the open data root; all its calls may sleep and belong on a thread that may.
//! - [`Batch`] brings bytes in: blobs, unpacked layers, images and names appear together or not at all.
//! - `active` keeps containers' writable snapshots, `reclaim` frees what nothing reaches.
//!
//! Order on disk (nothing is named before its bytes): a blob's bytes are synced, then renamed into place, then
//! recorded. Unpacked layers are not synced before they are used: their record carries the boot id until a
//! background sync is done, and after an unclean boot they are unpacked again from their blobs. What was cut short is
//! kept for a day by a lease.
//!
//! Invariant: knows no HTTP and no container; a container is an id here.

mod active;
mod batch;
mod blob;
mod catalog;
mod check;
mod documents;
mod error;
mod image;
mod lease;
mod names;
mod open;
mod partial;
mod paths;
mod reclaim;
mod schema;
mod snapshot;
mod state;
mod step;
mod sync;
mod trash;
mod unpack;
mod usage;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use schema::Metadata;

pub use active::GraphDriver;
pub use batch::{Batch, Unpacked, spread};
pub use blob::BlobWriter;
pub use check::{Damage, Finding, Report};
pub use documents::Documents;
pub use error::{Error, Result};
pub use image::{Image, ImageLayer, Name};
pub use snapshot::Driver;
pub use step::{Chain, ChainLayer, PackedStep, Step};
pub use trash::remove_slowly;
pub use unpack::EarlyLayer;
pub use usage::{DiskUsage, Usage};

use partial::Writers;
use paths::Paths;
use snapshot::Snapshotter;
use state::State;
use trash::Trash;

/// An open data root. One process at a time has it.
#[derive(Debug)]
pub struct Store {
    paths: Paths,
    database: Metadata,
    driver: Driver,
    state: RwLock<State>,
    /// Held while files and records change together: by a batch's commit, by reclaim, by an unpack.
    changing: Mutex<()>,
    trash: Trash,
    writers: Writers,
    /// This boot, as the kernel names it.
    boot: String,
    next: AtomicU64,
}

impl Store {
    /// The storage driver in use.
    #[must_use]
    pub const fn driver(&self) -> Driver {
        self.driver
    }

    /// A number that this process gives once.
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn snapshotter(&self) -> &'static dyn Snapshotter {
        self.driver.snapshotter()
    }

    // The state is only ever changed by plain inserts and removes: a panic elsewhere leaves it whole.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
