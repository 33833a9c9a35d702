//! A container's file system as a tar stream.
