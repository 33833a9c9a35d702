//! Giving an image another name.

use std::sync::Arc;

use wharf_oci::Reference;

use super::Images;
use super::resolve::refused;
use crate::error::{Error, Result};

impl Images {
    /// Names the image `source` as `repository:tag`, as `docker tag` does.
    pub async fn tag(self: &Arc<Self>, source: &str, repository: &str, tag: &str) -> Result<()> {
        let image = self.resolve(source)?;
        let Some(name) = target(repository, tag)? else {
            return Ok(());
        };
        self.run(move |images| {
            images.store.tag(&name, &image.id)?;
            images.emit("tag", &image, &name.familiar());
            Ok(())
        })
        .await
    }
}

/// The name that `repo` and `tag` of a request make; none without a repository.
pub(crate) fn target(repository: &str, tag: &str) -> Result<Option<Reference>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let name = Reference::parse(repository).map_err(refused)?;
    if name.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if name.familiar_name() == "sha256" {
        return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    let name = if tag.is_empty() { name.with_default_tag() } else { name.with_tag(tag).map_err(refused)? };
    Ok(Some(name))
}
