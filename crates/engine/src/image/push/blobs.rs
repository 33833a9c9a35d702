//! The blobs of a push: found there, mounted from another repository of the registry, or sent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinSet;
use wharf_api::{JsonMessage, ProgressDetail};
use wharf_distribution::client::{Pushed, Repository, Source, Upload};
use wharf_oci::{Descriptor, Digest, Reference};
use wharf_store::{Image, Store};

use super::super::Images;
use super::super::progress::bar;
use super::{Job, Plan};
use crate::body::ByteSender;
use crate::error::{Error, Result};

/// How often a client is told how far a blob is.
const EVERY: Duration = Duration::from_millis(100);
/// Repositories that a registry is asked to mount from, at most.
const MOUNTS: usize = 3;
/// Uploads of blobs from this size on are taken up again by the next daemon.
const LONG: u64 = 32 << 20;
/// Where uploads under way are noted.
const UPLOADS: &str = "uploads";

impl Job {
    /// Brings every blob that the plan names into the repository, the topmost layer first.
    pub(super) async fn send_blobs(&self, tag: &Reference, image: &Image, plan: &Plan) -> Result<()> {
        let mut diff_ids: HashMap<Digest, String> = HashMap::new();
        for layer in &image.layers {
            diff_ids.insert(layer.blob.digest, layer.diff_id.0.short());
        }
        let mut seen = HashSet::new();
        let mut sending = JoinSet::new();
        for part in &plan.parts {
            for layer in part.manifest.layers.iter().rev() {
                let id = diff_ids.get(&layer.digest).cloned().unwrap_or_else(|| layer.digest.short());
                self.sender.message(&message(&id, "Preparing")).await?;
                if seen.insert(layer.digest) {
                    sending.spawn(self.shipment(tag, layer, Some(id)).run());
                }
            }
        }
        for part in &plan.parts {
            if seen.insert(part.manifest.config.digest) {
                sending.spawn(self.shipment(tag, &part.manifest.config, None).run());
            }
        }
        while let Some(ended) = sending.join_next().await {
            ended.map_err(|error| Error::internal(format!("push a blob: {error}")))??;
        }
        Ok(())
    }

    fn shipment(&self, tag: &Reference, blob: &Descriptor, id: Option<String>) -> Shipment {
        Shipment {
            images: Arc::clone(&self.images),
            repository: self.repository.clone(),
            sender: self.sender.clone(),
            mounts: self.images.origins(tag, &blob.digest),
            name: tag.repository(),
            blob: blob.clone(),
            id,
        }
    }
}

impl Images {
    /// Repositories of the same registry that a blob is known to be in: images with it were pulled from there, or
    /// pushed to there.
    fn origins(&self, tag: &Reference, blob: &Digest) -> Vec<String> {
        let there = self.store.names_from(&format!("{}/", tag.domain())).into_iter();
        let names = there.filter(|(name, _)| name.digest().is_some() && name.path() != tag.path());
        let has = |image: &Digest| {
            self.store
                .image(image)
                .is_some_and(|image| image.blobs.binary_search(blob).is_ok() || image.blobs.contains(blob))
        };
        let paths: BTreeSet<String> =
            names.filter(|(_, target)| has(&target.image)).map(|(name, _)| name.path().to_owned()).collect();
        paths.into_iter().take(MOUNTS).collect()
    }
}

/// One blob on its way out.
struct Shipment {
    images: Arc<Images>,
    repository: Repository,
    sender: ByteSender,
    mounts: Vec<String>,
    name: String,
    blob: Descriptor,
    /// What the client knows it by; a config is not told of.
    id: Option<String>,
}

impl Shipment {
    async fn run(self) -> Result<()> {
        let _turn = self.images.registries.upload().await?;
        let source = Stored {
            store: Arc::clone(&self.images.store),
            digest: self.blob.digest,
            sent: Arc::new(AtomicU64::new(0)),
        };
        let sent = Arc::clone(&source.sent);
        let pushed = tokio::select! {
            pushed = self.push(&source) => pushed?,
            error = self.tell(&sent) => return Err(error),
        };
        self.end(&pushed).await
    }

    async fn push(&self, source: &Stored) -> Result<Pushed> {
        let key = format!("{}@{}", self.name, self.blob.digest);
        let long = self.blob.size >= LONG;
        let session = if long { self.session(&key).await? } else { None };
        let (images, noted) = (Arc::clone(&self.images), key.clone());
        let note = move |address: &str| {
            let (images, key, address) = (Arc::clone(&images), noted.clone(), address.to_owned());
            tokio::spawn(async move {
                let noted = images
                    .run(move |images| Ok(images.store.documents(UPLOADS).put(&key, address.as_bytes())?));
                if let Err(error) = noted.await {
                    tracing::warn!("note an upload: {error}");
                }
            });
        };
        let resumed = session.is_some();
        let upload = Upload {
            digest: self.blob.digest,
            size: self.blob.size,
            source,
            mount_from: &self.mounts,
            session,
            on_session: if long { Some(&note) } else { None },
            on_retry: None,
        };
        let pushed = self.repository.push_blob(upload).await?;
        if resumed || long && pushed == Pushed::Sent {
            self.images.run(move |images| Ok(images.store.documents(UPLOADS).remove(&key)?)).await?;
        }
        Ok(pushed)
    }

    /// Where an upload of this blob stood that did not end.
    async fn session(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        let read = move |images: &Images| {
            let all = images.store.documents(UPLOADS).all()?;
            let found = all.into_iter().find(|(known, _)| *known == key);
            Ok(found.and_then(|(_, address)| String::from_utf8(address).ok()))
        };
        self.images.run(read).await
    }

    /// Tells how far it is until it is dropped, or the client went away.
    async fn tell(&self, sent: &AtomicU64) -> Error {
        let mut told = 0;
        loop {
            tokio::time::sleep(EVERY).await;
            let current = sent.load(Ordering::Relaxed).min(self.blob.size);
            let (Some(id), true) = (&self.id, current > told) else { continue };
            told = current;
            if let Err(error) = self.progress(id, current).await {
                return error;
            }
        }
    }

    async fn progress(&self, id: &str, current: u64) -> Result<()> {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let total = self.blob.size;
        let mut message = JsonMessage::progress(id, "Pushing", number(current), number(total));
        message.progress = bar(current, total);
        self.sender.message(&message).await
    }

    async fn end(&self, pushed: &Pushed) -> Result<()> {
        let Some(id) = &self.id else { return Ok(()) };
        match pushed {
            Pushed::Existed => self.sender.message(&message(id, "Layer already exists")).await,
            Pushed::Mounted(from) => self.sender.message(&message(id, &format!("Mounted from {from}"))).await,
            Pushed::Sent => {
                self.progress(id, self.blob.size).await?;
                self.sender.message(&message(id, "Pushed")).await
            }
        }
    }
}

/// A message about a layer; the empty detail is Docker's.
fn message(id: &str, status: &str) -> JsonMessage {
    JsonMessage { progress_detail: Some(ProgressDetail::default()), ..JsonMessage::status(id, status) }
}

/// A blob of the store as the client of a registry reads it.
struct Stored {
    store: Arc<Store>,
    digest: Digest,
    /// Bytes read so far.
    sent: Arc<AtomicU64>,
}

impl Source for Stored {
    fn open(&self, offset: u64) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let mut file: File = self.store.open_blob(&self.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        self.sent.store(offset, Ordering::Relaxed);
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(READ);
        Ok(Box::new(Counted { file, sent: Arc::clone(&self.sent) }))
    }
}

/// Read from the disk at once, bytes.
const READ: usize = 512 << 10;

struct Counted {
    file: tokio::fs::File,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.file).poll_read(context, buffer);
        let count = (buffer.filled().len() - before) as u64;
        self.sent.fetch_add(count, Ordering::Relaxed);
        read
    }
}
