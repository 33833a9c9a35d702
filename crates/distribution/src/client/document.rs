//! Manifests and indexes as registries send them: bounded, verified, and of one kind only.

use bytes::Bytes;
use serde::de::IgnoredAny;
use wharf_oci::digest::Digest;
use wharf_oci::image::media_type::{is_index, is_manifest};
use wharf_oci::image::{Descriptor, Index, Manifest, media_type};

use super::error::ContentError;

/// The most that is read of a manifest or index (distribution-spec, "Pushing Manifests").
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Most manifests in an index; more would only multiply requests.
pub const INDEX_LIMIT: usize = 1000;
/// Most layers of an image; no file system can stack more.
pub const LAYER_LIMIT: usize = 1000;

/// What is accepted of a registry, best first.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.v1+prettyjws, application/json";

/// A manifest or index as it was received, verified and read.
#[derive(Debug, Clone)]
pub struct Document {
    /// Media type, digest and size of `bytes`.
    pub descriptor: Descriptor,
    /// The very bytes.
    pub bytes: Bytes,
    /// What they say.
    pub manifests: Manifests,
}

/// The two kinds of manifest documents.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifests {
    /// One image, or another artifact.
    Image(Manifest),
    /// Several.
    Index(Index),
}

/// The fields by which documents of the two kinds, and of older ones, are told apart.
#[derive(serde::Deserialize)]
struct Outline {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<u32>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads `bytes` that came as `content_type` (empty: none said), found by `expected` where there was a descriptor.
    /// Header, descriptor and the document itself must agree on what it is, and it must not be two things at once: else
    /// two readers could take it for two different images (CVE-2021-41190).
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn read(
        bytes: Bytes,
        content_type: &str,
        expected: Option<&Descriptor>,
    ) -> Result<Self, ContentError> {
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected {
            check_expected(&bytes, digest, expected)?;
        }
        let announced = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        refuse_schema1(&announced)?;
        let what = || format!("manifest {digest}");
        let malformed = |text: String| ContentError::Malformed { what: what(), text };
        let outline: Outline =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if outline.schema_version == Some(1) || outline.fs_layers.is_some() {
            return Err(ContentError::Schema1("schemaVersion 1".to_owned()));
        }
        let kind = kind_of(&outline, &announced, expected)?;
        if is_index(&kind) && (outline.config.is_some() || outline.layers.is_some())
            || is_manifest(&kind) && outline.manifests.is_some()
        {
            return Err(malformed("both an image and an index".to_owned()));
        }
        let manifests = if is_index(&kind) {
            let index: Index =
                serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
            limit(&what(), "manifests", index.manifests.len(), INDEX_LIMIT)?;
            Manifests::Index(index)
        } else {
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
            limit(&what(), "layers", manifest.layers.len(), LAYER_LIMIT)?;
            Manifests::Image(manifest)
        };
        let descriptor = Descriptor::new(&kind, digest, bytes.len() as u64);
        Ok(Self { descriptor, bytes, manifests })
    }
}

fn check_expected(bytes: &Bytes, digest: Digest, expected: &Descriptor) -> Result<(), ContentError> {
    if digest != expected.digest {
        return Err(ContentError::ManifestDigest { expected: expected.digest, actual: digest });
    }
    if expected.size != bytes.len() as u64 {
        let what = format!("manifest {digest}");
        return Err(ContentError::Size { what, expected: expected.size, actual: bytes.len() as u64 });
    }
    Ok(())
}

fn limit(what: &str, entries: &'static str, count: usize, limit: usize) -> Result<(), ContentError> {
    if count > limit {
        return Err(ContentError::TooMany { what: what.to_owned(), entries, limit });
    }
    Ok(())
}

/// Schema 1 is refused by the name that the registry gave it.
pub(crate) fn refuse_schema1(kind: &str) -> Result<(), ContentError> {
    if kind.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(ContentError::Schema1(kind.to_owned()));
    }
    Ok(())
}

/// Whether a content type says nothing about what a document is.
fn is_silent(kind: &str) -> bool {
    matches!(kind, "" | "application/json" | "text/plain" | "application/octet-stream")
}

/// The one media type that all who name one agree on.
fn kind_of(
    outline: &Outline,
    announced: &str,
    expected: Option<&Descriptor>,
) -> Result<String, ContentError> {
    let own = outline.media_type.as_deref().filter(|own| !own.is_empty());
    let descriptor = expected.map(|expected| expected.media_type.as_str()).filter(|kind| !is_silent(kind));
    let mut kind: Option<&str> = None;
    for named in [own, descriptor, Some(announced).filter(|kind| !is_silent(kind))].into_iter().flatten() {
        refuse_schema1(named)?;
        if !is_index(named) && !is_manifest(named) {
            return Err(ContentError::MediaType(named.to_owned()));
        }
        match kind {
            Some(first) if first != named => {
                let document = match named {
                    media_type::DOCKER_INDEX => "manifest list",
                    media_type::OCI_INDEX => "image index",
                    _ => "manifest",
                };
                return Err(ContentError::Disagreement {
                    document,
                    expected: named.to_owned(),
                    actual: first.to_owned(),
                });
            }
            _ => kind = Some(named),
        }
    }
    let guess = if outline.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    Ok(kind.unwrap_or(guess).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{}","digest":"{HEX}","size":2}},"layers":[]}}"#,
            media_type::OCI_CONFIG
        )
    }

    fn read(text: &str, kind: &str) -> Result<Document, ContentError> {
        Document::read(Bytes::from(text.to_owned()), kind, None)
    }

    #[test]
    fn header_document_and_descriptor_must_agree() {
        let plain = image("");
        assert_eq!(read(&plain, "").unwrap().descriptor.media_type, media_type::OCI_MANIFEST);
        assert_eq!(
            read(&plain, "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8")
                .unwrap()
                .descriptor
                .media_type,
            media_type::DOCKER_MANIFEST
        );
        let own = image(&format!(r#""mediaType":"{}","#, media_type::OCI_MANIFEST));
        assert!(read(&own, media_type::OCI_MANIFEST).is_ok());
        assert!(matches!(read(&own, media_type::OCI_INDEX), Err(ContentError::Disagreement { .. })));
        let bytes = Bytes::from(plain);
        let wrong = Descriptor::new(media_type::OCI_INDEX, Digest::of(&bytes), bytes.len() as u64);
        let result = Document::read(bytes.clone(), media_type::OCI_MANIFEST, Some(&wrong));
        assert!(matches!(result, Err(ContentError::Disagreement { .. })));
        let short = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), 3);
        assert!(matches!(Document::read(bytes, "", Some(&short)), Err(ContentError::Size { .. })));
    }

    #[test]
    fn nothing_is_two_things_at_once() {
        let both = image(r#""manifests":[],"#);
        for kind in ["", media_type::OCI_INDEX, media_type::OCI_MANIFEST] {
            assert!(
                read(&both, kind).unwrap_err().to_string().ends_with("both an image and an index"),
                "{kind}"
            );
        }
        let layers = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(read(layers, media_type::OCI_INDEX).is_err());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(read(old, "application/json"), Err(ContentError::Schema1(_))));
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(read(old, signed).unwrap_err().to_string().contains(signed));
        assert!(
            matches!(read(&image(""), "text/html"), Err(ContentError::MediaType(kind)) if kind == "text/html")
        );
        assert!(matches!(read("[]", ""), Err(ContentError::Malformed { .. })));
        assert!(matches!(read("{}", ""), Err(ContentError::Malformed { .. })));
    }

    #[test]
    fn an_index_that_multiplies_is_refused() {
        let entry = format!(r#"{{"mediaType":"{}","digest":"{HEX}","size":2}}"#, media_type::OCI_MANIFEST);
        let entries = vec![entry; INDEX_LIMIT + 1].join(",");
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
        assert!(matches!(read(&text, media_type::OCI_INDEX), Err(ContentError::TooMany { .. })));
        let deep = "[".repeat(100_000);
        assert!(matches!(read(&deep, media_type::OCI_INDEX), Err(ContentError::Malformed { .. })));
    }
}
