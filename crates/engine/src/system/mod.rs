//! The engine as a whole: what it is, what it runs on, what it takes.

mod df;
mod host;
mod info;
mod version;

use std::sync::{Arc, OnceLock};

use wharf_store::Store;

pub use df::Part;
pub use version::VERSION;

use crate::config::EngineConfig;
use crate::container::Containers;
use crate::image::Images;

/// Answers about the engine.
#[derive(Debug)]
pub struct System {
    config: Arc<EngineConfig>,
    store: Arc<Store>,
    containers: Arc<Containers>,
    images: Arc<Images>,
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
    ) -> Self {
        Self { config, store, containers, images, id: OnceLock::new() }
    }
}
