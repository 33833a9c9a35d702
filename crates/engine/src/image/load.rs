//! Images from an archive: `docker load`.

use std::sync::Arc;

use wharf_api::JsonMessage;
use wharf_oci::{Digest, Platform, Reference};
use wharf_store::Image;

use super::Images;
use super::archive::Archive;
pub(super) use super::archive::refused as refused_layer;
use super::layout::{Found, Layout};
use crate::body::{ByteSender, ByteStream, Progress};
use crate::error::Result;
use crate::pools::Class;

impl Images {
    /// Loads every image of the archive in `body` (docker-archive or OCI layout), all or none. Of images for several
    /// platforms, the first of `platforms` is unpacked, by default this machine's.
    pub async fn load(
        self: &Arc<Self>,
        body: ByteStream,
        quiet: bool,
        platforms: Vec<Platform>,
    ) -> Result<Progress> {
        let (sender, progress) = ByteStream::channel();
        let images = Arc::clone(self);
        let pools = self.pools.clone();
        tokio::spawn(async move {
            let messages = sender.clone();
            let work = move || images.load_now(body, (!quiet).then_some(&messages), &platforms, &messages);
            if let Err(error) = pools.run(Class::Images, work).await {
                // Nobody is left to tell when the client went away.
                let _ = sender.message(&JsonMessage::error(error.message())).await;
            }
        });
        Ok(progress)
    }

    fn load_now(
        &self,
        body: ByteStream,
        progress: Option<&ByteSender>,
        platforms: &[Platform],
        sender: &ByteSender,
    ) -> Result<()> {
        let batch = self.store.batch()?;
        let archive = Archive::read(&batch, body.into_reader(), progress)?;
        let found = Layout { archive: &archive, batch: &batch, platforms }.images()?;
        let moved = self.moved(&found);
        let names: Vec<(Reference, Digest)> = found
            .iter()
            .flat_map(|found| found.names.iter().map(|name| (name.clone(), found.image.id)))
            .collect();
        let images: Vec<Image> = found.iter().map(|found| found.image.clone()).collect();
        batch.keep_only(&images.iter().flat_map(|image| image.blobs.iter().copied()).collect());
        batch.commit(images, names)?;
        for line in moved {
            sender.blocking_message(&JsonMessage::stream(line))?;
        }
        for Found { image, names } in &found {
            self.emit_id("load", image);
            if names.is_empty() {
                sender.blocking_message(&JsonMessage::stream(format!("Loaded image ID: {}\n", image.id)))?;
            }
            for name in names {
                sender
                    .blocking_message(&JsonMessage::stream(format!("Loaded image: {}\n", name.familiar())))?;
            }
        }
        Ok(())
    }

    /// What to say of names that now point elsewhere.
    fn moved(&self, found: &[Found]) -> Vec<String> {
        let names = found.iter().flat_map(|found| found.names.iter().map(move |name| (name, found.image.id)));
        names
            .filter_map(|(name, id)| {
                let old = self.store.name(name).filter(|old| old.image != id)?;
                Some(format!(
                    "The image {} already exists, renaming the old one with ID {} to empty string\n",
                    name.familiar(),
                    old.image
                ))
            })
            .collect()
    }
}
