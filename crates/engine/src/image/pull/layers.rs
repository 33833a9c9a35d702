//! The layers of one image: which are here, which have to come, and what the client is told meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use wharf_api::{JsonMessage, ProgressDetail};
use wharf_oci::{DiffId, ImageConfig};
use wharf_store::Batch;

use super::super::progress::bar;
use super::Job;
use super::choose::Chosen;
use super::transfer::{Means, Phase, Wanted, Watch};
use crate::body::ByteSender;
use crate::error::{Error, Result};

/// How often a client is told how far a layer is.
const EVERY: Duration = Duration::from_millis(100);

impl Job {
    /// Brings in the layers that are not here. Gives the unpacked sizes of those that were.
    pub(super) async fn layers(
        &self,
        batch: &Arc<Batch>,
        chosen: &Chosen,
        config: &ImageConfig,
    ) -> Result<Vec<Option<u64>>> {
        let blobs = chosen.manifest.layers.iter().cloned();
        let wanted: Vec<Wanted> = blobs
            .zip(&config.rootfs.diff_ids)
            .map(|(blob, diff_id)| Wanted { blob, diff_id: *diff_id })
            .collect();
        let stacks = batch.stacks();
        let is_here = |wanted: &Wanted| {
            batch.blob_size(&wanted.blob.digest) == Some(wanted.blob.size)
                && (!stacks || batch.has_layer(&wanted.diff_id))
        };
        let missing: Vec<bool> = wanted.iter().map(|wanted| !is_here(wanted)).collect();
        let known = self.images.store.image(&chosen.manifest.config.digest).is_some();
        if missing.contains(&true) {
            self.lease(batch, chosen, config).await?;
        }
        for (wanted, missing) in wanted.iter().zip(&missing) {
            let id = wanted.blob.digest.short();
            match (missing, known) {
                (true, _) => self.tell(id, "Pulling fs layer").await?,
                (false, false) => self.tell(id, "Already exists").await?,
                // Of an image that is here nothing is told, as Docker does.
                (false, true) => {}
            }
        }
        let means = Means {
            store: Arc::clone(&self.images.store),
            pools: self.images.pools.clone(),
            registries: Arc::clone(&self.images.registries),
            repository: self.repository.clone(),
        };
        let mut sizes = vec![None; wanted.len()];
        let mut watches = JoinSet::new();
        for (at, wanted) in wanted.into_iter().enumerate().filter(|(at, _)| missing[*at]) {
            let watch = self.images.transfers.watch(&wanted, &means).await;
            let teller = Teller { sender: self.sender.clone(), wanted };
            watches.spawn(async move { teller.follow(watch).await.map(|size| (at, size)) });
        }
        while let Some(ended) = watches.join_next().await {
            let ended = ended.map_err(|error| Error::internal(format!("watch a transfer: {error}")))?;
            let (at, size) = ended?;
            sizes[at] = size;
        }
        Ok(sizes)
    }

    /// Before the first byte: what arrives is kept, whatever becomes of this request.
    async fn lease(&self, batch: &Arc<Batch>, chosen: &Chosen, config: &ImageConfig) -> Result<()> {
        let blobs: Vec<_> = chosen.manifest.layers.iter().map(|layer| layer.digest).collect();
        let chain: Vec<DiffId> = config.rootfs.diff_ids.clone();
        let batch = Arc::clone(batch);
        self.images.run(move |_| Ok(batch.lease(&blobs, &chain)?)).await
    }

    async fn tell(&self, id: String, status: &str) -> Result<()> {
        self.sender.message(&message(id, status)).await
    }
}

/// A message about a layer; the empty detail is Docker's.
fn message(id: String, status: &str) -> JsonMessage {
    JsonMessage { progress_detail: Some(ProgressDetail::default()), ..JsonMessage::status(id, status) }
}

/// Tells one client about one layer.
struct Teller {
    sender: ByteSender,
    wanted: Wanted,
}

impl Teller {
    /// Follows a transfer to its end.
    async fn follow(&self, mut watch: Watch) -> Result<Option<u64>> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::default();
        loop {
            let phase = watch.phase();
            match &phase {
                Phase::Waiting => self.once(&mut told.waiting, "Waiting").await?,
                Phase::Downloading => self.so_far(&watch).await?,
                Phase::Retrying(seconds) => {
                    let plural = if *seconds == 1 { "" } else { "s" };
                    self.say(&format!("Retrying in {seconds} second{plural}")).await?;
                }
                Phase::Extracting => self.downloaded(&mut told).await?,
                Phase::Ended(Ok(size)) => {
                    self.downloaded(&mut told).await?;
                    self.progress("Extracting", self.wanted.blob.size).await?;
                    self.say("Pull complete").await?;
                    return Ok(*size);
                }
                Phase::Ended(Err(error)) => return Err(error.clone()),
            }
            tokio::select! {
                () = watch.changed() => {}
                _ = ticks.tick(), if phase == Phase::Downloading => {}
            }
        }
    }

    async fn so_far(&self, watch: &Watch) -> Result<()> {
        let current = watch.current();
        if current == 0 || current >= self.wanted.blob.size {
            return Ok(());
        }
        self.progress("Downloading", current).await
    }

    async fn downloaded(&self, told: &mut Told) -> Result<()> {
        if std::mem::replace(&mut told.downloaded, true) {
            return Ok(());
        }
        self.say("Verifying Checksum").await?;
        self.say("Download complete").await
    }

    async fn once(&self, told: &mut bool, status: &str) -> Result<()> {
        if std::mem::replace(told, true) { Ok(()) } else { self.say(status).await }
    }

    async fn say(&self, status: &str) -> Result<()> {
        self.sender.message(&message(self.wanted.blob.digest.short(), status)).await
    }

    async fn progress(&self, status: &str, current: u64) -> Result<()> {
        let total = self.wanted.blob.size;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let id = self.wanted.blob.digest.short();
        let mut message = JsonMessage::progress(id, status, number(current), number(total));
        message.progress = bar(current, total);
        self.sender.message(&message).await
    }
}

/// What a client has been told already.
#[derive(Debug, Default)]
struct Told {
    waiting: bool,
    downloaded: bool,
}
