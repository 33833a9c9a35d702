//! Attestations: what an index says of an image beside the image itself, as an artifact of its own for each platform.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_oci::image::{ANNOTATION_REFERENCE_TYPE, Annotations, media_type};
use wharf_oci::{Descriptor, DiffId, Digest, Index, Manifest, Platform, Reference};
use wharf_store::Batch;

use crate::error::{Error, Result};

/// How an in-toto statement is read.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Annotation of a layer: what kind of statement it is.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Annotation of an attestation's descriptor: the manifest that it speaks of.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What an attestation manifest is called among descriptors.
const ATTESTATION: &str = "attestation-manifest";
/// The largest document that is read again, bytes.
const LIMIT: u64 = 32 << 20;

/// How much provenance tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Build arguments, sources and steps too.
    pub(super) max: bool,
    /// In the form of SLSA 1, not 0.2.
    pub(super) slsa1: bool,
    /// Only where it has its place within an image.
    pub(super) inline_only: bool,
    /// The client says that the build is reproducible.
    pub(super) reproducible: bool,
    /// Who builds.
    pub(super) builder: String,
}

/// A list of what is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sbom {
    /// The image that makes it.
    pub generator: Option<String>,
}

/// One statement about one image.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::build) struct Statement {
    pub(in crate::build) predicate_type: String,
    pub(in crate::build) predicate: Value,
}

impl Provenance {
    /// All there is to tell.
    pub(super) fn whole() -> Self {
        Self { max: true, slsa1: false, inline_only: false, reproducible: false, builder: String::new() }
    }

    /// `mode=max,version=v1,…`; `None` where it is switched off.
    pub(super) fn parse(text: &str) -> Result<Option<Self>> {
        let mut wanted = Self { max: false, ..Self::whole() };
        let truth = |name: &str, value: &str| {
            super::options::flag(&BTreeMap::from([(name.to_owned(), value.to_owned())]), name)
                .map(|flag| flag.unwrap_or(true))
        };
        for (name, value) in fields(text) {
            match (name, value) {
                ("mode", "min" | "") => wanted.max = false,
                ("mode", "max") => wanted.max = true,
                ("mode", other) => return Err(Error::invalid(format!("unknown provenance mode {other:?}"))),
                ("version", "v1") => wanted.slsa1 = true,
                ("version", "v0.2") => wanted.slsa1 = false,
                ("version", other) => {
                    return Err(Error::invalid(format!("invalid provenance SLSA version: {other}")));
                }
                ("inline-only", value) => wanted.inline_only = truth(name, value)?,
                ("reproducible", value) => wanted.reproducible = truth(name, value)?,
                ("disabled", value) if truth(name, value)? => return Ok(None),
                ("builder-id", value) => value.clone_into(&mut wanted.builder),
                ("false", "") => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(wanted))
    }
}

impl Sbom {
    /// `generator=IMAGE`; `None` where it is switched off.
    pub(super) fn parse(text: &str) -> Result<Option<Self>> {
        let mut wanted = Self::default();
        for (name, value) in fields(text) {
            match name {
                "disabled" if value != "false" => return Ok(None),
                "false" => return Ok(None),
                "generator" => wanted.generator = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(Some(wanted))
    }
}

fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',')
        .filter(|field| !field.is_empty())
        .map(|field| field.split_once('=').unwrap_or((field, "")))
}

/// Brings in what is said of the image with the manifest `subject`, and returns its entry for the index.
pub(super) fn attach(
    batch: &Batch,
    subject: &Descriptor,
    platform: &Platform,
    names: &[Reference],
    statements: &[Statement],
) -> Result<Descriptor> {
    let subjects = subjects(&subject.digest, platform, names);
    let mut layers = Vec::with_capacity(statements.len());
    for statement in statements {
        let document = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": statement.predicate_type,
            "subject": subjects,
            "predicate": statement.predicate,
        });
        let mut layer = put(batch, STATEMENT, &document)?;
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), statement.predicate_type.clone());
        layers.push(layer);
    }
    manifest(batch, subject, layers)
}

/// An index over manifests.
pub(super) fn index(
    batch: &Batch,
    manifests: Vec<Descriptor>,
    annotations: Annotations,
) -> Result<Descriptor> {
    let index =
        Index { schema_version: 2, media_type: media_type::OCI_INDEX.to_owned(), manifests, annotations };
    put(batch, media_type::OCI_INDEX, &index)
}

/// The index `target` again, in which `new` stands for the manifest `old`, and what was said of `old` is said of `new`.
/// Returns it with the blobs that it leads to beside the image's own.
pub(crate) fn rebased(
    batch: &Batch,
    target: &Descriptor,
    old: &Digest,
    new: &Descriptor,
) -> Result<(Descriptor, Vec<Digest>)> {
    let index: Index = read(batch, &target.digest)?;
    let mut manifests = Vec::with_capacity(index.manifests.len());
    let mut blobs = Vec::new();
    for entry in index.manifests {
        let about = entry.annotations.get(REFERENCE_DIGEST).is_some_and(|digest| *digest == old.to_string());
        let entry = if entry.digest == *old {
            Descriptor { digest: new.digest, size: new.size, ..entry }
        } else if entry.is_attestation() && about {
            again(batch, &entry, old, new)?
        } else {
            entry
        };
        if entry.digest != new.digest {
            let inner: Manifest = read(batch, &entry.digest)?;
            blobs.extend([entry.digest, inner.config.digest]);
            blobs.extend(inner.layers.iter().map(|layer| layer.digest));
        }
        manifests.push(entry);
    }
    Ok((self::index(batch, manifests, index.annotations)?, blobs))
}

/// An attestation of `old`, of `new`.
fn again(batch: &Batch, entry: &Descriptor, old: &Digest, new: &Descriptor) -> Result<Descriptor> {
    let known: Manifest = read(batch, &entry.digest)?;
    let mut layers = Vec::with_capacity(known.layers.len());
    for layer in known.layers {
        let mut document: Value = read(batch, &layer.digest)?;
        for subject in document.get_mut("subject").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(digest) = subject.pointer_mut("/digest/sha256")
                && digest.as_str() == Some(&old.hex())
            {
                *digest = Value::from(new.digest.hex());
            }
        }
        let written = put(batch, STATEMENT, &document)?;
        layers.push(Descriptor { annotations: layer.annotations, ..written });
    }
    manifest(batch, new, layers)
}

fn manifest(batch: &Batch, subject: &Descriptor, layers: Vec<Descriptor>) -> Result<Descriptor> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| DiffId(layer.digest)).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config: put(batch, media_type::OCI_CONFIG, &config)?,
        layers,
        subject: None,
        annotations: Annotations::new(),
    };
    let mut entry = put(batch, media_type::OCI_MANIFEST, &manifest)?;
    entry.annotations = Annotations::from([
        (REFERENCE_DIGEST.to_owned(), subject.digest.to_string()),
        (ANNOTATION_REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
    ]);
    let unknown = || "unknown".to_owned();
    entry.platform = Some(Platform { architecture: unknown(), os: unknown(), ..Platform::default() });
    Ok(entry)
}

/// What a statement speaks of: each name of the image.
fn subjects(digest: &Digest, platform: &Platform, names: &[Reference]) -> Vec<Value> {
    let one = |name: String| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    if names.is_empty() {
        return vec![one("_".to_owned())];
    }
    let platform = platform.to_string().replace('/', "%2F");
    let named = |name: &Reference| {
        let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
        one(format!("pkg:docker/{}{tag}?platform={platform}", name.familiar_name()))
    };
    names.iter().map(named).collect()
}

pub(super) fn put(batch: &Batch, media_type: &str, document: &impl serde::Serialize) -> Result<Descriptor> {
    let bytes = serde_json::to_vec(document).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Descriptor::new(media_type, batch.put(&bytes)?, bytes.len() as u64))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(batch: &Batch, digest: &Digest) -> Result<T> {
    // Pinned first: what is read now must still be there when it is named.
    batch.blob_size(digest).ok_or_else(|| Error::not_found(format!("No such blob: {digest}")))?;
    let bytes = batch.read_blob(digest, LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::internal(format!("read {digest}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_provenance() {
        let parse = |text| Provenance::parse(text).unwrap();
        let max = parse("mode=max,version=v1").unwrap();
        assert!(max.max && max.slsa1 && !max.inline_only);
        assert!(parse("mode=min,inline-only=true").unwrap().inline_only);
        assert_eq!((parse("disabled=true"), parse("false")), (None, None));
        assert!(Provenance::parse("mode=odd").is_err() && Provenance::parse("version=v9").is_err());
        assert_eq!(Sbom::parse("generator=x").unwrap().unwrap().generator.as_deref(), Some("x"));
    }

    #[test]
    fn a_statement_names_every_name() {
        let names = [Reference::parse("me/x:1").unwrap(), Reference::parse("reg.io/y:2").unwrap()];
        let platform: Platform = "linux/amd64".parse().unwrap();
        let found = subjects(&Digest::of(b"x"), &platform, &names);
        let shown: Vec<&str> = found.iter().filter_map(|subject| subject["name"].as_str()).collect();
        assert_eq!(
            shown,
            ["pkg:docker/me/x@1?platform=linux%2Famd64", "pkg:docker/reg.io/y@2?platform=linux%2Famd64"]
        );
    }

    #[test]
    fn an_index_follows_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let store = wharf_store::Store::open(dir.path(), None).unwrap();
        let batch = store.batch().unwrap();
        let platform: Platform = "linux/amd64".parse().unwrap();
        let document = |name: &str| put(&batch, media_type::OCI_MANIFEST, &json!({ "is": name })).unwrap();
        let (old, new) = (document("old"), document("new"));
        let statement =
            Statement { predicate_type: "https://example.com/x".to_owned(), predicate: json!({ "y": 1 }) };
        let said = attach(&batch, &old, &platform, &[], &[statement]).unwrap();
        let entry = Descriptor { platform: Some(platform), ..old.clone() };
        let target = index(&batch, vec![entry, said], Annotations::new()).unwrap();
        let (target, blobs) = rebased(&batch, &target, &old.digest, &new).unwrap();
        let index: Index = read(&batch, &target.digest).unwrap();
        assert_eq!(index.manifests[0].digest, new.digest);
        assert_eq!(index.manifests[1].annotations[REFERENCE_DIGEST], new.digest.to_string());
        let manifest: Manifest = read(&batch, &index.manifests[1].digest).unwrap();
        let statement: Value = read(&batch, &manifest.layers[0].digest).unwrap();
        assert_eq!(statement["subject"][0]["digest"]["sha256"], new.digest.hex());
        assert!(blobs.contains(&manifest.layers[0].digest) && !blobs.contains(&new.digest));
    }
}
