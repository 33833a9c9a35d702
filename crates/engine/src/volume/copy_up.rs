//! Filling an empty volume with what the image has in its place.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat, Timespec};
use wharf_sys::root::{Dir, Root, RootError};

use crate::container::spec::points::{Kind, Point};
use crate::error::{Error, Result};

/// Copies into each empty volume among `points` that wants it what the container's root file system has at its
/// destination: owners, modes, times, attributes and hard links included. Sleeps in the kernel.
///
/// # Errors
/// `copy DESTINATION into volume NAME: …`.
pub fn copy_up(root: &Root, points: &[Point]) -> Result<()> {
    for point in points.iter().filter(|point| point.kind == Kind::Volume && point.copy) {
        fill(root, point).map_err(|error| {
            Error::internal(format!("copy {} into volume {}: {error}", point.destination, point.name))
        })?;
    }
    Ok(())
}

fn fill(root: &Root, point: &Point) -> std::result::Result<(), RootError> {
    let from = match root.dir(point.destination.trim_start_matches('/')) {
        Ok(from) => from,
        // Nothing is there, or a file, which is simply hidden.
        Err(error) if error.is_not_found() || error.errno() == rustix::io::Errno::NOTDIR => return Ok(()),
        Err(error) => return Err(error),
    };
    let target = Path::new(&point.source);
    let (Some(holder), Some(name)) = (target.parent(), target.file_name()) else { return Ok(()) };
    let holder = Root::open(holder)?.top()?;
    let into = holder.dir(name)?;
    if !into.entries()?.is_empty() {
        return Ok(());
    }
    let mut copy = Copy { top: into.try_clone()?.into_root(), links: BTreeMap::new() };
    copy.directory(&from, &into, Path::new(""))?;
    finish(&holder, name, &from.stat_self()?)
}

/// One copy in progress.
struct Copy {
    top: Root,
    /// Files with several names, by device and inode: where the first was put.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn directory(&mut self, from: &Dir, into: &Dir, path: &Path) -> std::result::Result<(), RootError> {
        for entry in from.entries()? {
            let name = entry.name.as_os_str();
            let stat = from.stat(name)?;
            let path = path.join(name);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    into.mkdir(name, 0o700)?;
                    self.directory(&from.dir(name)?, &into.dir(name)?, &path)?;
                }
                FileType::RegularFile if self.linked(into, name, &stat, &path)? => continue,
                FileType::RegularFile => file(from, into, name)?,
                FileType::Symlink => into.symlink(name, &from.read_link(name)?)?,
                // Nobody listens on a copied socket.
                FileType::Socket | FileType::Unknown => continue,
                kind => {
                    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                    into.mknod(name, kind, stat.st_mode & 0o7777, device)?;
                }
            }
            attributes(from, into, name)?;
            finish(into, name, &stat)?;
        }
        Ok(())
    }

    /// Whether this is a further name of a file that was copied already, which it then gets.
    fn linked(
        &mut self,
        into: &Dir,
        name: &OsStr,
        stat: &Stat,
        path: &Path,
    ) -> std::result::Result<bool, RootError> {
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
}

fn file(from: &Dir, into: &Dir, name: &OsStr) -> std::result::Result<(), RootError> {
    let mut source = File::from(from.open(name, OFlags::RDONLY | OFlags::NOFOLLOW)?);
    let mut target = into.create_file(name, 0o600)?;
    std::io::copy(&mut source, &mut target).map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        RootError::new("copy", name, errno)
    })?;
    Ok(())
}

fn attributes(from: &Dir, into: &Dir, name: &OsStr) -> std::result::Result<(), RootError> {
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
fn finish(dir: &Dir, name: &OsStr, stat: &Stat) -> std::result::Result<(), RootError> {
    dir.chown(name, stat.st_uid, stat.st_gid)?;
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn point(source: &Path) -> Point {
        Point {
            name: "v1".to_owned(),
            source: source.to_string_lossy().into_owned(),
            copy: true,
            ..Point::new(Kind::Volume, "/srv/data")
        }
    }

    #[test]
    fn an_empty_volume_is_filled_and_a_full_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (data, volume) = (dir.path().join("root/srv/data"), dir.path().join("v/_data"));
        std::fs::create_dir_all(data.join("sub")).unwrap();
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(data.join("sub/a"), "hello").unwrap();
        std::fs::set_permissions(data.join("sub/a"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        std::fs::hard_link(data.join("sub/a"), data.join("b")).unwrap();
        std::os::unix::fs::chown(&data, Some(7), Some(8)).unwrap();
        symlink("/etc/passwd", data.join("out")).unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        copy_up(&root, &[point(&volume)]).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("b")).unwrap(), "hello");
        let (a, b) = (volume.join("sub/a").metadata().unwrap(), volume.join("b").metadata().unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4755));
        assert_eq!(std::fs::read_link(volume.join("out")).unwrap(), Path::new("/etc/passwd"));
        let top = volume.metadata().unwrap();
        assert_eq!((top.uid(), top.gid()), (7, 8));
        std::fs::remove_file(volume.join("b")).unwrap();
        copy_up(&root, &[point(&volume)]).unwrap();
        assert!(!volume.join("b").exists());
    }

    #[test]
    fn an_image_cannot_make_it_read_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v/_data");
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::create_dir_all(dir.path().join("root/srv")).unwrap();
        symlink("/etc", dir.path().join("root/srv/data")).unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        copy_up(&root, &[point(&volume)]).unwrap();
        assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0);
    }
}
