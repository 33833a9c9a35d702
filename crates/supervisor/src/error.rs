//! Why a supervisor could not begin or go on.

use std::io;
use std::path::PathBuf;

/// What went wrong while doing what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage: wharf supervisor [--adopt DESCRIPTORS] BUNDLE")]
    Usage,
    #[error("{doing}: {error}")]
    Doing { doing: &'static str, error: io::Error },
    #[error("{doing} {}: {error}", path.display())]
    Path { doing: &'static str, path: PathBuf, error: io::Error },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Doing { doing, error }
    }
}
