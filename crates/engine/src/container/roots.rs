//! Root file systems that nobody uses any more.
//!
//! With the last descriptor of an overlay the kernel syncs the whole file system below it: milliseconds, or as long as
//! the disk is busy. Nobody shall wait for that, so the daemon keeps the last descriptor a little longer than everybody
//! else; and of those that go together, all but the first find nothing left to sync.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_sys::mount::Recipe;

use super::Containers;
use crate::error::Result;
use crate::pools::Class;

/// How long a root is kept at most.
const PAUSE: Duration = Duration::from_secs(1);
/// So many are not waited with.
const MANY: usize = 64;

/// Roots by the id of their container.
#[derive(Debug, Default)]
pub(crate) struct Roots(Mutex<Vec<(String, OwnedFd)>>);

impl Roots {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back the roots of one container: an overlay's directories must not be in use when it is mounted again.
    /// Dropping them sleeps in the kernel.
    pub(super) fn of(&self, id: &str) -> Vec<(String, OwnedFd)> {
        self.lock().extract_if(.., |(owner, _)| owner == id).collect()
    }
}

impl Containers {
    /// How a container's root is mounted by others than its supervisor. Sleeps where it has just ended.
    pub(super) fn recipe_of(&self, id: &str) -> Result<Recipe> {
        drop(self.roots.of(id));
        Ok(self.store.recipe(id)?)
    }

    /// Lets go of a container's root, a little later.
    pub(super) fn release_root(self: &Arc<Self>, id: &str, root: OwnedFd) {
        let waiting = {
            let mut roots = self.roots.lock();
            roots.push((id.to_owned(), root));
            roots.len()
        };
        let pause = match waiting {
            1 => PAUSE,
            MANY => Duration::ZERO,
            _ => return,
        };
        let containers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let gone = std::mem::take(&mut *containers.roots.lock());
            let free = move || {
                drop(gone);
                Ok(())
            };
            if let Err(error) = containers.pools.run(Class::Host, free).await {
                tracing::warn!("unmount: {error}");
            }
        });
    }
}
