//! From a Dockerfile to a graph and the config of the image that comes out.
//!
//! Planning is a pure function. What it must know of the outside — the configs of base images — it is given; when one is
//! missing it says which, and is called again.

mod arguments;
mod change;
mod context;
mod copy;
mod metadata;
mod run;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use wharf_oci::{ImageConfig, Platform};

use crate::dockerfile::{Dockerfile, Lines, ParseError, Warning};
use crate::graph::{Edge, Graph};

pub use change::change;
pub use context::{ContextSource, GraphSource, context_graph};

/// What a build is asked to do, beside its Dockerfile.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// The stage to build; `None`: the last.
    pub target: Option<String>,
    /// Values of build arguments.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// What the result is for.
    pub platform: Platform,
    /// What builds it.
    pub build_platform: Platform,
    /// Stages that are built without the cache; all of them for an empty set.
    pub no_cache: Option<BTreeSet<String>>,
    /// More lines of `/etc/hosts` for `RUN`.
    pub hosts: Vec<(String, String)>,
    /// Host name for `RUN`.
    pub hostname: String,
    /// The build context.
    pub context: ContextSource,
    /// Named contexts: they stand in for stages and images of their names; `name::linux/amd64` for one platform alone.
    pub contexts: BTreeMap<String, ContextSource>,
}

/// An image that a plan stands on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRequest {
    /// The reference, as the Dockerfile has it, normalised.
    pub reference: String,
    /// For what machine.
    pub architecture: String,
    /// Its variant.
    pub variant: String,
}

/// A base image that was looked up.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// The reference as it is shown, with its digest where it came from a registry.
    pub reference: String,
    /// The digest of its config.
    pub id: String,
    /// Its config.
    pub config: ImageConfig,
}

/// A plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All that is to be done.
    pub graph: Graph,
    /// The resulting tree; `None`: an empty one.
    pub result: Option<Edge>,
    /// The resulting image's config, without layers.
    pub config: ImageConfig,
    /// What could be better.
    pub warnings: Vec<Warning>,
    /// The stages that it takes, by number, in their order.
    pub stages: Vec<usize>,
    /// How many instructions of its base image (`ONBUILD`) each stage begins with, where there are any.
    pub triggers: BTreeMap<usize, usize>,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlanError {
    /// The Dockerfile is wrong.
    #[error(transparent)]
    Dockerfile(#[from] ParseError),
    /// These images must be looked up first.
    #[error("images are not looked up yet")]
    Missing(BTreeSet<ImageRequest>),
    /// The target is no stage.
    #[error("target stage \"{0}\" could not be found")]
    NoTarget(String),
}

impl PlanError {
    fn at(lines: Lines, message: impl Into<String>) -> Self {
        Self::Dockerfile(ParseError::at(lines, message))
    }
}

/// Plans a build.
///
/// # Errors
/// [`PlanError::Missing`] until all base images are in `images`; mistakes of the Dockerfile.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    images: &BTreeMap<ImageRequest, BaseImage>,
) -> Result<Plan, PlanError> {
    let mut planner = stage::Planner::new(dockerfile, options, images)?;
    let target = match &options.target {
        Some(name) => dockerfile.stage(name).ok_or_else(|| PlanError::NoTarget(name.clone()))?,
        None => dockerfile.stages.len() - 1,
    };
    planner.all(target)?;
    planner.finish(target)
}
