//! The decoded copy of the database that every read is served from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::Database;
use wharf_oci::Digest;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::image::{Blob, Image, Layer, Name};
use crate::lease::Lease;
use crate::schema;
use crate::snapshot::Snapshotter;
use crate::step::StepRecord;

/// All records, by key.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blobs: HashMap<Digest, Blob>,
    pub(crate) layers: HashMap<String, Layer>,
    pub(crate) images: Catalog,
    pub(crate) names: BTreeMap<String, Name>,
    pub(crate) leases: BTreeMap<String, Lease>,
    /// The leases that a request of this process holds.
    pub(crate) held: HashSet<String>,
    /// Trees that build steps left, by id.
    pub(crate) steps: HashMap<String, StepRecord>,
    /// Containers' snapshots: id to the image below, none for an empty root.
    pub(crate) actives: HashMap<String, Option<Digest>>,
    /// What batches under way rely on: blobs by digest, layers by key, with the number of holders.
    pub(crate) pinned_blobs: HashMap<Digest, usize>,
    pub(crate) pinned_layers: HashMap<String, usize>,
}

/// What nothing reaches any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) images: Vec<Digest>,
    pub(crate) blobs: Vec<Digest>,
    pub(crate) layers: Vec<String>,
}

impl State {
    pub(crate) fn load(database: &Database) -> Result<Self> {
        let mut state = Self::default();
        for (key, blob) in schema::load::<Blob>(database, schema::BLOBS)? {
            state.blobs.insert(digest(&key)?, blob);
        }
        state
            .images
            .extend(schema::load::<Image>(database, schema::IMAGES)?.into_iter().map(|(_, image)| image));
        state.layers = schema::load(database, schema::LAYERS)?.into_iter().collect();
        state.names = schema::load(database, schema::NAMES)?.into_iter().collect();
        state.leases = schema::load(database, schema::LEASES)?.into_iter().collect();
        state.steps = schema::load(database, schema::STEPS)?.into_iter().collect();
        Ok(state)
    }

    /// The image, unless it was removed.
    pub(crate) fn image(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.images.get(id).filter(|image| !image.removed)
    }

    /// Whether a container stands on the image.
    pub(crate) fn is_in_use(&self, id: &Digest) -> bool {
        self.actives.values().any(|image| image.as_ref() == Some(id))
    }

    /// Reachability: images and leases keep blobs and layers, containers keep removed images, batches keep what they
    /// pin.
    pub(crate) fn garbage(&self, snapshotter: &dyn Snapshotter) -> Garbage {
        let used = self.used();
        let gone = |image: &&Arc<Image>| image.removed && !used.contains(&image.id);
        let images: HashSet<Digest> = self.images.values().filter(gone).map(|image| image.id).collect();
        let mut layers: HashSet<String> = self.layers.keys().cloned().collect();
        let kept = self.images.values().filter(|image| !images.contains(&image.id));
        for chain in kept.map(|image| image.diff_ids()) {
            for depth in 1..=chain.len() {
                layers.remove(&snapshotter.key(&chain[..depth]));
            }
        }
        let blobs = self.blobs.keys().copied().collect();
        self.unreached(images, blobs, layers, snapshotter)
    }

    /// What of [`Self::garbage`] belonged to images that were removed: among many others this is quick.
    pub(crate) fn garbage_of(&self, removed: &[Digest], snapshotter: &dyn Snapshotter) -> Garbage {
        let used = self.used();
        let gone = removed.iter().filter_map(|id| self.images.get(id));
        let gone: Vec<_> = gone.filter(|image| image.removed && !used.contains(&image.id)).collect();
        let images: HashSet<Digest> = gone.iter().map(|image| image.id).collect();
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        for image in gone {
            blobs.extend(image.blobs.iter().filter(|blob| self.blobs.contains_key(*blob)));
            let chain = image.diff_ids();
            for depth in 1..=chain.len() {
                let key = snapshotter.key(&chain[..depth]);
                let mut others = self.images.with_layer(&chain[depth - 1]);
                let kept =
                    others.any(|other| !images.contains(&other.id) && has_key(other, &key, snapshotter));
                if !kept && self.layers.contains_key(&key) {
                    layers.insert(key);
                }
            }
        }
        self.unreached(images, blobs, layers, snapshotter)
    }

    /// The images that containers stand on.
    fn used(&self) -> HashSet<Digest> {
        self.actives.values().flatten().copied().collect()
    }

    /// What of these blobs no image needs but for `images`, and what else no lease, build step or batch needs.
    fn unreached(
        &self,
        images: HashSet<Digest>,
        mut blobs: HashSet<Digest>,
        mut layers: HashSet<String>,
        snapshotter: &dyn Snapshotter,
    ) -> Garbage {
        blobs.retain(|digest| self.images.with_blob(digest).all(|image| images.contains(&image.id)));
        for digest in self.pinned_blobs.keys().chain(self.leases.values().flat_map(|lease| &lease.blobs)) {
            blobs.remove(digest);
        }
        for key in self.pinned_layers.keys().chain(self.leases.values().flat_map(|lease| &lease.layers)) {
            layers.remove(key);
        }
        for layer in self.steps.values().filter_map(|step| step.layer.as_ref()) {
            blobs.remove(&layer.blob.digest);
            // Without any left the key, which has to be made, cannot matter.
            if !layers.is_empty() {
                layers.remove(&snapshotter.key(&[layer.diff_id]));
            }
        }
        Garbage {
            images: images.into_iter().collect(),
            blobs: blobs.into_iter().collect(),
            layers: layers.into_iter().collect(),
        }
    }
}

/// Whether a layer of the image is kept under this key, which one further up or down in another chain may be as well.
fn has_key(image: &Image, key: &str, snapshotter: &dyn Snapshotter) -> bool {
    let chain = image.diff_ids();
    (1..=chain.len()).any(|depth| snapshotter.key(&chain[..depth]) == key)
}

fn digest(key: &str) -> Result<Digest> {
    key.parse().map_err(|error: wharf_oci::DigestError| Error::Record {
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
