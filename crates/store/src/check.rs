//! Looking at everything that is kept, and mending what can be: `wharf system check`.
//!
//! A blob whose bytes are wrong cannot be mended here; its record goes, so that whoever has the bytes may bring them in
//! again. An unpacked layer is held against its blob, and unpacked again from it, in whole or only the files that are
//! wrong. What no record names is freed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use wharf_oci::{Digest, Hasher};
use wharf_sys::root::Root;

use crate::error::{Doing, Error, Result, at};
use crate::{Store, blob, schema};

/// Read from a blob at once, bytes.
const READ: usize = 1 << 20;
/// Passes over a damaged tree: what hangs on a mended file shows only then.
const MENDINGS: usize = 3;

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A blob that an image needs is not there.
    MissingBlob,
    /// A blob's bytes are not what its name says.
    CorruptBlob,
    /// An unpacked layer that an image needs is not there.
    MissingLayer,
    /// An unpacked layer's files are not what its blob says.
    CorruptLayer,
    /// A name means an image that is not there.
    DanglingName,
    /// A file or folder that no record names.
    Orphan,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub damage: Damage,
    /// With which object.
    pub object: String,
    /// The images that need it.
    pub images: Vec<Digest>,
    /// Whether it is mended.
    pub repaired: bool,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs read, and their bytes.
    pub blobs: u64,
    /// See `blobs`.
    pub bytes: u64,
    /// Unpacked layers looked for.
    pub layers: u64,
    /// Images looked at.
    pub images: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// How closely things are looked at.
#[derive(Clone, Copy)]
enum Depth<'p> {
    /// All bytes are read, and told.
    Whole(&'p dyn Fn(u64)),
    /// What is there, and of which size.
    Sizes,
}

impl Store {
    /// Verifies every blob, layer, image and name; with `repair`, mends what can be mended without other bytes.
    /// `progress` is told the bytes read so far.
    ///
    /// # Errors
    /// When the disk fails in another way than by what is reported.
    pub fn check(self: &Arc<Self>, repair: bool, progress: &dyn Fn(u64)) -> Result<Report> {
        self.look_at_all(Depth::Whole(progress), repair)
    }

    /// As [`Self::check`], but believes the content of what is there and has the right size: nothing is read whole.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_quickly(self: &Arc<Self>, repair: bool) -> Result<Report> {
        self.look_at_all(Depth::Sizes, repair)
    }

    fn look_at_all(self: &Arc<Self>, depth: Depth<'_>, repair: bool) -> Result<Report> {
        let mut report = Report::default();
        self.check_blobs(depth, repair, &mut report)?;
        self.check_layers(depth, repair, &mut report)?;
        self.check_names(repair, &mut report)?;
        self.check_orphans(repair, &mut report)?;
        report.images = self.read().images.len() as u64;
        Ok(report)
    }

    /// Which images need each blob.
    fn needed(&self) -> BTreeMap<Digest, Vec<Digest>> {
        let mut needed: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for image in self.read().images.values() {
            for digest in &image.blobs {
                needed.entry(*digest).or_default().push(image.id);
            }
        }
        needed
    }

    fn check_blobs(&self, depth: Depth<'_>, repair: bool, report: &mut Report) -> Result<()> {
        let needed = self.needed();
        let recorded: BTreeSet<Digest> = self.read().blobs.keys().copied().collect();
        for digest in recorded.union(&needed.keys().copied().collect()) {
            let images = needed.get(digest).cloned().unwrap_or_default();
            let looked = match depth {
                Depth::Whole(progress) => self.verify(digest, &mut |bytes| {
                    report.bytes += bytes;
                    progress(report.bytes);
                }),
                Depth::Sizes => self.measure(digest).map(|bytes| report.bytes += bytes),
            };
            let damage = match looked {
                Ok(()) => None,
                Err(Error::NoBlob(_)) => Some(Damage::MissingBlob),
                Err(Error::Mismatch { .. }) => Some(Damage::CorruptBlob),
                Err(other) => return Err(other),
            };
            report.blobs += 1;
            // One that was removed meanwhile is no damage.
            let Some(damage) = damage.filter(|_| !images.is_empty() || self.has_blob(digest)) else {
                continue;
            };
            let mut repaired = false;
            if repair && recorded.contains(digest) {
                self.forget_blob(digest)?;
                // What no image needs is mended by being gone.
                repaired = images.is_empty();
            }
            report.findings.push(Finding { damage, object: digest.to_string(), images, repaired });
        }
        Ok(())
    }

    /// The size of a blob, which must be what it was when it came.
    fn measure(&self, digest: &Digest) -> Result<u64> {
        let path = self.paths.blob(digest);
        let size = blob::open(&path, digest)?.metadata().doing(|| at("look at", &path))?.len();
        match self.read().blobs.get(digest).map(|known| known.size) {
            Some(known) if known != size => {
                Err(Error::Mismatch { expected: format!("{known} bytes"), actual: format!("{size} bytes") })
            }
            _ => Ok(size),
        }
    }

    /// Reads a whole blob.
    fn verify(&self, digest: &Digest, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let path = self.paths.blob(digest);
        let mut file: File = blob::open(&path, digest)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; READ];
        loop {
            match file.read(&mut buffer).doing(|| at("read", &path))? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    progress(count as u64);
                }
            }
        }
        let actual = hasher.finish();
        if actual == *digest {
            return Ok(());
        }
        Err(Error::Mismatch { expected: digest.to_string(), actual: actual.to_string() })
    }

    /// Takes away a blob that is of no use, so that it can come again.
    fn forget_blob(&self, digest: &Digest) -> Result<()> {
        let _changing = self.change();
        let write = self.database.begin_write()?;
        schema::delete(&write, schema::BLOBS, &digest.to_string())?;
        write.commit()?;
        self.write().blobs.remove(digest);
        self.trash.take(&self.paths.blob(digest))
    }

    fn check_layers(self: &Arc<Self>, depth: Depth<'_>, repair: bool, report: &mut Report) -> Result<()> {
        let images: Vec<_> = self.read().images.values().cloned().collect();
        let mut looked: HashSet<String> = HashSet::new();
        for image in images {
            let chain = image.diff_ids();
            let keys = self.chain_keys(&chain);
            for (key, diff_id) in keys.iter().zip(&chain) {
                if !looked.insert(key.clone()) {
                    continue;
                }
                report.layers += 1;
                if crate::snapshot::tree(&self.paths.layers().join(key)).is_dir()
                    && self.read().layers.contains_key(key)
                {
                    let blob = image.layers.iter().find(|layer| layer.diff_id == *diff_id);
                    if matches!(depth, Depth::Whole(_)) {
                        self.check_tree(key, diff_id, blob.map(|layer| layer.blob.digest), repair, report)?;
                    }
                    continue;
                }
                let mut repaired = false;
                if repair {
                    self.forget_layer(key)?;
                    repaired = self.ensure_unpacked(&image.id).is_ok();
                }
                let object = diff_id.to_string();
                let images = vec![image.id];
                report.findings.push(Finding { damage: Damage::MissingLayer, object, images, repaired });
            }
        }
        Ok(())
    }

    /// Holds an unpacked layer against its blob, where that is whole and the tree is the layer's alone.
    fn check_tree(
        &self,
        key: &str,
        diff_id: &wharf_oci::DiffId,
        blob: Option<Digest>,
        repair: bool,
        report: &mut Report,
    ) -> Result<()> {
        let Some(blob) =
            blob.filter(|blob| self.snapshotter().stacks() && self.verify(blob, &mut |_| {}).is_ok())
        else {
            return Ok(());
        };
        let path = crate::snapshot::tree(&self.paths.layers().join(key));
        let tree = Root::open(&path)
            .map_err(|error| Error::io(at("open", &path), std::io::Error::other(error.to_string())))?;
        let plain = || -> Result<Box<dyn Read + Send>> {
            let file = blob::open(&self.paths.blob(&blob), &blob)?;
            Ok(wharf_layer::decompressor(file)?.1)
        };
        let mut damaged = wharf_layer::verify(plain()?, &tree)?;
        if damaged.is_empty() {
            return Ok(());
        }
        let count = damaged.len();
        for _ in 0..MENDINGS {
            if repair && !damaged.is_empty() {
                wharf_layer::mend(plain()?, &tree, &damaged)?;
                damaged = wharf_layer::verify(plain()?, &tree)?;
            }
        }
        if repair {
            let top = File::open(&path).doing(|| at("open", &path))?;
            rustix::fs::syncfs(top).map_err(std::io::Error::from).doing(|| at("sync", &path))?;
        }
        let state = self.read();
        let images = state.images.with_layer(diff_id);
        let images = images.map(|image| image.id).collect();
        drop(state);
        report.findings.push(Finding {
            damage: Damage::CorruptLayer,
            object: format!("{diff_id} ({count} files)"),
            images,
            repaired: damaged.is_empty(),
        });
        Ok(())
    }

    fn forget_layer(&self, key: &str) -> Result<()> {
        let _changing = self.change();
        let write = self.database.begin_write()?;
        schema::delete(&write, schema::LAYERS, key)?;
        write.commit()?;
        self.write().layers.remove(key);
        self.trash.take(&self.paths.layers().join(key))
    }

    fn check_names(&self, repair: bool, report: &mut Report) -> Result<()> {
        let dangling: Vec<String> = {
            let state = self.read();
            let dangling = state.names.iter().filter(|(_, name)| state.image(&name.image).is_none());
            dangling.map(|(name, _)| name.clone()).collect()
        };
        for name in dangling {
            if repair {
                let _changing = self.change();
                let write = self.database.begin_write()?;
                schema::delete(&write, schema::NAMES, &name)?;
                write.commit()?;
                self.write().names.remove(&name);
            }
            let finding =
                Finding { damage: Damage::DanglingName, object: name, images: Vec::new(), repaired: repair };
            report.findings.push(finding);
        }
        Ok(())
    }

    fn check_orphans(&self, repair: bool, report: &mut Report) -> Result<()> {
        // What is between its rename and its record is nobody's orphan.
        let _changing = self.change();
        let (blobs, layers): (HashSet<String>, HashSet<String>) = {
            let state = self.read();
            (state.blobs.keys().map(Digest::hex).collect(), state.layers.keys().cloned().collect())
        };
        for (dir, known) in [(self.paths.blobs(), blobs), (self.paths.layers(), layers)] {
            for path in strangers(&dir, &known)? {
                if repair {
                    self.trash.take(&path)?;
                }
                let object = path.strip_prefix(self.paths.root()).unwrap_or(&path).display().to_string();
                let finding =
                    Finding { damage: Damage::Orphan, object, images: Vec::new(), repaired: repair };
                report.findings.push(finding);
            }
        }
        Ok(())
    }
}

fn strangers(dir: &Path, known: &HashSet<String>) -> Result<Vec<std::path::PathBuf>> {
    let mut strangers = Vec::new();
    for entry in fs::read_dir(dir).doing(|| at("read", dir))? {
        let entry = entry.doing(|| at("read", dir))?;
        if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
            strangers.push(entry.path());
        }
    }
    Ok(strangers)
}
