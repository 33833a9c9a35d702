//! Manifests as they come in: what they are, what they refer to, what they say of themselves.
//!
//! The bytes are kept as they are; this only looks into them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::name::ContentDigest;

/// The largest manifest that is taken or given, in bytes (distribution-spec, "Pushing Manifests": at least 4 MiB).
pub const MANIFEST_LIMIT: usize = 4 << 20;
/// The most descriptors one manifest may hold: each costs a look at the disk.
const DESCRIPTOR_LIMIT: usize = 16_384;

/// An image manifest of the image spec.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of the image spec.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// Why a manifest is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No JSON object of the expected form.
    #[error("the manifest is not well formed: {0}")]
    Malformed(String),
    /// A media type that is no manifest's.
    #[error("media type {0:?} is not a manifest's")]
    MediaType(String),
    /// The header and the document disagree.
    #[error("the document says it is {document:?}, the Content-Type says {header:?}")]
    Disagreement {
        /// What stands in `mediaType`.
        document: String,
        /// What stands in the header.
        header: String,
    },
    /// Docker's first format.
    #[error("schema 1 manifests are not supported: push the image again with a current client")]
    Schema1,
    /// A digest that cannot be one.
    #[error("{0:?} is no digest")]
    Digest(String),
    /// More descriptors than anybody needs.
    #[error("the manifest lists more than {DESCRIPTOR_LIMIT} descriptors")]
    TooMany,
}

/// What the server needs to know of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Blobs that must be there: the config and the layers, without foreign ones.
    pub blobs: Vec<ContentDigest>,
    /// Manifests that must be there: the entries of an index.
    pub manifests: Vec<ContentDigest>,
    /// The manifest this one is about.
    pub subject: Option<ContentDigest>,
    /// What kind of artifact it is, as the list of referrers says it.
    pub artifact_type: Option<String>,
    /// Its annotations, which the list of referrers repeats.
    pub annotations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<i64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Map<String, Value>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    media_type: Option<String>,
    urls: Option<Vec<serde::de::IgnoredAny>>,
}

impl Descriptor {
    fn digest(&self) -> Result<ContentDigest, DocumentError> {
        ContentDigest::parse(&self.digest).ok_or_else(|| DocumentError::Digest(self.digest.clone()))
    }

    /// Layers that lie elsewhere are not expected here.
    fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || self.media_type.as_deref().is_some_and(|kind| kind.contains(".nondistributable."))
    }
}

/// Whether a media type (with parameters cut off) may be a manifest's.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    [OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT, DOCKER_MANIFEST, DOCKER_LIST].contains(&media_type)
}

/// A header's media type without parameters.
fn essence(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

/// Looks into a manifest that came with `content_type`.
///
/// # Errors
/// [`DocumentError`] says what is wrong with it.
pub fn read(bytes: &[u8], content_type: &str) -> Result<Document, DocumentError> {
    let header = essence(content_type);
    if SCHEMA_1.contains(&header) {
        return Err(DocumentError::Schema1);
    }
    if !is_manifest(header) {
        return Err(DocumentError::MediaType(header.to_owned()));
    }
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|error| DocumentError::Malformed(error.to_string()))?;
    if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
        return Err(DocumentError::Schema1);
    }
    check_kind(&raw, header)?;
    let descriptors = [&raw.layers, &raw.blobs, &raw.manifests];
    if descriptors.iter().map(|list| list.as_ref().map_or(0, Vec::len)).sum::<usize>() > DESCRIPTOR_LIMIT {
        return Err(DocumentError::TooMany);
    }
    let own = raw.config.iter().chain(raw.layers.iter().flatten()).chain(raw.blobs.iter().flatten());
    let blobs = own.filter(|blob| !blob.is_foreign()).map(Descriptor::digest).collect::<Result<_, _>>()?;
    let manifests = raw.manifests.iter().flatten().map(Descriptor::digest).collect::<Result<_, _>>()?;
    let subject = raw.subject.as_ref().map(Descriptor::digest).transpose()?;
    let config_type = raw.config.and_then(|config| config.media_type);
    Ok(Document {
        blobs,
        manifests,
        subject,
        artifact_type: raw.artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
        annotations: raw.annotations.unwrap_or_default(),
    })
}

/// The parts that each kind must have and must not have, so that nothing can be read as two things.
fn check_kind(raw: &Raw, header: &str) -> Result<(), DocumentError> {
    if let Some(document) = raw.media_type.as_deref().filter(|document| *document != header) {
        return Err(DocumentError::Disagreement { document: document.to_owned(), header: header.to_owned() });
    }
    if header != OCI_ARTIFACT && raw.schema_version != Some(2) {
        return Err(DocumentError::Malformed("schemaVersion is not 2".to_owned()));
    }
    let has_layers = raw.layers.is_some() || raw.config.is_some();
    match header {
        OCI_INDEX | DOCKER_LIST if has_layers => {
            Err(DocumentError::Malformed("an index has no config and no layers".to_owned()))
        }
        OCI_MANIFEST | DOCKER_MANIFEST if raw.manifests.is_some() => {
            Err(DocumentError::Malformed("an image manifest lists no manifests".to_owned()))
        }
        OCI_MANIFEST | DOCKER_MANIFEST if raw.config.is_none() || raw.layers.is_none() => {
            Err(DocumentError::Malformed("config or layers are missing".to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: &str) -> String {
        ContentDigest::of(of.as_bytes()).to_string()
    }

    fn manifest() -> Value {
        serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": { "mediaType": "application/x.config", "digest": digest("c"), "size": 1 },
            "layers": [
                { "mediaType": "a", "digest": digest("l"), "size": 1 },
                { "mediaType": "a", "digest": digest("f"), "size": 1, "urls": ["https://elsewhere"] },
            ],
            "subject": { "mediaType": OCI_MANIFEST, "digest": digest("s"), "size": 1 },
            "annotations": { "a": "b" },
        })
    }

    #[test]
    fn a_manifest_says_what_it_needs() {
        let document =
            read(manifest().to_string().as_bytes(), &format!("{OCI_MANIFEST}; charset=utf-8")).unwrap();
        assert_eq!(
            document.blobs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [digest("c"), digest("l")]
        );
        assert_eq!(document.subject.unwrap().to_string(), digest("s"));
        assert_eq!(document.artifact_type.as_deref(), Some("application/x.config"));
        assert_eq!(document.annotations["a"], "b");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let refused = |change: &dyn Fn(&mut Value), kind: &str| {
            let mut changed = manifest();
            change(&mut changed);
            read(changed.to_string().as_bytes(), kind).unwrap_err()
        };
        let same = |_: &mut Value| {};
        assert!(matches!(refused(&same, OCI_INDEX), DocumentError::Disagreement { .. }));
        assert!(matches!(refused(&same, "text/plain"), DocumentError::MediaType(_)));
        assert!(matches!(
            refused(&|m| m["manifests"] = Value::Array(vec![]), OCI_MANIFEST),
            DocumentError::Malformed(_)
        ));
        assert!(matches!(refused(&|m| m["schemaVersion"] = 1.into(), OCI_MANIFEST), DocumentError::Schema1));
        assert!(matches!(
            refused(&|m| m["layers"][0]["digest"] = "../x".into(), OCI_MANIFEST),
            DocumentError::Digest(_)
        ));
        assert!(matches!(read(b"[]", OCI_MANIFEST), Err(DocumentError::Malformed(_))));
    }
}
