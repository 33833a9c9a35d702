//! Entries of a client's list, and their order.

use std::cmp::Ordering;

use rustix::fs::FileType;
use wharf_build::solve::{Listed, ListedContent, Listing};
use wharf_oci::Digest;

/// The longest path that is taken, in bytes.
const LONGEST: usize = 4096;

/// A file of a client's directory as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its path, relative, with slashes.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its twelve mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    /// Extended attributes, by name.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// The digest of a file's bytes, once they came.
    pub content: Option<Digest>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// A regular file.
    #[default]
    File,
    /// Another name of a file that was listed before, by its path.
    Link(String),
    /// A directory.
    Directory,
    /// A symbolic link, with its target.
    Symlink(String),
    /// A FIFO.
    Fifo,
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
}

impl Entry {
    /// Whether nothing has to be done for a file that was listed as `before`. A directory's time changes with its content,
    /// and is set in any case.
    pub(super) fn is(&self, before: &Self) -> bool {
        if self.kind == EntryKind::Directory {
            return before.kind == EntryKind::Directory && self.has_owner_of(before);
        }
        (self.size, self.modified) == (before.size, before.modified)
            && self.kind == before.kind
            && self.has_owner_of(before)
    }

    fn has_owner_of(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
            && self.attributes == other.attributes
    }

    /// Whether a path is a plain name below the directory.
    pub(super) fn is_proper(&self) -> bool {
        let path = &self.path;
        !path.is_empty()
            && path.len() <= LONGEST
            && !path.contains('\0')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
    }
}

/// A list of a copy that is whole, in its order.
#[derive(Debug, Default)]
pub(super) struct Index(pub(super) Vec<Entry>);

impl Listing for Index {
    fn entry(&self, at: usize) -> Option<Listed<'_>> {
        let named = self.0.get(at)?;
        // Another name of a file is that file.
        let entry = match &named.kind {
            EntryKind::Link(target) => {
                self.find(target.trim_start_matches('/')).map_or(named, |at| &self.0[at])
            }
            _ => named,
        };
        let device = |major, minor| ListedContent::Device(rustix::fs::makedev(major, minor));
        let (kind, mode, content) = match &entry.kind {
            EntryKind::File => (FileType::RegularFile, entry.mode, entry.content.map(ListedContent::Bytes)),
            EntryKind::Directory => (FileType::Directory, entry.mode, Some(ListedContent::Directory)),
            // A link has no mode of its own.
            EntryKind::Symlink(target) => {
                (FileType::Symlink, 0o777, Some(ListedContent::Target(target.as_str())))
            }
            EntryKind::Fifo => (FileType::Fifo, entry.mode, Some(ListedContent::Device(0))),
            EntryKind::Character(major, minor) => {
                (FileType::CharacterDevice, entry.mode, Some(device(*major, *minor)))
            }
            EntryKind::Block(major, minor) => {
                (FileType::BlockDevice, entry.mode, Some(device(*major, *minor)))
            }
            EntryKind::Link(_) => (FileType::RegularFile, entry.mode, None),
        };
        Some(Listed {
            path: &named.path,
            mode: kind.as_raw_mode() | mode,
            uid: entry.uid,
            gid: entry.gid,
            // What attributes a disk took the disk knows.
            content: content.filter(|_| entry.attributes.is_empty()),
        })
    }

    fn find(&self, path: &str) -> Option<usize> {
        self.0.binary_search_by(|entry| order(&entry.path, path)).ok()
    }
}

/// The order of a list: by path, as if the slash stood before all other characters, so that what is in a directory follows
/// it at once.
pub(super) fn order(left: &str, right: &str) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    let (left, right) = (left.as_bytes(), right.as_bytes());
    match left.iter().zip(right).position(|(left, right)| left != right) {
        Some(at) => rank(&left[at]).cmp(&rank(&right[at])),
        None => left.len().cmp(&right.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_directory_follows_it_at_once() {
        let mut paths = vec!["a.b", "a/b", "a", "a/b/c", "b", "a-b"];
        paths.sort_by(|left, right| order(left, right));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a-b", "a.b", "b"]);
    }

    #[test]
    fn hostile_paths_are_not_proper() {
        for path in ["", "/etc", "..", "a/../b", "a//b", "a/", "./a", "a\0b"] {
            assert!(!Entry { path: path.to_owned(), ..Entry::default() }.is_proper(), "{path}");
        }
        assert!(Entry { path: "a/..b/c".to_owned(), ..Entry::default() }.is_proper());
    }
}
