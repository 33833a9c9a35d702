//! Listing a directory as a build's context: what is sent of it, in the order and the words of the protocol.

use std::collections::HashMap;
use std::path::Path;

use bollard_buildkit_proto::fsutil::types::Stat;
use wharf_build::ignore::Ignore;

use super::tree::{Found, Tree};

/// Bits of Go's `FileMode`.
pub(super) mod go {
    pub(in super::super) const DIRECTORY: u32 = 1 << 31;
    pub(in super::super) const SYMLINK: u32 = 1 << 27;
    pub(in super::super) const DEVICE: u32 = 1 << 26;
    pub(in super::super) const FIFO: u32 = 1 << 25;
    pub(in super::super) const SETUID: u32 = 1 << 23;
    pub(in super::super) const SETGID: u32 = 1 << 22;
    pub(in super::super) const CHARACTER: u32 = 1 << 21;
    pub(in super::super) const STICKY: u32 = 1 << 20;
}

/// How many links may lead on to one another.
const LINKS: usize = 255;

/// What of a directory is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    include: Option<Matcher>,
    exclude: Ignore,
}

/// Patterns of what is wanted, and their names one by one, to see what may lie below a directory.
#[derive(Debug)]
struct Matcher {
    patterns: Ignore,
    parts: Vec<Vec<String>>,
}

impl Wanted {
    /// Reads what the daemon asks for. `follow` are paths that are needed, with all that links on them lead to.
    ///
    /// # Errors
    /// A pattern that is none, in words for the user.
    pub(super) fn new(
        root: &Path,
        include: &[String],
        exclude: &[String],
        follow: &[String],
    ) -> Result<Self, String> {
        let mut patterns = include.to_vec();
        patterns.extend(followed(root, follow));
        let read = |patterns: &[String]| {
            Ignore::new(patterns.iter().map(String::as_str)).map_err(|error| error.to_string())
        };
        let all =
            patterns.is_empty() || patterns.iter().any(|pattern| matches!(pattern.as_str(), "." | "/" | ""));
        let include = if all {
            None
        } else {
            let parts = patterns.iter().map(|pattern| {
                pattern.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
            });
            Some(Matcher { patterns: read(&patterns)?, parts: parts.collect() })
        };
        Ok(Self { include, exclude: read(exclude)? })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        !self.exclude.excludes(path)
            && self.include.as_ref().is_none_or(|include| include.patterns.excludes(path))
    }

    /// Whether something below a directory that is not wanted itself may be.
    pub(super) fn may_have_below(&self, path: &str) -> bool {
        if self.exclude.excludes(path) && !self.exclude.has_exceptions() {
            return false;
        }
        let depth = path.split('/').count();
        self.include.as_ref().is_none_or(|include| {
            include.parts.iter().any(|parts| {
                let wild = |part: &str| part.contains(['*', '?', '[', '\\']);
                parts.len() > depth
                    && path.split('/').zip(parts).all(|(name, part)| wild(part) || name == part)
                    || parts.iter().any(|part| part == "**")
            })
        })
    }
}

/// Paths and what the links on them lead to, as patterns.
fn followed(root: &Path, follow: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for path in follow {
        let path = path.trim_matches('/');
        if path.is_empty() || path == "." {
            return vec![".".to_owned()];
        }
        lead(root, path, &mut found, 0);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Goes along a path; each link on it is wanted, and what it leads to.
fn lead(root: &Path, path: &str, found: &mut Vec<String>, depth: usize) {
    let mut at = String::new();
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    while let Some(part) = parts.next() {
        let next = if at.is_empty() { part.to_owned() } else { format!("{at}/{part}") };
        // A pattern names what it names; links among that are looked at one by one.
        if part.contains(['*', '?', '[']) {
            links_of(root, &at, part, found, depth);
        } else if let Ok(target) = std::fs::read_link(root.join(&next))
            && depth < LINKS
            && let Some(target) = target.to_str()
        {
            found.push(next.clone());
            let base = if target.starts_with('/') { "" } else { at.as_str() };
            let rest: Vec<&str> = parts.collect();
            if let Some(path) = within(base, &format!("{target}/{}", rest.join("/"))) {
                lead(root, &path, found, depth + 1);
            }
            return;
        }
        at = next;
    }
    found.push(if at.is_empty() { ".".to_owned() } else { at });
}

/// What the links lead to that a pattern names in a directory.
fn links_of(root: &Path, dir: &str, pattern: &str, found: &mut Vec<String>, depth: usize) {
    let Ok(matcher) = Ignore::new([pattern]) else { return };
    let Ok(entries) = std::fs::read_dir(root.join(dir)) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink())) {
        if let Some(name) = entry.file_name().to_str()
            && matcher.excludes(name)
            && depth < LINKS
        {
            lead(
                root,
                &if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") },
                found,
                depth + 1,
            );
        }
    }
}

/// `path` seen from `base`, never above the top.
fn within(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Lists what is wanted of `root`, directories before what is in them, by name. `each` gets every entry; returns whether
/// there may be more of them.
///
/// # Errors
/// When something cannot be read, in words for the user.
pub(super) fn walk(root: &Path, wanted: &Wanted, each: &mut dyn FnMut(Stat) -> bool) -> Result<(), String> {
    let tree = Tree::open(root, wanted)?;
    Walk { tree, each, above: Vec::new(), linked: HashMap::new() }.all("").map(drop)
}

struct Walk<'a> {
    tree: Tree<'a>,
    each: &'a mut dyn FnMut(Stat) -> bool,
    /// Directories above that are not wanted themselves and are sent with the first thing in them that is.
    above: Vec<Stat>,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), String>,
}

impl Walk<'_> {
    /// Tells what is in a directory; `false`: nobody wants more.
    fn all(&mut self, path: &str) -> Result<bool, String> {
        for found in self.tree.directory(path)? {
            let more = match found {
                Found::File(entry, inode) => self.file(entry, inode),
                Found::Directory(entry, has) => self.directory(entry, has)?,
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn directory(&mut self, entry: Stat, has: bool) -> Result<bool, String> {
        let path = entry.path.clone();
        if !has {
            self.above.push(entry);
        } else if !self.give(entry) {
            return Ok(false);
        }
        let more = self.all(&path)?;
        if !has && self.above.last().is_some_and(|above| above.path == path) {
            self.above.pop();
        }
        Ok(more)
    }

    fn file(&mut self, mut entry: Stat, inode: Option<(u64, u64)>) -> bool {
        if let Some(inode) = inode {
            match self.linked.get(&inode) {
                Some(first) => (entry.linkname, entry.size) = (first.clone(), 0),
                None => drop(self.linked.insert(inode, entry.path.clone())),
            }
        }
        self.give(entry)
    }

    fn give(&mut self, entry: Stat) -> bool {
        let above = std::mem::take(&mut self.above);
        above.into_iter().chain([entry]).all(|entry| (self.each)(entry))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn listed(root: &Path, include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let wanted = Wanted::new(root, &owned(include), &owned(exclude), &owned(follow)).unwrap();
        let mut found = Vec::new();
        walk(root, &wanted, &mut |stat| {
            found.push(stat.path);
            true
        })
        .unwrap();
        found
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x/1", "a/y/2", "b", "c/3", "a-b"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        symlink("c", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let dir = tree();
        let all = ["a", "a/x", "a/x/1", "a/y", "a/y/2", "a-b", "b", "c", "c/3", "link"];
        assert_eq!(listed(dir.path(), &[], &[], &[]), all);
        assert_eq!(listed(dir.path(), &[], &[], &["."]), all);
    }

    #[test]
    fn what_is_left_out_takes_its_directory_along_unless_let_in_again() {
        let dir = tree();
        assert_eq!(listed(dir.path(), &[], &["a", "link"], &[]), ["a-b", "b", "c", "c/3"]);
        assert_eq!(listed(dir.path(), &[], &["*", "!a/y"], &[]), ["a", "a/y", "a/y/2"]);
    }

    #[test]
    fn links_are_followed_to_what_they_lead_to() {
        let dir = tree();
        assert_eq!(listed(dir.path(), &[], &[], &["link/3", "b"]), ["b", "c", "c/3", "link"]);
        assert_eq!(listed(dir.path(), &[], &[], &["a/*/2"]), ["a", "a/y", "a/y/2"]);
        assert_eq!(listed(dir.path(), &["missing"], &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn deep_trees_are_told_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for number in 0..600 {
            let path = format!("{:02}/{:02}/{number:03}", number % 7, number % 30);
            std::fs::create_dir_all(dir.path().join(&path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(&path), "x").unwrap();
            all.push(path);
        }
        all.sort_unstable();
        let mut found = listed(dir.path(), &[], &[], &[]);
        assert!(found.is_sorted());
        found.retain(|path| path.len() == 9);
        assert_eq!(found, all);
        // Who has enough ends it at once.
        let mut left = 10;
        let wanted = Wanted::default();
        walk(dir.path(), &wanted, &mut |_| {
            left -= 1;
            left > 0
        })
        .unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn second_names_of_a_file_are_links() {
        let dir = tree();
        std::fs::hard_link(dir.path().join("b"), dir.path().join("d")).unwrap();
        let wanted = Wanted::default();
        let mut second = None;
        walk(dir.path(), &wanted, &mut |stat| {
            second = Some(stat).filter(|stat| stat.path == "d").or(second.take());
            true
        })
        .unwrap();
        let second = second.unwrap();
        assert_eq!((second.linkname.as_str(), second.size), ("b", 0));
    }
}
