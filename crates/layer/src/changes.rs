//! What a container changed: from an overlay's upper directory, or by comparing two trees.
//!
//! The rules are Docker's: content is told by size and time, a directory's own time does not count, and a directory in
//! which anything changed is itself listed as changed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use wharf_sys::root::{Dir, Root};

use crate::error::Result;
use crate::pack::is_portable;
use crate::whiteout::{is_overlay_opaque, is_overlay_whiteout};

/// What happened to a path; the numbers are those of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Content, attributes or (of a directory) something in it is different.
    Modified = 0,
    /// It was not there before.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute in the tree.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The changes in an overlay's `upper` directory against the merged layers below it, sorted by path.
pub fn changes(upper: &Root, lower: &Root) -> Result<Vec<Change>> {
    let mut found = Found::default();
    overlay(&upper.top()?, Some(&lower.top()?), Path::new("/"), &mut found)?;
    Ok(found.sorted())
}

/// The changes that make `lower` into `upper`, two whole trees, sorted by path.
pub fn changes_between(lower: &Root, upper: &Root) -> Result<Vec<Change>> {
    let mut found = Found::default();
    trees(&upper.top()?, Some(&lower.top()?), Path::new("/"), &mut found)?;
    Ok(found.sorted())
}

#[derive(Default)]
struct Found(Vec<Change>);

impl Found {
    fn push(&mut self, path: &Path, kind: ChangeKind) {
        self.0.push(Change { path: path.to_owned(), kind });
    }

    /// Reports `path` as `kind` says, or as modified when `below` finds anything.
    fn with_children(
        &mut self,
        path: &Path,
        kind: Option<ChangeKind>,
        below: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.0.len();
        below(self)?;
        match kind {
            Some(kind) => self.push(path, kind),
            None if self.0.len() > before => self.push(path, ChangeKind::Modified),
            None => {}
        }
        Ok(())
    }

    /// By the bytes of the path: a directory comes before what is in it.
    fn sorted(mut self) -> Vec<Change> {
        self.0.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        self.0
    }
}

/// Goes through an upper directory; `lower` is the directory below at the same path, where there is one.
fn overlay(upper: &Dir, lower: Option<&Dir>, path: &Path, found: &mut Found) -> Result<()> {
    for entry in upper.entries()? {
        let inner = path.join(&entry.name);
        let stat = upper.stat(&entry.name)?;
        let below = lower.and_then(|lower| Some((lower, lower.stat(&entry.name).ok()?)));
        if is_overlay_whiteout(&stat) {
            // One over nothing is left where the container removed what it had made itself.
            if below.is_some() {
                found.push(&inner, ChangeKind::Deleted);
            }
            continue;
        }
        let kind = match &below {
            None => Some(ChangeKind::Added),
            Some((lower, old)) => {
                differs((upper, &stat), (lower, old), &entry.name)?.then_some(ChangeKind::Modified)
            }
        };
        if !is_dir(&stat) {
            kind.into_iter().for_each(|kind| found.push(&inner, kind));
            continue;
        }
        let above = upper.dir(&entry.name)?;
        let lower = match below {
            Some((lower, old)) if is_dir(&old) => Some(lower.dir(&entry.name)?),
            _ => None,
        };
        // Of an opaque directory, what is not above is gone: that is a comparison of two trees.
        let opaque = lower.is_some() && is_overlay_opaque(&above)?;
        let walk = if opaque { trees } else { overlay };
        found.with_children(&inner, kind, |found| walk(&above, lower.as_ref(), &inner, found))?;
    }
    Ok(())
}

/// Compares two directories.
fn trees(upper: &Dir, lower: Option<&Dir>, path: &Path, found: &mut Found) -> Result<()> {
    let mut below = lower.map(Dir::entries).transpose()?.unwrap_or_default();
    for entry in upper.entries()? {
        let inner = path.join(&entry.name);
        let stat = upper.stat(&entry.name)?;
        let known = below.binary_search_by(|old| old.name.cmp(&entry.name)).ok().map(|at| below.remove(at));
        let (kind, lower) = match (lower, known) {
            (Some(lower), Some(_)) => {
                let old = lower.stat(&entry.name)?;
                let differs = differs((upper, &stat), (lower, &old), &entry.name)?;
                let both = is_dir(&stat) && is_dir(&old);
                (differs.then_some(ChangeKind::Modified), both.then(|| lower.dir(&entry.name)).transpose()?)
            }
            _ => (Some(ChangeKind::Added), None),
        };
        if is_dir(&stat) {
            let above = upper.dir(&entry.name)?;
            found.with_children(&inner, kind, |found| trees(&above, lower.as_ref(), &inner, found))?;
        } else {
            kind.into_iter().for_each(|kind| found.push(&inner, kind));
        }
    }
    below.iter().for_each(|gone| found.push(&path.join(&gone.name), ChangeKind::Deleted));
    Ok(())
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether an entry that both directories have is not the same.
fn differs((upper, new): (&Dir, &Stat), (lower, old): (&Dir, &Stat), name: &OsStr) -> Result<bool> {
    let attributes = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if attributes(new) != attributes(old) {
        return Ok(true);
    }
    if !is_dir(new) && (new.st_size != old.st_size || !same_time(new, old)) {
        return Ok(true);
    }
    Ok(xattrs(upper, name)? != xattrs(lower, name)?)
}

/// Layers have whole seconds, so a time without a fraction is compared without one.
fn same_time(a: &Stat, b: &Stat) -> bool {
    let fractions_count = a.st_mtime_nsec != 0 && b.st_mtime_nsec != 0;
    a.st_mtime == b.st_mtime && (!fractions_count || a.st_mtime_nsec == b.st_mtime_nsec)
}

type Xattrs = Vec<(OsString, Option<Vec<u8>>)>;

fn xattrs(dir: &Dir, name: &OsStr) -> Result<Xattrs> {
    let mut names = dir.list_xattrs(name)?;
    names.retain(|name| is_portable(name.as_bytes()));
    names.sort_unstable();
    let values = names.into_iter().map(|attribute| {
        let value = dir.get_xattr(name, &attribute)?;
        Ok((attribute, value))
    });
    values.collect()
}
