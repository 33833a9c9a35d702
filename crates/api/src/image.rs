//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_oci::image::Descriptor;
use wharf_oci::platform::Platform;

use crate::config::HealthConfig;
use crate::decode::str_slice;
use crate::inspect::GraphDriver;
use crate::wire::{Empty, omit};

/// An image in a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// How many containers use it.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    pub id: String,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit")]
    pub manifests: Option<Vec<ManifestSummary>>,
    pub parent_id: String,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 when not asked for.
    pub shared_size: i64,
    pub size: i64,
}

/// A manifest under an index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Descriptor")]
    pub descriptor: Option<Descriptor>,
    #[serde(rename = "Available")]
    pub available: bool,
    #[serde(rename = "Size")]
    pub size: ManifestSize,
    /// `image`, `attestation`, `unknown`.
    #[serde(rename = "Kind")]
    pub kind: String,
    #[serde(rename = "ImageData", skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImageData>,
    #[serde(rename = "AttestationData", skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestationData>,
}

/// Bytes of a manifest and its blobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSize {
    pub content: i64,
    pub total: i64,
}

/// What a manifest of kind `image` tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestImageData {
    pub platform: Platform,
    pub containers: Vec<String>,
    pub size: UnpackedSize,
}

/// Bytes of unpacked layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// What a manifest of kind `attestation` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestAttestationData {
    pub r#for: String,
}

/// An image in full.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    #[serde(skip_serializing_if = "omit")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "omit")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "omit")]
    pub os_version: String,
    pub size: i64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "omit")]
    pub manifests: Option<Vec<ManifestSummary>>,
    pub config: Option<ImageRunConfig>,
}

/// What containers of an image run unless told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageRunConfig {
    #[serde(skip_serializing_if = "omit")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "str_slice")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "str_slice")]
    pub entrypoint: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    pub labels: Option<BTreeMap<String, String>>,
    pub on_build: Option<Vec<String>>,
    #[serde(deserialize_with = "str_slice", skip_serializing_if = "omit")]
    pub shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub stop_signal: String,
    pub user: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
}

/// An image's layers, base first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    pub r#type: String,
    #[serde(skip_serializing_if = "omit")]
    pub layers: Vec<String>,
}

/// What the engine knows of an image beside its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMetadata {
    /// [`crate::NEVER`] when it was never tagged here.
    pub last_tag_time: String,
}

impl Default for ImageMetadata {
    fn default() -> Self {
        Self { last_tag_time: crate::NEVER.to_owned() }
    }
}

/// A step in an image's history, newest first in lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    pub created_by: String,
    /// An image id or `<missing>`.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One thing done by a removal: a name taken away or an image deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteItem {
    #[serde(skip_serializing_if = "omit")]
    pub deleted: String,
    #[serde(skip_serializing_if = "omit")]
    pub untagged: String,
}

/// The answer to a prune of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImagesPruned {
    pub images_deleted: Option<Vec<DeleteItem>>,
    pub space_reclaimed: u64,
}

/// What a registry knows of a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}
