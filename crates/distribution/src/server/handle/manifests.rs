//! Manifests and what refers to them.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, ETAG, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::uploads::next;
use super::{DIGEST, FILTERS, Reply, SUBJECT, blocking, empty, header, set, set_length};
use crate::server::Registry;
use crate::server::body::Answer;
use crate::server::document::{self, DocumentError, MANIFEST_LIMIT, OCI_INDEX};
use crate::server::error::{Code, Refusal};
use crate::server::name::{ContentDigest, ManifestName, Repository};
use crate::server::route::Query;
use crate::server::storage::StoredManifest;

type Reference = Result<ManifestName, String>;

fn unknown(name: &Repository, reference: &str) -> Refusal {
    Refusal::new(Code::ManifestUnknown, "manifest unknown")
        .with_detail(json!({ "name": name.as_str(), "reference": reference }))
}

/// A reference that can be none names nothing; one that was meant as a digest is refused as such.
fn existing(name: &Repository, reference: Reference) -> Result<ManifestName, Refusal> {
    reference.map_err(|text| {
        if text.contains(':') {
            return Refusal::new(
                Code::DigestInvalid,
                "the digest is malformed or of an unsupported algorithm",
            );
        }
        unknown(name, &text)
    })
}

pub(super) async fn get<B>(
    registry: &Arc<Registry>,
    name: Repository,
    reference: Reference,
    request: &Request<B>,
) -> Reply {
    let reference = existing(&name, reference)?;
    let manifest = match &registry.proxy {
        Some(proxy) => proxy.manifest(registry, &name, &reference).await?,
        None => local(registry, &name, &reference).await?,
    };
    let shown = match reference {
        ManifestName::Tag(tag) => tag.as_str().to_owned(),
        ManifestName::Digest(digest) => digest.to_string(),
    };
    let manifest = manifest.ok_or_else(|| unknown(&name, &shown))?;
    let digest = manifest.digest.to_string();
    let length = manifest.bytes.len() as u64;
    let unchanged = header(request, "if-none-match").is_some_and(|etag| etag.contains(&digest));
    let body = if unchanged || request.method() == Method::HEAD { Bytes::new() } else { manifest.bytes };
    let mut response = Response::new(Answer::bytes(body));
    set(&mut response, DIGEST, &digest);
    set(&mut response, ETAG, &format!("\"{digest}\""));
    set(&mut response, CONTENT_TYPE, &manifest.media_type);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        set_length(&mut response, length);
    }
    Ok(response)
}

/// A manifest that is kept here.
pub(crate) async fn local(
    registry: &Arc<Registry>,
    name: &Repository,
    reference: &ManifestName,
) -> Result<Option<StoredManifest>, Refusal> {
    let (storage, name, reference) = (registry.storage.clone(), name.clone(), reference.clone());
    blocking("read a manifest", move || {
        let digest = match reference {
            ManifestName::Digest(digest) => Some(digest),
            ManifestName::Tag(tag) => storage.tag(&name, &tag)?,
        };
        digest.map_or(Ok(None), |digest| storage.manifest(&name, &digest))
    })
    .await
}

pub(super) async fn put(
    registry: &Arc<Registry>,
    name: Repository,
    reference: Reference,
    request: Request<Incoming>,
) -> Reply {
    let reference = reference.map_err(|text| {
        let code = if text.contains(':') { Code::DigestInvalid } else { Code::TagInvalid };
        Refusal::new(code, "the reference is neither a tag nor a digest")
            .with_detail(json!({ "reference": text }))
    })?;
    let media_type = header(&request, "content-type").unwrap_or_default().to_owned();
    let bytes = whole(request.into_body()).await?;
    let document = document::read(&bytes, &media_type).map_err(refused)?;
    let digest = match &reference {
        ManifestName::Digest(digest) => ContentDigest::computed(digest.algorithm(), &bytes),
        ManifestName::Tag(_) => ContentDigest::of(&bytes),
    };
    if matches!(&reference, ManifestName::Digest(promised) if *promised != digest) {
        return Err(Refusal::new(Code::DigestInvalid, "provided digest did not match uploaded content")
            .with_detail(json!({ "digest": digest.to_string() })));
    }
    let subject = document.subject.clone();
    let manifest = StoredManifest { media_type, digest: digest.clone(), bytes };
    let (storage, key) = (registry.storage.clone(), name.clone());
    let kept = blocking("keep a manifest", move || {
        let kept = storage.keep_manifest(&key, &manifest, &document)?;
        if let (Ok(()), ManifestName::Tag(tag)) = (&kept, &reference) {
            storage.set_tag(&key, tag, &manifest.digest)?;
        }
        Ok(kept)
    })
    .await?;
    if let Err(missing) = kept {
        return Err(Refusal::new(
            Code::ManifestBlobUnknown,
            "manifest references a manifest or blob unknown to registry",
        )
        .with_detail(json!({ "digest": missing.to_string() })));
    }
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{name}/manifests/{digest}"));
    set(&mut response, DIGEST, &digest.to_string());
    if let Some(subject) = subject {
        set(&mut response, SUBJECT, &subject.to_string());
    }
    Ok(response)
}

fn refused(error: DocumentError) -> Refusal {
    let refusal = Refusal::new(Code::ManifestInvalid, error.to_string());
    match error {
        DocumentError::MediaType(_) => refusal.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        _ => refusal,
    }
}

/// A whole body, none that is too large.
async fn whole(mut body: Incoming) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(Code::SizeInvalid, format!("a manifest has at most {MANIFEST_LIMIT} bytes"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if body.size_hint().lower() > MANIFEST_LIMIT as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body).await? {
        if bytes.len() + piece.len() > MANIFEST_LIMIT {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

pub(super) async fn delete(registry: &Arc<Registry>, name: Repository, reference: Reference) -> Reply {
    registry.deletable()?;
    let reference = existing(&name, reference)?;
    let (storage, key, target) = (registry.storage.clone(), name.clone(), reference.clone());
    let removed = blocking("remove a manifest", move || match &target {
        ManifestName::Tag(tag) => storage.remove_tag(&key, tag),
        ManifestName::Digest(digest) => storage.remove_manifest(&key, digest),
    })
    .await?;
    if removed {
        return Ok(empty(StatusCode::ACCEPTED));
    }
    match reference {
        ManifestName::Tag(tag) => Err(unknown(&name, tag.as_str())),
        ManifestName::Digest(digest) => Err(unknown(&name, &digest.to_string())),
    }
}

pub(super) async fn referrers(
    registry: &Arc<Registry>,
    name: Repository,
    subject: ContentDigest,
    query: &Query,
) -> Reply {
    let filter = query.get("artifactType").map(str::to_owned);
    let found = match &registry.proxy {
        Some(proxy) => proxy.referrers(registry, &name, &subject).await?,
        None => local_referrers(registry, &name, &subject).await?,
    };
    let wanted = |entry: &&Value| filter.as_deref().is_none_or(|kind| entry["artifactType"] == kind);
    let manifests: Vec<&Value> = found.iter().filter(wanted).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut response = Response::new(Answer::bytes(index.to_string()));
    set(&mut response, CONTENT_TYPE, OCI_INDEX);
    if filter.is_some() {
        set(&mut response, FILTERS, "artifactType");
    }
    Ok(response)
}

/// The referrers that are kept here.
pub(crate) async fn local_referrers(
    registry: &Arc<Registry>,
    name: &Repository,
    subject: &ContentDigest,
) -> Result<Vec<Value>, Refusal> {
    let (storage, name, subject) = (registry.storage.clone(), name.clone(), subject.clone());
    blocking("list referrers", move || storage.referrers(&name, &subject)).await
}
