//! An image from a root file system in a tar.

use std::sync::Arc;

use jiff::Timestamp;
use wharf_api::JsonMessage;
use wharf_distribution::client::Remote;
use wharf_oci::image::Config;
use wharf_oci::{History, ImageConfig, Platform, Reference};

use super::compose::{Draft, finish, keep_layer};
use super::{Images, tag};
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::{Error, Result};
use crate::pools::Class;

/// The largest archive that is fetched, bytes.
const LARGEST: u64 = 64 << 30;

/// What `docker import` says beside the archive.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Repository of the new image's name; empty: no name.
    pub repository: String,
    /// Its tag; empty: `latest`.
    pub tag: String,
    /// The history's comment; empty: Docker's own.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The platform of what is imported, if not this machine's.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of one layer from the archive in `body`, compressed in whatever way.
    pub async fn import(self: &Arc<Self>, options: ImportOptions, body: ByteStream) -> Result<Progress> {
        let comment = "Imported from -".to_owned();
        self.import_as(options, body, comment, None)
    }

    /// [`Self::import`] of what is at an `http` or `https` address; one that names no scheme is `http`.
    ///
    /// # Errors
    /// When nobody answers there, or with anything but the archive.
    pub async fn import_from(self: &Arc<Self>, options: ImportOptions, source: &str) -> Result<Progress> {
        let address = if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
        if !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme)) {
            let scheme = address.split("://").next().unwrap_or_default();
            return Err(Error::invalid(format!("Get {address:?}: unsupported protocol scheme {scheme:?}")));
        }
        let remote = self.registries.client().fetch(&address, None).await?;
        if !remote.status().is_success() {
            let message = format!("failed to GET {address} with status {}", remote.status());
            return Err(match remote.status().as_u16() {
                404 => Error::not_found(message),
                _ => Error::invalid(message),
            });
        }
        let (sender, body) = ByteStream::channel();
        tokio::spawn(pump(remote, sender, address.clone()));
        let first = JsonMessage::status("", format!("Downloading from {address}"));
        self.import_as(options, body, format!("Imported from {source}"), Some(first))
    }

    fn import_as(
        self: &Arc<Self>,
        mut options: ImportOptions,
        body: ByteStream,
        comment: String,
        first: Option<JsonMessage>,
    ) -> Result<Progress> {
        if options.message.is_empty() {
            options.message = comment;
        }
        let name = tag::target(&options.repository, &options.tag)?;
        let mut config = Config::default();
        wharf_build::plan::change(&mut config, &options.changes)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let (sender, progress) = ByteStream::channel();
        let images = Arc::clone(self);
        let pools = self.pools.clone();
        tokio::spawn(async move {
            if let Some(first) = first {
                let _ = sender.message(&first).await;
            }
            let work = move || images.import_now(options, config, name, body);
            let message = match pools.run(Class::Images, work).await {
                Ok(id) => JsonMessage::status("", id),
                Err(error) => JsonMessage::error(error.message()),
            };
            // Nobody is left to tell when the client went away.
            let _ = sender.message(&message).await;
        });
        Ok(progress)
    }

    fn import_now(
        &self,
        options: ImportOptions,
        config: Config,
        name: Option<Reference>,
        body: ByteStream,
    ) -> Result<String> {
        let batch = self.store.batch()?;
        let (_, mut plain) =
            wharf_layer::decompressor(body.into_reader()).map_err(super::load::refused_layer)?;
        let layer = keep_layer(&batch, &mut plain)?;
        let now = Some(Timestamp::now().to_string());
        let comment = options.message;
        let platform = options.platform.unwrap_or_else(Platform::host);
        let config = ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            docker_version: env!("CARGO_PKG_VERSION").to_owned(),
            created: now.clone(),
            comment: comment.clone(),
            config,
            history: vec![History { created: now, comment, ..History::default() }],
            ..ImageConfig::default()
        };
        let image = finish(&batch, Draft { config, layers: vec![layer], parent: None })?;
        let id = image.id;
        batch.commit(vec![image.clone()], name.iter().map(|name| (name.clone(), id)).collect())?;
        if let Some(name) = &name {
            self.emit("tag", &image, &name.familiar());
        }
        self.emit_id("import", &image);
        Ok(id.to_string())
    }
}

/// Hands on what comes, until nobody wants it any more.
async fn pump(mut remote: Remote, sender: ByteSender, address: String) {
    let mut total = 0_u64;
    loop {
        let chunk = tokio::select! {
            chunk = remote.chunk() => chunk,
            () = sender.closed() => return,
        };
        match chunk {
            Ok(None) => return,
            Ok(Some(bytes)) => {
                total += bytes.len() as u64;
                if total > LARGEST {
                    let message = format!("{address} is larger than {LARGEST} bytes");
                    return sender.fail(Error::invalid(message)).await;
                }
                if sender.send(bytes).await.is_err() {
                    return;
                }
            }
            Err(error) => return sender.fail(error.into()).await,
        }
    }
}
