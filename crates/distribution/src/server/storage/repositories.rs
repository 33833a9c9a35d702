//! Which repositories there are.

use std::io;
use std::path::Path;

use super::{Storage, found};
use crate::server::name::Repository;

impl Storage {
    /// Whether anything was ever kept under this name.
    pub(crate) fn exists(&self, name: &Repository) -> bool {
        let folder = self.repository(name);
        ["_manifests", "_blobs"].iter().any(|kind| folder.join(kind).is_dir())
    }

    /// All repositories in the order of their bytes.
    pub(crate) fn repositories(&self) -> io::Result<Vec<Repository>> {
        let mut known = Vec::new();
        let mut open = vec![String::new()];
        while let Some(prefix) = open.pop() {
            for component in self.names(&self.repositories_folder().join(&prefix))? {
                let name = if prefix.is_empty() { component } else { format!("{prefix}/{component}") };
                // The server's own folders begin with `_`, so that they are no names.
                let Some(repository) = Repository::parse(&name) else { continue };
                if self.exists(&repository) {
                    known.push(repository);
                }
                open.push(name);
            }
        }
        known.sort_unstable();
        Ok(known)
    }

    /// The entries of a folder that may not be there, unsorted.
    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let Some(entries) = found(std::fs::read_dir(folder))? else { return Ok(Vec::new()) };
        let name = |entry: io::Result<std::fs::DirEntry>| -> io::Result<Option<String>> {
            Ok(entry?.file_name().into_string().ok())
        };
        entries.filter_map(|entry| name(entry).transpose()).collect()
    }
}
