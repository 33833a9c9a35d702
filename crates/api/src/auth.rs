//! Credentials for registries, as clients send them in `X-Registry-Auth` and to `/auth`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::omit;

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "omit")]
    pub username: String,
    #[serde(skip_serializing_if = "omit")]
    pub password: String,
    #[serde(skip_serializing_if = "omit")]
    pub auth: String,
    #[serde(skip_serializing_if = "omit")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "omit")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "omit")]
    pub registrytoken: String,
}

impl fmt::Debug for AuthConfig {
    // Secrets must not reach a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer to `/auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthResponse {
    #[serde(skip_serializing_if = "omit")]
    pub identity_token: String,
    pub status: String,
}

/// The body of every error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorResponse {
    pub message: String,
}
