//! Taking names away, and images with them (moby, daemon/images/image_delete.go).

use std::sync::Arc;

use wharf_api::DeleteItem;
use wharf_oci::{ChainId, Digest, Platform, Reference};
use wharf_store::Image;

use super::Images;
use super::conflict::{Checks, short};
use super::inspect::check_platform;
use super::resolve::{is_id_prefix, refused};
use crate::error::{Error, Result};

impl Images {
    /// Removes what `name` means: a name, and the image with its last name; by id, the image with all its names.
    /// With a platform, only if the image is for it.
    pub async fn remove(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        noprune: bool,
        platforms: &[Platform],
    ) -> Result<Vec<DeleteItem>> {
        if platforms.len() > 1 {
            return Err(Error::invalid("multiple platforms are not supported"));
        }
        check_platform(&*self.resolve(name)?, name, platforms.first())?;
        let name = name.to_owned();
        self.run(move |images| images.delete(&name, force, !noprune)).await
    }

    pub(super) fn delete(&self, name: &str, force: bool, prune: bool) -> Result<Vec<DeleteItem>> {
        let image = self.resolve(name)?;
        let mut items = Vec::new();
        let names = self.store.names_of(&image.id);
        let by_name = !is_id_prefix(&image.id, name);
        if by_name {
            self.check_last_name(&image, name, &names, force)?;
            if self.untag(&image, name, &mut items)? {
                return Ok(items);
            }
        } else if is_single(&names) {
            let checks = Checks { names: false, ..Checks::of(force) };
            if let Some(conflict) = self.conflict(&image, checks) {
                return Err(conflict.into());
            }
            self.drop_names(&image, &names, &mut items)?;
        }
        self.delete_image(&image, force, prune, by_name, &mut items)?;
        Ok(items)
    }

    /// The last name of an image that a container uses goes only by force: the image would be left dangling.
    fn check_last_name(&self, image: &Image, name: &str, names: &[Reference], force: bool) -> Result<()> {
        if force || !is_single(names) {
            return Ok(());
        }
        match self.user_of(&image.id) {
            None => Ok(()),
            Some(container) => Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its \
                 referenced image {}",
                short(&container),
                image.id.short()
            ))),
        }
    }

    /// Takes one name away, and the digests of its repository with its last tag. Whether the image has names left.
    fn untag(&self, image: &Image, name: &str, items: &mut Vec<DeleteItem>) -> Result<bool> {
        let wanted = Reference::parse(name).map_err(refused)?;
        let wanted = match wanted.digest() {
            Some(digest) => wanted.with_digest(digest),
            None => wanted.with_default_tag(),
        };
        self.drop_names(image, std::slice::from_ref(&wanted), items)?;
        let mut left = self.store.names_of(&image.id);
        let same = |name: &Reference| name.repository() == wanted.repository();
        let tagged = left.iter().any(|name| name.digest().is_none() && same(name));
        if wanted.digest().is_none() && !tagged {
            let (digests, others): (Vec<Reference>, Vec<Reference>) =
                left.into_iter().partition(|name| name.digest().is_some() && same(name));
            self.drop_names(image, &digests, items)?;
            left = others;
        }
        Ok(!left.is_empty())
    }

    fn drop_names(&self, image: &Image, names: &[Reference], items: &mut Vec<DeleteItem>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.store.untag(names)?;
        for name in names {
            items.push(DeleteItem { untagged: name.familiar(), deleted: String::new() });
            self.emit_id("untag", image);
        }
        Ok(())
    }

    /// Deletes an image, then parents that nothing needs any more. `quiet`: what speaks against it is no error
    /// unless the image is dangling and unused.
    fn delete_image(
        &self,
        image: &Arc<Image>,
        force: bool,
        prune: bool,
        quiet: bool,
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let (mut image, mut force, mut quiet) = (Arc::clone(image), force, quiet);
        loop {
            if let Some(conflict) = self.conflict(&image, Checks::of(force)) {
                let dangling =
                    self.store.names_of(&image.id).is_empty() && !self.store.has_children(&image.id);
                return if quiet && (!dangling || conflict.used) { Ok(()) } else { Err(conflict.into()) };
            }
            self.drop_names(&image, &self.store.names_of(&image.id), items)?;
            let freed = self.only_in(&image);
            self.store.remove_images(&[image.id])?;
            self.emit_id("delete", &image);
            let deleted = |text: String| DeleteItem { deleted: text, untagged: String::new() };
            items.push(deleted(image.id.to_string()));
            items.extend(freed.into_iter().map(|id| deleted(id.to_string())));
            match image.parent.and_then(|parent| self.store.image(&parent)) {
                Some(parent) if prune => (image, force, quiet) = (parent, false, true),
                _ => return Ok(()),
            }
        }
    }

    /// The layer chains that no other image and no container needs, topmost first.
    fn only_in(&self, image: &Image) -> Vec<ChainId> {
        if self.user_of(&image.id).is_some() {
            return Vec::new();
        }
        // Two chains have an id in common where they begin alike.
        let mut chain = ChainId::chain(&image.diff_ids()).split_off(self.store.shared_depth(image));
        chain.reverse();
        chain
    }

    /// What the layer at the end of a chain takes, bytes.
    pub(super) fn chain_sizes(&self) -> std::collections::HashMap<Digest, u64> {
        let images = self.store.images();
        let chains =
            images.iter().flat_map(|image| ChainId::chain(&image.diff_ids()).into_iter().zip(&image.layers));
        chains.map(|(chain, layer)| (chain.0, layer.size)).collect()
    }
}

/// Whether the names are one tag at most, with digests of the same repository only.
fn is_single(names: &[Reference]) -> bool {
    if names.len() <= 1 {
        return true;
    }
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    tags <= 1 && names.windows(2).all(|pair| pair[0].repository() == pair[1].repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_with_its_repositorys_digests_is_single() {
        let name = |text: &str| Reference::parse(text).unwrap();
        let digest = |repository: &str| name(repository).with_digest(Digest::of(b"x"));
        assert!(is_single(&[]));
        assert!(is_single(&[name("a:1"), digest("a")]));
        assert!(!is_single(&[name("a:1"), digest("b")]));
        assert!(!is_single(&[name("a:1"), name("a:2")]));
        assert!(is_single(&[digest("a"), digest("a")]));
    }
}
