//! Where the control group hierarchies are mounted.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::mountinfo;

/// Which interface limits and statistics go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Controllers in hierarchies of their own; perhaps a unified tree beside them.
    V1,
    /// One tree.
    V2,
}

/// A version 1 hierarchy, or one group's directory in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `memory`, …; `name=systemd` for one without controllers.
    pub controllers: Vec<String>,
    /// Its directory.
    pub dir: PathBuf,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    pub(super) fn below(&self, relative: &str) -> Self {
        Self { controllers: self.controllers.clone(), dir: self.dir.join(relative) }
    }
}

/// All hierarchies of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which one the controllers are in.
    pub version: Version,
    /// Version 1 hierarchies.
    pub v1: Vec<Hierarchy>,
    /// The unified tree.
    pub v2: Option<PathBuf>,
}

impl Layout {
    /// Reads where they are mounted.
    ///
    /// # Errors
    /// `ENOENT` where none is mounted.
    pub fn detect() -> Result<Self> {
        Self::find(mountinfo::read()?).ok_or_else(|| Error::new("find a cgroup mount", Errno::NOENT))
    }

    /// The same, read once in a process's life.
    ///
    /// # Errors
    /// As [`Layout::detect`].
    pub fn get() -> Result<&'static Self> {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = LAYOUT.get() {
            return Ok(layout);
        }
        let found = Self::detect()?;
        Ok(LAYOUT.get_or_init(|| found))
    }

    fn find(mounts: Vec<mountinfo::Entry>) -> Option<Self> {
        /// Flags of the mount, among which the controllers stand.
        const FLAGS: [&str; 8] =
            ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "none"];
        let (mut v1, mut v2) = (Vec::<Hierarchy>::new(), None);
        for mountinfo::Entry { place: dir, kind, options, .. } in mounts {
            match kind.as_str() {
                "cgroup2" if v2.is_none() => v2 = Some(dir),
                "cgroup" => {
                    let names = options.split(',');
                    let names = names.filter(|n| !FLAGS.contains(n) && !n.starts_with("release_agent="));
                    let controllers: Vec<String> = names.map(str::to_owned).collect();
                    if !controllers.is_empty() && !v1.iter().any(|known| known.controllers == controllers) {
                        v1.push(Hierarchy { controllers, dir });
                    }
                }
                _ => {}
            }
        }
        let is_named =
            |hierarchy: &Hierarchy| hierarchy.controllers.iter().all(|name| name.starts_with("name="));
        let version = if v1.iter().all(is_named) { Version::V2 } else { Version::V1 };
        if version == Version::V2 && v2.is_none() {
            return None;
        }
        Some(Self { version, v1, v2 })
    }
}

impl AsRef<Path> for Hierarchy {
    fn as_ref(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_pure_layouts_are_told_apart() {
        let hybrid = b"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw shared:1 - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let layout = Layout::find(mountinfo::parse(hybrid)).unwrap();
        assert_eq!(layout.version, Version::V1);
        assert_eq!(layout.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.v1[1].controllers, ["name=systemd"]);
        assert_eq!(layout.v2, Some("/sys/fs/cgroup/unified".into()));

        let pure = b"41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::find(mountinfo::parse(pure)).unwrap();
        assert_eq!((layout.version, layout.v1.len()), (Version::V2, 0));
        assert_eq!(Layout::find(mountinfo::parse(b"1 2 0:3 / / rw - ext4 /dev/sda rw\n")), None);
    }
}
