//! Unpacks an archive into a tree.

mod apply;
mod attributes;
mod verify;

use std::io::{BufRead, Read};
use std::path::Path;

use wharf_oci::DiffId;
use wharf_sys::root::Root;

use crate::error::Result;
use crate::pump::pump;
use crate::tar::Reader;
use crate::whiteout::Whiteouts;
use apply::Unpacker;
pub use verify::{mend, verify};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole uncompressed stream.
    pub bytes: u64,
    /// Members.
    pub entries: u64,
}

impl Default for Limits {
    /// Far above any real layer: a terabyte, ten million members.
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 10_000_000 }
    }
}

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// What becomes of whiteouts.
    pub whiteouts: Whiteouts,
    /// Bounds on the archive.
    pub limits: Limits,
    /// Owner and group of everything, instead of those in the archive.
    pub owner: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else or the other way round.
    pub keep_kind: bool,
    /// Give the target itself the owner and mode that the archive tells of its top.
    pub top: bool,
}

impl UnpackOptions {
    /// The archive's owners, default limits, replacing what is in the way.
    pub fn new(whiteouts: Whiteouts) -> Self {
        Self { whiteouts, limits: Limits::default(), owner: None, keep_kind: false, top: false }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackSummary {
    /// The digest of the whole stream.
    pub diff_id: DiffId,
    /// Bytes of the whole stream.
    pub stream_size: u64,
    /// Bytes of all regular files and of symbolic links' targets, which Docker calls a layer's size.
    pub size: u64,
    /// Members.
    pub entries: u64,
}

/// Unpacks the uncompressed layer `input` into `target` and computes its digest. Reading (and so inflating) and hashing
/// run on a thread of their own. What was unpacked before an error stays: the caller drops the tree.
///
/// Nothing is synced to disk here.
pub fn unpack(input: impl Read + Send, target: &Root, options: &UnpackOptions) -> Result<UnpackSummary> {
    let ((size, entries), digest, stream_size) =
        pump(input, options.limits.bytes, |input| extract(input, target, Path::new(""), options))?;
    Ok(UnpackSummary { diff_id: DiffId(digest), stream_size, size, entries })
}

/// Unpacks the uncompressed archive `input` below the directory `base` of `target`, on this thread and up to the
/// archive's end. Links are resolved inside `target`, so one may lead out of `base`. Returns the bytes of all files
/// and the number of members.
pub fn extract(
    input: impl BufRead,
    target: &Root,
    base: &Path,
    options: &UnpackOptions,
) -> Result<(u64, u64)> {
    let mut reader = Reader::new(input);
    let mut unpacker = Unpacker::new(target, base, options);
    while let Some(entry) = reader.next()? {
        unpacker.member(&entry, &mut reader)?;
    }
    unpacker.finish()
}
