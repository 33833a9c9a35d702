//! Owner, mode, attributes and times of what was just made.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use wharf_sys::root::Dir;

use crate::error::Result;
use crate::tar::{Entry, Time};
use crate::whiteout::is_overlay_xattr;

/// Attributes of an open file or directory. Owner and mode are changed only where they have to be: looking is cheap, while
/// each change is a transaction of the file system. The order matters: a change of owner clears the set-id bits
/// and `security.capability`.
pub(super) fn set_open(fd: BorrowedFd<'_>, entry: &Entry, owner: (u32, u32)) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(fd)?;
    let owned = (stat.st_uid, stat.st_gid) == owner;
    if !owned {
        rustix::fs::fchown(fd, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    }
    if !owned || stat.st_mode & 0o7777 != entry.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    }
    for (name, value) in usable_xattrs(entry) {
        tolerate(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// Attributes of an entry that cannot be opened: link, device, FIFO.
pub(super) fn set_named(
    dir: &Dir,
    name: &OsStr,
    entry: &Entry,
    owner: (u32, u32),
    is_link: bool,
) -> Result<()> {
    dir.chown(name, owner.0, owner.1)?;
    if !is_link {
        dir.chmod(name, entry.mode)?;
    }
    for (attribute, value) in usable_xattrs(entry) {
        match dir.set_xattr(name, attribute, value) {
            Err(error) if is_tolerable(error.errno()) => {}
            done => done?,
        }
    }
    let times = times(entry);
    Ok(dir.set_times(name, times.last_access, times.last_modification)?)
}

/// The entry's times. Docker never lets the last access be before the last change.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let accessed = entry.accessed.unwrap_or(entry.modified).max(entry.modified);
    Timestamps { last_access: timespec(accessed), last_modification: timespec(entry.modified) }
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

/// Without overlayfs's own attributes: `trusted.overlay.redirect` could make any path of the lower layers appear.
fn usable_xattrs(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    let usable = entry.xattrs.iter().filter(|(name, _)| !is_overlay_xattr(name));
    usable.map(|(name, value)| (OsStr::from_bytes(name), value.as_slice()))
}

/// Attributes that the file system or the kernel's policy does not take are left out, as Docker does.
fn tolerate(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(errno) if is_tolerable(errno) => Ok(()),
        other => other,
    }
}

fn is_tolerable(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::PERM)
}
