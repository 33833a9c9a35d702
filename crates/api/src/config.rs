//! What a container runs: the portable half of its configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::str_slice;
use crate::wire::{Empty, omit};

/// What a container runs; `Config` in inspect, the top level of a create request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "omit")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    pub tty: bool,
    pub open_stdin: bool,
    /// Standard input ends when the first client that attached to it leaves.
    pub stdin_once: bool,
    /// `NAME=value`; a name alone removes the image's.
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "str_slice")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "omit")]
    pub args_escaped: bool,
    /// The reference as given at create.
    pub image: String,
    /// Mount points of anonymous volumes.
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    #[serde(deserialize_with = "str_slice")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "omit")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit")]
    pub stop_signal: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "str_slice", skip_serializing_if = "omit")]
    pub shell: Option<Vec<String>>,
}

/// How a container's health is probed. Durations are nanoseconds; zero means inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherit, `["NONE"]` none, `["CMD", …]` exec, `["CMD-SHELL", line]` with the shell.
    #[serde(skip_serializing_if = "omit")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub interval: i64,
    #[serde(skip_serializing_if = "omit")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "omit")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "omit")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "omit")]
    pub retries: i64,
}
