//! Listing a tree in the order in which directories are brought over, for who sends one.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags, Stat};
use wharf_sys::root::{Dir, Root, RootError};

use super::entry::{Entry, EntryKind};
use crate::error::{Error, Result};

/// The files of one tree, at most.
const MOST: usize = 4_000_000;

/// Lists all files below `root`, under `prefix` (empty: the top), times no later than `latest` (seconds since 1970).
///
/// # Errors
/// Names that are not UTF-8, and trees that are too large.
pub fn list(root: &Root, prefix: &str, latest: Option<i64>) -> Result<Vec<Entry>> {
    let mut listed = Vec::new();
    if !prefix.is_empty() {
        let mut stat = root.stat("").map_err(|error| Error::internal(error.to_string()))?;
        stat.st_mode = 0o040_755;
        listed.push(entry(prefix.to_owned(), &stat, EntryKind::Directory, latest));
    }
    let top = root.top().map_err(|error| Error::internal(error.to_string()))?;
    let mut lister = Lister { latest, listed };
    lister.directory(&top, prefix)?;
    Ok(lister.listed)
}

/// The entries of one directory, by name.
///
/// # Errors
/// When it is none.
pub fn list_directory(root: &Root, path: &str) -> Result<Vec<Entry>> {
    let invalid = |error: RootError| Error::invalid(error.to_string());
    let dir = root.dir(path).map_err(invalid)?;
    let mut names: Vec<_> = dir.entries().map_err(invalid)?.into_iter().map(|entry| entry.name).collect();
    names.sort();
    let of = |name: &OsString| one(&dir, name, name.to_string_lossy().into_owned(), None);
    names.iter().filter_map(|name| of(name).transpose()).collect()
}

/// What a path is; the last component is not followed.
///
/// # Errors
/// When nothing is there.
pub fn stat(root: &Root, path: &str) -> Result<Entry> {
    let invalid = |error: RootError| Error::invalid(error.to_string());
    match root.parent(path).map_err(invalid)? {
        Some((dir, name)) => {
            let found = one(&dir, &name, name.to_string_lossy().into_owned(), None)?;
            found.ok_or_else(|| Error::invalid(format!("stat {path}: not a file")))
        }
        None => {
            let stat = root.stat("").map_err(invalid)?;
            Ok(entry("/".to_owned(), &stat, EntryKind::Directory, None))
        }
    }
}

/// An entry of a directory; `None`: what cannot be sent.
fn one(dir: &Dir, name: &OsStr, path: String, latest: Option<i64>) -> Result<Option<Entry>> {
    let internal = |error: RootError| Error::internal(error.to_string());
    let stat = dir.stat(name).map_err(internal)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => {
            let target = dir.read_link(name).map_err(internal)?;
            EntryKind::Symlink(target.to_string_lossy().into_owned())
        }
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => device(&stat, EntryKind::Character),
        FileType::BlockDevice => device(&stat, EntryKind::Block),
        _ => return Ok(None),
    };
    let mut entry = entry(path, &stat, kind, latest);
    if entry.kind == EntryKind::File {
        entry.attributes = attributes(dir, name);
    }
    Ok(Some(entry))
}

struct Lister {
    latest: Option<i64>,
    listed: Vec<Entry>,
}

impl Lister {
    fn directory(&mut self, dir: &Dir, path: &str) -> Result<()> {
        let internal = |error: RootError| Error::internal(error.to_string());
        let mut names: Vec<_> =
            dir.entries().map_err(internal)?.into_iter().map(|entry| entry.name).collect();
        // Within one directory this is the order of bytes.
        names.sort();
        for name in names {
            let text = name.to_str().ok_or_else(|| {
                Error::invalid(format!("{path}/{} is not UTF-8 and cannot be sent", name.to_string_lossy()))
            })?;
            if self.listed.len() >= MOST {
                return Err(Error::invalid(format!("the result has more than {MOST} files")));
            }
            let whole = if path.is_empty() { text.to_owned() } else { format!("{path}/{text}") };
            let Some(entry) = one(dir, &name, whole.clone(), self.latest)? else { continue };
            let is_directory = entry.kind == EntryKind::Directory;
            self.listed.push(entry);
            if is_directory {
                let below = dir.dir(&name).map_err(internal)?;
                self.directory(&below, &whole)?;
            }
        }
        Ok(())
    }
}

fn device(stat: &Stat, kind: fn(u32, u32) -> EntryKind) -> EntryKind {
    kind(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

fn entry(path: String, stat: &Stat, kind: EntryKind, latest: Option<i64>) -> Entry {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let modified = match latest {
        Some(latest) if stat.st_mtime >= latest => latest.saturating_mul(1_000_000_000),
        _ => stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
    };
    Entry {
        path,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == EntryKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        kind,
        modified,
        attributes: Vec::new(),
        content: None,
    }
}

/// The attribute that a program's abilities are; others mean nothing to a client.
fn attributes(dir: &Dir, name: &OsStr) -> Vec<(String, Vec<u8>)> {
    const CAPABILITY: &str = "security.capability";
    let Ok(file) = dir.open(name, OFlags::PATH) else { return Vec::new() };
    let mut value = vec![0; 64];
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::getxattr(OsStr::from_bytes(path.as_bytes()), CAPABILITY, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            vec![(CAPABILITY.to_owned(), value)]
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_is_listed_in_the_order_of_the_wire() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("a")).unwrap();
        for name in ["a/z", "a.b", "a-b"] {
            fs::write(top.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", top.path().join("l")).unwrap();
        let root = Root::open(top.path()).unwrap();
        let listed = list(&root, "linux_amd64", Some(5)).unwrap();
        let paths: Vec<_> = listed.iter().map(|entry| entry.path.as_str()).collect();
        let expected = ["", "/a", "/a/z", "/a-b", "/a.b", "/l"].map(|path| format!("linux_amd64{path}"));
        assert_eq!(paths, expected);
        assert!(listed.iter().all(|entry| entry.modified == 5_000_000_000));
        assert_eq!(listed[5].kind, EntryKind::Symlink("/etc/passwd".to_owned()));
    }
}
