//! Entries of a client's list, and their order.

use std::cmp::Ordering;

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
            return before.kind == EntryKind::Directory
                && (self.mode, self.uid, self.gid) == (before.mode, before.uid, before.gid)
                && self.attributes == before.attributes;
        }
        self == before
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

/// The order of a list: by path, as if the slash stood before all other characters, so that what is in a directory follows
/// it at once.
pub(super) fn order(left: &str, right: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    left.bytes().map(rank).cmp(right.bytes().map(rank))
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
