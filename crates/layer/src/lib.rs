//! Tar stream to directory tree and back
