//! Uploads: begun, added to, finished, cancelled.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{LOCATION, RANGE};
use hyper::{Request, StatusCode};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{DIGEST, Reply, UPLOAD, blocking, empty, header, set};
use crate::server::Registry;
use crate::server::error::{Code, Doing, Refusal};
use crate::server::name::{Algorithm, ContentDigest, Repository, UploadId};
use crate::server::range;
use crate::server::route::{Query, digest as parse_digest};
use crate::server::uploads::{Held, Pace, Upload};

/// How long a client may send nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);
/// How many bytes are gathered before a thread hashes and writes them.
const BATCH: usize = 256 << 10;

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "blob upload unknown to registry")
}

fn find(registry: &Registry, name: &Repository, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
    registry.uploads.find(name, id).ok_or_else(unknown)
}

async fn hold(registry: &Registry, name: &Repository, id: &UploadId) -> Result<Held, Refusal> {
    let held = find(registry, name, id)?.hold().await;
    if held.is_open() { Ok(held) } else { Err(unknown()) }
}

/// The range header of an upload: both ends included, `0-0` while there is nothing.
fn progress(written: u64) -> String {
    format!("0-{}", written.saturating_sub(1))
}

fn location(name: &Repository, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{}", id.as_str())
}

fn standing(status: StatusCode, name: &Repository, upload: &Upload) -> Reply {
    let mut response = empty(status);
    set(&mut response, LOCATION, &location(name, upload.id()));
    set(&mut response, RANGE, &progress(upload.written()));
    set(&mut response, UPLOAD, upload.id().as_str());
    Ok(response)
}

fn made(name: &Repository, digest: &ContentDigest) -> Reply {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut response, DIGEST, &digest.to_string());
    Ok(response)
}

pub(super) async fn post(
    registry: &Arc<Registry>,
    name: Repository,
    query: &Query,
    request: Request<Incoming>,
) -> Reply {
    if let Some(digest) = query.get("mount") {
        let digest = parse_digest(digest)?;
        // A source that is no name has no blobs: the client sends the bytes.
        let from = query.get("from").map(Repository::parse);
        if from.as_ref().is_none_or(Option::is_some) {
            let (storage, from, key) =
                (registry.storage.clone(), from.flatten(), (name.clone(), digest.clone()));
            if blocking("mount a blob", move || storage.mount(&key.0, &key.1, from.as_ref())).await? {
                return made(&name, &digest);
            }
        }
    }
    let whole = query.get("digest").map(parse_digest).transpose()?;
    let algorithm = whole.as_ref().map_or_else(|| wished(query), |digest| Ok(digest.algorithm()))?;
    let (uploads, key) = (registry.uploads.clone(), name.clone());
    let upload = blocking("begin an upload", move || uploads.begin(&key, algorithm)).await?;
    let upload = upload.ok_or_else(|| {
        Refusal::new(Code::TooManyRequests, "too many uploads are open").with_header("retry-after", "10")
    })?;
    // Without a body it may still be the whole of the empty blob; else the client wants to send it to the upload.
    let nothing = request.body().is_end_stream();
    let is_whole =
        |digest: &ContentDigest| !nothing || ContentDigest::computed(digest.algorithm(), b"") == *digest;
    let Some(digest) = whole.filter(is_whole) else {
        return standing(StatusCode::ACCEPTED, &name, &upload);
    };
    let held = upload.clone().hold().await;
    let outcome = match receive(registry, held, request.into_body(), None).await {
        Ok(held) => finish(registry, held, name, digest).await,
        Err(refusal) => Err(refusal),
    };
    if outcome.is_err() {
        // Nobody was told its id: nobody can go on with it.
        let uploads = registry.uploads.clone();
        blocking("forget an upload", move || {
            uploads.forget(&upload);
            Ok(())
        })
        .await?;
    }
    outcome
}

/// The algorithm that a client announces for an upload, so that its digest can be computed on the way.
fn wished(query: &Query) -> Result<Algorithm, Refusal> {
    match query.get("digest-algorithm") {
        None | Some("sha256") => Ok(Algorithm::Sha256),
        Some("sha512") => Ok(Algorithm::Sha512),
        Some(other) => Err(Refusal::new(Code::DigestInvalid, "unsupported digest algorithm")
            .with_detail(json!({ "algorithm": other }))),
    }
}

pub(super) fn status(registry: &Registry, name: &Repository, id: &UploadId) -> Reply {
    standing(StatusCode::NO_CONTENT, name, &*find(registry, name, id)?)
}

pub(super) async fn patch(
    registry: &Arc<Registry>,
    name: &Repository,
    id: &UploadId,
    request: Request<Incoming>,
) -> Reply {
    let held = hold(registry, name, id).await?;
    let upload = held.upload().clone();
    let length = expected(&request, name, &held)?;
    drop(receive(registry, held, request.into_body(), length).await?);
    standing(StatusCode::ACCEPTED, name, &upload)
}

/// Checks a chunk's place; how long it must be, if it says so.
fn expected<B>(request: &Request<B>, name: &Repository, held: &Held) -> Result<Option<u64>, Refusal> {
    let Some(text) = header(request, "content-range") else { return Ok(None) };
    let chunk = range::chunk(text)
        .ok_or_else(|| Refusal::new(Code::BlobUploadInvalid, "the Content-Range cannot be read"))?;
    if chunk.start != held.written() {
        return Err(Refusal::new(Code::RangeInvalid, "the chunk does not begin where the upload ends")
            .with_header("location", location(name, held.upload().id()))
            .with_header("range", progress(held.written()))
            .with_header("docker-upload-uuid", held.upload().id().as_str()));
    }
    let announced = header(request, "content-length").and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != chunk.length) {
        return Err(Refusal::new(Code::SizeInvalid, "Content-Length and Content-Range disagree"));
    }
    Ok(Some(chunk.length))
}

pub(super) async fn put(
    registry: &Arc<Registry>,
    name: &Repository,
    id: &UploadId,
    query: &Query,
    request: Request<Incoming>,
) -> Reply {
    let digest = query
        .get("digest")
        .ok_or_else(|| Refusal::new(Code::DigestInvalid, "the digest is missing"))
        .and_then(parse_digest)?;
    let held = hold(registry, name, id).await?;
    let length = expected(&request, name, &held)?;
    let held = receive(registry, held, request.into_body(), length).await?;
    finish(registry, held, name.clone(), digest).await
}

/// Makes the bytes of an upload a blob; an upload whose bytes are others than promised is thrown away.
async fn finish(registry: &Arc<Registry>, mut held: Held, name: Repository, digest: ContentDigest) -> Reply {
    let registry = registry.clone();
    let (key, promised) = (name.clone(), digest.clone());
    let matches = blocking("finish an upload", move || {
        let (found, file, path) = held.digest(promised.algorithm())?;
        let matches = found == promised;
        if matches {
            registry.storage.keep_blob(&key, &promised, file, path)?;
        }
        registry.uploads.forget(held.upload());
        Ok(matches)
    })
    .await?;
    if !matches {
        return Err(Refusal::new(Code::DigestInvalid, "provided digest did not match uploaded content")
            .with_detail(json!({ "digest": digest.to_string() })));
    }
    made(&name, &digest)
}

pub(super) async fn cancel(registry: &Arc<Registry>, name: &Repository, id: &UploadId) -> Reply {
    let held = hold(registry, name, id).await?;
    let uploads = registry.uploads.clone();
    blocking("cancel an upload", move || {
        uploads.forget(held.upload());
        Ok(())
    })
    .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Takes a body into an upload, `length` bytes if that is given. What has come when the body breaks off is kept.
///
/// While the disk keeps up, each piece is hashed and written where it was received, in the processor's cache still.
/// Else threads that may wait do it: while one writes a batch the next is gathered, and two batches are all that is in
/// memory.
async fn receive(
    registry: &Registry,
    mut held: Held,
    body: Incoming,
    length: Option<u64>,
) -> Result<Held, Refusal> {
    let mut batches = Batches { body, ended: None };
    let announced = length.or_else(|| batches.body.size_hint().exact());
    held.announce(announced.unwrap_or(0).min(registry.options.blob_limit));
    let taken = take(registry, held, &mut batches, length).await;
    if taken.is_err() {
        batches.drain().await;
    }
    taken
}

async fn take(
    registry: &Registry,
    held: Held,
    batches: &mut Batches,
    length: Option<u64>,
) -> Result<Held, Refusal> {
    let start = held.written();
    let end = length.map_or(registry.options.blob_limit, |length| start.saturating_add(length));
    let upload = held.upload().clone();
    let pace = registry.uploads.pace();
    let mut writer = Writer::Idle(held);
    let mut taken = start;
    let outcome = loop {
        let batch = tokio::select! {
            batch = batches.next(if pace.is_quick() { 0 } else { BATCH }) => batch,
            () = upload.wanted_elsewhere() => Err(Refusal::new(Code::BlobUploadInvalid, "another request took the upload over")),
        };
        let batch = match batch {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => batch,
            Err(refusal) => break Err(refusal),
        };
        taken += batch.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if taken > end {
            break Err(Refusal::new(Code::SizeInvalid, "there are more bytes than announced or allowed")
                .with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        writer = Writer::start(writer.finish().await?, batch, pace)?;
    };
    let mut held = Writer::flush(writer.finish().await?, pace).await?;
    match outcome {
        Ok(()) if length.is_none_or(|length| taken == start + length) => Ok(held),
        Ok(()) => Err(Refusal::new(Code::SizeInvalid, "there are fewer bytes than announced")),
        Err(refusal) if taken > end => {
            blocking("cut an upload back", move || held.cut_to(start)).await?;
            Err(refusal)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Who has the upload: this request, or a thread that writes to it.
enum Writer {
    Idle(Held),
    Busy(JoinHandle<(Held, io::Result<()>)>),
}

impl Writer {
    fn start(mut held: Held, batch: Vec<Bytes>, pace: &Pace) -> Result<Self, Refusal> {
        if pace.is_quick() {
            let begun = Instant::now();
            held.append(batch).doing("write an upload")?;
            pace.took(begun.elapsed());
            return Ok(Self::Idle(held));
        }
        Ok(Self::Busy(tokio::task::spawn_blocking(move || {
            let outcome = held.append(batch);
            (held, outcome)
        })))
    }

    /// Writes what no block was full of.
    async fn flush(mut held: Held, pace: &Pace) -> Result<Held, Refusal> {
        if pace.is_quick() {
            return held.flush().doing("write an upload").map(|()| held);
        }
        blocking("write an upload", move || held.flush().map(|()| held)).await
    }

    async fn finish(self) -> Result<Held, Refusal> {
        match self {
            Self::Idle(held) => Ok(held),
            Self::Busy(job) => {
                let (held, outcome) = job.await.map_err(io::Error::other).doing("write an upload")?;
                outcome.doing("write an upload").map(|()| held)
            }
        }
    }
}

/// How many bytes of a body that is refused are taken all the same: a client that is still sending would see the
/// connection break off, not why.
const DRAINED: usize = 64 << 20;

/// A body, taken in batches.
struct Batches {
    body: Incoming,
    /// An end that was met while a batch was gathered, for who asks for the next.
    ended: Option<Result<(), Refusal>>,
}

impl Batches {
    /// The next pieces: at least one, and those that are there already up to `most` bytes; none at the end.
    async fn next(&mut self, most: usize) -> Result<Vec<Bytes>, Refusal> {
        let mut pieces = Vec::new();
        if let Some(ended) = self.ended.take() {
            return ended.map(|()| pieces);
        }
        let Some(first) = next(&mut self.body).await? else { return Ok(pieces) };
        let mut size = first.len();
        pieces.push(first);
        while size < most {
            let mut waiting = std::pin::pin!(next(&mut self.body));
            // One look, without waiting: what is not there yet belongs to the next batch.
            let ready = std::future::poll_fn(|context| {
                Poll::Ready(match waiting.as_mut().poll(context) {
                    Poll::Ready(piece) => Some(piece),
                    Poll::Pending => None,
                })
            });
            match ready.await {
                Some(Ok(Some(piece))) => {
                    size += piece.len();
                    pieces.push(piece);
                }
                Some(ended) => {
                    self.ended = Some(ended.map(drop));
                    break;
                }
                None => break,
            }
        }
        Ok(pieces)
    }

    /// Throws away what is left.
    async fn drain(&mut self) {
        let mut left = DRAINED;
        while let Ok(Some(piece)) = next(&mut self.body).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    }
}

/// The next piece of a body; nothing at its end.
pub(super) async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| {
            Refusal::new(Code::BlobUploadInvalid, "nothing came for a minute")
                .with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing that is wanted here.
                Err(_) => {}
            },
            Some(Err(error)) => {
                return Err(Refusal::new(Code::BlobUploadInvalid, format!("the body broke off: {error}")));
            }
        }
    }
}
