//! Finding containers by id, by the beginning of an id, by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Container;
use crate::error::{Error, Result};

/// All containers. Its lock is held for look-ups only, never while anything sleeps.
#[derive(Debug, Default)]
pub(crate) struct Index {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; a name is here from before its container exists until after it is gone.
    names: HashMap<String, String>,
}

impl Index {
    /// The container that `asked` means: a full id, a name with or without slash, or the beginning of one id.
    pub(crate) fn find(&self, asked: &str) -> Result<Arc<Container>> {
        let inner = self.read();
        if let Some(found) = inner.by_id.get(asked) {
            return Ok(found.clone());
        }
        let name = asked.strip_prefix('/').unwrap_or(asked);
        if let Some(found) = inner.names.get(name).and_then(|id| inner.by_id.get(id)) {
            return Ok(found.clone());
        }
        let unknown = || Error::not_found(format!("No such container: {asked}"));
        if asked.is_empty() {
            return Err(unknown());
        }
        let mut matching = inner.by_id.range(asked.to_owned()..).take_while(|(id, _)| id.starts_with(asked));
        match (matching.next(), matching.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {asked}")))
            }
            (None, _) => Err(unknown()),
        }
    }

    /// All containers, in no order that means anything.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Takes `name` for `id`; the error is Docker's, naming whom it belongs to.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut inner = self.write();
        if let Some(owner) = inner.names.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            )));
        }
        inner.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives `name` back if it is `id`'s.
    pub(crate) fn release(&self, name: &str, id: &str) {
        let mut inner = self.write();
        if inner.names.get(name).is_some_and(|owner| owner == id) {
            inner.names.remove(name);
        }
    }

    /// Makes a container known, its name being reserved.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.write().by_id.insert(container.id().to_owned(), container);
    }

    /// Forgets a container and its name.
    pub(crate) fn remove(&self, id: &str, name: &str) {
        self.write().by_id.remove(id);
        self.release(name, id);
    }

    // Nothing panics while the lock is held, and both maps are whole between any two statements.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
