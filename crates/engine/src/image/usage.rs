//! What images take, for `system df`.

use std::sync::Arc;

use wharf_api::ImageSummary;
use wharf_store::DiskUsage;

use super::{Images, ListOptions};
use crate::error::Result;

impl Images {
    /// All images with what they share, and what the store takes as a whole.
    pub async fn usage(self: &Arc<Self>) -> Result<(Vec<ImageSummary>, DiskUsage)> {
        let list = self.list(ListOptions { shared_size: true, ..ListOptions::default() }).await?;
        let usage = self.run(|images| Ok(images.store.disk_usage())).await?;
        Ok((list, usage))
    }
}
