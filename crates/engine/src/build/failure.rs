//! Why a build ended without a result.

use std::fmt;
use std::sync::Arc;

use wharf_build::dockerfile::{Directives, Lines};
use wharf_oci::Digest;

use crate::error::{Error, ErrorKind};

/// Why a build ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// What happened, in BuildKit's words, without `failed to solve: `.
    pub message: String,
    /// What class of error it is.
    pub kind: ErrorKind,
    /// The step at which it happened.
    pub vertex: Option<Digest>,
    /// Where the Dockerfile asks for it.
    pub place: Option<Place>,
    /// Whether it was ended by its client.
    pub canceled: bool,
    /// The exit code of the process that failed.
    pub code: Option<i32>,
    /// The Dockerfile is to be read by a frontend that it names at its place: nothing was done yet.
    pub foreign: bool,
}

/// A place in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as the client gave it.
    pub file: String,
    /// All of its text.
    pub text: Arc<str>,
    /// The lines.
    pub lines: Lines,
}

impl BuildFailure {
    /// A failure of no step.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind,
            vertex: None,
            place: None,
            canceled: false,
            code: None,
            foreign: false,
        }
    }

    /// The line that names the frontend which is to read the Dockerfile; `None`: it failed for another reason.
    #[must_use]
    pub fn frontend(&self) -> Option<String> {
        let place = self.place.as_ref().filter(|_| self.foreign)?;
        Directives::read(&place.text).ok()?.syntax.map(|(line, _)| line)
    }

    /// The build was ended by its client.
    #[must_use]
    pub fn canceled() -> Self {
        Self { canceled: true, ..Self::new(ErrorKind::Unavailable, "context canceled") }
    }
}

impl fmt::Display for BuildFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for BuildFailure {}

impl From<Error> for BuildFailure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.message())
    }
}

impl From<BuildFailure> for Error {
    fn from(failure: BuildFailure) -> Self {
        Self::new(failure.kind, failure.message)
    }
}
