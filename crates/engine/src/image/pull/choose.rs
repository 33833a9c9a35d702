//! From what a registry has under a name to the manifest of one platform.

use bytes::Bytes;
use wharf_distribution::client::{Document, Manifests, Target};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Index, Manifest, Platform, Reference};

use super::Job;
use crate::error::{Error, Result};

/// How deep indexes may nest.
const DEPTH: usize = 4;

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What the name points to.
    pub(super) target: Descriptor,
    /// The manifest for the platform.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    /// Every document on the way, the manifest last.
    pub(super) documents: Vec<Bytes>,
}

/// Media types of configs that make a manifest an image; the last is what old builders wrote.
const CONFIGS: [&str; 3] = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG, "application/octet-stream"];

impl Job {
    /// Follows indexes to the manifest for the platform asked for.
    pub(super) async fn choose(&self, reference: &Reference, target: Descriptor) -> Result<Chosen> {
        let mut documents = Vec::new();
        let mut at = target.clone();
        for _ in 0..=DEPTH {
            let document = self.document(&at).await.map_err(|error| error.of_pull(reference))?;
            documents.push(document.bytes);
            match document.manifests {
                Manifests::Index(index) => at = self.entry(&index)?.clone(),
                Manifests::Image(manifest) => {
                    check(&manifest)?;
                    let platform = at.platform.clone();
                    let descriptor = Descriptor { platform, ..document.descriptor };
                    let target = Descriptor { platform: None, ..target };
                    return Ok(Chosen { target, descriptor, manifest, documents });
                }
            }
        }
        Err(Error::invalid(format!("index of {} is nested too deep", reference.familiar())))
    }

    async fn document(&self, at: &Descriptor) -> Result<Document, wharf_distribution::client::Error> {
        self.repository.manifest(&Target::Digest(at.digest), Some(at)).await
    }

    fn entry<'i>(&self, index: &'i Index) -> Result<&'i Descriptor> {
        let host = Platform::host();
        let wanted = self.options.platform.as_ref().unwrap_or(&host);
        pick(index, wanted).ok_or_else(|| {
            Error::not_found(format!("no matching manifest for {wanted} in the manifest list entries"))
        })
    }
}

/// The first entry that runs on `wanted`, or that is an index itself; attestations never.
fn pick<'i>(index: &'i Index, wanted: &Platform) -> Option<&'i Descriptor> {
    let mut entries = index.manifests.iter().filter(|entry| !entry.is_attestation());
    let known = |entry: &&Descriptor| {
        media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type)
    };
    let fits = |entry: &&Descriptor| match &entry.platform {
        Some(platform) => platform.satisfies(wanted),
        None => media_type::is_index(&entry.media_type) || index.manifests.len() == 1,
    };
    entries.find(|entry| known(entry) && fits(entry))
}

/// Refuses what is no image, and layers that only their own server gives away.
fn check(manifest: &Manifest) -> Result<()> {
    let config = &manifest.config.media_type;
    if !CONFIGS.contains(&config.as_str()) {
        return Err(Error::invalid(format!("Encountered remote {config:?}(unknown) when fetching")));
    }
    for layer in &manifest.layers {
        let kind = &layer.media_type;
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(Error::invalid(format!(
                "layer {} is a foreign layer ({kind}), which only its own server gives away: such images cannot be used",
                layer.digest
            )));
        }
        if !media_type::is_layer(kind) {
            return Err(Error::invalid(format!("unsupported layer type {kind:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_oci::Digest;

    fn entry(kind: &str, platform: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(kind, Digest::of(kind.as_bytes()), 1);
        entry.platform = platform.map(|text| text.parse().unwrap());
        entry
    }

    #[test]
    fn attestations_are_never_chosen() {
        let mut attestation = entry(media_type::OCI_MANIFEST, Some("linux/amd64"));
        attestation
            .annotations
            .insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
        let right = entry(media_type::OCI_MANIFEST, Some("linux/amd64"));
        let index = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests: vec![entry(media_type::OCI_MANIFEST, Some("linux/arm64")), attestation, right.clone()],
            annotations: Default::default(),
        };
        assert_eq!(pick(&index, &"linux/amd64".parse().unwrap()), Some(&right));
        assert_eq!(pick(&index, &"linux/s390x".parse().unwrap()), None);
    }

    #[test]
    fn foreign_layers_are_refused_by_name() {
        let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let manifest = Manifest {
            schema_version: 2,
            media_type: String::new(),
            artifact_type: None,
            config: entry(media_type::DOCKER_CONFIG, None),
            layers: vec![entry(kind, None)],
            subject: None,
            annotations: Default::default(),
        };
        assert!(check(&manifest).unwrap_err().message().contains("is a foreign layer"));
    }
}
