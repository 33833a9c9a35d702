//! Mounts: as asked for ([`Mount`]) and as they are ([`MountPoint`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::omit;

/// A mount as asked for with `--mount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `cluster`, `npipe`.
    #[serde(skip_serializing_if = "omit")]
    pub r#type: String,
    #[serde(skip_serializing_if = "omit")]
    pub source: String,
    #[serde(skip_serializing_if = "omit")]
    pub target: String,
    #[serde(skip_serializing_if = "omit")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "omit")]
    pub consistency: String,
    /// Not Docker's. Whom files belong to that the container's user writes: `UID` or `UID-GID`; `true`: whoever calls.
    #[serde(skip_serializing_if = "omit")]
    pub idmap: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageMountOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<crate::Empty>,
}

/// Options of a mount of type `bind`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    #[serde(skip_serializing_if = "omit")]
    pub propagation: String,
    #[serde(skip_serializing_if = "omit")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "omit")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "omit")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "omit")]
    pub read_only_force_recursive: bool,
}

/// Options of a mount of type `volume`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "omit")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "omit")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit")]
    pub subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<VolumeDriver>,
}

/// The driver that makes a volume at its first use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeDriver {
    #[serde(skip_serializing_if = "omit")]
    pub name: String,
    #[serde(skip_serializing_if = "omit")]
    pub options: Option<BTreeMap<String, String>>,
}

/// Options of a mount of type `image`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMountOptions {
    #[serde(skip_serializing_if = "omit")]
    pub subpath: String,
}

/// Options of a mount of type `tmpfs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// 0: no limit.
    #[serde(skip_serializing_if = "omit")]
    pub size_bytes: i64,
    /// Permission bits.
    #[serde(skip_serializing_if = "omit")]
    pub mode: u32,
    /// `[["noexec"], ["nr_inodes", "10"]]`.
    #[serde(skip_serializing_if = "omit")]
    pub options: Option<Vec<Vec<String>>>,
}

/// A mount as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    #[serde(skip_serializing_if = "omit")]
    pub r#type: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "omit")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "omit")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}
