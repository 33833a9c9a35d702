//! What a path in a container is, as `docker cp` wants to know it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use wharf_sys::root::{Root, RootError};

use super::{Failure, FailureKind};

/// How many links may be followed in one path, as Docker counts them.
const MAX_LINKS: usize = 255;

/// What a path is; its last component is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// The last component.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// The bits of Go's `os.FileMode`.
    pub mode: u32,
    /// Seconds since 1970 of the last change.
    pub seconds: i64,
    /// Nanoseconds on top.
    pub nanos: u32,
    /// Where a link leads, as far as that exists; empty for anything else.
    pub link_target: String,
}

impl PathStat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & GO_DIR != 0
    }
}

const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_PIPE: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR_DEVICE: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// A mode as Go's `os.FileMode` writes it.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => GO_DIR,
        FileType::Symlink => GO_SYMLINK,
        FileType::BlockDevice => GO_DEVICE,
        FileType::CharacterDevice => GO_DEVICE | GO_CHAR_DEVICE,
        FileType::Fifo => GO_PIPE,
        FileType::Socket => GO_SOCKET,
        _ => 0,
    };
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    let set = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go);
    set.fold(mode & 0o777 | kind, |all, bit| all | bit)
}

/// Looks at `path`.
pub(super) fn stat(root: &Root, path: &str) -> Result<PathStat, Failure> {
    let wrong = |error: RootError| lookup_failure(&error, path);
    let found = root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(wrong)?;
    let stat = rustix::fs::fstat(found)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    Ok(PathStat {
        name: base(path).to_owned(),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        link_target: if is_link { follow(root, path)?.to_string_lossy().into_owned() } else { String::new() },
    })
}

/// A failed lookup in the words of Go's `os.Lstat`.
pub(super) fn lookup_failure(error: &RootError, path: &str) -> Failure {
    let kind = if error.is_not_found() { FailureKind::NotFound } else { FailureKind::Failed };
    Failure { kind, message: format!("lstat {path}: {}", wharf_sys::error::describe(error.errno())) }
}

/// The last component as Go's `filepath.Base` sees it: `/` of the root, `.` of `/etc/.`.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ if path.is_empty() => ".",
        _ => "/",
    }
}

/// An absolute path without `.`, `..` and doubled slashes, except that an ending `/` or `/.` stays: the two say
/// that a link in that place is to be followed.
pub(super) fn absolute(path: &str) -> String {
    let mut clean: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                clean.pop();
            }
            name => clean.push(name),
        }
    }
    let ending = match path.rsplit('/').find(|part| !part.is_empty()) {
        Some(".") if clean.is_empty() => ".",
        Some(".") => "/.",
        Some(_) if path.ends_with('/') && !clean.is_empty() => "/",
        _ => "",
    };
    format!("/{}{ending}", clean.join("/"))
}

/// Where `path` leads, links followed inside the root, the rest taken as it is once something does not exist. Only for
/// showing: whoever works with a path opens it.
fn follow(root: &Root, path: &str) -> Result<PathBuf, Failure> {
    let mut done = PathBuf::from("/");
    let mut left: Vec<Vec<u8>> = parts(Path::new(path));
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        let next = done.join(OsStr::from_bytes(&part));
        let target = root.parent(&next).ok().flatten().and_then(|(dir, name)| dir.read_link(&name).ok());
        let Some(target) = target else {
            done = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Failure::failed(format!("evalSymlinksInScope: too many links in {path}")));
        }
        let target = Path::new(&target);
        if target.is_absolute() {
            done = PathBuf::from("/");
        }
        left.extend(parts(target));
    }
    Ok(done)
}

/// A path's components, the last one first.
fn parts(path: &Path) -> Vec<Vec<u8>> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

/// The directory `path` leads to, as an absolute path without links.
pub(super) fn resolve_dir(root: &Root, path: &str) -> Result<PathBuf, Failure> {
    let resolved = root.canonicalize(path).map_err(|error| match error.errno() {
        Errno::LOOP => Failure::failed("EvalSymlinks: too many links"),
        Errno::NOTDIR if !path.ends_with('/') => Failure::failed("not a directory"),
        _ => lookup_failure(&error, path),
    })?;
    let stat = root.stat(&resolved)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Failure::invalid("extraction point is not a directory"));
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o041_777), 2_148_532_735);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o100_644), 420);
        assert_eq!(go_mode(0o020_666), 0o666 | 1 << 26 | 1 << 21);
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, clean, last) in [
            ("/", "/", "/"),
            ("", "/", "/"),
            ("etc", "/etc", "etc"),
            ("/etc/", "/etc/", "etc"),
            ("/etc/.", "/etc/.", "."),
            ("/tmp/..", "/", "/"),
            ("//a/./b/../c", "/a/c", "c"),
            ("../../x", "/x", "x"),
            ("/.", "/.", "."),
        ] {
            assert_eq!(absolute(path), clean, "{path}");
            assert_eq!(base(clean), last, "{path}");
        }
    }

    #[test]
    fn links_are_followed_as_far_as_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let link =
            |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib")).unwrap();
        link("/nowhere/x", "broken");
        link("../../var", "up");
        link("up/lib", "two");
        link("loop", "loop");
        let root = Root::open(dir.path()).unwrap();
        for (path, target) in [("broken", "/nowhere/x"), ("up", "/var"), ("two", "/var/lib")] {
            assert_eq!(stat(&root, path).unwrap().link_target, target);
        }
        let error = stat(&root, "/loop").unwrap_err();
        assert_eq!(error.message, "evalSymlinksInScope: too many links in /loop");
        assert!(stat(&root, "/up/").unwrap().is_dir());
        assert_eq!(stat(&root, "/nope").unwrap_err().kind, FailureKind::NotFound);
    }
}
