//! What is asked of a build.

use std::collections::{BTreeMap, BTreeSet};

pub use wharf_build::plan::{ContextSource, GraphSource};
use wharf_build::solve::Tree;
use wharf_oci::{Digest, ImageConfig, Platform};

/// A build of a Dockerfile.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Where files come from that nothing else is said of. Ignore files are read by the engine: `ignored` may be empty.
    /// An address may also give a Dockerfile alone.
    pub context: ContextSource,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// The stage to build; `None`: the last.
    pub target: Option<String>,
    /// Values of build arguments.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// What to build for; empty: this machine.
    pub platforms: Vec<Platform>,
    /// Stages that are built without the cache; all of them for an empty set.
    pub no_cache: Option<BTreeSet<String>>,
    /// Ask the registries what base images are now, even of those that are here.
    pub pull: bool,
    /// More lines of `/etc/hosts` for `RUN`: name and address.
    pub hosts: Vec<(String, String)>,
    /// Host name for `RUN`; empty: the engine's choice.
    pub hostname: String,
    /// Named contexts.
    pub contexts: BTreeMap<String, ContextSource>,
    /// The network of a `RUN` that says none: `default`, `none`, `host`, or a network's name.
    pub network: String,
    /// What `RUN` may take.
    pub limits: Limits,
    /// What the client allows beyond the usual.
    pub entitlements: Entitlements,
}

/// Where the Dockerfile is.
#[derive(Debug, Clone)]
pub enum DockerfileSource {
    /// In a directory of the client's (`dockerfile`).
    Local {
        /// The directory's name.
        name: String,
        /// The path in there.
        path: String,
    },
    /// In the context.
    Context {
        /// The path in there.
        path: String,
    },
    /// Here.
    Text(String),
}

/// Limits of the processes of a build; 0 or empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: i64,
    /// Bytes, memory and swap together; -1: any.
    pub memory_swap: i64,
    /// Relative weight.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// `0-2`.
    pub cpuset_cpus: String,
    /// `0`.
    pub cpuset_mems: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Name, soft, hard.
    pub ulimits: Vec<(String, i64, i64)>,
    /// The cgroup under which the processes' groups are made.
    pub cgroup_parent: String,
    /// `--security-opt`.
    pub security: Vec<String>,
}

/// What the client allows beyond the usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// `network.host`.
    pub network_host: bool,
    /// `security.insecure`.
    pub insecure: bool,
}

/// What came of a Dockerfile for one platform.
#[derive(Debug, Clone)]
pub struct Solved {
    /// For what machine.
    pub platform: Platform,
    /// The files; `None`: none at all.
    pub tree: Option<Tree>,
    /// The image's config, its history whole, without `rootfs` of the new layers.
    pub config: ImageConfig,
    /// What was planned, for who records how it came about.
    pub plan: wharf_build::plan::Plan,
    /// The Dockerfile: its name and its text.
    pub file: (String, std::sync::Arc<str>),
    /// What it was made from.
    pub materials: Vec<Material>,
}

/// Something from outside that a build used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Its address: `pkg:docker/busybox@1?platform=linux%2Famd64`, `https://…`.
    pub uri: String,
    /// What it was; `sha1` of git, else `sha256`.
    pub algorithm: String,
    /// In hex.
    pub digest: String,
}

/// An image that was looked up.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The reference, with the digest of its manifest or index where a registry gave it.
    pub reference: String,
    /// That digest.
    pub target: Digest,
    /// The digest of its config.
    pub id: Digest,
    /// The config's bytes.
    pub config: Vec<u8>,
}
