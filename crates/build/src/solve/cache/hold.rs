//! What a build under way needs is not reclaimed, whoever asks.

use std::sync::Arc;

use wharf_store::{ChainLayer, Error, Step};

use super::Cache;

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
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.cache.lock().held.remove(&self.number);
    }
}
