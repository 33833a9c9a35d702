//! What is kept of a container on disk, and what is published of it to readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_api::{ContainerConfig, Endpoints, HostConfig};
use wharf_shim::protocol::Timestamp;

use super::spec::points::Point;
use super::state::State;

/// All that create decided; changed by rename and update only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Without the slash that the API puts before it.
    pub name: String,
    pub created: Timestamp,
    /// `sha256:` and the digest of the image's config.
    pub image_id: String,
    /// What was asked for, merged with the image's own configuration.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// Networks by name, as asked for.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// The program: first of entrypoint and command together.
    pub path: String,
    /// What follows it.
    pub args: Vec<String>,
    /// Everything mounted over the root file system.
    #[serde(default)]
    pub mounts: Vec<Point>,
    /// The snapshot driver that holds its root file system.
    pub driver: String,
    /// `linux`.
    pub platform: String,
}

/// What became of a container since it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Life {
    pub state: State,
    /// How often the policy has started it since a person last did.
    #[serde(default)]
    pub restart_count: u32,
    /// A person stopped it: `unless-stopped` rests.
    #[serde(default)]
    pub stopped_by_hand: bool,
    /// A process of the present run was killed for memory.
    #[serde(default)]
    pub oom: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self { state: State::Created { failed: None }, restart_count: 0, stopped_by_hand: false, oom: false }
    }
}

/// What readers see: one consistent instant of a container. Cheap to clone and to keep.
#[derive(Debug, Clone)]
pub struct View {
    pub record: Arc<Record>,
    pub life: Life,
}

impl View {
    /// The state.
    pub fn state(&self) -> &State {
        &self.life.state
    }

    /// Whether a terminal was asked for.
    pub fn tty(&self) -> bool {
        self.record.config.tty
    }
}

impl Record {
    /// The first twelve digits of the id.
    pub fn short_id(&self) -> &str {
        &self.id[..12.min(self.id.len())]
    }

    /// What an event about this container says of it: image, name and all labels.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes: BTreeMap<String, String> =
            self.config.labels.clone().into_iter().flatten().collect();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }
}
