//! Tar stream to directory tree and back.
//!
//! - [`unpack`] applies a layer to a directory, as overlay content or directly, and computes its diff id on the way;
//! - [`pack`] writes a tree as a tar, [`diff`] writes what a container changed as a layer, [`changes`] lists it;
//! - [`tar`] is the reader and the writer below them, [`Compression`] what may be wrapped around;
//! - [`job`] runs such work for one container in a process of its own.
//!
//! Every tree is reached through [`wharf_sys::root::Root`]: nothing in a tar or in a container's tree, links
//! included, can make this crate touch a file outside. A tar that different readers would read differently is refused.
//!
//! Invariant: knows no database, no network and no image; a layer is a stream and a tree here.

mod changes;
mod compression;
mod copy;
mod diff;
mod error;
pub mod job;
mod pack;
mod pump;
pub mod tar;
mod unpack;
mod whiteout;

pub use changes::{Change, ChangeKind, changes, changes_between};
pub use compression::{Compression, compressor, decompressor};
pub use copy::{CopyOptions, Mode, ModeError, copy, expand};
pub use diff::{DiffSummary, diff, diff_between, write_diff};
pub use error::{Error, Result};
pub use pack::{PackOptions, pack, pack_all, pack_dir};
pub use unpack::{Limits, UnpackOptions, UnpackSummary, extract, mend, unpack, verify};
pub use whiteout::{Whiteouts, is_overlay_xattr};
