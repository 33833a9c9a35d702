//! What a selection has in it by a list of its tree, without a look at the disk: the same digest as
//! [`super::checksum::of`] makes of the files.

use std::path::{Component, Path};

use rustix::fs::FileType;
use wharf_oci::Digest;

use super::checksum::{Content, Selection};

/// All files of a tree, what is in a directory behind it at once and by name.
pub trait Listing {
    /// The entry at a place, counted from 0.
    fn entry(&self, at: usize) -> Option<Listed<'_>>;

    /// The place of a path, which is relative and has no `.` and `..`.
    fn find(&self, path: &str) -> Option<usize>;
}

/// A file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its path, relative.
    pub path: &'a str,
    /// What it is, and its twelve mode bits, as `stat` has them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What is in it; `None`: only the disk knows.
    pub content: Option<ListedContent<'a>>,
}

/// What is in a file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedContent<'a> {
    /// Other files.
    Directory,
    /// Bytes of this digest.
    Bytes(Digest),
    /// The target of a link.
    Target(&'a str),
    /// Nothing: the number of a device.
    Device(u64),
}

/// The digest of a selection. `None`: the list does not tell: patterns, links on the way, attributes, what is not there.
pub(super) fn digest(listing: &dyn Listing, selection: Selection<'_>) -> Option<Digest> {
    let path = plain(selection.path)?;
    let mut content = Content::new();
    content.word(path.rsplit('/').next().unwrap_or_default().as_bytes());
    let mut walk = Walk { listing, exclude: selection.exclude, content };
    if path.is_empty() {
        walk.directory(0, "")?;
    } else {
        // Every directory on the way is one, not a link to one.
        for (slash, _) in path.match_indices('/') {
            let above = listing.entry(listing.find(&path[..slash])?)?;
            (above.content == Some(ListedContent::Directory)).then_some(())?;
        }
        let at = listing.find(&path)?;
        if matches!(listing.entry(at)?.content, Some(ListedContent::Target(_))) {
            return None;
        }
        walk.entry(at)?;
    }
    Some(walk.content.finish())
}

/// The path without what means nothing in it; `None` where it is a pattern or leads up.
fn plain(path: &str) -> Option<String> {
    if path.contains(['*', '?', '[', '\\']) {
        return None;
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

struct Walk<'a> {
    listing: &'a dyn Listing,
    exclude: Option<&'a dyn Fn(&Path) -> bool>,
    content: Content,
}

impl Walk<'_> {
    /// Takes in what is below `path`, from the place `at` on; returns the place behind.
    fn directory(&mut self, mut at: usize, path: &str) -> Option<usize> {
        let listing = self.listing;
        while let Some(entry) = listing.entry(at)
            && is_below(entry.path, path)
        {
            if self.exclude.is_some_and(|exclude| exclude(Path::new(entry.path))) {
                at += 1;
                while listing.entry(at).is_some_and(|below| is_below(below.path, entry.path)) {
                    at += 1;
                }
                continue;
            }
            self.content.word(entry.path.rsplit('/').next().unwrap_or_default().as_bytes());
            at = self.entry(at)?;
        }
        self.content.end_directory();
        Some(at)
    }

    /// Takes in an entry with all that is below; returns the place behind.
    fn entry(&mut self, at: usize) -> Option<usize> {
        let entry = self.listing.entry(at)?;
        self.content.attributes(entry.mode, entry.uid, entry.gid);
        match entry.content? {
            ListedContent::Directory => return self.directory(at + 1, entry.path),
            ListedContent::Bytes(digest) => self.content.file(&digest),
            ListedContent::Target(target) => self.content.word(target.as_bytes()),
            ListedContent::Device(number) => self.content.device(number),
        }
        debug_assert!(FileType::from_raw_mode(entry.mode) != FileType::Directory);
        Some(at + 1)
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use wharf_sys::root::Root;

    use super::super::checksum::{self, FileDigests};
    use super::*;

    struct Disk(Vec<(String, fs::Metadata, Option<Digest>, String)>);

    impl Disk {
        fn of(top: &Path, path: &str, all: &mut Vec<(String, fs::Metadata, Option<Digest>, String)>) {
            let mut names: Vec<_> =
                fs::read_dir(top.join(path)).unwrap().map(|one| one.unwrap().file_name()).collect();
            names.sort();
            for name in names {
                let name = name.to_str().unwrap();
                let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                let place = top.join(&inner);
                let stat = fs::symlink_metadata(&place).unwrap();
                let bytes = stat.is_file().then(|| Digest::of(&fs::read(&place).unwrap()));
                let target = fs::read_link(&place).map(|path| path.to_str().unwrap().to_owned());
                let is_dir = stat.is_dir();
                all.push((inner.clone(), stat, bytes, target.unwrap_or_default()));
                if is_dir {
                    Self::of(top, &inner, all);
                }
            }
        }
    }

    impl Listing for Disk {
        fn entry(&self, at: usize) -> Option<Listed<'_>> {
            let (path, stat, bytes, target) = self.0.get(at)?;
            let content = match bytes {
                _ if stat.is_dir() => ListedContent::Directory,
                _ if stat.is_symlink() => ListedContent::Target(target),
                Some(digest) => ListedContent::Bytes(*digest),
                None => ListedContent::Device(stat.rdev()),
            };
            let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
            Some(Listed { path, mode, uid, gid, content: Some(content) })
        }

        fn find(&self, path: &str) -> Option<usize> {
            self.0.iter().position(|(other, ..)| other == path)
        }
    }

    #[test]
    fn a_list_says_what_the_disk_says() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x/1", "a/x/2", "a-b", "a/y/z/3", "b"] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.to_str().unwrap()).unwrap();
        }
        fs::create_dir(dir.path().join("a/empty")).unwrap();
        fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("x/1", dir.path().join("a/link")).unwrap();
        symlink("a", dir.path().join("to")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("a/fifo"),
            FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let mut all = Vec::new();
        Disk::of(dir.path(), "", &mut all);
        let (listing, root) = (Disk(all), Root::open(dir.path()).unwrap());
        let without = |path: &Path| path.ends_with("x") || path.ends_with("3");
        for exclude in [None, Some(&without as &dyn Fn(&Path) -> bool)] {
            for path in ["/", ".", "a", "/a/", "a/x", "./a//y", "b", "a-b", "a/empty", "a/x/1", "a/fifo"] {
                let selection = Selection { path, exclude };
                let disk = checksum::of(&root, selection, &FileDigests::default()).unwrap();
                assert_eq!(digest(&listing, selection), Some(disk), "{path}");
            }
            // What it does not tell, the disk does.
            for path in ["to", "to/x", "a/link", "*", "a/../b", "missing", "b/x"] {
                assert_eq!(digest(&listing, Selection { path, exclude }), None, "{path}");
            }
        }
    }
}
