//! The engine as a whole: what it is, what it runs on, what it takes.

mod df;
mod host;
mod info;
mod version;

use std::sync::{Arc, OnceLock};

use wharf_store::Store;

pub use df::Part;
pub use version::VERSION;

use crate::build::Builds;
use crate::config::EngineConfig;
use crate::container::Containers;
use crate::image::Images;

/// Heaps of an engine's process: a thousand containers take 24 MB with two, 35 MB with one for each thread.
const HEAPS: i32 = 2;

/// Answers about the engine.
#[derive(Debug)]
pub struct System {
    config: Arc<EngineConfig>,
    store: Arc<Store>,
    containers: Arc<Containers>,
    images: Arc<Images>,
    builds: Arc<Builds>,
    /// Made with the data root; read at the first question.
    id: OnceLock<String>,
}

impl System {
    /// Over the managers of one engine.
    pub fn new(
        config: Arc<EngineConfig>,
        store: Arc<Store>,
        containers: Arc<Containers>,
        images: Arc<Images>,
        builds: Arc<Builds>,
    ) -> Self {
        Self { config, store, containers, images, builds, id: OnceLock::new() }
    }

    /// Settles how this process uses memory; to be called before it has threads.
    pub fn before_threads() {
        wharf_sys::memory::share_heaps(HEAPS);
    }

    /// Gives the kernel back what a start or a busy time has left: memory that is not used, code that is not run.
    /// Takes a millisecond or so of its thread.
    pub fn slim(&self) {
        wharf_sys::memory::give_back();
        wharf_sys::memory::forget_code();
    }
}
