//! Base images: those that are here, and those that registries have.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::JsonMessage;
use wharf_build::plan::BaseImage;
use wharf_oci::{Platform, Reference};
use wharf_store::Image;

use crate::build::{Build, BuildFailure, Material, ResolvedImage, Step, canceled};
use crate::error::{Error, ErrorKind, Result};
use crate::image::PullOptions;

impl Build {
    /// Looks up an image and its config; shown as a step. `pull`: its registry is asked even if it is here.
    ///
    /// # Errors
    /// When nobody has it for this platform, or not for this client.
    pub async fn resolve(
        self: &Arc<Self>,
        reference: String,
        platform: Platform,
        pull: bool,
    ) -> std::result::Result<ResolvedImage, BuildFailure> {
        self.sleeping(move |build| build.image(&reference, &platform, pull)).await
    }

    /// [`Self::resolve`], as a plan wants it.
    pub(in crate::build) fn base_image(
        &self,
        reference: &str,
        platform: &Platform,
        pull: bool,
    ) -> std::result::Result<BaseImage, BuildFailure> {
        let found = self.image(reference, platform, pull)?;
        let config = serde_json::from_slice(&found.config);
        let config = config.map_err(|error| {
            BuildFailure::new(ErrorKind::Internal, format!("read config of image {reference}: {error}"))
        })?;
        Ok(BaseImage { reference: found.reference, id: found.id.to_string(), config })
    }

    fn image(
        &self,
        reference: &str,
        platform: &Platform,
        pull: bool,
    ) -> std::result::Result<ResolvedImage, BuildFailure> {
        self.step(&format!("[internal] load metadata for {reference}"), |step| {
            let found = match (pull, self.known(reference, platform)) {
                (false, Some(image)) => image,
                _ => self.pull(reference, platform, step)?,
            };
            let config = self.builds.store.read_blob(&found.id, CONFIG_LIMIT).map_err(Error::from)?;
            self.used(material(reference, platform, &found));
            Ok(ResolvedImage {
                reference: shown(reference, &found),
                target: found.target.digest,
                id: found.id,
                config,
            })
        })
    }

    /// An image that is here and fits.
    fn known(&self, reference: &str, platform: &Platform) -> Option<Arc<Image>> {
        let familiar =
            Reference::parse(reference).map_or_else(|_| reference.to_owned(), |one| one.familiar());
        let image = self.builds.images.resolve(&familiar).ok()?;
        image.platform.satisfies(platform).then_some(image)
    }

    fn pull(&self, reference: &str, platform: &Platform, step: &Step) -> Result<Arc<Image>> {
        let parsed = Reference::parse(reference).map_err(|error| Error::invalid(error.to_string()))?;
        let credentials = self.client().credentials(parsed.domain());
        let options = PullOptions {
            reference: parsed.with_default_tag(),
            platform: Some(platform.clone()),
            credentials,
        };
        let (images, cancel) = (self.builds.images.clone(), self.cancel().clone());
        let pulled = self.runtime.block_on(async {
            let mut progress = images.pull(options).await?;
            let (mut rest, mut shown) = (Vec::new(), Shown::default());
            loop {
                let chunk = tokio::select! {
                    chunk = progress.next() => chunk,
                    () = canceled(&cancel) => return Err(Error::unavailable("context canceled")),
                };
                let Some(chunk) = chunk else { return Ok(()) };
                rest.extend_from_slice(&chunk?);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    shown.line(&line, step)?;
                }
            }
        });
        pulled?;
        self.known(reference, platform).ok_or_else(|| {
            Error::not_found(format!("{reference}: no match for platform in manifest: not found"))
        })
    }
}

/// The largest image config, bytes.
const CONFIG_LIMIT: u64 = 8 << 20;

/// When each part of a pull began.
#[derive(Default)]
struct Shown(HashMap<String, Timestamp>);

impl Shown {
    /// Passes one message of a pull on.
    fn line(&mut self, line: &[u8], step: &Step) -> Result<()> {
        let Ok(message) = serde_json::from_slice::<JsonMessage>(line) else { return Ok(()) };
        if let Some(error) = message.error_detail {
            return Err(Error::not_found(error.message));
        }
        let Some(progress) = message.progress_detail else { return Ok(()) };
        if message.id.is_empty() {
            return Ok(());
        }
        let started = *self.0.entry(message.id.clone()).or_insert_with(Timestamp::now);
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let (current, total) = (number(progress.current), number(progress.total));
        step.status(&message.id, current, total, started, total > 0 && current >= total);
        Ok(())
    }
}

/// The reference, with the digest where a registry gave it.
fn shown(reference: &str, image: &Image) -> String {
    match Reference::parse(reference) {
        Ok(parsed) if parsed.digest().is_none() && !image.made => {
            format!("{}@{}", parsed.with_default_tag(), image.target.digest)
        }
        Ok(parsed) => parsed.with_default_tag().to_string(),
        Err(_) => reference.to_owned(),
    }
}

fn material(reference: &str, platform: &Platform, image: &Image) -> Material {
    let familiar = Reference::parse(reference).map_or_else(|_| reference.to_owned(), |one| one.familiar());
    let (name, version) = familiar.rsplit_once(':').unwrap_or((&familiar, "latest"));
    let platform = platform.to_string().replace('/', "%2F");
    Material {
        uri: format!("pkg:docker/{name}@{version}?platform={platform}"),
        algorithm: "sha256".to_owned(),
        digest: image.target.digest.hex(),
    }
}
