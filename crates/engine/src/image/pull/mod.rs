//! Pulling: from a reference to an image with a name.
//!
//! ```text
//! reference ── resolve ──> index or manifest ── choose ──> manifest ──> config ──> layers, in parallel ──> image
//!                 │ known already? done, one request                        │
//!                 └─────────────────────────────────────────────            └ transfer (one a blob, shared by all pulls)
//!                                                                                └ receive: hash, keep, unpack
//! ```
//!
//! The documents are kept as received; the name points to what the registry had under it, and the image's id is the
//! digest of the config of the platform chosen. A client that goes away takes its pull with it, but not the transfers
//! that others watch; what had arrived waits for the next attempt.

mod choose;
mod layers;
mod receive;
mod transfer;

use std::sync::Arc;

use wharf_api::JsonMessage;
use wharf_distribution::client::{Credentials, Repository, Target};
use wharf_oci::{Descriptor, Digest, ImageConfig, Platform, Reference};
use wharf_store::{Batch, Image, ImageLayer};

use super::compose::assemble;
use super::resolve::refused;
use super::{DOCUMENT_LIMIT, Images};
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::pools::Class;
use choose::Chosen;
pub(super) use transfer::Transfers;

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// With tag or digest; without either, every tag of the repository.
    pub reference: Reference,
    /// The platform asked for; else this machine's, or the only one there is.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

impl PullOptions {
    /// Reads the name and tag of a request; the tag may be a digest.
    pub fn parse(
        name: &str,
        tag: &str,
        platform: Option<Platform>,
        credentials: Credentials,
    ) -> Result<Self> {
        let reference = Reference::parse(name).map_err(refused)?;
        let reference = match tag.parse::<Digest>() {
            Ok(digest) => reference.with_digest(digest),
            Err(_) if tag.is_empty() => reference,
            Err(_) => reference.with_tag(tag).map_err(refused)?,
        };
        Ok(Self { reference, platform, credentials })
    }
}

impl Images {
    /// Pulls; the stream tells how far it is. Whoever drops it gives up.
    pub async fn pull(self: &Arc<Self>, options: PullOptions) -> Result<Progress> {
        let (sender, progress) = ByteStream::channel();
        let repository = self.registries.client().repository(&options.reference, options.credentials.clone());
        let job = Job { images: Arc::clone(self), sender: sender.clone(), repository, options };
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = job.run() => ended,
                () = sender.closed() => return,
            };
            if let Err(Failed { error, began }) = ended {
                if !began {
                    return sender.fail(error).await;
                }
                // Nobody is left to tell when the client went away.
                let _ = sender.message(&JsonMessage::error(error.message())).await;
            }
        });
        Ok(progress)
    }
}

/// One request.
struct Job {
    images: Arc<Images>,
    sender: ByteSender,
    repository: Repository,
    options: PullOptions,
}

/// Why a pull failed, and whether the client has been told anything before.
struct Failed {
    error: Error,
    began: bool,
}

/// What became of one tag.
struct Pulled {
    image: Arc<Image>,
    /// Whether the name means something else now.
    newer: bool,
}

impl Job {
    async fn run(&self) -> Result<(), Failed> {
        let mut began = false;
        let done = self.run_all(&mut began).await;
        done.map_err(|error| Failed { error, began })
    }

    async fn run_all(&self, began: &mut bool) -> Result<()> {
        let asked = &self.options.reference;
        let mut references = vec![asked.clone()];
        if asked.is_name_only() {
            let tags = self.repository.tags().await.map_err(|error| error.of_pull(asked))?;
            let tagged = tags.iter().map(|tag| asked.clone().with_tag(tag).map_err(refused));
            references = tagged.collect::<Result<_>>()?;
        }
        let (mut newer, mut last) = (false, None);
        for reference in &references {
            let pulled = self.pull_one(reference, began).await?;
            newer |= pulled.newer;
            last = Some(pulled.image);
        }
        let status = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        self.say("", format!("Status: {status} {}", asked.familiar())).await?;
        if let Some(image) = last {
            self.warn_of_platform(&image).await?;
            self.images.emit_reference("pull", asked, Some(&image));
        }
        Ok(())
    }

    async fn pull_one(&self, reference: &Reference, began: &mut bool) -> Result<Pulled> {
        let target = self.target(reference).await.map_err(|error| error.of_pull(reference))?;
        let known = self.known(reference, &target.digest);
        let chosen = match &known {
            Some(_) => None,
            None => Some(self.choose(reference, target.clone()).await?),
        };
        *began = true;
        let tag = reference.digest().map(|digest| digest.to_string());
        let tag = tag.unwrap_or_else(|| reference.tag().unwrap_or_default().to_owned());
        self.say(tag, format!("Pulling from {}", reference.path())).await?;
        let before = self.images.store.name(reference).map(|name| name.image);
        let digest = reference.without_suffix().with_digest(target.digest);
        let mut names = vec![digest];
        names.extend((reference.digest().is_none()).then(|| reference.clone()));
        let digest = target.digest;
        let image = match (chosen, known) {
            (Some(chosen), _) => self.fetch(chosen, names).await?,
            (None, Some(image)) if self.name(names.clone(), &image, &digest).await? => image,
            // Removed since it was looked at.
            (None, _) => self.fetch(self.choose(reference, target).await?, names).await?,
        };
        self.say("", format!("Digest: {digest}")).await?;
        Ok(Pulled { newer: before != Some(image.id), image })
    }

    /// What the registry has under the reference. Of a digest that is here already, nobody is asked.
    async fn target(&self, reference: &Reference) -> Result<Descriptor, wharf_distribution::client::Error> {
        let digest = reference.digest();
        if let Some(image) = digest.and_then(|digest| self.known(reference, &digest)) {
            return Ok(image.target.clone());
        }
        self.repository.resolve(&Target::of(reference)).await
    }

    /// The image that `target` is already, whole and for the platform asked for.
    fn known(&self, reference: &Reference, target: &Digest) -> Option<Arc<Image>> {
        let store = &self.images.store;
        let plain = reference.without_suffix();
        let names = [reference.clone(), plain.with_digest(*target)];
        let named = names.iter().filter_map(|name| store.name(name)).find(|name| name.target == *target)?;
        let image = store.image(&named.image)?;
        let fits = match &self.options.platform {
            Some(wanted) => image.platform.satisfies(wanted) || image.manifest.digest == *target,
            None => image.platform.satisfies(&Platform::host()) || image.manifest.digest == *target,
        };
        let whole = image.blobs.iter().all(|blob| store.has_blob(blob));
        (fits && whole).then_some(image)
    }

    /// Brings in what is missing of an image.
    async fn fetch(&self, chosen: Chosen, names: Vec<Reference>) -> Result<Arc<Image>> {
        let config = self.config(&chosen.manifest.config).await?;
        check(&chosen, &config.parsed)?;
        let images = Arc::clone(&self.images);
        let batch = images.run(|images| Ok(images.store.batch()?)).await?;
        let batch = Arc::new(batch);
        let sizes = match self.layers(&batch, &chosen, &config.parsed).await {
            Ok(sizes) => sizes,
            Err(error) => {
                self.give_up(batch, &error).await;
                return Err(error);
            }
        };
        self.images.run(move |images| images.record(batch, chosen, config, &sizes, names)).await
    }

    /// What arrived of an image that cannot be had is not kept for another attempt.
    async fn give_up(&self, batch: Arc<Batch>, error: &Error) {
        if error.kind() != ErrorKind::Invalid {
            return;
        }
        let given_up = self.images.run(move |_| match Arc::try_unwrap(batch) {
            Ok(batch) => Ok(batch.give_up()?),
            // Somebody still reads from it: the lease ends by its own.
            Err(_) => Ok(()),
        });
        if let Err(error) = given_up.await {
            tracing::warn!("end the lease of a pull: {error}");
        }
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Config> {
        let digest = descriptor.digest;
        let stored = self.images.store.has_blob(&digest);
        let bytes = if stored {
            let read =
                self.images.run(move |images| Ok(images.store.read_blob(&digest, DOCUMENT_LIMIT)?)).await;
            match read {
                Ok(bytes) => bytes.into(),
                Err(_) => self.repository.small_blob(descriptor, DOCUMENT_LIMIT).await?,
            }
        } else {
            self.repository.small_blob(descriptor, DOCUMENT_LIMIT).await?
        };
        let parsed = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("image config {digest}: {error}")))?;
        Ok(Config { bytes, parsed })
    }

    /// Gives a known image the names that it has not; false when somebody has removed it.
    async fn name(&self, mut names: Vec<Reference>, image: &Image, target: &Digest) -> Result<bool> {
        let store = &self.images.store;
        let wanted = wharf_store::Name { image: image.id, target: *target };
        names.retain(|name| store.name(name) != Some(wanted));
        if names.is_empty() {
            return Ok(true);
        }
        let id = image.id;
        self.images
            .run(move |images| {
                let mut names = names.iter();
                match names.try_for_each(|name| images.store.name_target(name, &id, &wanted.target)) {
                    Err(wharf_store::Error::NoImage(_)) => Ok(false),
                    named => Ok(named.map(|()| true)?),
                }
            })
            .await
    }

    async fn warn_of_platform(&self, image: &Image) -> Result<()> {
        match &self.options.platform {
            Some(wanted) if !image.platform.satisfies(wanted) => {
                let text = format!(
                    "WARNING: image with reference {} was found but its platform ({}) does not match the specified \
                     platform ({wanted})",
                    self.options.reference.familiar(),
                    image.platform
                );
                self.say("", text).await
            }
            _ => Ok(()),
        }
    }

    async fn say(&self, id: impl Into<String>, status: impl Into<String>) -> Result<()> {
        self.sender.message(&JsonMessage::status(id, status)).await
    }
}

/// An image config with its very bytes.
struct Config {
    bytes: bytes::Bytes,
    parsed: ImageConfig,
}

/// Refuses what cannot be run here, before anything large is fetched.
fn check(chosen: &Chosen, config: &ImageConfig) -> Result<()> {
    let (layers, diff_ids) = (&chosen.manifest.layers, &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(Error::invalid(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    if !matches!(config.os.as_str(), "" | "linux") {
        return Err(Error::invalid(format!(
            "image operating system {:?} cannot be used on this platform: operating system is not supported",
            config.os
        )));
    }
    Ok(())
}

impl Images {
    /// Records an image whose layers have arrived.
    fn record(
        &self,
        batch: Arc<Batch>,
        chosen: Chosen,
        config: Config,
        sizes: &[Option<u64>],
        names: Vec<Reference>,
    ) -> Result<Arc<Image>> {
        let batch = Arc::try_unwrap(batch)
            .map_err(|_| Error::internal("a pull that ended is still under way somewhere"))?;
        match Self::assembled(&batch, chosen, config, sizes) {
            Ok(image) => {
                let (id, made) = (image.id, Arc::new(image.clone()));
                batch.commit(vec![image], names.into_iter().map(|name| (name, id)).collect())?;
                // Somebody may have removed it by now.
                Ok(self.store.image(&id).unwrap_or(made))
            }
            Err(error) => {
                if error.kind() == ErrorKind::Invalid {
                    batch.give_up()?;
                }
                Err(error)
            }
        }
    }

    fn assembled(batch: &Batch, chosen: Chosen, config: Config, sizes: &[Option<u64>]) -> Result<Image> {
        let mut documents = Vec::new();
        for document in &chosen.documents {
            documents.push(batch.put(document)?);
        }
        batch.put(&config.bytes)?;
        let layers = chosen.manifest.layers.iter().zip(&config.parsed.rootfs.diff_ids).zip(sizes);
        let mut layers: Vec<ImageLayer> = layers
            .map(|((blob, diff_id), size)| ImageLayer {
                diff_id: *diff_id,
                blob: blob.clone(),
                size: size.unwrap_or(0),
            })
            .collect();
        super::compose::unpack(batch, &mut layers)?;
        Ok(assemble(
            &config.parsed,
            &chosen.manifest.config,
            chosen.descriptor,
            chosen.target,
            layers,
            documents,
        ))
    }
}

/// Unpacking and writing run on this pool.
const POOL: Class = Class::Images;
