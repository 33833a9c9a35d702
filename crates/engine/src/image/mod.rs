//! Images: loading, saving, naming, removing.
//!
//! An image is known by the digest of its config; names point to it. Everything that lasts is in
//! [`wharf_store::Store`]; this manager speaks Docker's words about it. Calls that touch the disk run on the
//! `Images` pool; lookups are served from memory.

mod archive;
mod check;
mod compose;
mod conflict;
mod embedded;
mod history;
mod import;
mod inspect;
mod layout;
mod list;
mod load;
mod progress;
mod prune;
mod pull;
mod push;
mod registry;
mod remove;
mod resolve;
mod save;
mod search;
mod tag;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use wharf_oci::{Digest, ImageConfig, Reference};
use wharf_store::{Image, Store};

use crate::error::{Error, Result};
use crate::events::{Events, Kind};
use crate::pools::{Class, Pools};
use crate::registry::Registries;

pub use compose::NewLayer;
pub(crate) use compose::assemble;
pub use import::ImportOptions;
pub use list::ListOptions;
pub(crate) use list::until_time;
pub use pull::PullOptions;
pub use push::PushOptions;
pub(crate) use save::{Wanted, write_archive};
pub use search::SearchResult;
pub(crate) use tag::target as new_name;

/// The largest config, manifest or index that is read, bytes.
const DOCUMENT_LIMIT: u64 = 8 << 20;

/// A container that stands on an image, as far as images need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The container's id.
    pub container: String,
    /// The image's id, `sha256:…`.
    pub image: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether it mounts the image, and does not stand on it: it could not start without.
    pub mounted: bool,
}

type Users = dyn Fn() -> Vec<User> + Send + Sync;

/// All images of one engine.
pub struct Images {
    store: Arc<Store>,
    events: Arc<Events>,
    pools: Pools,
    registries: Arc<Registries>,
    transfers: Arc<pull::Transfers>,
    users: OnceLock<Box<Users>>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Images {
    /// The images in `store`, and those in `registries`.
    #[must_use]
    pub fn new(store: Arc<Store>, events: Arc<Events>, pools: Pools, registries: Arc<Registries>) -> Self {
        Self { store, events, pools, registries, transfers: Arc::default(), users: OnceLock::new() }
    }

    /// Tells where to learn which containers stand on images; the first call counts.
    pub fn set_users(&self, users: impl Fn() -> Vec<User> + Send + Sync + 'static) {
        // A second call would be a second engine on the same images, which the store's lock rules out.
        let _ = self.users.set(Box::new(users));
    }

    /// An image's config, read from its blob and verified. Also works for an image that only lives on below a container.
    pub fn config(&self, id: &Digest) -> Result<ImageConfig> {
        let bytes = self.store.read_blob(id, DOCUMENT_LIMIT)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::internal(format!("read config of image {id}: {error}")))
    }

    /// How many images there are, for `info`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.store.images().len()
    }

    fn users(&self) -> Vec<User> {
        self.users.get().map(|users| users()).unwrap_or_default()
    }

    /// Runs work that may sleep.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let images = Arc::clone(self);
        self.pools.run(Class::Images, move || work(&images)).await
    }

    /// Says that something happened to an image, with its labels as Docker does.
    pub(crate) fn emit(&self, action: &str, image: &Image, name: &str) {
        let mut attributes: BTreeMap<String, String> = image.labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.emit(Kind::Image, action, &image.id.to_string(), attributes);
    }

    /// Says that something happened to a reference, with the labels of the image that it means.
    fn emit_reference(&self, action: &str, reference: &Reference, image: Option<&Image>) {
        let mut attributes = image.map(|image| image.labels.clone()).unwrap_or_default();
        attributes.insert("name".to_owned(), reference.familiar_name());
        self.events.emit(Kind::Image, action, &reference.familiar(), attributes);
    }

    /// [`Self::emit`] under the image's own id.
    pub(crate) fn emit_id(&self, action: &str, image: &Image) {
        self.emit(action, image, &image.id.to_string());
    }
}

impl From<wharf_store::Error> for Error {
    fn from(error: wharf_store::Error) -> Self {
        match error {
            // Removed since it was looked up.
            wharf_store::Error::NoImage(id) => Self::not_found(format!("No such image: {id}")),
            error if error.is_input() => Self::invalid(error.to_string()),
            error => Self::internal(error.to_string()),
        }
    }
}
