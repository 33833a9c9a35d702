//! The decoded copy of the database that every read is served from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::Database;
use wharf_oci::{DiffId, Digest};

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
        let used = self.used();
        let images = self.images.values().filter(|image| image.removed && !used.contains(&image.id));
        let doubted = Doubted {
            images: images.map(|image| image.id).collect(),
            blobs: self.blobs.keys().copied().collect(),
            layers: self.layers.keys().cloned().collect(),
            parts: Parts(None),
        };
        self.unreached(doubted, snapshotter)
    }

    /// What of [`Self::garbage`] belonged to images that were removed: among many others this is quick.
    pub(crate) fn garbage_of(&self, removed: &[Digest], snapshotter: &dyn Snapshotter) -> Garbage {
        let used = self.used();
        let mut doubted = Doubted { parts: Parts(Some(HashSet::new())), ..Doubted::default() };
        let images = removed.iter().filter_map(|id| self.images.get(id));
        for image in images.filter(|image| image.removed && !used.contains(&image.id)) {
            let chain = image.diff_ids();
            doubted.images.insert(image.id);
            doubted.blobs.extend(image.blobs.iter().filter(|blob| self.blobs.contains_key(*blob)));
            let keys = (1..=chain.len()).map(|depth| snapshotter.key(&chain[..depth]));
            doubted.layers.extend(keys.filter(|key| self.layers.contains_key(key)));
            doubted.parts.0.get_or_insert_default().extend(chain);
        }
        self.unreached(doubted, snapshotter)
    }

    /// The images that containers stand on.
    fn used(&self) -> HashSet<Digest> {
        self.actives.values().flatten().copied().collect()
    }

    fn unreached(&self, doubted: Doubted, snapshotter: &dyn Snapshotter) -> Garbage {
        let Doubted { images, mut blobs, mut layers, parts } = doubted;
        let leases = self.leases.values();
        let steps = || self.steps.values().filter_map(|step| step.layer.as_ref());
        let kept: Vec<_> = self.images.values().filter(|image| !images.contains(&image.id)).collect();
        let reached = self.pinned_blobs.keys().chain(leases.clone().flat_map(|lease| &lease.blobs));
        let reached = reached.chain(steps().map(|layer| &layer.blob.digest));
        for digest in reached.chain(kept.iter().flat_map(|image| &image.blobs)) {
            blobs.remove(digest);
        }
        for key in self.pinned_layers.keys().chain(leases.flat_map(|lease| &lease.layers)) {
            layers.remove(key);
        }
        for layer in steps().filter(|layer| parts.may_have(layer.diff_id)) {
            layers.remove(&snapshotter.key(&[layer.diff_id]));
        }
        for image in kept {
            if image.layers.iter().any(|layer| parts.may_have(layer.diff_id)) {
                let chain = image.diff_ids();
                for depth in 1..=chain.len() {
                    layers.remove(&snapshotter.key(&chain[..depth]));
                }
            }
        }
        Garbage {
            images: images.into_iter().collect(),
            blobs: blobs.into_iter().collect(),
            layers: layers.into_iter().collect(),
        }
    }
}

/// What may be garbage, until it is found to be reached.
#[derive(Debug, Default)]
struct Doubted {
    images: HashSet<Digest>,
    blobs: HashSet<Digest>,
    layers: HashSet<String>,
    parts: Parts,
}

/// The diff ids that the doubted layers' keys are made of; none: any.
#[derive(Debug, Default)]
struct Parts(Option<HashSet<DiffId>>);

impl Parts {
    fn may_have(&self, diff_id: DiffId) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.contains(&diff_id))
    }
}

fn digest(key: &str) -> Result<Digest> {
    key.parse().map_err(|error: wharf_oci::DigestError| Error::Record {
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
