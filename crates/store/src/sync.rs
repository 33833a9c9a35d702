//! Syncing unpacked layers after the fact, so that nobody waits for tens of thousands of files to reach the disk.

use std::fs::File;
use std::sync::Arc;

use crate::error::{Doing, Result, at};
use crate::image::Layer;
use crate::{Store, schema};

impl Store {
    /// Starts a sync if any layer waits for one.
    pub(crate) fn sync_in_background(self: &Arc<Self>) {
        if self.unsynced().is_empty() {
            return;
        }
        let store = Arc::clone(self);
        let started = std::thread::Builder::new().name("sync".into()).stack_size(128 * 1024).spawn(move || {
            if let Err(error) = store.sync_layers() {
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
        if waiting.is_empty() {
            return Ok(());
        }
        let dir = self.paths.layers();
        let fd = File::open(&dir).doing(|| at("open", &dir))?;
        rustix::fs::syncfs(&fd).doing(|| at("sync", &dir))?;
        let _changing = self.change();
        let write = self.database.begin_write()?;
        let mut state = self.write();
        for key in waiting {
            if let Some(layer) = state.layers.get_mut(&key) {
                *layer = Layer { unsynced: None };
                schema::put(&write, schema::LAYERS, &key, layer)?;
            }
        }
        drop(state);
        write.commit()?;
        Ok(())
    }

    fn unsynced(&self) -> Vec<String> {
        let state = self.read();
        let waiting = state.layers.iter().filter(|(_, layer)| layer.unsynced.is_some());
        waiting.map(|(key, _)| key.clone()).collect()
    }
}
