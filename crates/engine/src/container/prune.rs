//! Removing all containers that do not run.

use std::sync::Arc;

use wharf_api::{ContainersPruned, Filters};

use super::Containers;
use super::driver::Verb;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Kind;
use crate::image::until_time;
use crate::pools::Class;

impl Containers {
    /// Removes stopped containers that `filters` (`until`, `label`, `label!`) choose.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<ContainersPruned> {
        let refused = |error: wharf_api::filters::FilterError| Error::invalid(error.to_string());
        filters.check(&["until", "label", "label!"]).map_err(refused)?;
        let until = match filters.single("until").map_err(refused)? {
            Some(text) => Some(until_time(text)?),
            None => None,
        };
        let mut pruned = ContainersPruned::default();
        let mut deleted = Vec::new();
        for container in self.all() {
            let view = container.view();
            let labels = view.record.config.labels.clone().unwrap_or_default();
            let young = until.is_some_and(|until| i128::from(view.record.created.0) > until.as_nanosecond());
            if view.state().is_active() || young || !filters.labels_and_not(&labels) {
                continue;
            }
            let (containers, id) = (self.clone(), container.id().to_owned());
            let measured = self.pools.run(Class::Files, move || containers.sizes(&id, "")).await;
            match self.order(container.id(), Verb::Remove { force: false, volumes: false }).await {
                Ok(()) => {
                    deleted.push(container.id().to_owned());
                    let (written, _) = measured.unwrap_or((0, 0));
                    pruned.space_reclaimed += u64::try_from(written).unwrap_or(0);
                }
                // Started, or removed by someone else, meanwhile.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => tracing::warn!("prune: {error}"),
            }
        }
        pruned.containers_deleted = (!deleted.is_empty()).then_some(deleted);
        let reclaimed = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())];
        self.events.emit(Kind::Container, "prune", "", reclaimed.into());
        Ok(pruned)
    }
}
