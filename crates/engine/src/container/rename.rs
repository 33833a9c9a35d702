//! Giving a container another name.

use std::sync::Arc;

use wharf_sys::failpoint;

use super::driver::{Driver, Verb};
use super::{Containers, whole};
use crate::error::{Error, Result};
use crate::names;

impl Containers {
    /// Renames a container.
    pub async fn rename(self: &Arc<Self>, asked: &str, new: &str) -> Result<()> {
        if asked.is_empty() || new.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        self.order(asked, Verb::Rename(new.to_owned())).await
    }
}

impl Driver {
    pub(super) async fn rename(&mut self, new: String) -> Result<()> {
        let mut record = (*self.record()).clone();
        let taken = |error: Error| error.context("Error when allocating new name");
        let slashed = if new.starts_with('/') { new } else { format!("/{new}") };
        if slashed[1..] == record.name {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let new = names::check(&slashed).map_err(taken)?.to_owned();
        self.containers.index.reserve(&new, &record.id).map_err(taken)?;
        let old = std::mem::replace(&mut record.name, new);
        if let Err(error) = self.containers.log.synced(&whole(&record, &self.life())).await {
            self.containers.index.release(&record.name, &record.id);
            return Err(error);
        }
        failpoint::pass("rename.logged");
        self.containers.index.release(&old, &record.id);
        self.set_record(record);
        self.renamed_in_networks().await;
        self.emit("rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }
}
