//! A blob on its way from upstream: fetched once, read by everybody who asks for it meanwhile.
//!
//! invariant: the last byte is given out only after the digest of all of them was verified, so that nobody ever gets a
//! wrong blob of the right length.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use wharf_oci::digest::Digest;
use wharf_oci::image::Descriptor;

use super::{Failure, Proxy, sha256};
use crate::client::{BlobEvent, BlobStream};
use crate::server::Registry;
use crate::server::error::{Code, Refusal};
use crate::server::handle::blocking;
use crate::server::log;
use crate::server::name::{Algorithm, ContentDigest, Repository};
use crate::server::uploads::Held;

/// How much is read and sent at once.
const PIECE: u64 = 128 << 10;
/// How much is gathered before it is written.
const BATCH: usize = 256 << 10;

/// How far a flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// This many bytes are in the file, unverified.
    Written(u64),
    /// All, and they are what they should be.
    Arrived,
    /// It ended otherwise.
    Failed,
}

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    size: u64,
    file: File,
    progress: watch::Receiver<Progress>,
}

/// Where a blob comes from.
pub(crate) enum Fetched {
    /// It is here by now.
    Kept(File, u64),
    /// It is on its way.
    Coming(Arc<Flight>),
}

impl Proxy {
    /// Fetches a blob, or joins those who wait for it; nothing when upstream has none.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        name: &Repository,
        digest: &ContentDigest,
    ) -> Result<Option<Fetched>, Refusal> {
        let Some(upstream_digest) = sha256(digest) else { return Ok(None) };
        let key = (name.clone(), digest.clone());
        if let Some(flight) = self.flights.lock().await.get(&key) {
            return Ok(Some(Fetched::Coming(flight.clone())));
        }
        let Some(size) = self.blob_size(name, digest).await? else { return Ok(None) };
        let mut flights = self.flights.lock().await;
        if let Some(flight) = flights.get(&key) {
            return Ok(Some(Fetched::Coming(flight.clone())));
        }
        // Upstream lets this repository have it; if another one fetched it, it is here already.
        let (storage, known) = (registry.storage.clone(), key.clone());
        let kept = blocking("look for a blob", move || {
            storage.mount(&known.0, &known.1, None)?;
            storage.open_blob(&known.0, &known.1)
        })
        .await?;
        if let Some((file, size)) = kept {
            return Ok(Some(Fetched::Kept(file, size)));
        }
        let (flight, held, progress) = depart(registry, name, size).await?;
        flights.insert(key.clone(), flight.clone());
        let descriptor = descriptor(upstream_digest, size);
        let stream = self.upstream(name)?.blob(&descriptor, 0);
        let (proxy, registry) = (self.clone(), registry.clone());
        tokio::spawn(async move {
            let outcome = carry(&registry, held, stream, &key, &progress).await;
            if let Err(failure) = outcome {
                let reason: Refusal = failure.into();
                log::say(&format!("fetch {} of {}: {}", key.1, key.0, reason.message));
                progress.send_replace(Progress::Failed);
            }
            proxy.flights.lock().await.remove(&key);
        });
        Ok(Some(Fetched::Coming(flight)))
    }
}

fn descriptor(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new("application/octet-stream", digest, size)
}

/// Makes room for a blob.
async fn depart(
    registry: &Arc<Registry>,
    name: &Repository,
    size: u64,
) -> Result<(Arc<Flight>, Held, watch::Sender<Progress>), Refusal> {
    if size > registry.options.blob_limit {
        return Err(Refusal::new(Code::SizeInvalid, "the blob is larger than this registry keeps"));
    }
    let (uploads, name) = (registry.uploads.clone(), name.clone());
    let begun = blocking("make room for a blob", move || {
        let Some(upload) = uploads.begin(&name, Algorithm::Sha256)? else { return Ok(None) };
        let file = File::open(upload.path())?;
        Ok(Some((upload, file)))
    });
    let (upload, file) = begun.await?.ok_or_else(|| {
        Refusal::new(Code::TooManyRequests, "too many blobs are being fetched")
            .with_header("retry-after", "10")
    })?;
    let (sender, progress) = watch::channel(Progress::Written(0));
    Ok((Arc::new(Flight { size, file, progress }), upload.hold().await, sender))
}

/// Brings the bytes here, verifies and keeps them.
async fn carry(
    registry: &Arc<Registry>,
    held: Held,
    mut stream: BlobStream,
    key: &(Repository, ContentDigest),
    progress: &watch::Sender<Progress>,
) -> Result<(), Failure> {
    let upload = held.upload().clone();
    let mut held = Some(held);
    let outcome = async {
        let mut batch: Vec<Bytes> = Vec::new();
        loop {
            let event = stream.next().await?;
            let ended = event.is_none();
            if let Some(BlobEvent::Bytes(bytes)) = event {
                batch.push(bytes);
            }
            let full = batch.iter().map(Bytes::len).sum::<usize>() >= BATCH;
            if let Some(mut writing) = held.take_if(|_| full || ended) {
                let pieces = std::mem::take(&mut batch);
                let append = move || {
                    writing.append(pieces)?;
                    if ended { writing.flush().map(|()| writing) } else { Ok(writing) }
                };
                let written = blocking("write a blob", append).await?;
                progress.send_replace(Progress::Written(written.written()));
                held = Some(written);
            }
            if ended {
                return Ok::<(), Failure>(());
            }
        }
    }
    .await;
    let registry = registry.clone();
    let key = key.clone();
    let arrived = outcome.is_ok();
    let kept = blocking("keep a blob", move || {
        let mut verified = false;
        if let Some(mut held) = held.filter(|_| arrived) {
            let (found, file, path) = held.digest(key.1.algorithm())?;
            verified = found == key.1;
            if verified {
                registry.storage.keep_blob(&key.0, &key.1, file, path)?;
            }
        }
        registry.uploads.forget(&upload);
        Ok(verified)
    })
    .await?;
    outcome?;
    if !kept {
        return Err(Refusal::new(Code::DigestInvalid, "upstream sent other bytes than it promised").into());
    }
    progress.send_replace(Progress::Arrived);
    Ok(())
}

impl Flight {
    /// How many bytes the blob has.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Sends the bytes from `at` up to `end` as they come.
    pub(crate) fn send(self: Arc<Self>, at: u64, end: u64) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            if let Err(error) = self.feed(&sender, at, end).await {
                // A receiver that is gone needs no reason.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    async fn feed(
        self: &Arc<Self>,
        sender: &mpsc::Sender<io::Result<Bytes>>,
        mut at: u64,
        end: u64,
    ) -> io::Result<()> {
        let mut progress = self.progress.clone();
        while at < end {
            let now = *progress.borrow_and_update();
            let visible = match now {
                Progress::Written(written) => written.min(self.size.saturating_sub(1)).min(end),
                Progress::Arrived => end,
                Progress::Failed => return Err(io::Error::other("the blob could not be fetched")),
            };
            if visible <= at {
                // The sender ends with one of the two last states.
                progress.changed().await.map_err(|_| io::Error::other("the fetch was given up"))?;
                continue;
            }
            let (flight, length) = (self.clone(), (visible - at).min(PIECE));
            let read = move || {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
                flight.file.read_exact_at(&mut bytes, at).map(|()| Bytes::from(bytes))
            };
            let bytes = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten()?;
            if sender.send(Ok(bytes)).await.is_err() {
                return Ok(());
            }
            at += length;
        }
        Ok(())
    }
}
