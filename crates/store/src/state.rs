//! The decoded copy of the database that every read is served from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::Database;
use wharf_oci::Digest;

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
    pub(crate) images: HashMap<Digest, Arc<Image>>,
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
        for (key, image) in schema::load::<Image>(database, schema::IMAGES)? {
            state.images.insert(digest(&key)?, Arc::new(image));
        }
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
        let used: HashSet<Digest> = self.actives.values().flatten().copied().collect();
        let mut garbage = Garbage::default();
        let mut blobs: HashSet<Digest> = self.pinned_blobs.keys().copied().collect();
        let mut layers: HashSet<String> = self.pinned_layers.keys().cloned().collect();
        for lease in self.leases.values() {
            blobs.extend(lease.blobs.iter().copied());
            layers.extend(lease.layers.iter().cloned());
        }
        for layer in self.steps.values().filter_map(|step| step.layer.as_ref()) {
            blobs.insert(layer.blob.digest);
            layers.insert(snapshotter.key(&[layer.diff_id]));
        }
        for image in self.images.values() {
            if image.removed && !used.contains(&image.id) {
                garbage.images.push(image.id);
                continue;
            }
            blobs.extend(image.blobs.iter().copied());
            let chain = image.diff_ids();
            layers.extend((1..=chain.len()).map(|depth| snapshotter.key(&chain[..depth])));
        }
        garbage.blobs = self.blobs.keys().filter(|digest| !blobs.contains(digest)).copied().collect();
        garbage.layers = self.layers.keys().filter(|key| !layers.contains(*key)).cloned().collect();
        garbage
    }
}

fn digest(key: &str) -> Result<Digest> {
    key.parse().map_err(|error: wharf_oci::DigestError| Error::Record {
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
