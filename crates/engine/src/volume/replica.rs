//! A tree once more: owners, modes, times, attributes, hard links, holes and all.
//!
//! Contents are shared with the original where the file system can do that (`FICLONE`: btrfs, xfs), which also is one
//! moment of each file; elsewhere they are copied, and a file that changed meanwhile is copied again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, SeekFrom, Stat, Timespec};
use rustix::io::Errno;
use wharf_sys::root::{Dir, Root, RootError};

type Result<T> = std::result::Result<T, RootError>;

/// How often a file that changes is copied again.
const ATTEMPTS: usize = 3;

/// One copy in progress.
pub(super) struct Replica {
    top: Root,
    /// Who everything belongs to, where that is not the original's owner.
    owner: Option<(u32, u32)>,
    /// Files with several names, by device and inode: where the first was put.
    links: BTreeMap<(u64, u64), PathBuf>,
    /// Files that went on changing while they were copied.
    pub(super) torn: u64,
    /// Files whose content is shared with the original.
    pub(super) shared: u64,
}

impl Replica {
    pub(super) fn new(into: &Dir, owner: Option<(u32, u32)>) -> Result<Self> {
        Ok(Self { top: into.try_clone()?.into_root(), owner, links: BTreeMap::new(), torn: 0, shared: 0 })
    }

    /// Copies all that is in `from` into `into`.
    pub(super) fn copy(&mut self, from: &Dir, into: &Dir) -> Result<()> {
        self.directory(from, into, Path::new(""))
    }

    fn directory(&mut self, from: &Dir, into: &Dir, path: &Path) -> Result<()> {
        for entry in from.entries()? {
            match self.member(from, into, &entry.name, path) {
                // Files of a tree in use come and go.
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn member(&mut self, from: &Dir, into: &Dir, name: &OsStr, path: &Path) -> Result<()> {
        let stat = from.stat(name)?;
        let path = path.join(name);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                into.mkdir(name, 0o700)?;
                self.directory(&from.dir(name)?, &into.dir(name)?, &path)?;
            }
            FileType::RegularFile if self.linked(into, name, &stat, &path)? => return Ok(()),
            FileType::RegularFile => self.file(from, into, name)?,
            FileType::Symlink => into.symlink(name, &from.read_link(name)?)?,
            // Nobody listens on a copied socket.
            FileType::Socket | FileType::Unknown => return Ok(()),
            kind => {
                let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                into.mknod(name, kind, stat.st_mode & 0o7777, device)?;
            }
        }
        attributes(from, into, name)?;
        finish(into, name, &stat, self.owner)
    }

    /// Whether this is a further name of a file that was copied already, which it then gets.
    fn linked(&mut self, into: &Dir, name: &OsStr, stat: &Stat, path: &Path) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, path.to_owned());
            return Ok(false);
        };
        let Some((dir, old)) = self.top.parent(first)? else { return Ok(false) };
        into.link(name, &dir, &old)?;
        Ok(true)
    }

    fn file(&mut self, from: &Dir, into: &Dir, name: &OsStr) -> Result<()> {
        let failed = |errno| RootError::new("copy", name, errno);
        let source = File::from(from.open(name, OFlags::RDONLY | OFlags::NOFOLLOW)?);
        let target = into.create_file(name, 0o600)?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            self.shared += 1;
            return Ok(());
        }
        let moment = || {
            let stat = rustix::fs::fstat(&source).map_err(failed)?;
            Ok::<_, RootError>((
                stat.st_size,
                stat.st_mtime,
                stat.st_mtime_nsec,
                stat.st_ctime,
                stat.st_ctime_nsec,
            ))
        };
        for _ in 0..ATTEMPTS {
            let before = moment()?;
            rustix::fs::ftruncate(&target, 0).map_err(failed)?;
            content(&source, &target).map_err(failed)?;
            if moment()? == before {
                return Ok(());
            }
        }
        self.torn += 1;
        Ok(())
    }
}

/// Copies what a file has, and leaves its holes.
fn content(source: &File, target: &File) -> std::result::Result<(), Errno> {
    let size = rustix::fs::fstat(source)?.st_size.cast_unsigned();
    let mut at = 0;
    while at < size {
        let (start, end) = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => (start, rustix::fs::seek(source, SeekFrom::Hole(start))?),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL) => (at, size),
            Err(errno) => return Err(errno),
        };
        piece(source, target, start, end)?;
        at = end.max(at + 1);
    }
    rustix::fs::ftruncate(target, size)
}

fn piece(source: &File, target: &File, start: u64, end: u64) -> std::result::Result<(), Errno> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            // It was cut short meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return through_memory(source, target, from, end);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn through_memory(source: &File, target: &File, mut at: u64, end: u64) -> std::result::Result<(), Errno> {
    use std::os::unix::fs::FileExt;
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut buffer = vec![0; 128 << 10];
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = source.read_at(&mut buffer[..length], at).map_err(failed)?;
        if got == 0 {
            return Ok(());
        }
        target.write_all_at(&buffer[..got], at).map_err(failed)?;
        at += got as u64;
    }
    Ok(())
}

fn attributes(from: &Dir, into: &Dir, name: &OsStr) -> Result<()> {
    for attribute in from.list_xattrs(name)? {
        // Those of the overlay itself mean nothing outside it.
        if attribute.to_string_lossy().starts_with("trusted.overlay.") {
            continue;
        }
        if let Some(value) = from.get_xattr(name, &attribute)? {
            match into.set_xattr(name, &attribute, &value) {
                Err(error) if error.errno() == rustix::io::Errno::OPNOTSUPP => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// Owner, then mode (a change of owner clears set-id bits), then times.
pub(super) fn finish(dir: &Dir, name: &OsStr, stat: &Stat, owner: Option<(u32, u32)>) -> Result<()> {
    let (user, group) = owner.unwrap_or((stat.st_uid, stat.st_gid));
    dir.chown(name, user, group)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        dir.chmod(name, stat.st_mode & 0o7777)?;
    }
    let time =
        |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    dir.set_times(name, time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let big = File::create(dir.path().join("a/big")).unwrap();
        big.write_all_at(b"start", 0).unwrap();
        big.write_all_at(b"middle", 8 << 20).unwrap();
        big.set_len(64 << 20).unwrap();
        let open = |name: &str| Root::open(dir.path().join(name)).unwrap().top().unwrap();
        let (from, into) = (open("a"), open("b"));
        let mut replica = Replica::new(&into, None).unwrap();
        replica.copy(&from, &into).unwrap();
        let copied = dir.path().join("b/big");
        assert!(std::fs::read(dir.path().join("a/big")).unwrap() == std::fs::read(&copied).unwrap());
        assert!(copied.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(replica.torn, 0);
    }
}
