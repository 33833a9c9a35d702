//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::omit;

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// The action once more, for old clients; container and image events only.
    #[serde(skip_serializing_if = "omit")]
    pub status: String,
    /// The actor once more.
    #[serde(skip_serializing_if = "omit")]
    pub id: String,
    /// The container's image.
    #[serde(skip_serializing_if = "omit")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`, `builder`, …
    #[serde(rename = "Type")]
    pub r#type: String,
    /// `start`, `die`, `exec_create: sh -c true`, …
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "omit")]
    pub scope: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "omit")]
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano", skip_serializing_if = "omit")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
