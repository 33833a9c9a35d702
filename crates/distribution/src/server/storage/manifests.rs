//! Manifests and the lists of what refers to them.

use std::io::{self, Read};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Storage, durable, found, refresh};
use crate::server::document::{Document, MANIFEST_LIMIT};
use crate::server::name::{ContentDigest, Repository};

/// A manifest as it came in.
#[derive(Debug, Clone)]
pub(crate) struct StoredManifest {
    pub(crate) media_type: String,
    pub(crate) digest: ContentDigest,
    pub(crate) bytes: Bytes,
}

/// A manifest's entry in the list of its subject's referrers (distribution-spec, "Listing Referrers").
fn entry(manifest: &StoredManifest, document: &Document) -> Value {
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
    });
    if let Some(kind) = &document.artifact_type {
        descriptor["artifactType"] = kind.as_str().into();
    }
    if !document.annotations.is_empty() {
        descriptor["annotations"] = Value::Object(document.annotations.clone());
    }
    descriptor
}

impl Storage {
    /// A repository's manifest.
    pub(crate) fn manifest(
        &self,
        name: &Repository,
        digest: &ContentDigest,
    ) -> io::Result<Option<StoredManifest>> {
        let Some(media_type) = found(std::fs::read_to_string(self.manifest_link(name, digest)))? else {
            return Ok(None);
        };
        let Some(bytes) = self.manifest_bytes(digest)? else { return Ok(None) };
        Ok(Some(StoredManifest { media_type, digest: digest.clone(), bytes: bytes.into() }))
    }

    /// The bytes of a manifest, none of more than are ever taken.
    pub(super) fn manifest_bytes(&self, digest: &ContentDigest) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = found(std::fs::File::open(self.blob(digest)))? else { return Ok(None) };
        let mut bytes =
            Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0).min(MANIFEST_LIMIT));
        file.take(MANIFEST_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MANIFEST_LIMIT {
            return Err(io::Error::other(format!("manifest {digest} is larger than {MANIFEST_LIMIT} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Keeps a manifest whose references are all there; else the first that is missing.
    pub(crate) fn keep_manifest(
        &self,
        name: &Repository,
        manifest: &StoredManifest,
        document: &Document,
    ) -> io::Result<Result<(), ContentDigest>> {
        // From the look at what it refers to until it refers to it, nothing is swept.
        let _held = self.hold();
        if let Some(missing) = self.missing(name, document)? {
            return Ok(Err(missing));
        }
        self.store_manifest(name, manifest, document)?;
        Ok(Ok(()))
    }

    /// Keeps a manifest whose references may come later, as a cache does.
    pub(crate) fn cache_manifest(
        &self,
        name: &Repository,
        manifest: &StoredManifest,
        document: &Document,
    ) -> io::Result<()> {
        let _held = self.hold();
        self.store_manifest(name, manifest, document)
    }

    fn store_manifest(
        &self,
        name: &Repository,
        manifest: &StoredManifest,
        document: &Document,
    ) -> io::Result<()> {
        let blob = self.blob(&manifest.digest);
        if found(refresh(&blob))?.is_none() {
            self.replace(&blob, &manifest.bytes)?;
        }
        if let Some(subject) = &document.subject {
            let path = self.referrers_folder(name, subject).join(manifest.digest.to_string());
            self.replace(&path, entry(manifest, document).to_string().as_bytes())?;
        }
        self.replace(&self.manifest_link(name, &manifest.digest), manifest.media_type.as_bytes())
    }

    /// What `document` refers to and the repository has not; what it has counts as just used.
    fn missing(&self, name: &Repository, document: &Document) -> io::Result<Option<ContentDigest>> {
        let blobs = document.blobs.iter().map(|blob| (blob, self.blob_link(name, blob)));
        let manifests = document.manifests.iter().map(|child| (child, self.manifest_link(name, child)));
        for (digest, link) in blobs.chain(manifests) {
            if found(refresh(&link))?.is_none() {
                return Ok(Some(digest.clone()));
            }
        }
        Ok(None)
    }

    /// Removes a manifest, the tags that name it, and its entry among its subject's referrers; whether it was there.
    pub(crate) fn remove_manifest(&self, name: &Repository, digest: &ContentDigest) -> io::Result<bool> {
        let Some(manifest) = self.manifest(name, digest)? else {
            return durable::remove(&self.manifest_link(name, digest));
        };
        self.untag(name, digest)?;
        let document = crate::server::document::read(&manifest.bytes, &manifest.media_type).ok();
        if let Some(subject) = document.and_then(|document| document.subject) {
            durable::remove(&self.referrers_folder(name, &subject).join(digest.to_string()))?;
        }
        durable::remove(&self.manifest_link(name, digest))
    }

    /// The manifests of a repository whose subject is `subject`, in the order of their digests.
    pub(crate) fn referrers(&self, name: &Repository, subject: &ContentDigest) -> io::Result<Vec<Value>> {
        let folder = self.referrers_folder(name, subject);
        let mut digests = self.names(&folder)?;
        digests.sort_unstable();
        let mut referrers = Vec::with_capacity(digests.len());
        for digest in digests {
            let Some(text) = found(std::fs::read(folder.join(&digest)))? else { continue };
            referrers.push(serde_json::from_slice(&text).map_err(|error| {
                io::Error::other(format!("entry {digest} of the referrers of {subject}: {error}"))
            })?);
        }
        Ok(referrers)
    }

    /// The digests of all manifests of a repository.
    pub(super) fn manifests(&self, name: &Repository) -> io::Result<Vec<ContentDigest>> {
        let names = self.names(&self.repository(name).join("_manifests"))?;
        Ok(names.iter().filter_map(|name| ContentDigest::parse(name)).collect())
    }
}
