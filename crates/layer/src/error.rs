//! What can be wrong with a layer.

use std::io;
use std::path::PathBuf;

use wharf_sys::root::RootError;

/// Why a stream or a tree was refused, or what failed on the way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream ends in the middle of a header or of a file.
    #[error("unexpected EOF")]
    Truncated,
    /// A header that breaks the format.
    #[error("invalid tar header: {0}")]
    Header(&'static str),
    /// Two size fields that readers would choose between differently, which hides entries from some of them.
    #[error("tar header gives two sizes: {ustar} and {pax} bytes")]
    SizeDisagreement {
        /// The size in the entry's own header.
        ustar: u64,
        /// The size in the extended header before it.
        pax: u64,
    },
    /// An entry of a kind that cannot be unpacked.
    #[error("unhandled tar header type {0}")]
    Kind(u8),
    /// A name with a `..` in it, or one that is no path.
    #[error("invalid path in archive: {}", .0.display())]
    Path(PathBuf),
    /// A hard link to something that is not in the tree.
    #[error("invalid hard link {} -> {}", .path.display(), .target.display())]
    Link {
        /// The entry.
        path: PathBuf,
        /// What it wants to be a link to.
        target: PathBuf,
    },
    /// More than the caller's limits allow.
    #[error("archive exceeds the limit of {limit} {unit}")]
    Limit {
        /// The limit.
        limit: u64,
        /// What is counted: `bytes` or `entries`.
        unit: &'static str,
    },
    /// A directory is in the place of something else, and the caller does not want it replaced: its path, and where
    /// the archive was to be unpacked.
    #[error("cannot overwrite directory \"{}\" with non-directory \"{}\"", .0.display(), .1.display())]
    OverwriteDirectory(PathBuf, PathBuf),
    /// The other way round.
    #[error("cannot overwrite non-directory \"{}\" with directory \"{}\"", .0.display(), .1.display())]
    OverwriteNonDirectory(PathBuf, PathBuf),
    /// Nothing is at a path that something is to be copied from.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// A pattern that is none.
    #[error("syntax error in pattern: {0}")]
    Pattern(String),
    /// A directory is to be copied over something else.
    #[error("cannot copy to non-directory: /{}", .0.display())]
    OverwriteWithDirectory(PathBuf),
    /// Something else is to be copied over a directory.
    #[error("cannot replace to directory /{} with file", .0.display())]
    OverwriteWithFile(PathBuf),
    /// A compression that is read but not written.
    #[error("archives are not compressed with {0}")]
    Compression(&'static str),
    /// An operation in the tree failed.
    #[error(transparent)]
    Tree(#[from] RootError),
    /// An operation on one entry failed.
    #[error("{}: {source}", .path.display())]
    Entry {
        /// The entry's path in the tree.
        path: PathBuf,
        /// What failed.
        source: Box<Self>,
    },
    /// Reading or writing the stream failed.
    #[error("{0}")]
    Stream(io::Error),
}

impl Error {
    /// Adds the entry's path where the error does not name it yet.
    pub(crate) fn at(self, path: impl Into<PathBuf>) -> Self {
        match self {
            Self::Tree(_) | Self::Header(_) => Self::Entry { path: path.into(), source: Box::new(self) },
            other => other,
        }
    }

    /// The kernel's reason, where there is one.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Tree(error) => Some(error.errno()),
            Self::Entry { source, .. } => source.errno(),
            Self::Stream(error) => rustix::io::Errno::from_io_error(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Stream(error) }
    }
}

/// Result of work on a layer.
pub type Result<T> = std::result::Result<T, Error>;
