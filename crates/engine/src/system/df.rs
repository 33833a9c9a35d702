//! `system df`: what takes the disk.

use std::str::FromStr;
use std::sync::Arc;

use wharf_api::DiskUsage;

use super::System;
use crate::container::ListOptions;
use crate::error::{Error, Result};
use crate::pools::Class;

/// A class of objects that take room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Containers,
    Images,
    Volumes,
    BuildCache,
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "container" => Ok(Self::Containers),
            "image" => Ok(Self::Images),
            "volume" => Ok(Self::Volumes),
            "build-cache" => Ok(Self::BuildCache),
            other => Err(Error::invalid(format!("unknown object type: {other}"))),
        }
    }
}

impl System {
    /// What `parts` take; all of them where none is named.
    pub async fn disk_usage(self: &Arc<Self>, parts: &[Part]) -> Result<DiskUsage> {
        let wants = |part| parts.is_empty() || parts.contains(&part);
        let mut usage = DiskUsage::default();
        if wants(Part::Images) {
            let (images, store) = self.images.usage().await?;
            // What is on its way to be freed still takes room.
            usage.layers_size = Some(i64::try_from(store.total()).unwrap_or(i64::MAX));
            usage.images = Some(images);
        }
        if wants(Part::Containers) {
            let all = ListOptions { all: true, size: true, ..ListOptions::default() };
            usage.containers = Some(self.containers.list(&all).await?.documents().collect());
        }
        if wants(Part::Volumes) {
            let volumes = self.containers.volumes.clone();
            usage.volumes = Some(self.containers.pools.run(Class::Files, move || Ok(volumes.usage())).await?);
        }
        if wants(Part::BuildCache) {
            usage.build_cache = Some(self.builds.usage().await?);
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_dockers_words() {
        assert_eq!("build-cache".parse::<Part>().unwrap(), Part::BuildCache);
        assert_eq!("foo".parse::<Part>().unwrap_err().message(), "unknown object type: foo");
    }
}
