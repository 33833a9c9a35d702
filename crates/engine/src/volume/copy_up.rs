//! Filling an empty volume with what the image has in its place.

use std::path::Path;

use wharf_sys::root::{Root, RootError};

use super::Sources;
use super::replica::{self, Replica};
use crate::container::spec::points::{Kind, Point};
use crate::container::spec::subpath::below;
use crate::error::{Error, Result};

/// Copies into each empty volume among `points` that wants it what the container's root file system has at its
/// destination: owners, modes, times, attributes and hard links included. `sources`: where the volumes are. Sleeps in
/// the kernel.
///
/// # Errors
/// `copy DESTINATION into volume NAME: …`.
pub fn copy_up(root: &Root, points: &[Point], sources: &Sources) -> Result<()> {
    for point in points.iter().filter(|point| point.kind == Kind::Volume && point.copy) {
        let Some(base) = sources.get(&point.name) else { continue };
        // A place in it that is not there is told when it is to be mounted.
        let Ok(target) = below(base, &point.subpath) else { continue };
        fill(root, point, base, &target).map_err(|error| {
            Error::internal(format!("copy {} into volume {}: {error}", point.destination, point.name))
        })?;
    }
    Ok(())
}

/// Fills `target`, which others may write to when it is not all of the volume at `base`.
fn fill(root: &Root, point: &Point, base: &Path, target: &Path) -> std::result::Result<(), RootError> {
    let from = match root.dir(point.destination.trim_start_matches('/')) {
        Ok(from) => Some(from),
        // Nothing is there, or a file, which is simply hidden.
        Err(error) if error.is_not_found() || error.errno() == rustix::io::Errno::NOTDIR => None,
        Err(error) => return Err(error),
    };
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Ok(()) };
    let holder = match parent.strip_prefix(base) {
        Ok(inside) => Root::open(base)?.dir(inside)?,
        Err(_) => Root::open(parent)?.top()?,
    };
    let into = holder.dir(name)?;
    // What a new file system brings with it is not content.
    if into.entries()?.iter().any(|entry| entry.name != "lost+found") {
        return Ok(());
    }
    if let Some(from) = from {
        Replica::new(&into, point.owner)?.copy(&from, &into)?;
        replica::finish(&holder, name, &from.stat_self()?, point.owner)?;
    } else if let Some((user, group)) = point.owner {
        holder.chown(name, user, group)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn at(volume: &Path) -> Sources {
        [("v1".to_owned(), volume.to_owned())].into()
    }

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
        copy_up(&root, &[point(&volume)], &at(&volume)).unwrap();
        assert_eq!(std::fs::read_to_string(volume.join("b")).unwrap(), "hello");
        let (a, b) = (volume.join("sub/a").metadata().unwrap(), volume.join("b").metadata().unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4755));
        assert_eq!(std::fs::read_link(volume.join("out")).unwrap(), Path::new("/etc/passwd"));
        let top = volume.metadata().unwrap();
        assert_eq!((top.uid(), top.gid()), (7, 8));
        std::fs::remove_file(volume.join("b")).unwrap();
        copy_up(&root, &[point(&volume)], &at(&volume)).unwrap();
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
        copy_up(&root, &[point(&volume)], &at(&volume)).unwrap();
        assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0);
    }
}
