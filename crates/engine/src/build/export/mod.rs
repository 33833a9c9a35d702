//! What comes out of a build: an image of this engine, an archive of one, or the files themselves.
//!
//! ```text
//! solved trees ── layers      steps become layers, times bounded
//!     │              (early: packed while later steps run)
//!     ├ history      the config with its times
//!     ├ compose      manifests; attest, provenance: what is said of them
//!     └ image        kept, named, pushed         archive, files       written to the client
//! ```
//! The same input gives the same bytes: order, owners and compression are fixed, and with a bound on times (`SOURCE_DATE_EPOCH`)
//! nothing is left that differs from one machine to the next.

mod archive;
mod attest;
mod compose;
mod compress;
mod early;
mod files;
mod history;
mod image;
mod layers;
mod options;
mod provenance;

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_build::plan::Plan;
use wharf_build::solve::Tree;
use wharf_oci::{Descriptor, Digest, ImageConfig, Platform};

use super::{Material, Solved};

pub(super) use attest::Statement;
pub(crate) use attest::rebased;
pub use attest::{Provenance, Sbom};
pub use compress::Packing;
pub(in crate::build) use compress::pack;
pub(in crate::build) use early::Early;
pub use files::Part;
pub use options::{
    Annotation, AnnotationPlace, ArchiveExport, Attributes, Exporter, FilesExport, ImageExport, Wishes,
};

/// One platform's result, as an export needs it.
#[derive(Debug, Clone)]
pub struct Product {
    /// For what machine.
    pub platform: Platform,
    /// The files; `None`: none at all.
    pub tree: Option<Tree>,
    /// The image's config with its whole history, the new steps without times.
    pub config: ImageConfig,
    /// How it was planned, where a Dockerfile was.
    pub plan: Option<Arc<Plan>>,
    /// The Dockerfile: its name and its text.
    pub file: Option<(String, Arc<str>)>,
    /// What it was made from.
    pub materials: Vec<Material>,
}

impl From<Solved> for Product {
    fn from(solved: Solved) -> Self {
        Self {
            platform: solved.platform,
            tree: solved.tree,
            config: solved.config,
            plan: Some(Arc::new(solved.plan)),
            file: Some(solved.file),
            materials: solved.materials,
        }
    }
}

/// An image that was made.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The image's id: its config's digest; of several platforms this machine's.
    pub id: Digest,
    /// The manifest or index.
    pub target: Descriptor,
    /// What a client of BuildKit's is told of it.
    pub response: BTreeMap<String, String>,
}
