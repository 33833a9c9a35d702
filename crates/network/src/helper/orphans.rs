//! What ended while no daemon was there to say so.
//!
//! A container's namespace is in use while a process is in it, and its owner lives while its supervisor does
//! (which may be waiting to start it again). What neither can be said of is nobody's, and is let go, so that
//! the helper can end even if no daemon ever comes again.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::process::Helper;

/// How often is looked.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// The role of supervisors, as in their second argument.
const SUPERVISOR: &[u8] = b"supervisor";

/// What all processes use.
struct InUse {
    /// Inodes of network namespaces.
    namespaces: HashSet<u64>,
    /// Command lines of supervisors.
    supervisors: Vec<String>,
}

impl InUse {
    fn look() -> Self {
        let mut found = Self { namespaces: HashSet::new(), supervisors: Vec::new() };
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let is_process =
                entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
            if !is_process {
                continue;
            }
            // A process that ends meanwhile uses nothing.
            found.namespaces.extend(std::fs::metadata(path.join("ns/net")).map(|meta| meta.ino()));
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            if line.split(|byte| *byte == 0).nth(1) == Some(SUPERVISOR) {
                found.supervisors.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
        found
    }

    fn has(&self, owner: &str, namespace: Option<u64>) -> bool {
        namespace.is_some_and(|inode| self.namespaces.contains(&inode))
            || self.supervisors.iter().any(|line| line.contains(owner))
    }
}

impl Helper {
    /// Lets go of what was nobody's this time and the last time.
    pub(super) fn drop_orphans(&mut self) {
        let in_use = InUse::look();
        let spaces = self.spaces.iter().map(|(_, space)| &space.owner);
        let owners: HashSet<_> = spaces.chain(self.ports.owners()).cloned().collect();
        let orphans: HashSet<_> =
            owners.into_iter().filter(|owner| !in_use.has(owner, self.namespace_inode(owner))).collect();
        let before = std::mem::replace(&mut self.orphans, orphans.clone());
        for owner in orphans.intersection(&before) {
            self.release(owner);
        }
    }

    fn namespace_inode(&self, owner: &str) -> Option<u64> {
        let space = self.spaces.get(self.spaces.of(owner)?)?;
        let file = std::fs::File::from(space.namespace.try_clone().ok()?);
        file.metadata().ok().map(|meta| meta.ino())
    }
}
