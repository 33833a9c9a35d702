//! Bringing a copy to what its client lists.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use wharf_oci::{Digest, Hasher};
use wharf_sys::root::{Dir, RootError};

use super::Mirror;
use super::entry::{Entry, EntryKind, order};

/// The files of one directory, at most.
const MOST: usize = 4_000_000;

/// The space that a client's files leave on the disk, in bytes, and how often it is looked at.
const SPARE: u64 = 256 << 20;
const LOOK: u64 = 32 << 20;

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The client's list is not what a list may be.
    #[error("{0}")]
    List(String),
    /// The disk is nearly full.
    #[error("the files of the build context leave no space on the disk")]
    Full,
    /// The kernel refused.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A file could not be written.
    #[error("write {0}: {1}")]
    Write(String, std::io::Error),
}

type Result<T> = std::result::Result<T, SyncError>;

/// A client's list on its way into a copy.
#[derive(Debug)]
pub struct Sync<'a> {
    mirror: &'a mut Mirror,
    before: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    after: Vec<Entry>,
    /// The directories that lead to the last entry.
    above: Vec<Level>,
    /// Directories in which something was changed, whose times are set in the end.
    touched: Vec<usize>,
    /// Files that are not those of before, by their place in the list.
    remade: HashSet<usize>,
    /// Files whose content is on its way, by their place in the list.
    open: HashMap<u32, Incoming>,
    written: u64,
    /// Something is another than before.
    changed: bool,
}

/// A file whose content is on its way.
#[derive(Debug)]
struct Incoming {
    file: File,
    hasher: Hasher,
}

#[derive(Debug)]
struct Level {
    /// Its place in the list; `None`: the top.
    at: Option<usize>,
    /// Bytes of its path that lead to an entry in it, with the slash.
    prefix: usize,
    dir: Option<Dir>,
    touched: bool,
}

impl<'a> Sync<'a> {
    pub(super) fn new(mirror: &'a mut Mirror, before: Vec<Entry>) -> Self {
        let top = Level { at: None, prefix: 0, dir: None, touched: false };
        Self {
            mirror,
            after: Vec::with_capacity(before.len()),
            before: before.into_iter().peekable(),
            above: vec![top],
            touched: Vec::new(),
            remade: HashSet::new(),
            open: HashMap::new(),
            written: 0,
            changed: false,
        }
    }

    /// Takes the next entry of the list; whether the file's content is wanted. It is known by its place in the list,
    /// counted from 0.
    ///
    /// # Errors
    /// A list out of order, paths that leave the directory, entries in what is no directory.
    pub fn entry(&mut self, mut entry: Entry) -> Result<bool> {
        if !entry.is_proper() {
            return Err(SyncError::List(format!("invalid path in the build context: {:?}", entry.path)));
        }
        if self.after.len() >= MOST {
            return Err(SyncError::List(format!("the build context has more than {MOST} files")));
        }
        if self.after.last().is_some_and(|last| order(&last.path, &entry.path) != Ordering::Less) {
            return Err(SyncError::List(format!("build context out of order at {:?}", entry.path)));
        }
        // First: what is gone from a directory is removed while the list is still in there.
        let before = self.skip_to(&entry)?;
        self.enter(&entry)?;
        let unchanged = before.as_ref().filter(|before| entry.is(before) && self.stands(&entry));
        let wanted = match unchanged {
            Some(before) => {
                entry.content = before.content;
                false
            }
            None => {
                if entry.kind == EntryKind::File {
                    self.remade.insert(self.after.len());
                }
                entry.content = (entry.kind == EntryKind::File && entry.size == 0).then(|| Digest::of(b""));
                self.change(&entry, before)?
            }
        };
        if entry.kind == EntryKind::Directory {
            let prefix = entry.path.len() + 1;
            self.above.push(Level { at: Some(self.after.len()), prefix, dir: None, touched: false });
        }
        self.after.push(entry);
        Ok(wanted)
    }

    /// Whether an entry that is listed as before can be what it was: another name of a file only with that file.
    fn stands(&self, entry: &Entry) -> bool {
        let EntryKind::Link(target) = &entry.kind else { return true };
        let target = target.trim_start_matches('/');
        let found = self.after.binary_search_by(|entry| order(&entry.path, target));
        found.is_ok_and(|at| self.after[at].kind == EntryKind::File && !self.remade.contains(&at))
    }

    /// Leaves directories that the entry is not in.
    fn enter(&mut self, entry: &Entry) -> Result<()> {
        let parent = entry.path.rfind('/').map_or(0, |slash| slash + 1);
        while let Some(level) = self.above.last() {
            let path = level.at.map_or("", |at| self.after[at].path.as_str());
            if level.prefix == parent && entry.path.starts_with(path) {
                return Ok(());
            }
            if level.at.is_none() {
                break;
            }
            self.above.pop();
        }
        Err(SyncError::List(format!("the directory of {:?} is missing in the build context", entry.path)))
    }

    /// Removes what the list does not have any more; returns what the entry was.
    fn skip_to(&mut self, entry: &Entry) -> Result<Option<Entry>> {
        while let Some(before) =
            self.before.next_if(|before| order(&before.path, &entry.path) == Ordering::Less)
        {
            self.forget(&before)?;
        }
        Ok(self.before.next_if(|before| before.path == entry.path))
    }

    /// Removes a file that was listed before, a directory with all that was in it.
    fn forget(&mut self, gone: &Entry) -> Result<()> {
        self.skip_below(gone);
        let Some((parent, name)) = self.mirror.root().parent(&gone.path)? else { return Ok(()) };
        parent.remove_all(&name)?;
        self.mark(&gone.path);
        Ok(())
    }

    fn skip_below(&mut self, gone: &Entry) {
        if gone.kind == EntryKind::Directory {
            let below = |other: &Entry| {
                other.path.strip_prefix(gone.path.as_str()).is_some_and(|rest| rest.starts_with('/'))
            };
            while self.before.next_if(below).is_some() {}
        }
    }

    /// The directory that holds `path` was changed.
    fn mark(&mut self, path: &str) {
        self.changed = true;
        let parent = path.rfind('/').map_or(0, |slash| slash + 1);
        for level in &mut self.above {
            if level.prefix == parent && !level.touched {
                level.touched = true;
                self.touched.extend(level.at);
            }
        }
    }

    /// Makes the entry what it is now.
    fn change(&mut self, entry: &Entry, before: Option<Entry>) -> Result<bool> {
        let name = &entry.path[entry.path.rfind('/').map_or(0, |slash| slash + 1)..];
        let name = OsStr::new(name);
        let stays = entry.kind == EntryKind::Directory
            && before.as_ref().is_some_and(|before| before.kind == EntryKind::Directory);
        self.mark(&entry.path);
        // What a link names is found before the directory is at hand, which borrows the rest.
        let linked = match &entry.kind {
            EntryKind::Link(target) => Some(self.linked(target)?),
            _ => None,
        };
        if let Some(before) = before.filter(|_| !stays) {
            self.skip_below(&before);
            self.here()?.remove_all(name)?;
        }
        let group = self.above.last().and_then(|level| level.at).map_or(0, |at| self.after[at].gid);
        let here = self.here()?;
        match &entry.kind {
            EntryKind::Directory if stays => {}
            EntryKind::Directory => here.mkdir(name, 0o700)?,
            EntryKind::File => {
                let file = here.create_file(name, 0o600)?;
                dress_file(here, &file, entry, group)?;
                if entry.size == 0 {
                    return end(&file, entry).map(|()| false);
                }
                let at = u32::try_from(self.after.len()).unwrap_or(u32::MAX);
                self.open.insert(at, Incoming { file, hasher: Hasher::new() });
                return Ok(true);
            }
            EntryKind::Link(_) => {
                if let Some((dir, old)) = linked {
                    here.link(name, &dir, OsStr::new(&old))?;
                }
                return Ok(false);
            }
            EntryKind::Symlink(target) => here.symlink(name, OsStr::new(target))?,
            EntryKind::Fifo => here.mknod(name, FileType::Fifo, 0o600, (0, 0))?,
            EntryKind::Character(major, minor) => {
                here.mknod(name, FileType::CharacterDevice, 0o600, (*major, *minor))?;
            }
            EntryKind::Block(major, minor) => {
                here.mknod(name, FileType::BlockDevice, 0o600, (*major, *minor))?;
            }
        }
        dress(here, name, entry)?;
        if entry.kind != EntryKind::Directory {
            set_time(here, name, entry)?;
        }
        Ok(false)
    }

    /// The directory of the last entry, which is one of the list's own.
    fn here(&mut self) -> Result<&Dir> {
        let path = match self.above.last() {
            Some(Level { at: Some(at), .. }) => self.after[*at].path.as_str(),
            _ => "",
        };
        let opened = match self.above.last() {
            Some(Level { dir: Some(_), .. }) => None,
            _ => Some(self.mirror.root().dir(path)?),
        };
        // The top never leaves the stack.
        let Some(level) = self.above.last_mut() else {
            return Err(SyncError::List("the build context has no directory".to_owned()));
        };
        if let Some(opened) = opened {
            return Ok(level.dir.insert(opened));
        }
        level.dir.as_ref().ok_or_else(|| SyncError::List("the build context has no directory".to_owned()))
    }

    /// Where the file is that a link is another name of: only one of this list.
    fn linked(&self, target: &str) -> Result<(Dir, String)> {
        let target = target.trim_start_matches('/');
        let found = self.after.binary_search_by(|entry| order(&entry.path, target));
        let is_file = found.is_ok_and(|at| self.after[at].kind == EntryKind::File);
        if !is_file {
            return Err(SyncError::List(format!(
                "a link in the build context names {target:?}, which is no file of it"
            )));
        }
        let (dir, name) = target.rsplit_once('/').unwrap_or(("", target));
        Ok((self.mirror.root().dir(dir)?, name.to_owned()))
    }

    /// Takes a piece of the content of a wanted file; an empty one ends it.
    ///
    /// # Errors
    /// Content that was not asked for, and a disk that is full.
    pub fn content(&mut self, at: u32, data: &[u8]) -> Result<()> {
        let Some(entry) = self.after.get_mut(at as usize) else {
            return Err(SyncError::List("content of a file that was not listed".to_owned()));
        };
        let Some(Incoming { file, hasher }) = self.open.get_mut(&at) else {
            return Err(SyncError::List(format!("content of {:?}, which was not asked for", entry.path)));
        };
        if data.is_empty() {
            end(file, entry)?;
            let stat =
                rustix::fs::fstat(&*file).map_err(|errno| RootError::new("stat", &entry.path, errno))?;
            let digest = std::mem::take(hasher).finish();
            entry.content = Some(digest);
            self.mirror.learn(&stat, digest);
            self.open.remove(&at);
            return Ok(());
        }
        hasher.update(data);
        file.write_all(data).map_err(|error| SyncError::Write(entry.path.clone(), error))?;
        let before = self.written / LOOK;
        self.written += data.len() as u64;
        if self.written / LOOK != before { self.check_space() } else { Ok(()) }
    }

    fn check_space(&self) -> Result<()> {
        let space = rustix::fs::fstatvfs(self.mirror.root().as_fd());
        let space = space.map_err(|errno| RootError::new("statvfs", "", errno))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < SPARE { Err(SyncError::Full) } else { Ok(()) }
    }

    /// Whether content is still to come.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// The list is at its end, all content is here.
    ///
    /// # Errors
    /// When content is missing, or what is gone cannot be removed.
    pub fn finish(mut self) -> Result<()> {
        if let Some(at) = self.open.keys().next() {
            let path = &self.after[*at as usize].path;
            return Err(SyncError::List(format!("the content of {path:?} did not come")));
        }
        while let Some(before) = self.before.next() {
            self.forget(&before)?;
        }
        self.touched.sort_unstable();
        for at in self.touched.iter().rev() {
            let entry = &self.after[*at];
            let dir = self.mirror.root().dir(&entry.path)?.readable()?;
            let set = rustix::fs::futimens(&dir, &times(entry));
            set.map_err(|errno| RootError::new("utimens", &entry.path, errno))?;
        }
        self.mirror.settle(self.after, self.changed);
        Ok(())
    }
}

/// Owner, mode and attributes of a new file in a directory of `group`.
fn dress_file(here: &Dir, file: &File, entry: &Entry, group: u32) -> Result<()> {
    let failed = |op| move |errno| RootError::new(op, &entry.path, errno);
    // What root makes is root's already, if the directory does not give it to a group.
    let is_own = || rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
    if (entry.uid, entry.gid, group) != (0, 0, 0) || !is_own() {
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::fchown(file, uid, gid).map_err(failed("chown"))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed("chmod"))?;
    if entry.attributes.is_empty() { Ok(()) } else { attributes(here, entry) }
}

/// The last of a file: its times.
fn end(file: &File, entry: &Entry) -> Result<()> {
    let set = rustix::fs::futimens(file.as_fd(), &times(entry));
    Ok(set.map_err(|errno| RootError::new("utimens", &entry.path, errno))?)
}

/// Owner, mode and attributes.
fn dress(here: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
    here.chown(name, entry.uid, entry.gid)?;
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        here.chmod(name, entry.mode)?;
    }
    if entry.attributes.is_empty() { Ok(()) } else { attributes(here, entry) }
}

fn attributes(here: &Dir, entry: &Entry) -> Result<()> {
    let name = OsStr::new(&entry.path[entry.path.rfind('/').map_or(0, |slash| slash + 1)..]);
    let file = here.open(name, OFlags::PATH)?;
    // The handle's own name under /proc: no path is looked up again.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for (attribute, value) in &entry.attributes {
        let set = rustix::fs::setxattr(&path, attribute.as_str(), value, XattrFlags::empty());
        match set {
            // Links carry none, and a disk may know fewer kinds than the client's.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) | Ok(()) => {}
            Err(errno) => return Err(RootError::new("setxattr", &entry.path, errno).into()),
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.modified.div_euclid(1_000_000_000),
        tv_nsec: entry.modified.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(here: &Dir, name: &OsStr, entry: &Entry) -> Result<()> {
    let times = times(entry);
    Ok(here.set_times(name, times.last_access, times.last_modification)?)
}

#[cfg(test)]
mod tests;
