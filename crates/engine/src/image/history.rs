//! How an image was made.

use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::HistoryItem;
use wharf_oci::{Digest, History, Platform};
use wharf_store::Image;

use super::Images;
use super::inspect::check_platform;
use crate::error::{Error, Result};

impl Images {
    /// The steps of an image's making, newest first; ids are known only of images that are here.
    pub async fn history(
        self: &Arc<Self>,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Vec<HistoryItem>> {
        let image = self.resolve(name)?;
        check_platform(&image, name, platform.as_ref())?;
        self.run(move |images| {
            let mut items = images.steps(&image)?;
            images.name_steps(&image, &mut items);
            Ok(items)
        })
        .await
    }

    /// By what an image was made, the first first; nothing of one that cannot be read.
    pub(crate) fn made_by(&self, id: &Digest) -> Vec<History> {
        self.config(id).map(|config| config.history.clone()).unwrap_or_default()
    }

    fn steps(&self, image: &Image) -> Result<Vec<HistoryItem>> {
        let config = self.config(&image.id)?;
        let mut layers = image.layers.iter();
        let mut items = Vec::with_capacity(config.history.len());
        for step in &config.history {
            let size = if step.empty_layer {
                0
            } else {
                let layer = layers
                    .next()
                    .ok_or_else(|| Error::internal("too many non-empty layers in History section"))?;
                layer.size
            };
            items.push(HistoryItem {
                comment: step.comment.clone(),
                created: unix(step.created.as_deref()),
                created_by: step.created_by.clone(),
                id: "<missing>".to_owned(),
                size: size.try_into().unwrap_or(i64::MAX),
                tags: None,
            });
        }
        items.reverse();
        Ok(items)
    }

    fn name_steps(&self, image: &Arc<Image>, items: &mut [HistoryItem]) {
        let mut of = Some(Arc::clone(image));
        for item in items {
            let Some(image) = of else { return };
            item.id = image.id.to_string();
            let names = self.store.names_of(&image.id);
            let tags: Vec<String> = names
                .iter()
                .filter(|name| name.digest().is_none())
                .map(wharf_oci::Reference::familiar)
                .collect();
            item.tags = (!tags.is_empty()).then_some(tags);
            of = image.parent.and_then(|parent| self.store.image(&parent));
        }
    }
}

/// A time as configs have it; what cannot be read was before all others.
pub(super) fn moment(time: Option<&str>) -> Timestamp {
    time.and_then(|time| time.parse().ok()).unwrap_or(Timestamp::MIN)
}

/// Seconds since 1970 of a time as configs have it; what cannot be read counts as Go's zero time does in Unix seconds.
pub(super) fn unix(time: Option<&str>) -> i64 {
    time.and_then(|time| time.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}
