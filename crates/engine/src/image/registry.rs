//! What a registry knows of a reference, without fetching it.

use std::sync::Arc;

use wharf_api::DistributionInspect;
use wharf_distribution::client::{Credentials, Manifests, Target};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, ImageConfig, Platform, Reference};

use super::resolve::refused;
use super::{DOCUMENT_LIMIT, Images};
use crate::error::{Error, Result};

impl Images {
    /// The document of `/distribution/{name}/json`: what the name points to, and the platforms in it.
    pub async fn distribution(
        self: &Arc<Self>,
        name: &str,
        credentials: Credentials,
    ) -> Result<DistributionInspect> {
        let reference = Reference::parse(name).map_err(refused)?.with_default_tag();
        let repository = self.registries.client().repository(&reference, credentials);
        let document = repository.manifest(&Target::of(&reference), None).await?;
        let platforms = match &document.manifests {
            Manifests::Index(index) => {
                index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect()
            }
            Manifests::Image(manifest) if is_config(&manifest.config) => {
                let bytes = repository.small_blob(&manifest.config, DOCUMENT_LIMIT).await?;
                let config: ImageConfig = serde_json::from_slice(&bytes)
                    .map_err(|error| Error::internal(format!("image config: {error}")))?;
                let platform = config.platform();
                if platform.os.is_empty() && platform.architecture.is_empty() {
                    Vec::new()
                } else {
                    vec![Platform { os_version: config.os_version, ..platform }]
                }
            }
            Manifests::Image(_) => Vec::new(),
        };
        Ok(DistributionInspect { descriptor: document.descriptor, platforms })
    }
}

fn is_config(descriptor: &Descriptor) -> bool {
    matches!(descriptor.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}
