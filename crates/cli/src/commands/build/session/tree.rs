//! Reading the directories of a context: what is in each, as the protocol has it, by name.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::Stat;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::walk::{Wanted, go};

/// An entry that may have to be told.
pub(super) enum Found {
    /// No directory; with the number of its inode where that has more names.
    File(Stat, Option<(u64, u64)>),
    /// A directory; whether it is wanted itself.
    Directory(Stat, bool),
}

/// A tree.
pub(super) struct Tree<'a> {
    root: &'a Path,
    top: OwnedFd,
    wanted: &'a Wanted,
}

impl<'a> Tree<'a> {
    /// What is wanted of `root`.
    ///
    /// # Errors
    /// When it cannot be opened, in words for the user.
    pub(super) fn open(root: &'a Path, wanted: &'a Wanted) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|error| format!("open {}: {}", root.display(), crate::error::reason(&error.into())))?;
        Ok(Self { root, top, wanted })
    }

    /// Reads a directory by its path below the top; one that is gone has nothing in it.
    ///
    /// # Errors
    /// When it cannot be read, in words for the user.
    pub(super) fn directory(&self, path: &str) -> Result<Vec<Found>, String> {
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
        Ok(found)
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
        Ok(Some(Found::Directory(self.describe(dir, name, path, &stat)?, has)))
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
