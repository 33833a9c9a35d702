//! Images and names as they are: looking up, naming, removing.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use wharf_oci::{DiffId, Digest, Reference};

use crate::error::{Error, Result};
use crate::image::{Image, ImageLayer, Name};
use crate::{Store, blob, schema};

impl Store {
    /// All images, in no order.
    #[must_use]
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.read().images.values().filter(|image| !image.removed).cloned().collect()
    }

    /// An image by its id.
    #[must_use]
    pub fn image(&self, id: &Digest) -> Option<Arc<Image>> {
        self.read().image(id).cloned()
    }

    /// Whether an image was made from this one.
    #[must_use]
    pub fn has_children(&self, id: &Digest) -> bool {
        self.read().images.with_parent(id).any(|image| !image.removed)
    }

    /// How many of an image's layers, from the lowest, another image begins with too.
    #[must_use]
    pub fn shared_depth(&self, image: &Image) -> usize {
        let (state, chain) = (self.read(), image.diff_ids());
        let other = |depth: &usize| {
            let mut others = state.images.on_chain(&chain[..*depth]);
            others.any(|other| !other.removed && other.id != image.id)
        };
        (1..=chain.len()).rev().find(other).unwrap_or(0)
    }

    /// An image by its id, also one that was removed and only lives on below a container.
    #[must_use]
    pub fn image_below(&self, id: &Digest) -> Option<Arc<Image>> {
        self.read().images.get(id).cloned()
    }

    /// Images whose id, manifest or index digest starts with these hex digits.
    #[must_use]
    pub fn images_starting(&self, hex: &str) -> Vec<Arc<Image>> {
        let state = self.read();
        let live = state.images.values().filter(|image| !image.removed);
        let starts = |digest: &Digest| digest.hex().starts_with(hex);
        let mut found: Vec<Arc<Image>> = live.clone().filter(|image| starts(&image.id)).cloned().collect();
        if found.is_empty() {
            let target = |image: &&Arc<Image>| starts(&image.target.digest) || starts(&image.manifest.digest);
            found = live.filter(target).cloned().collect();
        }
        found
    }

    /// What a full name points to.
    #[must_use]
    pub fn name(&self, name: &Reference) -> Option<Name> {
        self.read().names.get(&name.to_string()).copied()
    }

    /// All names and what they point to, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<(Reference, Name)> {
        let state = self.read();
        state
            .names
            .iter()
            .filter_map(|(name, target)| Some((Reference::parse(name).ok()?, *target)))
            .collect()
    }

    /// The names that begin with `start`, and what they point to, sorted.
    #[must_use]
    pub fn names_from(&self, start: &str) -> Vec<(Reference, Name)> {
        let state = self.read();
        let from = state.names.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        let same = from.take_while(|(name, _)| name.starts_with(start));
        same.filter_map(|(name, target)| Some((Reference::parse(name).ok()?, *target))).collect()
    }

    /// The names of one image, sorted.
    #[must_use]
    pub fn names_of(&self, image: &Digest) -> Vec<Reference> {
        let state = self.read();
        let names = state.names.iter().filter(|(_, target)| target.image == *image);
        names.filter_map(|(name, _)| Reference::parse(name).ok()).collect()
    }

    /// Gives an image a name, taking it from any other.
    ///
    /// # Errors
    /// [`Error::NoImage`], or when the disk fails.
    pub fn tag(&self, name: &Reference, id: &Digest) -> Result<()> {
        let _changing = self.change();
        let known = self.image(id).ok_or(Error::NoImage(*id))?;
        let image = Image { tagged: Some(Timestamp::now().to_string()), ..(*known).clone() };
        let record = Name { image: *id, target: image.target.digest };
        let key = name.to_string();
        let write = self.database.begin_write()?;
        schema::put(&write, schema::NAMES, &key, &record)?;
        schema::put(&write, schema::IMAGES, &id.to_string(), &image)?;
        write.commit()?;
        let mut state = self.write();
        state.names.insert(key, record);
        state.images.insert(Arc::new(image));
        Ok(())
    }

    /// Gives an image a name for `target`, a manifest or index that it came as or was pushed as.
    ///
    /// # Errors
    /// [`Error::NoImage`], or when the disk fails.
    pub fn name_target(&self, name: &Reference, id: &Digest, target: &Digest) -> Result<()> {
        let _changing = self.change();
        self.image(id).ok_or(Error::NoImage(*id))?;
        let record = Name { image: *id, target: *target };
        let write = self.database.begin_write()?;
        schema::put(&write, schema::NAMES, &name.to_string(), &record)?;
        write.commit()?;
        self.write().names.insert(name.to_string(), record);
        Ok(())
    }

    /// Takes names away; the images stay.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn untag(&self, names: &[Reference]) -> Result<()> {
        let _changing = self.change();
        let write = self.database.begin_write()?;
        for name in names {
            schema::delete(&write, schema::NAMES, &name.to_string())?;
        }
        write.commit()?;
        let mut state = self.write();
        for name in names {
            state.names.remove(&name.to_string());
        }
        Ok(())
    }

    /// Removes images with their names and frees what only they kept. Below a container an image lives on, unlisted.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_images(&self, ids: &[Digest]) -> Result<()> {
        let gone: HashSet<Digest> = {
            let _changing = self.change();
            let mut changed = Vec::new();
            let mut names = Vec::new();
            {
                let state = self.read();
                for id in ids {
                    if let Some(image) = state.image(id) {
                        changed.push(Image { removed: true, ..(**image).clone() });
                    }
                    names.extend(
                        state.names.iter().filter(|(_, to)| to.image == *id).map(|(name, _)| name.clone()),
                    );
                }
            }
            let write = self.database.begin_write()?;
            for name in &names {
                schema::delete(&write, schema::NAMES, name)?;
            }
            for image in &changed {
                schema::put(&write, schema::IMAGES, &image.id.to_string(), image)?;
            }
            write.commit()?;
            let mut state = self.write();
            for name in &names {
                state.names.remove(name);
            }
            let gone = changed.iter().flat_map(|image| image.blobs.iter().copied()).collect();
            state.images.extend(changed);
            gone
        };
        // A request that was cut short while another brought the image whole must not keep it now.
        self.end_leases(|lease| lease.blobs.iter().all(|blob| gone.contains(blob)))?;
        self.collect_of(ids)
    }

    /// Reads a small blob whole, verified.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Mismatch`], or when it has more than `limit` bytes.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        blob::read(&self.paths.blob(digest), digest, limit)
    }

    /// Opens a blob. Its bytes are not verified again.
    ///
    /// # Errors
    /// [`Error::NoBlob`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        blob::open(&self.paths.blob(digest), digest)
    }

    /// A layer as an image names it, one that is compressed before one that is not.
    #[must_use]
    pub fn image_layer(&self, diff_id: &DiffId) -> Option<ImageLayer> {
        let state = self.read();
        let of_images = state.images.with_layer(diff_id).flat_map(|image| &image.layers);
        let of_steps = state.steps.values().filter_map(|step| step.layer.as_ref());
        let same = of_images.chain(of_steps).filter(|layer| layer.diff_id == *diff_id);
        let there = same.filter(|layer| state.blobs.contains_key(&layer.blob.digest));
        let plain = |layer: &&ImageLayer| layer.blob.digest == layer.diff_id.0;
        there.min_by_key(|layer| (plain(layer), layer.blob.digest)).cloned()
    }

    /// Whether a blob is stored.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.read().blobs.contains_key(digest)
    }

    /// The data root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.paths.root().to_owned()
    }
}
