//! Builds: what a client asks for becomes a plan, the plan is solved, the result is files and a config.
//!
//! [`Builds`] belongs to the engine; a [`Build`] is one client's, from its first question to its last. It knows no HTTP
//! and no gRPC: who asked is a [`Client`], what happens is told as [`BuildEvent`]s.

mod classic;
mod client;
mod event;
pub mod export;
mod failure;
mod host;
mod limits;
pub mod mirror;
mod prune;
mod remote;
mod request;
mod run;
mod scan;
mod solve;
mod source;
mod vertex;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wharf_build::solve::{Cache, Cancel, Hold};
use wharf_store::Store;

use self::mirror::Mirrors;
use crate::config::EngineConfig;
use crate::container::Containers;
use crate::container::launch::make_directory;
use crate::error::Result;
use crate::image::Images;
use crate::names::new_id;
use crate::registry::Registries;

pub use classic::{Cancelable, ClassicOptions};
pub use client::{BlobSink, BlobSource, Client, Files, SshSocket, Transfer};
pub use event::{BuildEvent, Tell, Vertex, VertexLog, VertexStatus, VertexWarning};
pub use failure::{BuildFailure, Place};
pub use limits::CachePolicy;
pub use prune::{PruneOptions, kind as cache_kind};
pub use remote::CacheOptions;
pub use request::{
    BuildRequest, ContextSource, DockerfileSource, Entitlements, GraphSource, Limits, Material,
    ResolvedImage, Solved,
};
pub use run::{
    BuildContainer, ContainerRequest, ProcessControl, ProcessOutput, ProcessRequest, RunningProcess,
};
pub use solve::Planned;
pub use vertex::Step;

/// All builds of one engine, and what they have in common.
pub struct Builds {
    config: Arc<EngineConfig>,
    store: Arc<Store>,
    images: Arc<Images>,
    registries: Arc<Registries>,
    containers: Arc<Containers>,
    cache: Arc<Cache>,
    mirrors: Arc<Mirrors>,
    /// Those that can be ended by the id that their client gave.
    running: Mutex<HashMap<String, Weak<Cancel>>>,
}

impl fmt::Debug for Builds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Builds").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// One client's build: several solves may be part of it. What it uses is kept until it is dropped.
pub struct Build {
    pub(super) builds: Arc<Builds>,
    id: String,
    started: jiff::Timestamp,
    client: Arc<dyn Client>,
    tell: Tell,
    cancel: Arc<Cancel>,
    runtime: tokio::runtime::Handle,
    /// What it has made and found.
    hold: Hold,
    /// Directories of the client's that must stay as they are.
    held: Mutex<Vec<Files>>,
    materials: Mutex<BTreeSet<Material>>,
    /// Caches elsewhere that it may take from.
    sources: Mutex<Vec<remote::Source>>,
    /// The keys of all steps that its results stand on.
    keys: Mutex<BTreeSet<wharf_oci::Digest>>,
    /// Layers packed before they are wanted.
    early: export::Early,
    /// What was fetched from elsewhere, by what was asked for.
    fetched: Mutex<HashMap<String, Arc<Mutex<Option<PathBuf>>>>>,
}

impl fmt::Debug for Build {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Build").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Builds {
    /// The builds of an engine, with the cache that earlier ones left.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub(crate) fn open(
        config: Arc<EngineConfig>,
        store: Arc<Store>,
        images: Arc<Images>,
        registries: Arc<Registries>,
        containers: Arc<Containers>,
    ) -> Result<Self> {
        let places = config.data_root.join("build").join("tmp");
        run::sweep(&places);
        make_directory(&places)?;
        let cache = Cache::open(store.clone(), config.data_root.join("build").join("mounts"))?;
        let cache = Arc::new(cache);
        let mirrors = Mirrors::open(config.data_root.join("build").join("local"), Some(cache.clone()))?;
        Ok(Self { config, store, images, registries, containers, cache, mirrors, running: Mutex::default() })
    }

    /// Begins a build; on a thread of the runtime.
    #[must_use]
    pub fn begin(self: &Arc<Self>, client: Arc<dyn Client>, tell: Tell, cancel: Arc<Cancel>) -> Arc<Build> {
        Arc::new(Build {
            builds: self.clone(),
            id: new_id(),
            started: jiff::Timestamp::now(),
            client,
            tell,
            cancel,
            runtime: tokio::runtime::Handle::current(),
            hold: self.cache.hold(),
            held: Mutex::default(),
            materials: Mutex::default(),
            sources: Mutex::default(),
            keys: Mutex::default(),
            early: export::Early::default(),
            fetched: Mutex::default(),
        })
    }

    /// The copies of clients' directories.
    #[must_use]
    pub fn mirrors(&self) -> &Arc<Mirrors> {
        &self.mirrors
    }

    /// Where builds keep what goes with them.
    fn places(&self) -> PathBuf {
        self.config.data_root.join("build").join("tmp")
    }

    /// What earlier builds left.
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }
}

impl Build {
    /// 64 hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who asked.
    #[must_use]
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// An image will be made of its result, with nothing newer than `epoch`: its layers may be packed early.
    pub fn expect_image(&self, epoch: Option<jiff::Timestamp>) {
        self.early.expect(epoch.map(jiff::Timestamp::as_second));
    }

    /// Ends it.
    #[must_use]
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    fn hold(&self, files: Files) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(files);
    }

    fn used(&self, material: Material) {
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).insert(material);
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if let Err(error) = self.builds.cache.save() {
            tracing::warn!("save the build cache: {error}");
        }
    }
}

/// Resolves when a build is ended from outside.
async fn canceled(cancel: &Cancel) {
    while !cancel.is_set() {
        tokio::time::sleep(LOOK).await;
    }
}

/// How often somebody who waits looks whether the build was ended.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
