//! Blobs: given whole or in part, and taken away.

use std::fs::File;
use std::sync::Arc;

use hyper::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use hyper::{Request, Response, StatusCode};
use serde_json::json;

use super::{DIGEST, Reply, blocking, empty, header, set, set_length};
use crate::server::Registry;
use crate::server::body::{Answer, FilePart};
use crate::server::error::{Code, Refusal};
use crate::server::name::{ContentDigest, Repository};
use crate::server::proxy::Fetched;
use crate::server::range::{Wanted, wanted};

fn unknown(digest: &ContentDigest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry")
        .with_detail(json!({ "digest": digest.to_string() }))
}

/// What never changes may be kept by whoever is in between for as long as they like.
fn describe(response: &mut Response<Answer>, digest: &ContentDigest) {
    let text = digest.to_string();
    set(response, DIGEST, &text);
    set(response, ETAG, &format!("\"{text}\""));
    set(response, CONTENT_TYPE, "application/octet-stream");
    set(response, ACCEPT_RANGES, "bytes");
    set(response, CACHE_CONTROL, "max-age=31536000, immutable");
}

pub(super) async fn get<B>(
    registry: &Arc<Registry>,
    name: Repository,
    digest: ContentDigest,
    request: &Request<B>,
) -> Reply {
    if header(request, "if-none-match").is_some_and(|etag| etag.contains(&digest.to_string())) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        describe(&mut response, &digest);
        return Ok(response);
    }
    let range = header(request, "range").map(str::to_owned);
    let (storage, key) = (registry.storage.clone(), (name.clone(), digest.clone()));
    let open = blocking("open a blob", move || storage.open_blob(&key.0, &key.1)).await?;
    match (open, &registry.proxy) {
        (Some((file, size)), _) => part_of(file, size, &digest, range.as_deref()),
        (None, Some(proxy)) => match proxy.blob(registry, &name, &digest).await? {
            Some(Fetched::Kept(file, size)) => part_of(file, size, &digest, range.as_deref()),
            Some(Fetched::Coming(flight)) => {
                let part = wanted(range.as_deref(), flight.size());
                let send = |at, end| Answer::Stream { pieces: flight.clone().send(at, end), left: end - at };
                respond(flight.size(), &digest, part, send)
            }
            None => Err(unknown(&digest)),
        },
        (None, None) => Err(unknown(&digest)),
    }
}

fn part_of(file: File, size: u64, digest: &ContentDigest, range: Option<&str>) -> Reply {
    respond(size, digest, wanted(range, size), |at, end| Answer::File(FilePart::new(file, at, end)))
}

/// The answer for a part, or the whole, of a blob of `size` bytes.
fn respond(size: u64, digest: &ContentDigest, part: Wanted, body: impl FnOnce(u64, u64) -> Answer) -> Reply {
    let (status, at, end) = match part {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part(at, end) => (StatusCode::PARTIAL_CONTENT, at, end),
        Wanted::Unsatisfiable => {
            return Err(Refusal::new(Code::RangeInvalid, "the blob has no such range")
                .with_header("content-range", format!("bytes */{size}")));
        }
    };
    let mut response = Response::new(body(at, end));
    *response.status_mut() = status;
    describe(&mut response, digest);
    set_length(&mut response, end - at);
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, CONTENT_RANGE, &format!("bytes {at}-{}/{size}", end - 1));
    }
    Ok(response)
}

pub(super) async fn head(registry: &Arc<Registry>, name: Repository, digest: ContentDigest) -> Reply {
    let (storage, key) = (registry.storage.clone(), (name.clone(), digest.clone()));
    let size = blocking("look for a blob", move || storage.relied_on(&key.0, &key.1)).await?;
    let size = match (size, &registry.proxy) {
        (Some(size), _) => size,
        (None, Some(proxy)) => proxy.blob_size(&name, &digest).await?.ok_or_else(|| unknown(&digest))?,
        (None, None) => return Err(unknown(&digest)),
    };
    let mut response = empty(StatusCode::OK);
    describe(&mut response, &digest);
    set_length(&mut response, size);
    Ok(response)
}

pub(super) async fn delete(registry: &Arc<Registry>, name: Repository, digest: ContentDigest) -> Reply {
    registry.deletable()?;
    let (storage, key) = (registry.storage.clone(), digest.clone());
    if !blocking("remove a blob", move || storage.remove_blob(&name, &key)).await? {
        return Err(unknown(&digest));
    }
    let mut response = empty(StatusCode::ACCEPTED);
    set(&mut response, DIGEST, &digest.to_string());
    Ok(response)
}
