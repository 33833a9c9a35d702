//! Removing what nobody uses.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::{Filters, ImagesPruned};
use wharf_oci::Digest;

use super::Images;
use super::list::{invalid, until_time};
use crate::error::{ErrorKind, Result};
use crate::events::Kind;

impl Images {
    /// Removes dangling images, or with the filter `dangling=false` all that no container stands on.
    pub async fn prune(self: &Arc<Self>, filters: Filters) -> Result<ImagesPruned> {
        self.run(move |images| images.prune_now(&filters)).await
    }

    fn prune_now(&self, filters: &Filters) -> Result<ImagesPruned> {
        filters.check(&["dangling", "label", "label!", "until"]).map_err(invalid)?;
        let dangling = filters.boolean("dangling").map_err(invalid)?.unwrap_or(true);
        let until = filters.single("until").map_err(invalid)?.map(until_time).transpose()?;
        let sizes = self.chain_sizes();
        let all = self.store.images();
        let parents: HashSet<Digest> = all.iter().filter_map(|image| image.parent).collect();
        let users: HashSet<String> = self.users().into_iter().map(|user| user.image).collect();
        let mut pruned = ImagesPruned::default();
        let mut deleted = Vec::new();
        for image in &all {
            let made = image.created.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
            let old = until.is_none_or(|until| made.is_some_and(|made| made <= until));
            let wanted =
                old && filters.labels_and_not(&image.labels) && !users.contains(&image.id.to_string());
            if !wanted || parents.contains(&image.id) {
                continue;
            }
            let names = self.store.names_of(&image.id);
            if dangling && names.iter().any(|name| name.digest().is_none()) {
                continue;
            }
            let targets: Vec<String> = match names.as_slice() {
                [] => vec![image.id.hex()],
                names => names.iter().map(ToString::to_string).collect(),
            };
            for target in targets {
                match self.delete(&target, false, true) {
                    Ok(items) => deleted.extend(items),
                    // Somebody came to need it, or removed it, in between.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // What waited for another attempt is in nobody's use either.
        if until.is_none() && filters.labels_and_not(&BTreeMap::new()) {
            pruned.space_reclaimed += self.store.drop_partials()?;
        }
        for item in &deleted {
            let size = item.deleted.parse().ok().and_then(|chain: Digest| sizes.get(&chain));
            pruned.space_reclaimed += size.copied().unwrap_or(0);
        }
        pruned.images_deleted = (!deleted.is_empty()).then_some(deleted);
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        self.events.emit(Kind::Image, "prune", "", reclaimed);
        Ok(pruned)
    }
}
