//! Pushing: the very bytes that came in go out again. Layers that were made here are compressed the first time, and kept
//! so (`pack`).
//!
//! An index goes out whole when everything it names is here; otherwise the manifest of the platform that is here goes in
//! its place, and the client is told.

mod blobs;
mod pack;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use wharf_api::JsonMessage;
use wharf_distribution::client::{Credentials, Repository, Target};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, Digest, Index, Manifest, Platform, Reference};
use wharf_store::Image;

use super::inspect::check_platform;
use super::resolve::refused;
use super::{DOCUMENT_LIMIT, Images};
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::{Error, Result};

/// What to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// With a tag; without, every tag of the repository that is here.
    pub reference: Reference,
    /// Only this platform of what has several.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

impl PushOptions {
    /// Reads the name and tag of a request.
    pub fn parse(
        name: &str,
        tag: &str,
        platform: Option<Platform>,
        credentials: Credentials,
    ) -> Result<Self> {
        let reference = Reference::parse(name).map_err(refused)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let reference = if tag.is_empty() { reference } else { reference.with_tag(tag).map_err(refused)? };
        Ok(Self { reference, platform, credentials })
    }
}

impl Images {
    /// Pushes; the stream tells how far it is. Whoever drops it gives up.
    pub async fn push(self: &Arc<Self>, options: PushOptions) -> Result<Progress> {
        let (sender, progress) = ByteStream::channel();
        let repository =
            self.registries.client().repository(&options.reference, options.credentials.clone()).for_push();
        let job = Job { images: Arc::clone(self), sender: sender.clone(), repository, options };
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = job.run() => ended,
                () = sender.closed() => return,
            };
            if let Err(error) = ended {
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
    options: PushOptions,
}

/// A manifest with everything it names, base layers first.
struct Part {
    descriptor: Descriptor,
    bytes: Bytes,
    manifest: Manifest,
}

/// What goes out under one tag.
struct Plan {
    parts: Vec<Part>,
    /// The index over them, if it goes out too.
    index: Option<(Descriptor, Bytes)>,
    /// The index whose place the one manifest takes.
    instead_of: Option<Descriptor>,
}

impl Job {
    async fn run(&self) -> Result<()> {
        let asked = &self.options.reference;
        self.say("", format!("The push refers to repository [{}]", asked.repository())).await?;
        let tags: Vec<Reference> = {
            let names = self.images.store.names_from(&asked.repository()).into_iter().map(|(name, _)| name);
            let own = names.filter(|name| name.digest().is_none() && name.repository() == asked.repository());
            own.collect()
        };
        if tags.is_empty() {
            let name = asked.without_suffix().familiar();
            return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
        }
        if asked.tag().is_some() && !tags.contains(asked) {
            return Err(Error::not_found(format!("tag does not exist: {}", asked.familiar())));
        }
        for tag in tags.iter().filter(|tag| asked.tag().is_none() || *tag == asked) {
            let image = self.push_tag(tag).await?;
            self.images.emit_reference("push", tag, Some(&image));
        }
        Ok(())
    }

    async fn push_tag(&self, tag: &Reference) -> Result<Arc<Image>> {
        let gone = || Error::not_found(format!("tag does not exist: {}", tag.familiar()));
        let name = self.images.store.name(tag).ok_or_else(gone)?;
        let image = self.images.store.image(&name.image).ok_or_else(gone)?;
        let image = self.packed(image).await?;
        let target = self.images.store.name(tag).map_or(image.target.digest, |name| name.target);
        let plan = self.plan(&image, target).await?;
        self.send_blobs(tag, &image, &plan).await?;
        let pushed = self.send_manifests(tag, &plan).await?;
        self.done(tag, &image, &plan, &pushed).await?;
        Ok(image)
    }

    /// Which documents go out.
    async fn plan(&self, image: &Arc<Image>, target: Digest) -> Result<Plan> {
        check_platform(image, &self.options.reference.familiar(), self.options.platform.as_ref())?;
        let (image, only) = (Arc::clone(image), self.options.platform.is_some());
        self.images.run(move |images| images.plan(&image, target, only)).await
    }

    async fn send_manifests(&self, tag: &Reference, plan: &Plan) -> Result<Descriptor> {
        let top = Target::Tag(tag.tag().unwrap_or_default().to_owned());
        for part in &plan.parts {
            let target = match plan.index {
                Some(_) => Target::Digest(part.descriptor.digest),
                None => top.clone(),
            };
            self.put(&target, &part.descriptor, &part.bytes).await?;
        }
        match (&plan.index, plan.parts.last()) {
            (Some((descriptor, bytes)), _) => {
                self.put(&top, descriptor, bytes).await?;
                Ok(descriptor.clone())
            }
            (None, Some(part)) => Ok(part.descriptor.clone()),
            (None, None) => Err(Error::internal("nothing to push")),
        }
    }

    async fn put(&self, target: &Target, descriptor: &Descriptor, bytes: &Bytes) -> Result<()> {
        self.repository.put_manifest(target, &descriptor.media_type, bytes.clone()).await?;
        Ok(())
    }

    async fn done(&self, tag: &Reference, image: &Image, plan: &Plan, pushed: &Descriptor) -> Result<()> {
        let (digest, size) = (pushed.digest, pushed.size);
        let word = tag.tag().unwrap_or_default();
        self.say("", format!("{word}: digest: {digest} size: {size}")).await?;
        let aux = json!({ "Tag": word, "Digest": digest.to_string(), "Size": size });
        self.aux(aux).await?;
        if let Some(index) = &plan.instead_of {
            let original = Descriptor { annotations: Default::default(), ..index.clone() };
            self.aux(json!({
                "manifestPushedInsteadOfIndex": true,
                "originalIndex": original,
                "selectedManifest": pushed,
            }))
            .await?;
        }
        let name = tag.without_suffix().with_digest(digest);
        if self.images.store.name(&name).is_none_or(|known| known.image != image.id) {
            let id = image.id;
            self.images.run(move |images| Ok(images.store.name_target(&name, &id, &digest)?)).await?;
        }
        Ok(())
    }

    async fn say(&self, id: impl Into<String>, status: impl Into<String>) -> Result<()> {
        self.sender.message(&JsonMessage::status(id, status)).await
    }

    /// A document beside the texts; the empty detail is Docker's.
    async fn aux(&self, document: serde_json::Value) -> Result<()> {
        let detail = Some(wharf_api::ProgressDetail::default());
        self.sender.message(&JsonMessage { progress_detail: detail, ..JsonMessage::aux(document) }).await
    }
}

impl Images {
    /// The whole index when all of it is here and nobody asked for less, else the manifest that is unpacked.
    fn plan(&self, image: &Image, target: Digest, only: bool) -> Result<Plan> {
        let own = self.part(&image.manifest)?;
        if target == image.manifest.digest {
            return Ok(Plan { parts: vec![own], index: None, instead_of: None });
        }
        let bytes = self.store.read_blob(&target, DOCUMENT_LIMIT)?;
        let parse = |error: serde_json::Error| Error::internal(format!("read index {target}: {error}"));
        let index: Index = serde_json::from_slice(&bytes).map_err(parse)?;
        let kind = if index.media_type.is_empty() { media_type::OCI_INDEX } else { &index.media_type };
        let descriptor = Descriptor::new(kind, target, bytes.len() as u64);
        let parts: Result<Vec<Part>> = index.manifests.iter().map(|entry| self.part(entry)).collect();
        match parts {
            Ok(parts) if !only && parts.iter().all(|part| self.is_whole(&part.manifest)) => {
                Ok(Plan { parts, index: Some((descriptor, bytes.into())), instead_of: None })
            }
            _ => Ok(Plan { parts: vec![own], index: None, instead_of: (!only).then_some(descriptor) }),
        }
    }

    fn part(&self, descriptor: &Descriptor) -> Result<Part> {
        let digest = descriptor.digest;
        let bytes = self.store.read_blob(&digest, DOCUMENT_LIMIT)?;
        let parse = |error: serde_json::Error| Error::internal(format!("read manifest {digest}: {error}"));
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(parse)?;
        Ok(Part { descriptor: descriptor.clone(), bytes: bytes.into(), manifest })
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        let mut blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        blobs.all(|blob| self.store.has_blob(&blob.digest))
    }
}
