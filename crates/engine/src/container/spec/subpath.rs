//! A place inside a volume or an image, reached without leaving it: containers decide what is in there.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A directory inside a volume, reached without leaving it: its content belongs to containers.
pub(crate) fn below(base: &Path, subpath: &str) -> Result<PathBuf> {
    if subpath.is_empty() {
        return Ok(base.to_owned());
    }
    let found = descend(&[base.to_owned()], Path::new(subpath))?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// So many links one after the other lead nowhere, as for the kernel.
const LINKS: usize = 40;

/// What a path is in each of the layers that show it, the topmost first: a directory of several, or one file. Links on
/// the way are followed as long as they stay inside.
pub(super) fn descend(layers: &[PathBuf], subpath: &Path) -> Result<Vec<PathBuf>> {
    let refuse = |why: &str| {
        let path = layers.first().map(|layer| layer.join(subpath)).unwrap_or_default();
        let path = path.display();
        Error::not_found(format!("cannot access path {path}: lstat {path}: {why}"))
    };
    let escapes = || {
        let subpath = subpath.display();
        Error::invalid(format!("path concatenation escapes the base directory, subpath: {subpath}"))
    };
    let mut path = flat(Path::new(""), subpath.strip_prefix("/").unwrap_or(subpath)).ok_or_else(escapes)?;
    for _ in 0..=LINKS {
        match walk(layers, &path) {
            Walked::Nothing => return Err(refuse("no such file or directory")),
            Walked::Shown(shown) => return Ok(shown),
            Walked::Link { at, target } => {
                let rest: PathBuf = path.iter().skip(at + 1).collect();
                let before: PathBuf = path.iter().take(at).collect();
                path = flat(&before, &target.join(rest)).ok_or_else(escapes)?;
            }
        }
    }
    Err(refuse("too many levels of symbolic links"))
}

/// `path` below `base` without `.` and `..`; none: it leads out.
fn flat(base: &Path, path: &Path) -> Option<PathBuf> {
    let mut flat = base.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => flat.push(name),
            Component::CurDir => {}
            Component::ParentDir if flat.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(flat)
}

/// Whether a path is a directory, seen without following links.
pub(crate) fn is_directory(layers: &[PathBuf], path: &Path) -> bool {
    let Some(path) = flat(Path::new(""), path) else { return false };
    matches!(walk(layers, &path), Walked::Shown(shown) if shown.first().is_some_and(|top| top.is_dir()))
}

/// How far a path leads.
enum Walked {
    Nothing,
    Shown(Vec<PathBuf>),
    /// Its part number `at` is a link.
    Link {
        at: usize,
        target: PathBuf,
    },
}

/// The layers' own marks decide, as for the kernel: a whiteout or something else of that name hides what is below, and
/// so does a directory marked opaque.
fn walk(layers: &[PathBuf], path: &Path) -> Walked {
    let mut shown = layers.to_vec();
    let last = path.iter().count().saturating_sub(1);
    for (at, name) in path.iter().enumerate() {
        let mut next = Vec::new();
        for path in shown.iter().map(|layer| layer.join(name)) {
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            let kind = metadata.file_type();
            let whiteout = kind.is_char_device() && metadata.rdev() == 0;
            if kind.is_dir() {
                let opaque = is_opaque(&path);
                next.push(path);
                if !opaque {
                    continue;
                }
            } else if kind.is_symlink() && next.is_empty() {
                return std::fs::read_link(&path)
                    .map_or(Walked::Nothing, |target| Walked::Link { at, target });
            } else if !whiteout && next.is_empty() && at == last {
                next.push(path);
            }
            break;
        }
        shown = next;
    }
    if shown.is_empty() { Walked::Nothing } else { Walked::Shown(shown) }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|length| length == 1)
        && value == *b"y"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_all_layers_that_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["top", "middle", "base"].map(|name| dir.path().join(name)).to_vec();
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        for path in
            ["top/etc/x", "middle/etc/x", "base/etc/x/deep", "base/gone", "top", "middle/over", "base/over"]
        {
            make(path);
        }
        std::fs::write(dir.path().join("base/etc/file"), "f").unwrap();
        let device = rustix::fs::makedev(0, 0);
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("top/gone"), kind, mode, device).unwrap();
        let (opaque, name) = (dir.path().join("middle/over"), "trusted.overlay.opaque");
        rustix::fs::setxattr(&opaque, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let found = |path: &str| descend(&layers, Path::new(path));
        assert_eq!(found("/etc/x").unwrap().len(), 3);
        assert_eq!(found("etc/x/deep").unwrap(), [dir.path().join("base/etc/x/deep")]);
        assert_eq!(found("etc/file").unwrap(), [dir.path().join("base/etc/file")]);
        assert_eq!(found("over").unwrap(), [opaque]);
        for missing in ["gone", "nothing", "etc/file/x"] {
            assert!(found(missing).unwrap_err().message().starts_with("cannot access path"), "{missing}");
        }
    }

    #[test]
    fn a_subpath_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        assert_eq!(below(dir.path(), "in").unwrap(), dir.path().join("in"));
        std::os::unix::fs::symlink("in/../in", dir.path().join("again")).unwrap();
        assert_eq!(below(dir.path(), "again").unwrap(), dir.path().join("in"));
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        for (path, why) in [
            ("out", "path concatenation escapes"),
            ("../x", "path concatenation escapes"),
            ("round", "cannot"),
        ] {
            let error = below(dir.path(), path).unwrap_err();
            assert!(error.message().starts_with(why), "{error}");
        }
    }
}
