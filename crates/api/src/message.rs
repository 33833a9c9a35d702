//! Messages of a long-running operation (load, import, pull, push, build): one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::wire::omit;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    #[serde(skip_serializing_if = "omit")]
    pub stream: String,
    #[serde(skip_serializing_if = "omit")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    #[serde(skip_serializing_if = "omit")]
    pub progress: String,
    /// The layer or tag it speaks of.
    #[serde(skip_serializing_if = "omit")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "omit")]
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// How far an operation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "omit")]
    pub current: i64,
    #[serde(skip_serializing_if = "omit")]
    pub total: i64,
    #[serde(skip_serializing_if = "omit")]
    pub units: String,
    #[serde(skip_serializing_if = "omit")]
    pub hidecounts: bool,
}

/// Why an operation failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "omit")]
    pub code: i64,
    #[serde(skip_serializing_if = "omit")]
    pub message: String,
}

impl JsonMessage {
    /// A line of output.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// A status, about `id` when it is not empty.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// How far `id` is, in bytes.
    pub fn progress(id: impl Into<String>, status: impl Into<String>, current: i64, total: i64) -> Self {
        let detail = ProgressDetail { current, total, ..ProgressDetail::default() };
        Self { progress_detail: Some(detail), ..Self::status(id, status) }
    }

    /// The failure that ends a stream.
    pub fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = ErrorDetail { code: 0, message: message.clone() };
        Self { error_detail: Some(detail), error: message, ..Self::default() }
    }

    /// A document beside the texts, as `{"ID":"sha256:…"}`.
    pub fn aux(document: serde_json::Value) -> Self {
        Self { aux: Some(document), ..Self::default() }
    }
}
