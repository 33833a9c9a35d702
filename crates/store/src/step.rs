//! Trees that build steps leave: layers that no image names yet.
//!
//! A step is begun on a chain of layers, written to like a container's root, and kept under an id of its own: no tar is
//! made and nothing is synced for it. Only when an image is made of it does it become a layer like others
//! ([`Store::export_step`]); its directory moves then, and the step goes on naming it. Where an image's layer differs from
//! what the step left, because its times have a bound, the step stays what it is. After an unclean boot, steps that were
//! not synced are forgotten: a build makes them again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use wharf_oci::image::media_type;
use wharf_oci::{Descriptor, DiffId};
use wharf_sys::mount::Recipe;
use wharf_sys::root::Root;

use crate::batch::Batch;
use crate::blob::Received;
use crate::error::{Doing, Error, Result, at};
use crate::image::{ImageLayer, Layer};
use crate::snapshot::tree;
use crate::{Driver, Store, schema, usage};

/// A layer of a chain: an image's, or one that a build step left.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainLayer {
    /// An unpacked layer of an image.
    Image(DiffId),
    /// A step's, by its id.
    Step(String),
}

/// The layers of a tree, base first; none for an empty one.
pub type Chain = Vec<ChainLayer>;

/// What is recorded of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The boot in which it was made, until it is synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced: Option<String>,
    /// Bytes of its files; `None`: nobody has asked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// When it was kept, in milliseconds since 1970; 0: it is a layer of an image that was made elsewhere.
    #[serde(default)]
    pub(crate) created: i64,
    /// The layer that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<ImageLayer>,
    /// The layer that was last made of it with a bound on its times, and that bound in seconds since 1970. It may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bounded: Option<(i64, ImageLayer)>,
}

impl StepRecord {
    /// The bound on its times: a layer that was made elsewhere is what it is.
    fn bound(&self, latest: Option<i64>) -> Option<i64> {
        latest.filter(|_| self.created != 0 || self.layer.is_none())
    }
}

/// A step that a batch makes a layer of.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    pub(crate) id: String,
    pub(crate) layer: ImageLayer,
    /// The bound on its times where something was newer.
    pub(crate) bound: Option<i64>,
}

/// A step whose bytes are packed, for one image.
#[derive(Debug)]
pub struct PackedStep {
    exported: Exported,
    blob: Received,
}

/// Written at once, bytes: archives come in small pieces.
const PIECE: usize = 256 * 1024;

/// Passes on what is written until nobody wants it any more.
struct Wanted<W, F> {
    output: W,
    given_up: F,
}

impl<W: Write, F: Fn() -> bool> Write for Wanted<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.given_up)() { Err(io::Error::other("given up")) } else { self.output.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// What [`Store::place_steps`] did.
#[derive(Debug, Default)]
pub(crate) struct PlacedSteps {
    /// By the snapshotter's key.
    pub(crate) layers: Vec<(String, Layer)>,
    /// By id.
    pub(crate) records: Vec<(String, StepRecord)>,
}

/// A step under way. Dropped before [`Self::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Step {
    store: Arc<Store>,
    dir: PathBuf,
    id: String,
    lower: Vec<PathBuf>,
    kept: bool,
}

impl Store {
    /// Begins a step on `below`.
    ///
    /// # Errors
    /// When layers stack on no other than overlay, a layer is not there, or the disk fails.
    pub fn begin_step(self: &Arc<Self>, below: &[ChainLayer]) -> Result<Step> {
        self.stacking()?;
        let lower = self.chain_dirs(below)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = unique(&format!("{}-{number}", self.boot.get(..8).unwrap_or("boot")));
        let dir = self.paths.ingest().join(format!("step-{id}"));
        self.snapshotter().create(&dir, &lower)?;
        Ok(Step { store: Arc::clone(self), dir, id, lower, kept: false })
    }

    /// How the tree of a chain is mounted, read-only: its own files, without the mount points that a container finds.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when one of its layers is gone.
    pub fn chain_view(&self, chain: &[ChainLayer]) -> Result<Recipe> {
        self.stacking()?;
        let mut dirs = self.chain_dirs(chain)?;
        dirs.pop();
        if dirs.is_empty() {
            dirs.push(self.paths.empty());
        }
        Ok(self.snapshotter().view(&dirs))
    }

    /// Whether all layers of a chain are there.
    #[must_use]
    pub fn has_chain(&self, chain: &[ChainLayer]) -> bool {
        let state = self.read();
        chain.iter().all(|layer| match layer {
            ChainLayer::Image(diff_id) => state.layers.contains_key(&diff_id.0.hex()),
            ChainLayer::Step(id) => state.steps.get(id).is_some_and(|step| {
                step.layer.as_ref().is_none_or(|layer| state.layers.contains_key(&layer.diff_id.0.hex()))
            }),
        })
    }

    /// What each step takes on the disk, bytes, and whether an image has it too: then its end frees nothing. Steps are
    /// walked once, the first time that somebody asks with `measure`; those that never were take nothing else.
    #[must_use]
    pub fn step_sizes(&self, measure: bool) -> HashMap<String, (u64, bool)> {
        if measure && let Err(error) = self.measure_steps() {
            tracing::warn!("measure build steps: {error}");
        }
        let state = self.read();
        let layers = state.images.values().flat_map(|image| &image.layers);
        let of_images: HashSet<DiffId> = layers.map(|layer| layer.diff_id).collect();
        let size = |step: &StepRecord| match &step.layer {
            Some(layer) => (layer.size, of_images.contains(&layer.diff_id)),
            None => (step.size.unwrap_or(0), false),
        };
        state.steps.iter().map(|(id, step)| (id.clone(), size(step))).collect()
    }

    /// Notes what steps take that nobody has measured yet: they never change.
    fn measure_steps(&self) -> Result<()> {
        let unknown: Vec<String> = {
            let state = self.read();
            let unknown = state.steps.iter().filter(|(_, step)| step.size.is_none() && step.layer.is_none());
            unknown.map(|(id, _)| id.clone()).collect()
        };
        for id in &unknown {
            match usage::walk(&tree(&self.paths.steps().join(id))) {
                Ok(usage) => self.note_size(id, usage.bytes),
                // It goes meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!("measure build step {id}: {error}");
                    self.note_size(id, 0);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let _changing = self.change();
        let mut write = self.database.begin_write()?;
        // What is lost is measured again.
        write.set_durability(redb::Durability::None)?;
        for id in &unknown {
            if let Some(step) = self.read().steps.get(id) {
                schema::put(&write, schema::STEPS, id, step)?;
            }
        }
        Ok(write.commit()?)
    }

    /// Notes what a step takes, in memory.
    fn note_size(&self, id: &str, bytes: u64) {
        if let Some(step) = self.write().steps.get_mut(id) {
            step.size = Some(bytes);
        }
    }

    /// When a step was kept, in milliseconds since 1970.
    #[must_use]
    pub fn step_created(&self, id: &str) -> Option<i64> {
        self.read().steps.get(id).map(|step| step.created)
    }

    /// Makes a step a layer of an image to be: packs it, once. In the layer nothing is newer than `latest`, in seconds
    /// since 1970. The layer is in `batch`, or in the store already; with the batch's commit the step gives it its
    /// directory.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or when the disk fails.
    pub fn export_step(&self, batch: &Batch, id: &str, latest: Option<i64>) -> Result<ImageLayer> {
        let record = self.read().steps.get(id).cloned().ok_or_else(|| Error::NoSnapshot(id.to_owned()))?;
        let latest = record.bound(latest);
        let known = match (latest, &record.bounded) {
            (None, _) => record.layer.as_ref(),
            (Some(latest), Some((bound, layer))) if latest == *bound => Some(layer),
            _ => None,
        };
        if let Some(layer) = known
            && batch.has_layer(&layer.diff_id)
            && batch.blob_size(&layer.blob.digest).is_some()
        {
            return Ok(layer.clone());
        }
        let packed = self.pack_step(batch, id, latest, || false)?;
        self.export_packed(batch, packed)
    }

    /// Packs a step ahead of [`Self::export_step`], for [`Self::export_packed`]; `None`: it is a layer already. The bytes
    /// lie in `batch`, which must last until then. Given up when `given_up` says so.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or when the disk fails.
    pub fn pack_ahead(
        &self,
        batch: &Batch,
        id: &str,
        latest: Option<i64>,
        given_up: impl Fn() -> bool,
    ) -> Result<Option<PackedStep>> {
        let known =
            self.read().steps.get(id).is_some_and(|record| match (record.bound(latest), &record.bounded) {
                (Some(latest), Some((bound, _))) => latest == *bound,
                (latest, _) => latest.is_none() && record.layer.is_some(),
            });
        if known {
            return Ok(None);
        }
        let mut packed = self.pack_step(batch, id, latest, given_up)?;
        // Also the disk may do its part already.
        packed.blob.flush_early()?;
        Ok(Some(packed))
    }

    fn pack_step(
        &self,
        batch: &Batch,
        id: &str,
        latest: Option<i64>,
        given_up: impl Fn() -> bool,
    ) -> Result<PackedStep> {
        let record = self.read().steps.get(id).cloned().ok_or_else(|| Error::NoSnapshot(id.to_owned()))?;
        let dir = self.step_dir(id, record.layer.as_ref());
        let upper = Root::open(tree(&dir))
            .map_err(|error| Error::io(at("open", &dir), std::io::Error::other(error.to_string())))?;
        let mut writer = batch.blob()?;
        let output = BufWriter::with_capacity(PIECE, Wanted { output: &mut writer, given_up });
        let (size, bounded) = wharf_layer::write_diff(&upper, latest, output)?;
        let blob = writer.finish(None)?;
        self.note_size(id, size);
        // Nothing is compressed: what is kept is what is in the tree.
        let layer = ImageLayer {
            diff_id: DiffId(blob.digest),
            blob: Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size),
            size,
        };
        let bound = latest.filter(|_| bounded);
        Ok(PackedStep { exported: Exported { id: id.to_owned(), layer, bound }, blob })
    }

    /// [`Self::export_step`] of what was packed ahead.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn export_packed(&self, batch: &Batch, packed: PackedStep) -> Result<ImageLayer> {
        let layer = packed.exported.layer.clone();
        batch.take_in(packed.blob)?;
        batch.export(packed.exported);
        Ok(layer)
    }

    /// With the commit of `batch`, a layer that is unpacked in it or in the store is a step of its own, as if it had been
    /// made at `created`, in milliseconds since 1970, or, for 0, as what it is, whatever bound an image has on its times.
    /// The id that it gets is told before, so that it can be held.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when the layer is not there.
    pub fn adopt_step(&self, batch: &Batch, layer: ImageLayer, created: i64) -> Result<String> {
        if !batch.has_layer(&layer.diff_id) || batch.blob_size(&layer.blob.digest).is_none() {
            return Err(Error::NoSnapshot(layer.diff_id.0.hex()));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = unique(&format!("{}-{number}", self.boot.get(..8).unwrap_or("boot")));
        let record = StepRecord { created, layer: Some(layer), ..StepRecord::default() };
        batch.add_step(id.clone(), record);
        Ok(id)
    }

    /// A step that is this layer and was made at that time, in milliseconds since 1970.
    #[must_use]
    pub fn adopted_step(&self, diff_id: &DiffId, created: i64) -> Option<String> {
        let state = self.read();
        let same = |record: &StepRecord| {
            record.created == created && record.layer.as_ref().is_some_and(|layer| layer.diff_id == *diff_id)
        };
        let there = state.layers.contains_key(&diff_id.0.hex());
        let mut steps = state.steps.iter().filter(|(_, record)| there && same(record));
        steps.next().map(|(id, _)| id.clone())
    }

    /// Makes the directories of steps those of the layers that they became, and returns the steps' new records; called
    /// with `changing` held, when the layers' blobs are in place.
    pub(crate) fn place_steps(&self, exported: &[Exported]) -> Result<PlacedSteps> {
        let mut placed = PlacedSteps::default();
        for Exported { id, layer, bound } in exported {
            let Some(mut record) = self.read().steps.get(id).cloned() else { continue };
            if let Some(bound) = bound {
                record.bounded = Some((*bound, layer.clone()));
            } else if record.layer.is_none() {
                let key = layer.diff_id.0.hex();
                let known = self.read().layers.contains_key(&key)
                    || placed.layers.iter().any(|(placed, _)| *placed == key);
                self.hand_over(id, &key, known)?;
                if !known {
                    let unsynced = Some(self.boot.clone());
                    placed.layers.push((key, Layer { unsynced, size: layer.size, disk: None }));
                }
                record.layer = Some(layer.clone());
                record.size = None;
            }
            placed.records.push((id.clone(), record));
        }
        Ok(placed)
    }

    /// A step's directory becomes the layer's, where there is none yet. A link stands in its place at any instant, for
    /// those that are about to mount it.
    fn hand_over(&self, id: &str, key: &str, known: bool) -> Result<()> {
        let step = self.paths.steps().join(id);
        let link = match known {
            true => self.paths.ingest().join(format!("link-{}", self.number())),
            false => self.paths.layers().join(key),
        };
        // Nothing recorded stands there: at most what a failed commit left.
        self.trash.take(&link)?;
        std::os::unix::fs::symlink(format!("../layers/{key}"), &link).doing(|| at("link", &link))?;
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, &link, cwd, &step, exchange)
            .map_err(std::io::Error::from)
            .doing(|| at("exchange", &step))?;
        if known { self.trash.take(&link) } else { Ok(()) }
    }

    /// Forgets every step that `keep` does not want; their bytes are freed in the background.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub fn retain_steps(&self, keep: impl Fn(&str) -> bool) -> Result<()> {
        let _changing = self.change();
        let gone: Vec<String> = self.read().steps.keys().filter(|id| !keep(id)).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        let write = self.database.begin_write()?;
        for id in &gone {
            schema::delete(&write, schema::STEPS, id)?;
            self.write().steps.remove(id);
        }
        write.commit()?;
        for id in &gone {
            self.trash.take(&self.paths.steps().join(id))?;
        }
        Ok(())
    }

    fn stacking(&self) -> Result<()> {
        if self.snapshotter().stacks() {
            return Ok(());
        }
        Err(Error::Driver {
            name: Driver::name(self.driver).to_owned(),
            reason: "builds need layers that stack: use overlay2".to_owned(),
        })
    }

    /// The directories of a chain, top first; the last is the base.
    fn chain_dirs(&self, chain: &[ChainLayer]) -> Result<Vec<PathBuf>> {
        let state = self.read();
        let mut dirs = Vec::with_capacity(chain.len() + 1);
        for layer in chain.iter().rev() {
            dirs.push(match layer {
                ChainLayer::Image(diff_id) => {
                    let key = diff_id.0.hex();
                    if !state.layers.contains_key(&key) {
                        return Err(Error::NoSnapshot(key));
                    }
                    self.paths.layers().join(key)
                }
                ChainLayer::Step(id) => {
                    let step = state.steps.get(id).ok_or_else(|| Error::NoSnapshot(id.clone()))?;
                    self.step_dir(id, step.layer.as_ref())
                }
            });
        }
        dirs.push(self.paths.base());
        Ok(dirs)
    }

    fn step_dir(&self, id: &str, layer: Option<&ImageLayer>) -> PathBuf {
        match layer {
            Some(layer) => self.paths.layers().join(layer.diff_id.0.hex()),
            None => self.paths.steps().join(id),
        }
    }
}

impl Step {
    /// How it is mounted to be written to. Nothing written is synced, not even at the end of the mount.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        match self.store.snapshotter().recipe(&self.dir, &self.lower) {
            Recipe::Overlay { lower, upper, work, .. } => {
                Recipe::Overlay { lower, upper, work, volatile: true }
            }
            other => other,
        }
    }

    /// The id that it is kept under.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where what is written goes.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        tree(&self.dir)
    }

    /// Keeps what was written as a layer; nothing may be mounted from it any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn keep(mut self) -> Result<ChainLayer> {
        let store = Arc::clone(&self.store);
        let _changing = store.change();
        let work = self.dir.join("work");
        if work.exists() {
            store.trash.take(&work)?;
        }
        let to = store.paths.steps().join(&self.id);
        fs::rename(&self.dir, &to).doing(|| at("rename to", &to))?;
        self.kept = true;
        let created = jiff::Timestamp::now().as_millisecond();
        let record = StepRecord { unsynced: Some(store.boot.clone()), created, ..StepRecord::default() };
        let mut write = store.database.begin_write()?;
        // A lost record costs a build its cache: no step waits for the disk.
        write.set_durability(redb::Durability::None)?;
        schema::put(&write, schema::STEPS, &self.id, &record)?;
        write.commit()?;
        store.write().steps.insert(self.id.clone(), record);
        Ok(ChainLayer::Step(self.id.clone()))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.store.trash.take(&self.dir)
        {
            tracing::warn!("{error}");
        }
    }
}

/// An id that no other boot or process gives.
fn unique(prefix: &str) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{prefix}-{now:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(store: &Arc<Store>, below: &[ChainLayer], name: &str) -> ChainLayer {
        let step = store.begin_step(below).unwrap();
        fs::write(step.upper().join(name), name).unwrap();
        step.keep().unwrap()
    }

    #[test]
    fn steps_stack_and_become_layers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        let first = written(&store, &[], "a");
        let second = written(&store, std::slice::from_ref(&first), "b");
        let chain = [first.clone(), second];
        let root = Root::from_fd(store.chain_view(&chain).unwrap().mount().unwrap().into_fd());
        assert_eq!((root.read("a", 9).unwrap(), root.read("b", 9).unwrap()), (b"a".to_vec(), b"b".to_vec()));
        let ChainLayer::Step(id) = &first else { panic!("no step") };
        let batch = store.batch().unwrap();
        let layer = store.export_step(&batch, id, None).unwrap();
        assert_eq!(batch.blob_size(&layer.blob.digest), Some(layer.blob.size));
        assert_eq!(layer.diff_id.0, layer.blob.digest);
        drop(root);
        let before = store.chain_view(&chain).unwrap();
        batch.commit(Vec::new(), Vec::new()).unwrap();
        // Also whoever was about to mount the step finds it.
        for view in [before, store.chain_view(&chain).unwrap()] {
            let root = Root::from_fd(view.mount().unwrap().into_fd());
            assert_eq!(root.read("a", 9).unwrap(), b"a");
        }
        let again = store.batch().unwrap();
        assert!(again.has_layer(&layer.diff_id));
        assert_eq!(store.export_step(&again, id, None).unwrap(), layer);
        drop(again);
        store.retain_steps(|_| false).unwrap();
        assert!(!store.has_chain(&chain) && store.chain_view(&chain).is_err());
    }

    #[test]
    fn a_bound_on_times_changes_the_layer_and_not_the_step() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        let ChainLayer::Step(id) = written(&store, &[], "a") else { panic!("no step") };
        let export = |latest| {
            let batch = store.batch().unwrap();
            let layer = store.export_step(&batch, &id, latest).unwrap();
            batch.commit(Vec::new(), Vec::new()).unwrap();
            layer.diff_id
        };
        let (late, early) = (export(Some(2_000)), export(Some(1_000)));
        assert_ne!(late, early);
        let own = export(None);
        assert!(own != late && own == export(Some(i64::MAX)));
        assert_eq!((export(Some(2_000)), export(None)), (late, own));
    }

    #[test]
    fn what_is_packed_ahead_is_the_same_layer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        let ChainLayer::Step(id) = written(&store, &[], "a") else { panic!("no step") };
        let ahead = store.batch().unwrap();
        store.pack_ahead(&ahead, &id, None, || true).unwrap_err();
        let packed = store.pack_ahead(&ahead, &id, None, || false).unwrap().unwrap();
        let (early, late) = (store.batch().unwrap(), store.batch().unwrap());
        let layer = store.export_packed(&early, packed).unwrap();
        assert_eq!(store.export_step(&late, &id, None).unwrap(), layer);
        early.commit(Vec::new(), Vec::new()).unwrap();
        drop((ahead, late));
        assert!(store.pack_ahead(&store.batch().unwrap(), &id, None, || false).unwrap().is_none());
        assert_eq!(store.export_step(&store.batch().unwrap(), &id, None).unwrap(), layer);
    }

    #[test]
    fn a_step_that_is_not_kept_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        let step = store.begin_step(&[]).unwrap();
        let place = step.upper();
        drop(step);
        assert!(!place.exists());
    }

    #[test]
    fn steps_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        let chain = [written(&store, &[], "a")];
        // A later commit that lasts takes those that need not along.
        store.documents("x").put("k", b"v").unwrap();
        drop(store);
        let store = Store::open(dir.path(), Some(Driver::Overlay)).unwrap();
        assert!(store.has_chain(&chain));
    }
}
