//! Mount points that a process needs and its tree has not: made for it, they are taken away again, so that no layer holds
//! them, nor the directories that were copied up for them.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, Timespec};
use wharf_layer::is_overlay_xattr;
use wharf_sys::mount::{DetachedMount, Recipe};
use wharf_sys::root::{Dir, Root, RootError};

use crate::container::spec::points::Point;

/// What every process has mounted.
const USUAL: [&str; 10] = [
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/hosts",
];

/// The mount points that are not there before a process runs.
pub(super) struct Stubs {
    /// Where changes go.
    upper: Option<PathBuf>,
    /// The path that is the first of each not to be there, and the whole path.
    missing: Vec<(PathBuf, PathBuf)>,
    /// Directories that get an entry, as they were.
    parents: Vec<(PathBuf, Stat)>,
}

impl Stubs {
    /// Looks what is missing.
    pub(super) fn before(mount: &DetachedMount, recipe: &Recipe, points: &[Point]) -> Result<Self, String> {
        let root = mount.as_fd().try_clone_to_owned().map_err(|error| format!("copy descriptor: {error}"))?;
        let root = Root::from_fd(root);
        let upper = match recipe {
            Recipe::Overlay { upper, .. } => Some(upper.clone()),
            _ => None,
        };
        let mut stubs = Self { upper, missing: Vec::new(), parents: Vec::new() };
        let given = points.iter().map(|point| point.destination.as_str());
        for path in USUAL.into_iter().chain(given) {
            stubs.look(&root, Path::new(path.trim_matches('/')));
        }
        Ok(stubs)
    }

    fn look(&mut self, root: &Root, path: &Path) {
        let mut whole = PathBuf::new();
        for part in path.components() {
            let parent = whole.clone();
            whole.push(part);
            if root.stat(&whole).is_ok() {
                continue;
            }
            if self.missing.iter().any(|(first, all)| *first == whole && all == path) {
                return;
            }
            if let Ok(stat) = root.dir(&parent).and_then(|dir| dir.stat_self())
                && !self.parents.iter().any(|(known, _)| *known == parent)
            {
                self.parents.push((parent, stat));
            }
            self.missing.push((whole, path.to_owned()));
            return;
        }
    }

    /// Takes away what is still empty; directories above get their times back.
    pub(super) fn clean(&self) {
        let Some(upper) = &self.upper else { return };
        let Ok(root) = Root::open(upper) else { return };
        for (first, path) in self.missing.iter().rev() {
            let mut at = path.as_path();
            while at.starts_with(first) && !at.as_os_str().is_empty() && remove_empty(&root, at).is_ok() {
                let Some(parent) = at.parent() else { break };
                at = parent;
            }
        }
        for (path, stat) in self.parents.iter().rev() {
            // A directory that the process made its own keeps its time only if nothing else is new in it.
            if let Err(error) = restore(&root, path, stat)
                && !error.is_not_found()
            {
                tracing::debug!("restore times of {}: {error}", path.display());
            }
        }
    }
}

/// Removes a file without content, or a directory without entries.
fn remove_empty(root: &Root, path: &Path) -> Result<(), RootError> {
    let Some((dir, name)) = root.parent(path)? else { return Err(not_empty(path)) };
    let stat = dir.stat(&name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => dir.rmdir(&name),
        FileType::RegularFile if stat.st_size == 0 => dir.unlink(&name),
        _ => Err(not_empty(path)),
    }
}

fn not_empty(path: &Path) -> RootError {
    RootError::new("remove", path, rustix::io::Errno::NOTEMPTY)
}

/// Gives a directory its times back; one that was only copied up for a mount point goes from the layer.
fn restore(root: &Root, path: &Path, before: &Stat) -> Result<(), RootError> {
    let dir = root.dir(path)?;
    let own = dir.entries()?;
    let now = dir.stat_self()?;
    let same = (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid);
    let Some((parent, name)) = root.parent(path)? else {
        return Ok(());
    };
    if own.is_empty() && same && !is_marked(&parent, &name)? {
        return parent.rmdir(&name);
    }
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    if own.is_empty() {
        parent.set_times(
            &name,
            time(before.st_atime, before.st_atime_nsec),
            time(before.st_mtime, before.st_mtime_nsec),
        )?;
    }
    Ok(())
}

/// Whether a directory has attributes: it hides what is below, or the process may have given them.
fn is_marked(parent: &Dir, name: &std::ffi::OsStr) -> Result<bool, RootError> {
    let names = parent.list_xattrs(name)?;
    let marks = |name: &[u8]| name.ends_with(b"overlay.opaque") || !is_overlay_xattr(name);
    Ok(names.iter().any(|name| marks(name.as_bytes())))
}
