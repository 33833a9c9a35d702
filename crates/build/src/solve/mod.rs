//! Running a graph: what is known is taken from the cache, what is not is done, each thing once and as early as it can be.
//!
//! A node is worked on only when somebody needs its result. Its cache key comes first: it is made of the operation and of
//! its inputs' keys, or of the *content* of what it takes from them, so that a hit far down spares everything above, and a
//! changed file spoils nothing but the steps that copy it. Nodes that do not need one another run at the same time.

mod cache;
mod checksum;
mod chosen;
mod execute;
mod files;
mod key;
mod listing;
mod recall;
mod schedule;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wharf_oci::{Digest, Platform};
use wharf_store::Chain;
use wharf_sys::mount::Recipe;

use crate::dockerfile::Lines;
use crate::graph::{Access, Execute, NodeId, StoredLayer};

pub use cache::{Cache, CacheKind, CacheUsage, Hold, MountedCache};
pub use listing::{Listed, ListedContent, Listing};
pub use schedule::Solver;

/// The result of an operation: files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Layers of the store.
    Chain(Chain),
    /// A directory of this host that nobody writes to while the build runs.
    Directory(PathBuf),
}

/// What a build needs of the engine. All calls may take long and come from threads of their own.
pub trait Host: Sync {
    /// Sees to it that the layers of the image with the config `id` are unpacked.
    ///
    /// # Errors
    /// In words for the user.
    fn image(&self, reference: &str, id: &str, platform: &Platform, node: NodeId) -> Result<Chain, String>;

    /// Sees to it that layers of a store of the client's are here.
    ///
    /// # Errors
    /// In words for the user.
    fn stored(&self, store: &str, _: &[StoredLayer], _: NodeId) -> Result<Chain, String> {
        Err(format!("no store {store} of the client"))
    }

    /// The client's directory as it is now, what is needed of it.
    ///
    /// # Errors
    /// In words for the user.
    fn local(&self, request: &LocalRequest<'_>, node: NodeId) -> Result<PathBuf, String>;

    /// A number that stands for all that is in a directory of [`Self::local`], another one after any change; `None`:
    /// nobody knows.
    fn revision(&self, directory: &Path) -> Option<u64>;

    /// All that is in a directory of [`Self::local`]; `None`: nobody knows without a look.
    fn listing(&self, _directory: &Path) -> Option<Arc<dyn Listing>> {
        None
    }

    /// A git repository's files.
    ///
    /// # Errors
    /// In words for the user.
    fn git(&self, address: &str, keep_git_dir: bool, node: NodeId) -> Result<PathBuf, String>;

    /// A directory with the one file that an address names, as `file_name`.
    ///
    /// # Errors
    /// In words for the user.
    fn http(
        &self,
        url: &str,
        checksum: Option<&str>,
        file_name: &str,
        node: NodeId,
    ) -> Result<PathBuf, String>;

    /// Runs a process to its end and returns its exit code. Ends it when `cancel` is set.
    ///
    /// # Errors
    /// When it could not be run, in words for the user.
    fn execute(&self, process: &Process<'_>, cancel: &Cancel, node: NodeId) -> Result<i32, String>;

    /// Layers that the build's own result will have: they are there, and others come upon them.
    fn made(&self, _chain: &Chain) {}

    /// What caches elsewhere have for a key: as many results as `count`, their layers here and held.
    fn elsewhere(&self, _key: &Digest, _count: usize) -> Option<Vec<Chain>> {
        None
    }

    /// Whether caches elsewhere have that, without a layer being fetched.
    fn is_elsewhere(&self, _key: &Digest, _count: usize) -> bool {
        false
    }

    /// The key that a step had by caches elsewhere when it was made of these.
    fn recalled(&self, _recipe: &Digest) -> Option<Digest> {
        None
    }

    /// Whether there are caches elsewhere.
    fn has_elsewhere(&self) -> bool {
        false
    }
}

/// What is wanted of a client's directory.
#[derive(Debug, Clone, Copy)]
pub struct LocalRequest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Patterns of what is sent; empty: everything.
    pub include: &'a [String],
    /// Patterns of what is not sent.
    pub exclude: &'a [String],
    /// Paths (globs) that are needed; empty: all.
    pub follow: &'a [String],
}

/// A process ready to run.
#[derive(Debug)]
pub struct Process<'a> {
    /// What it is.
    pub execute: &'a Execute,
    /// Its root.
    pub root: Recipe,
    /// What is mounted in it, in order.
    pub mounts: Vec<ReadyMount>,
    /// For what machine.
    pub platform: &'a Platform,
}

/// A mount whose source is there.
#[derive(Debug)]
pub struct ReadyMount {
    /// What is mounted.
    pub source: MountSource,
    /// The path in the source that is mounted; empty: all of it.
    pub selector: String,
    /// Where.
    pub destination: String,
    /// Whether writing fails.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Debug)]
pub enum MountSource {
    /// Layers.
    Layers(Recipe),
    /// A directory of this host.
    Directory(PathBuf),
    /// Memory, with its limit in bytes.
    Tmpfs(Option<u64>),
    /// A secret of the client's.
    Secret(Access),
    /// The client's agent.
    Ssh(Access),
}

/// What happens to the nodes of a build, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Work begins.
    Started(NodeId),
    /// The cache had it.
    Cached(NodeId),
    /// It is done.
    Finished(NodeId),
    /// It failed.
    Failed(NodeId, String),
}

/// Who is told.
pub type Watch<'a> = &'a (dyn Fn(Event) + Sync);

/// Why a build ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The node at which it failed.
    pub node: NodeId,
    /// Where that stands in the Dockerfile.
    pub lines: Option<Lines>,
    /// What happened.
    pub message: String,
    /// The exit code of the process that failed.
    pub code: Option<i32>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Ends a build from outside.
#[derive(Debug, Default)]
pub struct Cancel {
    set: AtomicBool,
    waiting: Mutex<()>,
    told: Condvar,
    above: Option<Arc<Self>>,
}

/// How often somebody who waits looks whether what is above was ended.
const LOOK: Duration = Duration::from_millis(20);

impl Cancel {
    /// One that ends with `above`, and may end before it.
    #[must_use]
    pub fn below(above: &Arc<Self>) -> Self {
        Self { above: Some(above.clone()), ..Self::default() }
    }

    /// Ends the build.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.told.notify_all();
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst) || self.above.as_ref().is_some_and(|above| above.is_set())
    }

    /// Waits at most so long, or until it is ended; whether it was.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        // Nothing is behind the lock: a panic elsewhere cannot have spoilt it.
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_set() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let part = if self.above.is_some() { left.min(LOOK) } else { left };
            guard = self.told.wait_timeout(guard, part).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.is_set()
    }
}
