//! Syncing unpacked layers after the fact, so that nobody waits for tens of thousands of files to reach the disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Doing, Result, at};
use crate::{Store, schema};

/// What waits for a sync: steps alone start none, but go with the layers.
struct Unsynced {
    layers: Vec<String>,
    steps: Vec<String>,
}

impl Store {
    /// Starts a sync if any layer waits for one.
    pub(crate) fn sync_in_background(self: &Arc<Self>) {
        let waiting = self.unsynced();
        if waiting.layers.is_empty() {
            return;
        }
        // The sync itself, which may take minutes, must not keep the store open.
        let (store, dir) = (Arc::downgrade(self), self.paths.layers());
        let started =
            std::thread::Builder::new().name("sync".into()).stack_size(128 * 1024).spawn(move || {
                let synced = sync_fs(&dir)
                    .and_then(|()| store.upgrade().map_or(Ok(()), |store| store.mark_synced(waiting)));
                if let Err(error) = synced {
                    // They stay marked: the next start in this boot tries again, in another unpacks them again.
                    tracing::warn!("sync layers: {error}");
                }
            });
        if let Err(error) = started {
            tracing::warn!("start the sync thread: {error}");
        }
    }

    /// Syncs the file system and takes the mark off the layers that had it before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync_layers(&self) -> Result<()> {
        let waiting = self.unsynced();
        if waiting.layers.is_empty() {
            return Ok(());
        }
        sync_fs(&self.paths.layers())?;
        self.mark_synced(waiting)
    }

    fn mark_synced(&self, waiting: Unsynced) -> Result<()> {
        let _changing = self.change();
        let write = self.database.begin_write()?;
        let mut state = self.write();
        for key in waiting.layers {
            // Another sync may have been quicker.
            if let Some(layer) = state.layers.get_mut(&key)
                && layer.unsynced.take().is_some()
            {
                schema::put(&write, schema::LAYERS, &key, layer)?;
            }
        }
        for id in waiting.steps {
            if let Some(step) = state.steps.get_mut(&id)
                && step.unsynced.take().is_some()
            {
                schema::put(&write, schema::STEPS, &id, step)?;
            }
        }
        drop(state);
        write.commit()?;
        Ok(())
    }

    fn unsynced(&self) -> Unsynced {
        let state = self.read();
        let layers = state.layers.iter().filter(|(_, layer)| layer.unsynced.is_some());
        let steps = state.steps.iter().filter(|(_, step)| step.unsynced.is_some());
        Unsynced {
            layers: layers.map(|(key, _)| key.clone()).collect(),
            steps: steps.map(|(id, _)| id.clone()).collect(),
        }
    }
}

/// Syncs the whole file system that `dir` is on: cheaper than tens of thousands of files one by one.
fn sync_fs(dir: &Path) -> Result<()> {
    let fd = File::open(dir).doing(|| at("open", dir))?;
    rustix::fs::syncfs(&fd).doing(|| at("sync", dir))
}
