//! From blobs to trees: at arrival, for images whose order is known, and again after a power cut.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_layer::{UnpackOptions, UnpackSummary};
use wharf_oci::{DiffId, Digest};
use wharf_sys::root::Root;

use crate::batch::{Batch, Unpacked};
use crate::error::{Error, Result, at};
use crate::image::{Image, ImageLayer};
use crate::snapshot::{Snapshotter, tree};
use crate::{Store, schema};

/// How much is read from a blob at once, bytes.
const READ: usize = 256 * 1024;

impl Batch {
    /// Whether a layer can be unpacked before the ones below it are known: then [`Self::unpack_early`] may be used.
    #[must_use]
    pub fn stacks(&self) -> bool {
        self.store().snapshotter().stacks()
    }

    /// Whether a layer of this diff id is unpacked already, here or in the store; only where layers stack.
    #[must_use]
    pub fn has_layer(&self, diff_id: &DiffId) -> bool {
        let key = self.store().snapshotter().key(&[*diff_id]);
        self.stacks() && (self.pending_layer(&key).is_some() || self.pin_layer(&key))
    }

    /// Unpacks an uncompressed layer as it arrives, up to the archive's end. Whoever reads the stream computes its
    /// digest and hands the tree in with [`EarlyLayer::keep`].
    ///
    /// # Errors
    /// When the archive is refused or the disk fails; nothing is left then.
    pub fn unpack_early(&self, input: impl BufRead) -> Result<EarlyLayer<'_>> {
        let _first = self.store().trash.give_way();
        let early = self.early()?;
        let root = open(&tree(&early.dir))?;
        let (size, _) = wharf_layer::extract(input, &root, Path::new(""), &self.store().options())?;
        Ok(EarlyLayer { size, ..early })
    }

    /// Unpacks a layer that is compressed in whatever way, as it arrives, and takes it in under its diff id.
    ///
    /// # Errors
    /// When the archive is refused or the disk fails; nothing is left then.
    pub fn unpack_compressed(&self, input: impl Read + Send) -> Result<Unpacked> {
        let _first = self.store().trash.give_way();
        let early = self.early()?;
        let root = open(&tree(&early.dir))?;
        let (_, plain) = wharf_layer::decompressor(input)?;
        let summary = wharf_layer::unpack(plain, &root, &self.store().options())?;
        EarlyLayer { size: summary.size, ..early }.keep(summary.diff_id)
    }

    /// Unpacks the layers of an image that are not yet, base first, and verifies each against its diff id.
    /// Returns the sizes of those unpacked in this batch, by position; none for those the store had.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when a blob is not the layer that its diff id names; else as unpacking may fail.
    pub fn unpack(&self, layers: &[ImageLayer]) -> Result<Vec<Option<u64>>> {
        let store = self.store();
        let chain: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
        let keys = store.chain_keys(&chain);
        let mut sizes = Vec::with_capacity(layers.len());
        for (depth, layer) in layers.iter().enumerate() {
            if let Some(size) = self.pending_layer(&keys[depth]) {
                sizes.push(Some(size));
                continue;
            }
            if self.pin_layer(&keys[depth]) {
                sizes.push(store.layer_size(&keys[depth], &layer.diff_id));
                continue;
            }
            let below = if depth == 0 { store.paths.base() } else { self.layer_dir(&keys[depth - 1]) };
            let dir = self.place()?;
            let blob = self.open_blob(&layer.blob.digest)?;
            let summary = store.unpack_into(&dir, &below, blob, layer)?;
            self.add_layer(keys[depth].clone(), dir, summary.size)?;
            sizes.push(Some(summary.size));
        }
        Ok(sizes)
    }

    /// Reads a layer that is unpacked already, compressed in whatever way, for its diff id alone.
    ///
    /// # Errors
    /// When the stream cannot be read or decompressed.
    pub fn diff_id(&self, input: impl Read + Send) -> Result<DiffId> {
        let (_, mut plain) = wharf_layer::decompressor(input)?;
        let mut hasher = wharf_oci::Hasher::new();
        let (mut buffer, mut left) = (vec![0; READ], self.store().options().limits.bytes);
        loop {
            let count = plain.read(&mut buffer).map_err(wharf_layer::Error::Stream)?;
            left = left.checked_sub(count as u64).ok_or_else(|| {
                wharf_layer::Error::Stream(std::io::Error::from(std::io::ErrorKind::QuotaExceeded))
            })?;
            match count {
                0 => return Ok(DiffId(hasher.finish())),
                _ => hasher.update(&buffer[..count]),
            }
        }
    }

    fn early(&self) -> Result<EarlyLayer<'_>> {
        let early = EarlyLayer { batch: self, dir: self.place()?, size: 0 };
        let store = self.store();
        store.snapshotter().prepare(&early.dir, &store.paths.base())?;
        Ok(early)
    }
}

/// A tree whose diff id is not known yet. Not handed in, it goes with its batch.
#[derive(Debug)]
#[must_use]
pub struct EarlyLayer<'batch> {
    batch: &'batch Batch,
    dir: PathBuf,
    size: u64,
}

impl EarlyLayer<'_> {
    /// Takes the tree in as the layer `diff_id`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(self, diff_id: DiffId) -> Result<Unpacked> {
        let key = self.batch.store().snapshotter().key(&[diff_id]);
        self.batch.add_layer(key, self.dir, self.size)?;
        Ok(Unpacked { diff_id, size: self.size })
    }
}

impl Store {
    /// Unpacks again what a power cut took of an image's layers; the usual case costs one look.
    pub(crate) fn ensure_unpacked(&self, id: &Digest) -> Result<()> {
        let image = {
            let state = self.read();
            let image = state.images.get(id).ok_or(Error::NoImage(*id))?;
            let keys = self.chain_keys(&image.diff_ids());
            if keys.iter().all(|key| state.layers.contains_key(key)) {
                return Ok(());
            }
            Arc::clone(image)
        };
        self.unpack_again(&image)
    }

    fn unpack_again(&self, image: &Image) -> Result<()> {
        let _changing = self.change();
        let keys = self.chain_keys(&image.diff_ids());
        let mut below = self.paths.base();
        for (layer, key) in image.layers.iter().zip(keys) {
            let place = self.paths.layers().join(&key);
            if !self.read().layers.contains_key(&key) {
                let dir = self.paths.ingest().join(format!("again-{key}"));
                let result = crate::blob::open(&self.paths.blob(&layer.blob.digest), &layer.blob.digest)
                    .and_then(|blob| self.unpack_into(&dir, &below, blob, layer));
                if let Err(error) = result {
                    self.trash.take(&dir)?;
                    return Err(error);
                }
                let placed = self.place_layers([(key, (dir, layer.size))].into())?;
                let write = self.database.begin_write()?;
                for (key, layer) in &placed {
                    schema::put(&write, schema::LAYERS, key, layer)?;
                }
                write.commit()?;
                self.write().layers.extend(placed);
            }
            below = place;
        }
        Ok(())
    }

    fn unpack_into(&self, dir: &Path, below: &Path, blob: File, layer: &ImageLayer) -> Result<UnpackSummary> {
        let _first = self.trash.give_way();
        self.snapshotter().prepare(dir, below)?;
        let root = open(&tree(dir))?;
        let (_, plain) = wharf_layer::decompressor(BufReader::with_capacity(READ, blob))?;
        let summary = wharf_layer::unpack(plain, &root, &self.options())?;
        if summary.diff_id != layer.diff_id {
            return Err(Error::Mismatch {
                expected: layer.diff_id.to_string(),
                actual: summary.diff_id.to_string(),
            });
        }
        Ok(summary)
    }

    fn options(&self) -> UnpackOptions {
        UnpackOptions::new(self.snapshotter().whiteouts())
    }

    /// The keys of every layer of a chain, base first.
    pub(crate) fn chain_keys(&self, chain: &[DiffId]) -> Vec<String> {
        let snapshotter: &dyn Snapshotter = self.snapshotter();
        (1..=chain.len()).map(|depth| snapshotter.key(&chain[..depth])).collect()
    }

    /// What a layer takes unpacked.
    fn layer_size(&self, key: &str, diff_id: &DiffId) -> Option<u64> {
        let state = self.read();
        if let Some(layer) = state.layers.get(key).filter(|layer| layer.size > 0) {
            return Some(layer.size);
        }
        // Records of earlier versions do not say.
        let mut layers = state.images.with_layer(diff_id).flat_map(|image| &image.layers);
        layers.find(|layer| layer.diff_id == *diff_id).map(|layer| layer.size)
    }
}

fn open(dir: &Path) -> Result<Root> {
    Root::open(dir).map_err(|error| Error::io(at("open", dir), std::io::Error::other(error.to_string())))
}
