//! Tags: small files that name a digest.

use std::io;
use std::time::{Duration, SystemTime};

use super::{Storage, durable, found};
use crate::server::name::{ContentDigest, Repository, Tag};

impl Storage {
    /// What a tag names.
    pub(crate) fn tag(&self, name: &Repository, tag: &Tag) -> io::Result<Option<ContentDigest>> {
        let Some(text) = found(std::fs::read_to_string(self.tag_file(name, tag)))? else { return Ok(None) };
        ContentDigest::parse(text.trim())
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("tag {name}:{} holds no digest", tag.as_str())))
    }

    /// How long ago it was made sure that a tag names what it names; nothing when there is no such tag.
    pub(crate) fn tag_age(&self, name: &Repository, tag: &Tag) -> io::Result<Option<Duration>> {
        let Some(metadata) = found(self.tag_file(name, tag).metadata())? else { return Ok(None) };
        Ok(Some(metadata.modified()?.elapsed().unwrap_or_default()))
    }

    /// Notes that a tag still names what it names.
    pub(crate) fn confirm_tag(&self, name: &Repository, tag: &Tag) -> io::Result<()> {
        std::fs::File::open(self.tag_file(name, tag))?.set_modified(SystemTime::now())
    }

    /// Lets a tag name `digest`.
    pub(crate) fn set_tag(&self, name: &Repository, tag: &Tag, digest: &ContentDigest) -> io::Result<()> {
        self.replace(&self.tag_file(name, tag), digest.to_string().as_bytes())
    }

    /// Removes a tag; whether there was one.
    pub(crate) fn remove_tag(&self, name: &Repository, tag: &Tag) -> io::Result<bool> {
        durable::remove(&self.tag_file(name, tag))
    }

    /// All tags in the order of their bytes; nothing when there is no such repository.
    pub(crate) fn tags(&self, name: &Repository) -> io::Result<Option<Vec<String>>> {
        if !self.exists(name) {
            return Ok(None);
        }
        let mut tags = self.names(&self.repository(name).join("_tags"))?;
        tags.sort_unstable();
        Ok(Some(tags))
    }

    /// Removes every tag that names `digest`.
    pub(super) fn untag(&self, name: &Repository, digest: &ContentDigest) -> io::Result<()> {
        for tag in self.tags(name)?.into_iter().flatten().filter_map(|tag| Tag::parse(&tag)) {
            if self.tag(name, &tag)?.as_ref() == Some(digest) {
                self.remove_tag(name, &tag)?;
            }
        }
        Ok(())
    }
}
