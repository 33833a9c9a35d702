//! What of a copy's source is taken, where patterns choose.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use wharf_layer::expand;
use wharf_sys::root::{Dir, Root, RootError};

use crate::graph::CopyFiles;
use crate::ignore::Ignore;

/// How deep directories may nest.
const DEEPEST: usize = 4096;

/// What is taken.
pub(super) struct Chosen {
    excluded: Ignore,
    /// What patterns take, and the directories that it is in; `None`: everything.
    included: Option<HashSet<PathBuf>>,
}

impl Chosen {
    /// What a copy takes of a tree, which is looked into only where patterns say what is taken.
    pub(super) fn of(copy: &CopyFiles, root: impl FnOnce() -> Result<Root, String>) -> Result<Self, String> {
        let patterns = |list: &[String]| Ignore::new(list.iter().map(String::as_str));
        let excluded = patterns(&copy.exclude).map_err(|error| error.to_string())?;
        let included = patterns(&copy.include).map_err(|error| error.to_string())?;
        if copy.include.is_empty() {
            return Ok(Self { excluded, included: None });
        }
        let mut walk = Walk { included: &included, excluded: &excluded, taken: HashSet::new() };
        let root = root()?;
        for path in expand(&root, &copy.source).map_err(|error| error.to_string())? {
            walk.top(&root, &path).map_err(|error| error.to_string())?;
        }
        let taken = walk.taken;
        let there = |path: &&String| taken.contains(Path::new(path.trim_matches('/')));
        match copy.required.iter().find(|path| !there(path)) {
            Some(path) => Err(format!("\"{path}\": not found")),
            None => Ok(Self { excluded, included: Some(taken) }),
        }
    }

    /// Whether everything is taken.
    pub(super) fn is_all(&self) -> bool {
        self.excluded.is_empty() && self.included.is_none()
    }

    /// Whether a path, relative to the tree's top, is left out.
    pub(super) fn leaves_out(&self, path: &Path) -> bool {
        match &self.included {
            Some(taken) => !taken.contains(path),
            None => self.excluded.excludes(&path.to_string_lossy()),
        }
    }
}

struct Walk<'a> {
    included: &'a Ignore,
    excluded: &'a Ignore,
    taken: HashSet<PathBuf>,
}

impl Walk<'_> {
    fn top(&mut self, root: &Root, path: &Path) -> Result<(), RootError> {
        let kind = FileType::from_raw_mode(root.stat_follow(path)?.st_mode);
        self.taken.insert(path.to_owned());
        if kind == FileType::Directory {
            self.directory(&root.dir(path)?, path, 0)?;
        }
        Ok(())
    }

    /// Takes what is chosen in a directory; whether there is anything.
    fn directory(&mut self, dir: &Dir, path: &Path, depth: usize) -> Result<bool, RootError> {
        let mut any = false;
        if depth > DEEPEST {
            return Ok(any);
        }
        for entry in dir.entries()? {
            let below = path.join(&entry.name);
            let text = below.to_string_lossy();
            let matched = self.included.excludes(&text) && !self.excluded.excludes(&text);
            let is_dir = entry.kind == FileType::Directory;
            let within = is_dir && self.directory(&dir.dir(&entry.name)?, &below, depth + 1)?;
            if matched || within {
                any = true;
                self.taken.insert(below);
            }
        }
        Ok(any)
    }
}
