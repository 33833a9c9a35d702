//! All images, with those found at once that have a blob, a layer or a parent: with many images, what concerns one must not
//! look at all.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, Values};
use std::hash::Hash;
use std::sync::Arc;

use wharf_oci::{DiffId, Digest};

use crate::image::Image;

/// Images by id.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    images: HashMap<Digest, Arc<Image>>,
    /// Ids of images.
    of_blob: Index<Digest>,
    of_layer: Index<DiffId>,
    of_parent: Index<Digest>,
}

impl Catalog {
    pub(crate) fn get(&self, id: &Digest) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    pub(crate) fn values(&self) -> Values<'_, Digest, Arc<Image>> {
        self.images.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// Adds an image, in place of an earlier state of it.
    pub(crate) fn insert(&mut self, image: Arc<Image>) {
        let id = image.id;
        self.remove(&id);
        image.blobs.iter().for_each(|blob| self.of_blob.add(*blob, id));
        image.layers.iter().for_each(|layer| self.of_layer.add(layer.diff_id, id));
        image.parent.iter().for_each(|parent| self.of_parent.add(*parent, id));
        self.images.insert(id, image);
    }

    pub(crate) fn extend(&mut self, images: impl IntoIterator<Item = Image>) {
        images.into_iter().for_each(|image| self.insert(Arc::new(image)));
    }

    pub(crate) fn remove(&mut self, id: &Digest) {
        let Some(image) = self.images.remove(id) else { return };
        image.blobs.iter().for_each(|blob| self.of_blob.take(*blob, id));
        image.layers.iter().for_each(|layer| self.of_layer.take(layer.diff_id, id));
        image.parent.iter().for_each(|parent| self.of_parent.take(*parent, id));
    }

    /// The images that need a blob, removed ones included.
    pub(crate) fn with_blob(&self, digest: &Digest) -> impl Iterator<Item = &Arc<Image>> {
        self.of_blob.of(digest).iter().filter_map(|id| self.images.get(id))
    }

    /// The images that have a layer, anywhere in their chain, removed ones included.
    pub(crate) fn with_layer(&self, diff_id: &DiffId) -> impl Iterator<Item = &Arc<Image>> {
        self.of_layer.of(diff_id).iter().filter_map(|id| self.images.get(id))
    }

    /// The images that were made from one, removed ones included.
    pub(crate) fn with_parent(&self, parent: &Digest) -> impl Iterator<Item = &Arc<Image>> {
        self.of_parent.of(parent).iter().filter_map(|id| self.images.get(id))
    }

    /// The images that begin with these layers, removed ones included.
    pub(crate) fn on_chain<'a>(&'a self, chain: &'a [DiffId]) -> impl Iterator<Item = &'a Arc<Image>> {
        let above = chain.last().into_iter().flat_map(|top| self.with_layer(top));
        above.filter(|image| image.begins_with(chain))
    }
}

/// Ids of images by what they have; each once, however often it has it.
#[derive(Debug)]
struct Index<K>(HashMap<K, Vec<Digest>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Index<K> {
    fn of(&self, key: &K) -> &[Digest] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, key: K, id: Digest) {
        let ids = self.0.entry(key).or_default();
        // Those of one image are added one after the other.
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }

    fn take(&mut self, key: K, id: &Digest) {
        let Entry::Occupied(mut ids) = self.0.entry(key) else { return };
        ids.get_mut().retain(|other| other != id);
        if ids.get().is_empty() {
            ids.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_oci::{Descriptor, Platform};

    use super::*;
    use crate::image::ImageLayer;

    fn image(name: &str, layers: &[&str], parent: Option<Digest>) -> Image {
        let described = |text: &str| Descriptor::new("", Digest::of(text.as_bytes()), 0);
        let layer = |name: &&str| ImageLayer {
            diff_id: DiffId(Digest::of(name.as_bytes())),
            blob: described(name),
            size: 0,
        };
        Image {
            id: Digest::of(name.as_bytes()),
            config_size: 0,
            manifest: described("manifest"),
            target: described("manifest"),
            layers: layers.iter().map(layer).collect(),
            blobs: layers.iter().map(|layer| Digest::of(layer.as_bytes())).collect(),
            parent,
            tagged: None,
            created: None,
            platform: Platform::default(),
            labels: std::collections::BTreeMap::new(),
            made: false,
            removed: false,
        }
    }

    #[test]
    fn images_are_found_by_what_they_have() {
        let mut catalog = Catalog::default();
        let base = image("base", &["a"], None);
        let child = image("child", &["a", "b", "a"], Some(base.id));
        let other = image("other", &["b", "a"], None);
        catalog.extend([base.clone(), child.clone(), other.clone()]);
        let layer = |name: &str| DiffId(Digest::of(name.as_bytes()));
        let ids = |found: Vec<&Arc<Image>>| {
            let mut ids: Vec<Digest> = found.iter().map(|image| image.id).collect();
            ids.sort();
            ids
        };
        let sorted = |images: &[&Image]| {
            let mut ids: Vec<Digest> = images.iter().map(|image| image.id).collect();
            ids.sort();
            ids
        };
        let on = |catalog: &Catalog, names: &[&str]| {
            let chain: Vec<DiffId> = names.iter().map(|name| layer(name)).collect();
            ids(catalog.on_chain(&chain).collect())
        };
        assert_eq!(ids(catalog.with_layer(&layer("b")).collect()), sorted(&[&child, &other]));
        assert_eq!(ids(catalog.with_blob(&layer("a").0).collect()), sorted(&[&base, &child, &other]));
        assert_eq!(ids(catalog.with_parent(&base.id).collect()), [child.id]);
        assert_eq!(on(&catalog, &["a"]), sorted(&[&base, &child]));
        assert_eq!(on(&catalog, &["a", "b"]), [child.id]);
        assert_eq!(on(&catalog, &[]), []);
        catalog.insert(Arc::new(Image { parent: None, blobs: Vec::new(), ..child.clone() }));
        assert_eq!(catalog.len(), 3);
        assert_eq!(catalog.with_parent(&base.id).count(), 0);
        assert_eq!(ids(catalog.with_blob(&layer("a").0).collect()), sorted(&[&base, &other]));
        for image in [base, child, other] {
            catalog.remove(&image.id);
        }
        assert!(
            catalog.of_blob.0.is_empty() && catalog.of_layer.0.is_empty() && catalog.of_parent.0.is_empty()
        );
    }
}
