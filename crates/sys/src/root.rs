//! A directory tree that somebody else may control, worked on without ever leaving it.
//!
//! [`Root`] resolves paths with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: the kernel treats the root as `/`
//! for every `..` and symbolic link on the way, whatever is swapped meanwhile. What it hands out are [`Dir`]s,
//! whose operations take one name (never a path) and never follow a link in that name's place. Together
//! they leave no path string that a later call could resolve differently.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::describe;

/// How often a lookup is tried again when a rename elsewhere made the kernel give up (`EAGAIN`, see openat2(2)).
const LOOKUP_TRIES: u32 = 128;

/// A call that failed, in the words of strace: what was done, to which path, why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} {}: {}", path.display(), describe(*errno))]
pub struct RootError {
    op: &'static str,
    path: PathBuf,
    errno: Errno,
}

impl RootError {
    /// An error of `op` on `path`, for calls that another crate makes on this crate's descriptors.
    pub fn new(op: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self { op, path: path.as_ref().to_owned(), errno }
    }

    /// The kernel's reason.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The path as the caller gave it, relative to the root or directory it was looked up in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing is there (`ENOENT`).
    pub fn is_not_found(&self) -> bool {
        self.errno == Errno::NOENT
    }
}

impl From<RootError> for io::Error {
    fn from(error: RootError) -> Self {
        Self::new(Self::from(error.errno).kind(), error)
    }
}

/// Result of an operation in a tree.
pub type Result<T> = std::result::Result<T, RootError>;

/// One entry of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, a single component.
    pub name: OsString,
    /// Its type; asked from the kernel where the file system does not list types.
    pub kind: FileType,
}

/// The root of a tree; every lookup stays inside.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory of the host, by a path that the caller trusts.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(|fd| Self { fd })
            .map_err(|errno| RootError::new("open", path, errno))
    }

    /// Takes a directory's descriptor (`O_PATH` is enough) as the root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A second handle on the same root.
    pub fn try_clone(&self) -> Result<Self> {
        duplicate(&self.fd).map(|fd| Self { fd })
    }

    /// The root itself as a directory.
    pub fn top(&self) -> Result<Dir> {
        self.dir("")
    }

    /// Opens what `path` names, all links followed inside the root. With `O_NOFOLLOW` the last component is not
    /// followed. A leading `/` and an empty path both mean the root.
    pub fn open_at(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut errno = Errno::AGAIN;
        for _ in 0..LOOKUP_TRIES {
            match rustix::fs::openat2(&self.fd, name, flags | OFlags::CLOEXEC, mode, resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(other) => {
                    errno = other;
                    break;
                }
            }
        }
        Err(RootError::new("open", path, errno))
    }

    /// The directory at `path`, links followed inside the root.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Dir> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map(Dir::from_fd)
    }

    /// A regular file for reading, links followed inside the root. Anything else (FIFO, device) is refused with
    /// `EINVAL`, and opening never blocks.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        // The type is looked at before the real open, because opening a device alone can have effects; the handle's
        // name under /proc then opens that very file, whatever the path leads to by now.
        let handle = self.open_at(path, OFlags::PATH, Mode::empty())?;
        let stat = fstat(&handle, path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RootError::new("open", path, Errno::INVAL));
        }
        rustix::fs::openat(CWD, proc_path(handle.as_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|errno| RootError::new("open", path, errno))
    }

    /// The content of a regular file of at most `limit` bytes; a larger one fails with `EFBIG`.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let mut content = Vec::new();
        self.open_file(path)?.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(|error| {
            RootError::new("read", path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        if content.len() as u64 > limit {
            return Err(RootError::new("read", path, Errno::FBIG));
        }
        Ok(content)
    }

    /// The directory that holds `path`'s last component, and that component. `None` when the path is the root itself.
    /// A trailing `/` or `.` is ignored; a trailing `..` is resolved by the kernel and so has no last component either.
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<Option<(Dir, OsString)>> {
        let path = path.as_ref();
        match path.components().next_back() {
            Some(Component::Normal(name)) => {
                let parent = path.parent().unwrap_or(Path::new(""));
                Ok(Some((self.dir(parent)?, name.to_owned())))
            }
            Some(Component::ParentDir) => Err(RootError::new("resolve", path, Errno::INVAL)),
            _ => Ok(None),
        }
    }

    /// The state of what `path` names; the last component is not followed.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        fstat(self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?, path)
    }

    /// The state of what `path` names, links followed inside the root.
    pub fn stat_follow(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let path = path.as_ref();
        fstat(self.open_at(path, OFlags::PATH, Mode::empty())?, path)
    }

    /// Whether something is at `path` (a dangling link counts).
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok()
    }

    /// Makes `path` and its missing parents with `mode`, owned by the caller; what exists is kept. A dangling link on
    /// the way is an error, not something to create behind.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let path = path.as_ref();
        if let Ok(dir) = self.dir(path) {
            return Ok(dir);
        }
        // Mostly only the last directory is missing.
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = self.dir(parent)
            && parent.mkdir(name, mode).is_ok()
        {
            parent.chmod(name, mode)?;
            return self.dir(path);
        }
        let mut reached = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    reached.push("..");
                }
                continue;
            };
            let parent = self.dir(&reached)?;
            reached.push(name);
            match parent.mkdir(name, mode) {
                Ok(()) => parent.chmod(name, mode)?,
                Err(error) if error.errno() == Errno::EXIST => {}
                Err(error) => return Err(RootError::new("mkdir", &reached, error.errno())),
            }
        }
        self.dir(path)
    }

    /// Where `path` leads, as an absolute path inside the root without links, `.` and `..`; everything must exist.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let name = |fd: BorrowedFd<'_>| {
            rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())
                .map(|link| PathBuf::from(OsStr::from_bytes(link.as_bytes())))
                .map_err(|errno| RootError::new("resolve", path, errno))
        };
        let found = name(self.open_at(path, OFlags::PATH, Mode::empty())?.as_fd())?;
        let top = name(self.fd.as_fd())?;
        match found.strip_prefix(&top) {
            Ok(inner) => Ok(Path::new("/").join(inner)),
            // Moved or unmounted while looked at.
            Err(_) => Err(RootError::new("resolve", path, Errno::NOENT)),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory of a tree. Every operation takes a single name and acts on that directory's own entry: links are not followed.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Takes a directory's descriptor; `O_PATH` is enough.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A second handle on the same directory.
    pub fn try_clone(&self) -> Result<Self> {
        duplicate(&self.fd).map(|fd| Self { fd })
    }

    /// This directory as the root of lookups.
    pub fn into_root(self) -> Root {
        Root { fd: self.fd }
    }

    /// Opens an entry. A link in its place fails with `ELOOP` unless `flags` has `O_PATH`.
    pub fn open(&self, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
        self.open_mode("open", name, flags, Mode::empty())
    }

    fn open_mode(&self, op: &'static str, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        single(name, op)?;
        rustix::fs::openat(&self.fd, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
            .map_err(|errno| RootError::new(op, name, errno))
    }

    /// Opens a directory in it.
    pub fn dir(&self, name: &OsStr) -> Result<Self> {
        self.open(name, OFlags::PATH | OFlags::DIRECTORY).map(Self::from_fd)
    }

    /// This directory opened for reading (and `fchown` and the like), which an `O_PATH` handle does not allow.
    pub fn readable(&self) -> Result<OwnedFd> {
        rustix::fs::openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| RootError::new("open", ".", errno))
    }

    /// Makes a new file, open for writing; fails when anything is there.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_mode("create", name, flags, Mode::from_raw_mode(mode & 0o7777)).map(File::from)
    }

    /// Makes a directory; the process's umask applies to `mode`.
    pub fn mkdir(&self, name: &OsStr, mode: u32) -> Result<()> {
        single(name, "mkdir")?;
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| RootError::new("mkdir", name, errno))
    }

    /// Makes a symbolic link; its target is data, not looked at.
    pub fn symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        single(name, "symlink")?;
        rustix::fs::symlinkat(target, &self.fd, name).map_err(|errno| RootError::new("symlink", name, errno))
    }

    /// Makes `name` a hard link to `from`'s entry `old`; a link there is linked itself, not followed.
    pub fn link(&self, name: &OsStr, from: &Self, old: &OsStr) -> Result<()> {
        single(name, "link")?;
        single(old, "link")?;
        rustix::fs::linkat(&from.fd, old, &self.fd, name, AtFlags::empty())
            .map_err(|errno| RootError::new("link", name, errno))
    }

    /// Makes a device, FIFO or socket node.
    pub fn mknod(&self, name: &OsStr, kind: FileType, mode: u32, device: (u32, u32)) -> Result<()> {
        single(name, "mknod")?;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(&self.fd, name, kind, mode, rustix::fs::makedev(device.0, device.1))
            .map_err(|errno| RootError::new("mknod", name, errno))
    }

    /// Removes an entry that is not a directory.
    pub fn unlink(&self, name: &OsStr) -> Result<()> {
        self.unlink_with(name, "unlink", AtFlags::empty())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &OsStr) -> Result<()> {
        self.unlink_with(name, "rmdir", AtFlags::REMOVEDIR)
    }

    fn unlink_with(&self, name: &OsStr, op: &'static str, flags: AtFlags) -> Result<()> {
        single(name, op)?;
        rustix::fs::unlinkat(&self.fd, name, flags).map_err(|errno| RootError::new(op, name, errno))
    }

    /// Removes an entry and, when it is a directory, all below it.
    pub fn remove_all(&self, name: &OsStr) -> Result<()> {
        match self.unlink(name) {
            Err(error) if error.errno() == Errno::ISDIR || error.errno() == Errno::PERM => {}
            done => return done,
        }
        self.dir(name)?.clear()?;
        self.rmdir(name)
    }

    /// Removes everything in the directory.
    pub fn clear(&self) -> Result<()> {
        for entry in self.entries()? {
            match self.remove_all(&entry.name) {
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// The directory's entries, sorted by name, without `.` and `..`.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let listing =
            rustix::fs::Dir::new(self.readable()?).map_err(|errno| RootError::new("list", ".", errno))?;
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|errno| RootError::new("list", ".", errno))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.stat(name) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
                kind => kind,
            };
            entries.push(Entry { name: name.to_owned(), kind });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The state of an entry.
    pub fn stat(&self, name: &OsStr) -> Result<Stat> {
        single(name, "stat")?;
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| RootError::new("stat", name, errno))
    }

    /// The directory's own state.
    pub fn stat_self(&self) -> Result<Stat> {
        fstat(&self.fd, Path::new("."))
    }

    /// A symbolic link's target.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString> {
        single(name, "readlink")?;
        rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map(|target| OsStr::from_bytes(target.as_bytes()).to_owned())
            .map_err(|errno| RootError::new("readlink", name, errno))
    }

    /// Changes the owner of an entry; a link's own owner, where it is one.
    pub fn chown(&self, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
        single(name, "chown")?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&self.fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| RootError::new("chown", name, errno))
    }

    /// Changes an entry's mode. A link has none: `EOPNOTSUPP`.
    pub fn chmod(&self, name: &OsStr, mode: u32) -> Result<()> {
        // fchmodat2 came with 6.6. Before, a handle and its name under /proc do the same: the handle
        // cannot be exchanged.
        let handle = self.open(name, OFlags::PATH)?;
        if FileType::from_raw_mode(fstat(&handle, Path::new(name))?.st_mode) == FileType::Symlink {
            return Err(RootError::new("chmod", name, Errno::OPNOTSUPP));
        }
        rustix::fs::chmod(proc_path(handle.as_fd()), Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| RootError::new("chmod", name, errno))
    }

    /// Sets an entry's times (seconds and nanoseconds since 1970), a link's own where it is one.
    pub fn set_times(&self, name: &OsStr, access: Timespec, modified: Timespec) -> Result<()> {
        single(name, "utimens")?;
        let times = Timestamps { last_access: access, last_modification: modified };
        rustix::fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| RootError::new("utimens", name, errno))
    }

    /// Renames an entry within the directory, replacing what a file may replace.
    pub fn rename(&self, old: &OsStr, new: &OsStr) -> Result<()> {
        single(old, "rename")?;
        single(new, "rename")?;
        rustix::fs::renameat(&self.fd, old, &self.fd, new)
            .map_err(|errno| RootError::new("rename", old, errno))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A descriptor's name under /proc, for the calls that refuse `O_PATH` handles.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A name is one component and not `.` or `..`: the invariant on which all of `Dir` stands.
pub(crate) fn single(name: &OsStr, op: &'static str) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(RootError::new(op, name, Errno::INVAL));
    }
    Ok(())
}

fn fstat(fd: impl AsFd, path: &Path) -> Result<Stat> {
    rustix::fs::fstat(fd).map_err(|errno| RootError::new("stat", path, errno))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|errno| RootError::new("dup", ".", errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn links_and_dotdot_stay_inside() {
        let (dir, root) = tree();
        symlink("/secret", dir.path().join("root/abs")).unwrap();
        symlink("../../../secret", dir.path().join("root/up")).unwrap();
        for path in ["abs", "up", "../secret", "/../secret"] {
            assert!(root.read(path, 100).unwrap_err().is_not_found(), "{path}");
        }
        std::fs::write(dir.path().join("root/secret"), "inside").unwrap();
        for path in ["abs", "up", "../secret"] {
            assert_eq!(root.read(path, 100).unwrap(), b"inside");
        }
    }

    #[test]
    fn magic_links_are_refused() {
        let proc = Root::open("/proc").unwrap();
        assert_eq!(proc.open_at("self/root", OFlags::PATH, Mode::empty()).unwrap_err().errno(), Errno::LOOP);
    }

    #[test]
    fn reads_are_bounded_and_only_of_files() {
        let (dir, root) = tree();
        std::fs::write(dir.path().join("root/big"), [b'x'; 11]).unwrap();
        assert_eq!(root.read("big", 10).unwrap_err().errno(), Errno::FBIG);
        assert_eq!(root.read("big", 11).unwrap().len(), 11);
        root.top().unwrap().mknod(OsStr::new("fifo"), FileType::Fifo, 0o600, (0, 0)).unwrap();
        assert_eq!(root.read("fifo", 10).unwrap_err().errno(), Errno::INVAL);
    }

    #[test]
    fn names_are_single_components() {
        let (_dir, root) = tree();
        let top = root.top().unwrap();
        for name in ["", ".", "..", "a/b", "/a"] {
            assert_eq!(top.mkdir(OsStr::new(name), 0o755).unwrap_err().errno(), Errno::INVAL, "{name}");
        }
    }

    #[test]
    fn entry_operations_do_not_follow_links() {
        let (dir, root) = tree();
        let secret = dir.path().join("secret");
        let before = std::fs::metadata(&secret).unwrap();
        symlink(&secret, dir.path().join("root/link")).unwrap();
        let (top, link) = (root.top().unwrap(), OsStr::new("link"));
        assert_eq!(top.open(link, OFlags::RDONLY).unwrap_err().errno(), Errno::LOOP);
        assert_eq!(top.chmod(link, 0o777).unwrap_err().errno(), Errno::OPNOTSUPP);
        top.chown(link, 7, 7).unwrap();
        assert_eq!(top.stat(link).unwrap().st_uid, 7);
        top.remove_all(link).unwrap();
        let after = std::fs::metadata(&secret).unwrap();
        assert_eq!(before.permissions(), after.permissions());
    }

    #[test]
    fn directories_are_made_inside_and_canonical_paths_are_inner() {
        let (dir, root) = tree();
        symlink("/real", dir.path().join("root/alias")).unwrap();
        assert!(root.create_dir_all("alias/x", 0o755).is_err());
        root.create_dir_all("real", 0o750).unwrap();
        root.create_dir_all("/alias/x/../y", 0o711).unwrap();
        assert_eq!(root.canonicalize("alias/y").unwrap(), Path::new("/real/y"));
        assert_eq!(root.canonicalize("/").unwrap(), Path::new("/"));
        assert_eq!(root.stat("real/y").unwrap().st_mode & 0o777, 0o711);
    }

    #[test]
    fn errors_read_like_strace() {
        let (_dir, root) = tree();
        assert_eq!(
            root.read("etc/passwd", 1).unwrap_err().to_string(),
            "open etc/passwd: no such file or directory"
        );
    }
}
