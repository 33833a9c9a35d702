//! The content of what a step takes from a tree, as a digest: names, kinds, modes, owners, bytes; never times.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};
use wharf_layer::{expand, is_overlay_xattr};
use wharf_oci::{Digest, Hasher};
use wharf_sys::root::{Dir, Root, RootError};

/// How much is read at once, bytes.
const READ: usize = 256 * 1024;
/// How many files' digests are remembered.
const REMEMBERED: usize = 200_000;
/// How many selections' digests are remembered.
const SELECTIONS: usize = 10_000;

/// What was looked at before.
#[derive(Debug, Default)]
pub(super) struct FileDigests {
    /// Files that did not change since they were read: device and inode, with size and times.
    files: Mutex<HashMap<FileIdentity, Digest>>,
    /// Selections in trees that stay as they are, by [`Selection::name`].
    selections: Mutex<HashMap<Digest, Digest>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl FileIdentity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// What is taken from a tree.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    /// A path or a pattern.
    pub(super) path: &'a str,
    /// What is left out.
    pub(super) exclude: Option<&'a dyn Fn(&Path) -> bool>,
}

impl Selection<'_> {
    /// What stands for the selection in the tree `revision`, leaving out what `patterns` say.
    pub(super) fn name(&self, revision: &str, patterns: &[String]) -> Digest {
        let mut hasher = Hasher::new();
        for word in [revision, self.path].into_iter().chain(patterns.iter().map(String::as_str)) {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        hasher.finish()
    }
}

impl FileDigests {
    // Under both locks only whole entries go in and out: a panic elsewhere leaves the maps whole.
    fn files(&self) -> MutexGuard<'_, HashMap<FileIdentity, Digest>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selections(&self) -> MutexGuard<'_, HashMap<Digest, Digest>> {
        self.selections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was read anyway.
    pub(super) fn learn(&self, stat: &Stat, digest: Digest) {
        let mut files = self.files();
        if files.len() >= REMEMBERED {
            files.clear();
        }
        files.insert(FileIdentity::of(stat), digest);
    }

    /// The digest of the selection `name`, where it was made before.
    pub(super) fn selection(&self, name: &Digest) -> Option<Digest> {
        self.selections().get(name).copied()
    }

    /// Remembers the digest of the selection `name`.
    pub(super) fn remember(&self, name: Digest, content: Digest) {
        let mut selections = self.selections();
        if selections.len() >= SELECTIONS {
            selections.clear();
        }
        selections.insert(name, content);
    }
}

/// The digest of what `selection` names in `root`; a pattern may name nothing.
pub(super) fn of(root: &Root, selection: Selection<'_>, known: &FileDigests) -> Result<Digest, String> {
    let paths = expand(root, selection.path).map_err(|error| error.to_string())?;
    let mut walk = Walk { content: Content::new(), known, exclude: selection.exclude };
    for path in paths {
        let real = root.canonicalize(&path).map_err(|error| missing(&error, &path))?;
        walk.content.word(path.file_name().unwrap_or(OsStr::new("")).as_bytes());
        match root.parent(&real).map_err(|error| error.to_string())? {
            Some((dir, name)) => walk.entry(&dir, &name, &path),
            None => root.top().and_then(|top| walk.directory(&top, &path)),
        }
        .map_err(|error| error.to_string())?;
    }
    Ok(walk.content.finish())
}

fn missing(error: &RootError, path: &Path) -> String {
    if error.is_not_found() { format!("\"/{}\": not found", path.display()) } else { error.to_string() }
}

/// What stands in a digest for files.
pub(super) struct Content(Hasher);

impl Content {
    pub(super) fn new() -> Self {
        Self(Hasher::new())
    }

    /// Bytes with their length before them, so that two words never read as one.
    pub(super) fn word(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// What a file is, its mode bits and its owner.
    pub(super) fn attributes(&mut self, mode: u32, uid: u32, gid: u32) {
        for number in [mode, uid, gid] {
            self.0.update(&number.to_le_bytes());
        }
    }

    /// The bytes of a file.
    pub(super) fn file(&mut self, digest: &Digest) {
        self.word(digest.hex().as_bytes());
    }

    /// A device.
    pub(super) fn device(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// What follows is not in the directory any more.
    pub(super) fn end_directory(&mut self) {
        self.word(b"");
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

struct Walk<'a> {
    content: Content,
    known: &'a FileDigests,
    exclude: Option<&'a dyn Fn(&Path) -> bool>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Dir, path: &Path) -> Result<(), RootError> {
        for entry in dir.entries()? {
            let path: PathBuf = path.join(&entry.name);
            if self.exclude.is_some_and(|exclude| exclude(&path)) {
                continue;
            }
            self.content.word(entry.name.as_bytes());
            self.entry(dir, &entry.name, &path)?;
        }
        self.content.end_directory();
        Ok(())
    }

    fn entry(&mut self, dir: &Dir, name: &OsStr, path: &Path) -> Result<(), RootError> {
        let stat = dir.stat(name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.content.attributes(stat.st_mode, stat.st_uid, stat.st_gid);
        for attribute in dir.list_xattrs(name)? {
            if !is_overlay_xattr(attribute.as_bytes()) {
                let value = dir.get_xattr(name, &attribute)?.unwrap_or_default();
                self.content.word(attribute.as_bytes());
                self.content.word(&value);
            }
        }
        match kind {
            FileType::Directory => self.directory(&dir.dir(name)?, path)?,
            FileType::RegularFile => {
                let digest = self.file(dir, name, &stat)?;
                self.content.file(&digest);
            }
            FileType::Symlink => self.content.word(dir.read_link(name)?.as_bytes()),
            _ => self.content.device(stat.st_rdev),
        }
        Ok(())
    }

    fn file(&self, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<Digest, RootError> {
        let remembered = self.known.files().get(&FileIdentity::of(stat)).copied();
        if let Some(digest) = remembered {
            return Ok(digest);
        }
        let mut file =
            std::fs::File::from(dir.open(name, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC)?);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ.min(usize::try_from(stat.st_size).unwrap_or(READ).max(1) + 1)];
        loop {
            let count = file.read(&mut buffer).map_err(|error| {
                RootError::new(
                    "read",
                    name,
                    rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
                )
            })?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        let digest = hasher.finish();
        self.known.learn(stat, digest);
        Ok(digest)
    }
}
