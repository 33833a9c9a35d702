//! Garbage collection, while requests are served.
//!
//! Roots are the manifests of each repository, tagged or not: they go only by deletion, or, if so asked, when no tag,
//! index or subject holds them. What no manifest of a repository refers to loses its link there, and bytes without any
//! link go. A link or blob that is younger than `Keep::young`, or was relied upon since the collection began, stays.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Storage, found};
use crate::server::document;
use crate::server::name::{Algorithm, ContentDigest, Repository, Tag};

/// The kernel stamps files with a clock that ticks every few milliseconds.
const COARSE: Duration = Duration::from_secs(1);

/// What is kept although nothing refers to it.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Blobs that came, or were asked about for a push, less than this ago.
    pub young: Duration,
    /// Manifests without a tag. Without this they go, when nothing else holds them and they are not young.
    pub untagged: bool,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests removed from repositories.
    pub manifests: u64,
    /// Blobs removed from repositories.
    pub links: u64,
    /// Blobs and manifests removed from the disk.
    pub blobs: u64,
    /// The bytes these had.
    pub bytes: u64,
}

impl Storage {
    /// Collects garbage. Requests wait only while one name at a time is removed.
    pub(crate) fn collect(&self, keep: Keep) -> io::Result<Collected> {
        let before = SystemTime::now().checked_sub(keep.young + COARSE).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut collected = Collected::default();
        for name in self.repositories()? {
            if !keep.untagged {
                collected.manifests += self.collect_untagged(&name, before)?;
            }
            let marked = self.marked(&name)?;
            collected.links += self.sweep_links(&name, &marked, before)?;
        }
        self.sweep_blobs(before, &mut collected)?;
        Ok(collected)
    }

    /// The blobs that the manifests of a repository refer to.
    fn marked(&self, name: &Repository) -> io::Result<HashSet<ContentDigest>> {
        let mut marked = HashSet::new();
        for digest in self.manifests(name)? {
            let Some(manifest) = self.manifest(name, &digest)? else { continue };
            // One that cannot be read was read when it came: the disk is damaged, and nothing is guessed from it.
            let document = document::read(&manifest.bytes, &manifest.media_type)
                .map_err(|error| io::Error::other(format!("manifest {digest} of {name}: {error}")))?;
            marked.extend(document.blobs);
        }
        Ok(marked)
    }

    fn sweep_links(
        &self,
        name: &Repository,
        marked: &HashSet<ContentDigest>,
        before: SystemTime,
    ) -> io::Result<u64> {
        let folder = self.repository(name).join("_blobs");
        let mut removed = 0;
        for digest in self.names(&folder)?.iter().filter_map(|name| ContentDigest::parse(name)) {
            if !marked.contains(&digest)
                && self.remove_if_old(&folder.join(digest.to_string()), before)?.is_some()
            {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes the manifests that no tag, index or subject holds.
    fn collect_untagged(&self, name: &Repository, before: SystemTime) -> io::Result<u64> {
        let mut held = HashSet::new();
        for tag in self.tags(name)?.into_iter().flatten().filter_map(|tag| Tag::parse(&tag)) {
            held.extend(self.tag(name, &tag)?);
        }
        let all = self.manifests(name)?;
        // Children of what is held, and referrers of it, however deep: until nothing is added.
        loop {
            let size = held.len();
            for digest in &all {
                let Some(manifest) = self.manifest(name, digest)? else { continue };
                let document = document::read(&manifest.bytes, &manifest.media_type)
                    .map_err(|error| io::Error::other(format!("manifest {digest} of {name}: {error}")))?;
                if held.contains(digest) {
                    held.extend(document.manifests);
                } else if document.subject.is_some_and(|subject| held.contains(&subject)) {
                    held.insert(digest.clone());
                }
            }
            if held.len() == size {
                break;
            }
        }
        let mut removed = 0;
        for digest in all.iter().filter(|digest| !held.contains(*digest)) {
            let _alone = self.sweeping.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            if is_old(&self.manifest_link(name, digest), before)? && self.remove_manifest(name, digest)? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes bytes that no repository has a link to.
    fn sweep_blobs(&self, before: SystemTime, collected: &mut Collected) -> io::Result<()> {
        let mut linked = HashSet::new();
        for name in self.repositories()? {
            let blobs = self.names(&self.repository(&name).join("_blobs"))?;
            linked.extend(blobs.iter().filter_map(|name| ContentDigest::parse(name)));
            linked.extend(self.manifests(&name)?);
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.blob_folder(algorithm);
            for hex in self.names(&folder)? {
                let digest = ContentDigest::parse(&format!("{}:{hex}", algorithm.name()));
                if digest.is_some_and(|digest| linked.contains(&digest)) {
                    continue;
                }
                if let Some(bytes) = self.remove_if_old(&folder.join(&hex), before)? {
                    collected.blobs += 1;
                    collected.bytes += bytes;
                }
            }
        }
        Ok(())
    }

    /// Removes a file unless somebody relied on it since; its size when it went.
    fn remove_if_old(&self, path: &Path, before: SystemTime) -> io::Result<Option<u64>> {
        let _alone = self.sweeping.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(metadata) = found(path.metadata())? else { return Ok(None) };
        if metadata.modified()? >= before {
            return Ok(None);
        }
        // Not synced: what comes back after a power cut is found by the next collection.
        std::fs::remove_file(path)?;
        Ok(Some(metadata.len()))
    }
}

fn is_old(path: &Path, before: SystemTime) -> io::Result<bool> {
    Ok(match found(path.metadata())? {
        Some(metadata) => metadata.modified()? < before,
        None => false,
    })
}
