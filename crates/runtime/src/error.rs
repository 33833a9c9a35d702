//! Why a process could not be started.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a failure means to whoever asked for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The program does not exist (a shell's code 127).
    NotFound,
    /// The program cannot be executed (a shell's code 126).
    NotExecutable,
    /// Anything else.
    Other,
}

/// A failed launch or exec. The message is worded as runc words it where clients match on it:
/// `exec: "foo": executable file not found in $PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    kind: FailureKind,
    message: String,
}

impl LaunchError {
    /// An error of a kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure that says nothing about the program.
    pub fn other(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Other, message.to_string())
    }

    /// What it means.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LaunchError {}

impl From<wharf_sys::error::Error> for LaunchError {
    fn from(error: wharf_sys::error::Error) -> Self {
        Self::other(error)
    }
}

/// Result of a step of a launch.
pub type Result<T> = std::result::Result<T, LaunchError>;
