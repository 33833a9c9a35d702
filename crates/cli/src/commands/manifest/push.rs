//! `wharf manifest push`.

use bytes::Bytes;
use wharf_distribution::client::{self, Repository, Upload};
use wharf_oci::{Descriptor, Manifest, Reference};

use super::list::{self, Lists};
use super::{Described, Outcome, named, repository};
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

impl Push {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let list = named(&self.list)?;
        let lists = Lists::of(target);
        let manifests = lists.existing(&list)?;
        if manifests.is_empty() {
            return Err(CliError::new(format!("{list} not found")));
        }
        let origins = manifests.iter().map(|manifest| check(&list, manifest));
        let origins: Vec<Reference> = origins.collect::<Result<_, _>>()?;
        let to = repository(target, &list, self.insecure)?.for_push();
        for (manifest, origin) in manifests.iter().zip(&origins) {
            if origin.path() != list.path() {
                bring(&to, &list, manifest, origin).await?;
            }
        }
        let descriptors: Vec<&Descriptor> = manifests.iter().map(|manifest| &manifest.descriptor).collect();
        let (document, kind) = list::document(&descriptors);
        let place = client::Target::of(&list);
        let pushed = to.put_manifest(&place, kind, Bytes::from(document)).await;
        print(&pushed.map_err(|error| CliError::new(error.to_string()))?.to_string())?;
        if self.purge {
            lists.remove(&list)?;
        }
        Ok(0)
    }
}

/// Whether a manifest can be in the list; answers where it came from.
fn check(list: &Reference, manifest: &Described) -> Result<Reference, CliError> {
    let machine = manifest.descriptor.platform.as_ref();
    if machine.is_none_or(|machine| machine.os.is_empty() || machine.architecture.is_empty()) {
        return Err(CliError::new(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            manifest.r#ref
        )));
    }
    let origin = named(&manifest.r#ref)?;
    if origin.domain() != list.domain() {
        return Err(CliError::new(format!(
            "cannot use source images from a different registry than the target image: {} != {}",
            origin.domain(),
            list.domain()
        )));
    }
    Ok(origin)
}

/// Brings a manifest of another repository, with its blobs, into the list's.
async fn bring(
    to: &Repository,
    list: &Reference,
    manifest: &Described,
    origin: &Reference,
) -> Result<(), CliError> {
    let failed = |error: client::Error| CliError::new(error.to_string());
    let bytes = manifest.bytes()?;
    let image: Manifest = serde_json::from_slice(&bytes)?;
    for blob in std::iter::once(&image.config).chain(&image.layers) {
        mount(to, blob, origin).await?;
    }
    let digest = manifest.descriptor.digest;
    let place = client::Target::Digest(digest);
    let kind = &manifest.descriptor.media_type;
    let pushed = to.put_manifest(&place, kind, Bytes::from(bytes)).await.map_err(failed)?;
    let reference = list.without_suffix().with_digest(digest);
    print(&format!("Pushed ref {reference} with digest: {pushed}"))
}

/// The registry is asked to give a blob to another repository of its own; it is not sent.
async fn mount(to: &Repository, blob: &Descriptor, origin: &Reference) -> Result<(), CliError> {
    struct Nothing;
    impl client::Source for Nothing {
        fn open(&self, _: u64) -> std::io::Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
            Err(std::io::Error::other("the registry does not mount blobs of its other repositories"))
        }
    }
    let from = [origin.path().to_owned()];
    let upload = Upload { mount_from: &from, ..Upload::new(blob.digest, blob.size, &Nothing) };
    to.push_blob(upload).await.map_err(|error| CliError::new(error.to_string()))?;
    Ok(())
}
