//! Freeing what nothing reaches. One function, by reachability: a crash never leaks, and never frees too much.

use wharf_oci::Digest;

use crate::error::Result;
use crate::state::{Garbage, State};
use crate::{Store, schema};

impl Store {
    /// Forgets unreachable images, blobs and layers and frees them in the background.
    ///
    /// # Errors
    /// When the disk fails. Records go before bytes: what is left then is swept at the next start.
    pub fn collect(&self) -> Result<()> {
        self.collect_what(|state| state.garbage(self.snapshotter()))
    }

    /// [`Self::collect`] of what belonged to images that were removed.
    pub(crate) fn collect_of(&self, removed: &[Digest]) -> Result<()> {
        self.collect_what(|state| state.garbage_of(removed, self.snapshotter()))
    }

    fn collect_what(&self, find: impl FnOnce(&State) -> Garbage) -> Result<()> {
        let _changing = self.change();
        let garbage = {
            // From here on nobody finds them, so that nobody starts to rely on them.
            let mut state = self.write();
            let garbage = find(&state);
            for id in &garbage.images {
                state.images.remove(id);
            }
            for digest in &garbage.blobs {
                state.blobs.remove(digest);
            }
            for key in &garbage.layers {
                state.layers.remove(key);
            }
            garbage
        };
        if garbage == Garbage::default() {
            return Ok(());
        }
        let write = self.database.begin_write()?;
        for id in &garbage.images {
            schema::delete(&write, schema::IMAGES, &id.to_string())?;
        }
        for digest in &garbage.blobs {
            schema::delete(&write, schema::BLOBS, &digest.to_string())?;
        }
        for key in &garbage.layers {
            schema::delete(&write, schema::LAYERS, key)?;
        }
        write.commit()?;
        for key in &garbage.layers {
            self.trash.take(&self.paths.layers().join(key))?;
        }
        for digest in &garbage.blobs {
            self.trash.take(&self.paths.blob(digest))?;
        }
        Ok(())
    }
}
