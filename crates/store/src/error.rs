//! What can go wrong under the data root.

use std::io;
use std::path::Path;

use wharf_oci::Digest;

/// The result of every store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed store call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed; says what was being done.
    #[error("{doing}: {}", words(source))]
    Io {
        /// Verb and object, as `open /data/blobs`.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The metadata database failed.
    #[error("metadata database: {}", database_words(.0))]
    Database(Box<redb::Error>),
    /// A record in the database cannot be read.
    #[error("metadata database: record {key}: {reason}")]
    Record {
        /// Table and key.
        key: String,
        /// What the decoder said.
        reason: String,
    },
    /// The data root was written by a newer version.
    #[error(
        "metadata database has schema {found}, this version knows up to {known}: it was written by a newer version"
    )]
    NewerSchema {
        /// The version found.
        found: u64,
        /// The newest version known.
        known: u64,
    },
    /// Another process has the data root open.
    #[error("data root {0} is in use by another process")]
    InUse(String),
    /// The storage driver of that name does not exist or cannot work here.
    #[error("storage driver {name}: {reason}")]
    Driver {
        /// As given.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Bytes are not what their name says.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    Mismatch {
        /// The name.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// A blob that should be there is not.
    #[error("blob {0} is missing")]
    NoBlob(Digest),
    /// An image that should be there is not.
    #[error("image {0} is missing")]
    NoImage(Digest),
    /// A container has no snapshot here.
    #[error("container {0} has no snapshot")]
    NoSnapshot(String),
    /// A container or directory name that could leave its directory.
    #[error("{0:?} is no valid container id")]
    BadId(String),
    /// The layer's archive was refused.
    #[error(transparent)]
    Layer(#[from] wharf_layer::Error),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] wharf_sys::error::Error),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { doing: doing.into(), source: source.into() }
    }

    /// Whether the bytes given were at fault, not this machine.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Mismatch { .. } | Self::Layer(_))
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

fn database_words(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(error) => words(error),
        other => other.to_string(),
    }
}

/// The kernel's words without Rust's "(os error 2)".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

macro_rules! from_redb {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// Adds what was being done to an input/output error.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::io(what(), error))
    }
}

/// `verb path`, for [`Doing::doing`].
pub(crate) fn at(verb: &str, path: &Path) -> String {
    format!("{verb} {}", path.display())
}
