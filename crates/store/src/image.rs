//! Images and their names: what keeps blobs and layers alive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_oci::{ChainId, Descriptor, DiffId, Digest, Platform};

/// One image for one platform, under the digest of its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The config's digest: Docker's image ID.
    pub id: Digest,
    /// The config's length in bytes.
    pub config_size: u64,
    /// The manifest it came with, or the one made for it.
    pub manifest: Descriptor,
    /// What was received: the manifest, or an index with other platforms beside it.
    pub target: Descriptor,
    /// The layers, base first.
    pub layers: Vec<ImageLayer>,
    /// Every blob to keep while the image exists: config, manifests, index and layers of all platforms.
    pub blobs: Vec<Digest>,
    /// The image it was committed or built from on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// When a name was last given to it here, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged: Option<String>,
    /// When it was made, RFC 3339, as the config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// For what machine, from the config.
    pub platform: Platform,
    /// Labels, from the config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its manifest was made here, so that it may be made again with other blobs for the same layers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
    /// Removed by a user while a container still stands on it: no longer listed, kept until the last one goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// A layer as an image names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The blob as received, and how to read it.
    pub blob: Descriptor,
    /// Bytes of its files, as its tar counts them.
    #[serde(default)]
    pub size: u64,
}

impl Image {
    /// The uncompressed layers' digests, base first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }

    /// Whether its lowest layers are these.
    #[must_use]
    pub fn begins_with(&self, chain: &[DiffId]) -> bool {
        let own = self.layers.iter().map(|layer| layer.diff_id);
        self.layers.len() >= chain.len() && own.zip(chain).all(|(own, wanted)| own == *wanted)
    }

    /// Bytes of all layers unpacked, as Docker counts an image's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// The chain id of the whole root file system; none for an image without layers.
    #[must_use]
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::chain(&self.diff_ids()).pop()
    }
}

/// What a name points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The image.
    pub image: Digest,
    /// The index or manifest as received.
    pub target: Digest,
}

/// A stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// Length in bytes.
    pub(crate) size: u64,
}

/// An unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The boot in which it was unpacked, until it is synced: after another boot it cannot be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced: Option<String>,
    /// Bytes of its files, as its tar counts them.
    #[serde(default)]
    pub(crate) size: u64,
    /// What it takes on the disk, once somebody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<u64>,
}
