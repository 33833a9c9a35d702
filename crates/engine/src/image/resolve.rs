//! From what a user wrote to an image: a name, a name with a digest, an id or the beginning of one.

use std::collections::HashSet;
use std::sync::Arc;

use wharf_oci::{Digest, Reference, ReferenceError};
use wharf_store::Image;

use super::Images;
use crate::error::{Error, Result};

impl Images {
    /// The image that `text` means.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>> {
        if let Some(id) = whole_id(text) {
            let missing = || Error::not_found(format!("No such image: {id}"));
            return self.by_digest(&id).ok_or_else(missing);
        }
        let name = Reference::parse(text).map_err(refused)?;
        if let Some(image) = self.by_name(&name) {
            return Ok(image);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        self.by_prefix(hex)
            .ok_or_else(|| Error::not_found(format!("No such image: {}", name.with_default_tag().familiar())))
    }

    /// The ids of the image that `text` means and of all made from it; none for an unknown one.
    pub fn descendants(&self, text: &str) -> HashSet<String> {
        let Ok(image) = self.resolve(text) else { return HashSet::new() };
        let all = self.store.images();
        let mut found = HashSet::from([image.id]);
        let mut left = vec![image.id];
        while let Some(parent) = left.pop() {
            let children = all.iter().filter(|image| image.parent == Some(parent)).map(|image| image.id);
            left.extend(children.filter(|child| found.insert(*child)));
        }
        found.iter().map(ToString::to_string).collect()
    }

    /// Whether `text` still means the image `id`.
    pub fn is_still(&self, text: &str, id: &str) -> bool {
        self.resolve(text).is_ok_and(|image| image.id.to_string() == id)
    }

    /// Bytes of an image's layers; zero for one that is gone.
    pub fn size_of(&self, id: &str) -> i64 {
        let image = id.parse().ok().and_then(|id| self.store.image_below(&id));
        image.map_or(0, |image| super::inspect::size(&image))
    }

    /// What a name points to; with a digest, the digest counts.
    pub(super) fn by_name(&self, name: &Reference) -> Option<Arc<Image>> {
        let name = match name.digest() {
            Some(digest) => name.with_digest(digest),
            None => name.clone().with_default_tag(),
        };
        if let Some(found) = self.store.name(&name) {
            return self.store.image(&found.image);
        }
        // `name@digest` also means an image that has this name and came as this manifest or index.
        let digest = name.digest()?;
        let repository = name.repository();
        let image = self.by_digest(&digest)?;
        let named = self.store.names_of(&image.id).iter().any(|name| name.repository() == repository);
        (named && image.id != digest).then_some(image)
    }

    fn by_digest(&self, digest: &Digest) -> Option<Arc<Image>> {
        self.store.image(digest).or_else(|| self.by_prefix(&digest.hex()))
    }

    /// The one image whose id starts so; none if there are several.
    fn by_prefix(&self, hex: &str) -> Option<Arc<Image>> {
        if hex.is_empty() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        match self.store.images_starting(hex).as_slice() {
            [one] => Some(Arc::clone(one)),
            _ => None,
        }
    }
}

/// A whole id, with or without `sha256:`.
fn whole_id(text: &str) -> Option<Digest> {
    text.parse().ok().or_else(|| Digest::from_hex(text).ok())
}

/// Whether `text` is the beginning of this image's id, rather than a name.
pub(super) fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.to_string().starts_with(text) || id.hex().starts_with(text)
}

/// A malformed reference is the caller's fault.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn refused(error: ReferenceError) -> Error {
    Error::invalid(error.to_string())
}
