//! Containers' writable snapshots.
//!
//! The directory's own name says which image is below, so that making one is three mkdirs, a rename and no write:
//! nothing here is synced, the container's own record is what counts. Orphans are swept by [`Store::retain_actives`].

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use wharf_oci::Digest;
use wharf_sys::mount::Recipe;

use crate::Store;
use crate::error::{Doing, Error, Result, at};
use crate::paths::Paths;
use crate::trash::Trash;
use crate::usage::{self, Usage};

/// What the name of a snapshot begins with that is not whole yet; no id does.
const MAKING: &str = ".";

/// What `docker inspect` shows as `GraphDriver`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphDriver {
    /// Docker's name of the driver.
    pub name: String,
    /// Its directories; empty for vfs.
    pub data: BTreeMap<String, String>,
}

impl Store {
    /// Makes a container's snapshot on `image`, or on nothing. Layers lost in a power cut are unpacked again first.
    ///
    /// # Errors
    /// When the image is not there or the disk fails; nothing is left then.
    pub fn create_active(&self, container: &str, image: Option<&Digest>) -> Result<()> {
        check_id(container)?;
        if let Some(id) = image {
            self.ensure_unpacked(id)?;
        }
        {
            // From here on the image's layers are kept.
            let mut state = self.write();
            if let Some(id) = image {
                state.images.get(id).ok_or(Error::NoImage(*id))?;
            }
            state.actives.insert(container.to_owned(), image.copied());
        }
        let dir = directory(&self.paths, container, image);
        let lower = self.lower(image)?;
        // It has its name once it is whole: a crash in between leaves what the next start takes away.
        let making = self.paths.actives().join(format!("{MAKING}{container}"));
        let made = self.snapshotter().create(&making, &lower);
        let made = made.and_then(|()| fs::rename(&making, &dir).doing(|| at("rename", &making)));
        made.inspect_err(|_| {
            self.write().actives.remove(container);
            if let Err(error) = self.trash.take(&making) {
                tracing::warn!("{error}");
            }
        })
    }

    /// How the container's root is mounted.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or when lost layers cannot be unpacked again.
    pub fn recipe(&self, container: &str) -> Result<Recipe> {
        let image = self.below(container)?;
        if let Some(id) = &image {
            self.ensure_unpacked(id)?;
        }
        let lower = self.lower(image.as_ref())?;
        Ok(self.snapshotter().recipe(&directory(&self.paths, container, image.as_ref()), &lower))
    }

    /// The root as it was before the container wrote: the other side of a diff.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or when lost layers cannot be unpacked again.
    pub fn base_recipe(&self, container: &str) -> Result<Recipe> {
        let image = self.below(container)?;
        self.image_recipe(image.as_ref())
    }

    /// An image's root, read-only.
    ///
    /// # Errors
    /// When the image is not there, or lost layers cannot be unpacked again.
    pub fn image_recipe(&self, image: Option<&Digest>) -> Result<Recipe> {
        if let Some(id) = image {
            self.ensure_unpacked(id)?;
        }
        Ok(self.snapshotter().view(&self.lower(image)?))
    }

    /// Takes a container's snapshot away; its bytes are freed in the background. Nothing there is no error.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let Some(image) = self.read().actives.get(container).copied() else {
            return Ok(());
        };
        self.trash.take(&directory(&self.paths, container, image.as_ref()))?;
        let last = {
            let mut state = self.write();
            state.actives.remove(container);
            image.is_some_and(|id| {
                state.images.get(&id).is_some_and(|image| image.removed) && !state.is_in_use(&id)
            })
        };
        if last { self.collect() } else { Ok(()) }
    }

    /// Removes every snapshot whose container `keep` does not know; for recovery.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn retain_actives(&self, keep: impl Fn(&str) -> bool) -> Result<()> {
        let orphans: Vec<String> = self.read().actives.keys().filter(|id| !keep(id)).cloned().collect();
        orphans.iter().try_for_each(|id| self.remove(id))
    }

    /// The containers that have a snapshot.
    #[must_use]
    pub fn actives(&self) -> Vec<String> {
        self.read().actives.keys().cloned().collect()
    }

    /// What the container itself wrote, by walking its directory.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or when the disk fails.
    pub fn usage(&self, container: &str) -> Result<Usage> {
        let image = self.below(container)?;
        let dir = directory(&self.paths, container, image.as_ref());
        usage::walk(&crate::snapshot::tree(&dir)).doing(|| at("read", &dir))
    }

    /// What inspect shows of the driver.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`].
    pub fn graph_driver(&self, container: &str) -> Result<GraphDriver> {
        let image = self.below(container)?;
        let dir = directory(&self.paths, container, image.as_ref());
        let data = self.snapshotter().data(&dir, &self.lower(image.as_ref())?);
        let mut data: BTreeMap<String, String> =
            data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        if !data.is_empty() {
            data.insert("ID".to_owned(), container.to_owned());
        }
        Ok(GraphDriver { name: self.driver.name().to_owned(), data })
    }

    /// What inspect shows of the driver for an image.
    ///
    /// # Errors
    /// [`Error::NoImage`].
    pub fn image_graph_driver(&self, image: &Digest) -> Result<GraphDriver> {
        let lower = self.lower(Some(image))?;
        // An image's topmost layer stands where a container's own directory does.
        let (top, below) = lower.split_first().ok_or(Error::NoImage(*image))?;
        let data = self.snapshotter().data(top, below).into_iter();
        let data = data.filter(|(key, value)| *key != "LowerDir" || !value.is_empty());
        Ok(GraphDriver {
            name: self.driver.name().to_owned(),
            data: data.map(|(key, value)| (key.to_owned(), value)).collect(),
        })
    }

    fn below(&self, container: &str) -> Result<Option<Digest>> {
        let state = self.read();
        state.actives.get(container).copied().ok_or_else(|| Error::NoSnapshot(container.to_owned()))
    }

    /// The directories below a container on `image`, top first; the last is the base.
    fn lower(&self, image: Option<&Digest>) -> Result<Vec<PathBuf>> {
        let mut lower = Vec::new();
        if let Some(id) = image {
            let state = self.read();
            let chain = state.images.get(id).ok_or(Error::NoImage(*id))?.diff_ids();
            lower.extend(self.chain_keys(&chain).into_iter().rev().map(|key| self.paths.layers().join(key)));
        }
        lower.push(self.paths.base());
        Ok(lower)
    }
}

/// `ID@IMAGE`; a container without image has the id alone.
fn directory(paths: &Paths, container: &str, image: Option<&Digest>) -> PathBuf {
    paths.actives().join(match image {
        Some(id) => format!("{container}@{}", id.hex()),
        None => container.to_owned(),
    })
}

/// The snapshots on disk; those that are not whole go.
pub(crate) fn scan(paths: &Paths, trash: &Trash) -> Result<HashMap<String, Option<Digest>>> {
    let dir = paths.actives();
    let mut actives = HashMap::new();
    for entry in fs::read_dir(&dir).doing(|| at("read", &dir))? {
        let name = entry.doing(|| at("read", &dir))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(MAKING) {
            trash.take(&dir.join(name))?;
            continue;
        }
        match name.split_once('@') {
            None => actives.insert(name.to_owned(), None),
            Some((id, image)) => match Digest::from_hex(image) {
                Ok(image) => actives.insert(id.to_owned(), Some(image)),
                Err(_) => continue,
            },
        };
    }
    Ok(actives)
}

/// Ids become file names: they must not lead elsewhere.
fn check_id(id: &str) -> Result<()> {
    let legal = !id.is_empty()
        && id.len() <= 128
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if legal { Ok(()) } else { Err(Error::BadId(id.to_owned())) }
}
