//! Reading directories ahead of who tells of them: a tree is listed in order, and read by as many threads as the machine
//! has processors for.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::fsutil::types::Stat;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::walk::{Wanted, go};

/// The entries that are read and not told yet, at most, beyond those of the directories being read.
const MOST: usize = 16 * 1024;
/// The threads that read, at most, beside the one that tells.
const HELPERS: usize = 3;

/// An entry that may have to be told.
pub(super) enum Found {
    /// No directory; with the number of its inode where that has more names.
    File(Stat, Option<(u64, u64)>),
    /// A directory; whether it is wanted itself; what is in it.
    Directory(Stat, bool, Arc<Below>),
}

/// What is in a directory.
pub(super) struct Below {
    path: String,
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    /// Nobody reads it yet.
    Waiting,
    /// Somebody does, or did.
    Taken,
    Read(Listed),
}

type Listed = Result<Vec<Found>, String>;

/// A tree being read.
pub(super) struct Ahead<'a> {
    root: &'a Path,
    top: OwnedFd,
    wanted: &'a Wanted,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Directories in about the order in which they are told of.
    next: VecDeque<Arc<Below>>,
    /// Entries that are read and not told.
    ahead: usize,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values alone are put in and taken out.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Ahead<'a> {
    /// Begins to read what is wanted of `root`; `tell` gets what the top has in it.
    ///
    /// # Errors
    /// What `tell` fails with, or why the top cannot be read.
    pub(super) fn read<T>(
        root: &'a Path,
        wanted: &'a Wanted,
        tell: impl FnOnce(&Self, Vec<Found>) -> Result<T, String>,
    ) -> Result<T, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| format!("open {}: {}", root.display(), crate::error::reason(&error.into())))?;
        let ahead = Self { root, top, wanted, queue: Mutex::default(), changed: Condvar::new() };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            // Ends the helpers with this function, however it ends.
            let _closing = Closing(&ahead);
            for _ in 0..HELPERS.min(processors - 1) {
                let helper = std::thread::Builder::new().name("list".to_owned());
                // Without a helper more, who tells reads.
                if helper.spawn_scoped(scope, || ahead.help()).is_err() {
                    break;
                }
            }
            tell(&ahead, ahead.directory("")?)
        })
    }

    /// What is in a directory, read by now or here.
    pub(super) fn take(&self, below: &Below) -> Listed {
        let mut state = lock(&below.state);
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Waiting => {
                    drop(state);
                    return self.directory(&below.path);
                }
                State::Read(listed) => {
                    let mut queue = lock(&self.queue);
                    queue.ahead = queue.ahead.saturating_sub(listed.as_ref().map_or(0, Vec::len));
                    drop(queue);
                    self.changed.notify_one();
                    return listed;
                }
                State::Taken => state = below.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn help(&self) {
        while let Some(below) = self.next() {
            let mut state = lock(&below.state);
            if !matches!(*state, State::Waiting) {
                continue;
            }
            *state = State::Taken;
            drop(state);
            // Whoever waits for it reads it again and meets the same, should this thread not come to its end.
            let reading = Reading(&below);
            let listed = self.directory(&below.path);
            lock(&self.queue).ahead += listed.as_ref().map_or(0, Vec::len);
            reading.done(listed);
        }
    }

    fn next(&self) -> Option<Arc<Below>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if queue.ahead < MOST
                && let Some(below) = queue.next.pop_front()
            {
                return Some(below);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads a directory by its path below the top; one that is gone has nothing in it.
    fn directory(&self, path: &str) -> Listed {
        let failed = |doing: &str, error: Errno| self.failed(doing, path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let place = if path.is_empty() { "." } else { path };
        let dir = match rustix::fs::openat2(&self.top, place, flags, Mode::empty(), inside) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed("open", error)),
        };
        let mut dir = Dir::new(dir).map_err(|error| failed("read", error))?;
        let mut names: Vec<OsString> = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(|error| failed("read", error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        let dir = dir.fd().map_err(|error| failed("read", error))?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let Some(text) = name.to_str() else {
                return Err(format!("{}: the name is no UTF-8", self.root.join(path).join(&name).display()));
            };
            let inner = if path.is_empty() { text.to_owned() } else { format!("{path}/{text}") };
            found.extend(self.entry(dir, &name, inner)?);
        }
        self.announce(&found);
        Ok(found)
    }

    /// Lets helpers read the directories that are in one, before all others.
    fn announce(&self, found: &[Found]) {
        let mut queue = lock(&self.queue);
        let before = queue.next.len();
        for found in found.iter().rev() {
            if let Found::Directory(_, _, below) = found {
                queue.next.push_front(below.clone());
            }
        }
        let more = queue.next.len() - before;
        drop(queue);
        if more > 0 {
            self.changed.notify_all();
        }
    }

    /// An entry; `None`: neither it nor anything below it is wanted.
    fn entry(&self, dir: BorrowedFd<'_>, name: &OsStr, path: String) -> Result<Option<Found>, String> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed("stat", &path, error)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let has = self.wanted.has(&path);
        if kind != FileType::Directory {
            if !has || kind == FileType::Socket {
                return Ok(None);
            }
            let several = stat.st_nlink > 1 && kind == FileType::RegularFile;
            let inode = several.then_some((stat.st_dev, stat.st_ino));
            return Ok(Some(Found::File(self.describe(dir, name, path, &stat)?, inode)));
        }
        if !has && !self.wanted.may_have_below(&path) {
            return Ok(None);
        }
        let below = Below { path: path.clone(), state: Mutex::new(State::Waiting), changed: Condvar::new() };
        Ok(Some(Found::Directory(self.describe(dir, name, path, &stat)?, has, Arc::new(below))))
    }

    /// An entry as it is told. Owners are left out: who builds is nobody in the image.
    fn describe(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: String,
        stat: &rustix::fs::Stat,
    ) -> Result<Stat, String> {
        let bits = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
        let mut mode = stat.st_mode & 0o777;
        mode |= bits.iter().filter(|(bit, _)| stat.st_mode & bit != 0).map(|(_, go)| go).sum::<u32>();
        let mut entry = Stat { path, ..Stat::default() };
        entry.mod_time = stat.st_mtime * 1_000_000_000 + i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => mode |= go::DIRECTORY,
            FileType::Symlink => {
                mode |= go::SYMLINK;
                let target = rustix::fs::readlinkat(dir, name, Vec::new());
                let target = target.map_err(|error| self.failed("readlink", &entry.path, error))?;
                entry.linkname = String::from_utf8_lossy(CStr::to_bytes(&target)).into_owned();
            }
            FileType::CharacterDevice => mode |= go::DEVICE | go::CHARACTER,
            FileType::BlockDevice => mode |= go::DEVICE,
            FileType::Fifo => mode |= go::FIFO,
            _ => entry.size = stat.st_size,
        }
        if mode & go::DEVICE != 0 {
            entry.devmajor = i64::from(rustix::fs::major(stat.st_rdev));
            entry.devminor = i64::from(rustix::fs::minor(stat.st_rdev));
        }
        entry.mode = mode;
        if mode & go::SYMLINK == 0 {
            self.attributes(&mut entry);
        }
        Ok(entry)
    }

    /// The extended attributes; where there are none, one call tells.
    fn attributes(&self, entry: &mut Stat) {
        let place = self.root.join(&entry.path);
        let mut names = [0_u8; 4096];
        // What cannot be read is not sent, as with file systems that have none.
        let Ok(length) = rustix::fs::llistxattr(&place, &mut names[..]) else { return };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let portable = name.starts_with(b"user.") || name == b"security.capability";
            let mut value = vec![0_u8; 64 << 10];
            if portable
                && let Ok(length) = rustix::fs::lgetxattr(&place, OsStr::from_bytes(name), &mut value[..])
            {
                value.truncate(length);
                entry.xattrs.insert(String::from_utf8_lossy(name).into_owned(), value);
            }
        }
    }

    fn failed(&self, doing: &str, path: &str, error: Errno) -> String {
        let path: PathBuf = self.root.join(path);
        format!("{doing} {}: {}", path.display(), crate::error::reason(&error.into()))
    }
}

/// A directory that a helper reads.
struct Reading<'a>(&'a Below);

impl Reading<'_> {
    fn done(self, listed: Listed) {
        *lock(&self.0.state) = State::Read(listed);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Taken) {
            *state = State::Waiting;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

/// Ends the helpers.
struct Closing<'a, 'b>(&'b Ahead<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        lock(&self.0.queue).closed = true;
        self.0.changed.notify_all();
    }
}
