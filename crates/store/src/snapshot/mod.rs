//! File system states of images and containers, behind one small trait with two drivers.
//!
//! ```text
//! snapshots/base/fs                 mount points every container needs, below every image
//! snapshots/layers/KEY/fs           an unpacked layer (overlay) or whole tree (vfs); immutable
//! snapshots/active/ID@IMAGE/fs      a container's own writes (overlay) or whole tree (vfs)
//! snapshots/active/ID@IMAGE/work    overlay's work directory
//! ```
//!
//! Worked example: an image of layers a, b and a container on it are
//! `unpack(a)`, `unpack(b)`, `create(ID, [base, a, b])`, and from then on `recipe(ID, …)` tells how its
//! root is mounted. With vfs, unpacking b starts from a copy of a's tree, and `create` copies b's.

mod base;
mod copy;
mod overlay;
mod vfs;

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use wharf_layer::Whiteouts;
use wharf_oci::{ChainId, DiffId};
use wharf_sys::mount::Recipe;

use crate::error::{Doing, Error, Result, at};

pub(crate) use base::make as make_base;

/// Which driver keeps the snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Layers stacked by the kernel.
    Overlay,
    /// Whole copies: slow and large, works on any file system.
    Vfs,
}

impl Driver {
    /// Docker's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay2",
            Self::Vfs => "vfs",
        }
    }

    pub(crate) fn snapshotter(self) -> &'static dyn Snapshotter {
        match self {
            Self::Overlay => &overlay::Overlay,
            Self::Vfs => &vfs::Vfs,
        }
    }

    /// Overlay where the data root can carry it, vfs elsewhere.
    pub(crate) fn choose(layers: &Path) -> Self {
        match overlay::probe(layers) {
            Ok(()) => Self::Overlay,
            Err(error) => {
                tracing::warn!("overlay cannot be used here, falling back to vfs: {error}");
                Self::Vfs
            }
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "overlay2" | "overlay" | "overlayfs" => Ok(Self::Overlay),
            "vfs" => Ok(Self::Vfs),
            other => Err(Error::Driver { name: other.to_owned(), reason: "not supported".to_owned() }),
        }
    }
}

/// What a driver does. Directories given are its own to fill; `fs` in them is the tree.
pub(crate) trait Snapshotter: Send + Sync + fmt::Debug {
    /// The name under which the topmost layer of a chain (its diff ids, base first) is kept.
    fn key(&self, chain: &[DiffId]) -> String;

    /// Whether a layer can be unpacked before those below it.
    fn stacks(&self) -> bool;

    /// How deletions are written into the tree.
    fn whiteouts(&self) -> Whiteouts;

    /// Fills a new layer's directory to unpack into. `below` is the directory of the layer under it.
    fn prepare(&self, layer: &Path, below: &Path) -> Result<()>;

    /// Makes a container's directory. `lower` are layer directories, top first, never empty.
    fn create(&self, active: &Path, lower: &[PathBuf]) -> Result<()>;

    /// How a container's root is mounted.
    fn recipe(&self, active: &Path, lower: &[PathBuf]) -> Recipe;

    /// How the same root looks without the container's writes.
    fn view(&self, lower: &[PathBuf]) -> Recipe;

    /// What inspect shows as the driver's data.
    fn data(&self, active: &Path, lower: &[PathBuf]) -> Vec<(&'static str, String)>;
}

/// The tree in a layer's or container's directory.
pub(crate) fn tree(dir: &Path) -> PathBuf {
    dir.join("fs")
}

/// Makes the top of a tree: a container's `/`, whatever this process's umask.
fn make_tree(dir: &Path) -> Result<()> {
    fs::create_dir(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o755)))
        .doing(|| at("create", dir))
}

fn chain_key(chain: &[DiffId]) -> String {
    ChainId::chain(chain).pop().map_or_else(|| "base".to_owned(), |id| id.0.hex())
}
