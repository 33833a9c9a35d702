//! What a build under way needs is not reclaimed, whoever asks.

use std::sync::Arc;

use wharf_oci::Digest;
use wharf_store::{Chain, ChainLayer, Error, Step};

use super::{Cache, step};

/// A build's hold of what it has made and found.
#[derive(Debug)]
pub struct Hold {
    cache: Arc<Cache>,
    number: u64,
}

impl Cache {
    /// Begins to hold what a build will need.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Hold {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.held.insert(number, Default::default());
        drop(state);
        Hold { cache: self.clone(), number }
    }
}

impl Hold {
    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Keeps a step as long as this lasts, and longer when a record names it by then.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(&self, step: Step) -> Result<ChainLayer, Error> {
        self.cache.lock().held.entry(self.number).or_default().insert(step.id().to_owned());
        step.keep()
    }

    /// Keeps a step that is brought in from elsewhere likewise; called before the store has it.
    pub fn keep_known(&self, id: &str) {
        self.cache.lock().held.entry(self.number).or_default().insert(id.to_owned());
    }

    /// The results of a key, where the cache has them whole; they are held.
    #[must_use]
    pub fn results(&self, key: &Digest) -> Option<Vec<Chain>> {
        let mut state = self.cache.lock();
        let chains = state.records.get(key)?.chains.clone();
        if !chains.iter().all(|chain| self.cache.store.has_chain(chain)) {
            return None;
        }
        let held = state.held.entry(self.number).or_default();
        held.extend(chains.iter().flatten().filter_map(step).map(str::to_owned));
        Some(chains)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cache.lock().held.remove(&self.number);
    }
}
