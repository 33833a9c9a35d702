//! Copies from one tree into another by the rules of a Dockerfile's `COPY` and `ADD`.
//!
//! - a directory's *content* is copied, never the directory itself; links within it stay links;
//! - a file goes into the destination where that is a directory or ends with a slash, else it becomes the destination;
//! - the source itself is followed where it is a link; directories that are missing on the way are made;
//! - owners, modes, times, extended attributes and hard links are kept, but for what is asked to be otherwise.

mod glob;
mod mode;
mod regular;
mod walk;

use std::ffi::OsStr;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use wharf_sys::root::Root;

pub use glob::expand;
pub use mode::{Mode, ModeError};

use crate::compression::{Compression, decompressor};
use crate::error::{Error, Result};
use crate::unpack::{UnpackOptions, extract};
use crate::whiteout::Whiteouts;
use walk::Walk;

/// How things are copied.
#[derive(Default)]
pub struct CopyOptions<'a> {
    /// The owner of everything that is made; `None`: that of the source, and root for what has no source.
    pub owner: Option<(u32, u32)>,
    /// The mode of everything copied.
    pub mode: Option<Mode>,
    /// Makes the directories above the source in the destination too.
    pub parents: bool,
    /// A directory that is copied to a place where nothing is yet brings its own owner, mode and times, not only what is
    /// in it.
    pub whole: bool,
    /// A directory is copied with its name where the destination is a directory or ends with a slash.
    pub keep_name: bool,
    /// What is in the way and of another kind is removed.
    pub replace: bool,
    /// Unpacks archives, compressed or not, instead of copying them.
    pub unpack: bool,
    /// Whether a pattern may match nothing.
    pub allow_empty: bool,
    /// Where the target, an overlay, keeps what is new: directories that nothing is below are filled there.
    pub upper: Option<&'a Root>,
    /// What is left out: told a path relative to the source tree's top.
    pub exclude: Option<&'a dyn Fn(&Path) -> bool>,
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CopyOptions")
            .field("owner", &self.owner)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Copies what `from` names (a path or a pattern) in `source` to `to` in `target`.
///
/// # Errors
/// [`Error::NotFound`] when nothing is named, [`Error::OverwriteWithFile`] and [`Error::OverwriteWithDirectory`] when kinds
/// clash, or when the disk fails. What was copied before stays.
pub fn copy(source: &Root, from: &str, target: &Root, to: &str, options: &CopyOptions<'_>) -> Result<()> {
    let named = glob::expand(source, from)?;
    if named.is_empty() && !options.allow_empty {
        return Err(Error::NotFound(from.to_owned()));
    }
    for path in named {
        one(source, &path, target, to, options)?;
    }
    Ok(())
}

fn one(source: &Root, path: &Path, target: &Root, to: &str, options: &CopyOptions<'_>) -> Result<()> {
    let real = source.canonicalize(path).map_err(|error| {
        if error.is_not_found() { Error::NotFound(format!("/{}", path.display())) } else { error.into() }
    })?;
    let real = clean(&real.to_string_lossy());
    let kind = FileType::from_raw_mode(source.stat_follow(&real)?.st_mode);
    let mut walk = Walk::new(source, target, options);
    if kind != FileType::Directory && options.unpack && unpack(source, &real, target, to, options, &mut walk)?
    {
        return Ok(());
    }
    let into =
        if options.parents { clean(to).join(path.parent().unwrap_or(Path::new(""))) } else { clean(to) };
    if options.parents {
        walk.parents(path.parent().unwrap_or(Path::new("")), &clean(to))?;
    }
    if kind == FileType::Directory {
        let named = options.keep_name && (to.ends_with('/') || is_dir(target, &into));
        let name = path.file_name().unwrap_or_default();
        let into = if options.parents || named { into.join(name) } else { into };
        return walk.directory(&real, &into);
    }
    let is_directory = to.ends_with('/') || options.parents || is_dir(target, &into);
    let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    let place = if is_directory { into.join(name) } else { into };
    walk.file(&real, &place)
}

/// Unpacks the file where it is an archive; `false` where it is none.
fn unpack(
    source: &Root,
    path: &Path,
    target: &Root,
    to: &str,
    options: &CopyOptions<'_>,
    walk: &mut Walk<'_>,
) -> Result<bool> {
    let mut file = source.open_file(path)?;
    let mut head = Vec::new();
    file.by_ref().take(1024).read_to_end(&mut head)?;
    let compressed = Compression::detect(&head) != Compression::None;
    if !compressed && !crate::tar::is_header(&head) {
        return Ok(false);
    }
    file.rewind()?;
    let (_, plain) = decompressor(file)?;
    let mut plain = BufReader::with_capacity(256 * 1024, plain);
    if compressed && !crate::tar::is_header(std::io::BufRead::fill_buf(&mut plain)?) {
        return Ok(false);
    }
    let base = clean(to);
    walk.make(&base)?;
    let unpack = UnpackOptions { owner: options.owner, ..UnpackOptions::new(Whiteouts::Plain) };
    extract(plain, target, &base, &unpack)?;
    Ok(true)
}

fn is_dir(root: &Root, path: &Path) -> bool {
    root.stat_follow(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The path without `.`, `..` and slashes around, relative to the top; `..` never leads above it.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests;
