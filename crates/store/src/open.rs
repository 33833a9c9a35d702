//! Opening a data root: whatever a crash left half-made is swept, whatever a power cut made doubtful is dropped.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crate::error::{Doing, Result, at};
use crate::partial::Writers;
use crate::paths::Paths;
use crate::snapshot::{self, Driver};
use crate::state::State;
use crate::trash::Trash;
use crate::{Store, schema};

impl Store {
    /// Opens the data root, making what is missing. Without `driver`, overlay is used where it can be, else vfs.
    ///
    /// # Errors
    /// When another process has it open, the database is of a newer version or damaged, or the disk fails.
    pub fn open(data_root: &Path, driver: Option<Driver>) -> Result<Arc<Self>> {
        let paths = Paths::create(data_root)?;
        let database = schema::open(&paths.database())?;
        let driver = driver.unwrap_or_else(|| Driver::choose(&paths.layers()));
        snapshot::make_base(&paths.base())?;
        let boot = boot_id()?;
        crate::batch::spread(&paths.ingest());
        let trash = Trash::open(paths.trash())?;
        let mut state = State::load(&database)?;
        drop_steps(&paths, &database, &mut state, &boot)?;
        sweep(&paths, &trash, &state)?;
        let doubtful = drop_doubtful(&database, &mut state, &boot)?;
        for key in doubtful {
            trash.take(&paths.layers().join(key))?;
        }
        state.actives = crate::active::scan(&paths, &trash)?;
        let store = Arc::new(Self {
            paths,
            database,
            driver,
            state: RwLock::new(state),
            changing: Mutex::new(()),
            trash,
            writers: Writers::default(),
            boot,
            next: AtomicU64::new(0),
        });
        // Blobs and layers that arrived for a request which never ended, once its day is over.
        store.expire()?;
        store.sweep_partials()?;
        store.collect()?;
        store.sync_in_background();
        Ok(store)
    }
}

/// Takes away what no record names: bytes on their way in, and files renamed just before a crash.
fn sweep(paths: &Paths, trash: &Trash, state: &State) -> Result<()> {
    let blobs: HashSet<String> = state.blobs.keys().map(wharf_oci::Digest::hex).collect();
    take_unless(trash, &paths.ingest(), |_| false)?;
    take_unless(trash, &paths.blobs(), |name| blobs.contains(name))?;
    take_unless(trash, &paths.steps(), |name| state.steps.contains_key(name))?;
    take_unless(trash, &paths.layers(), |name| state.layers.contains_key(name))
}

fn take_unless(trash: &Trash, dir: &Path, keep: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).doing(|| at("read", dir))? {
        let entry = entry.doing(|| at("read", dir))?;
        if !entry.file_name().to_str().is_some_and(&keep) {
            trash.take(&entry.path())?;
        }
    }
    Ok(())
}

/// Forgets layers that an earlier boot unpacked and never synced; they are unpacked again when needed.
fn drop_doubtful(database: &redb::Database, state: &mut State, boot: &str) -> Result<Vec<String>> {
    let doubtful: Vec<String> = state
        .layers
        .iter()
        .filter(|(_, layer)| layer.unsynced.as_deref().is_some_and(|of| of != boot))
        .map(|(key, _)| key.clone())
        .collect();
    if doubtful.is_empty() {
        return Ok(doubtful);
    }
    let write = database.begin_write()?;
    for key in &doubtful {
        schema::delete(&write, schema::LAYERS, key)?;
        state.layers.remove(key);
    }
    write.commit()?;
    Ok(doubtful)
}

/// Forgets build steps that an earlier boot left unsynced, and those whose directory became a layer's just before a crash;
/// [`sweep`] takes their files.
fn drop_steps(paths: &Paths, database: &redb::Database, state: &mut State, boot: &str) -> Result<()> {
    let doubtful = |id: &str, step: &crate::step::StepRecord| {
        let unsynced = step.unsynced.as_deref().is_some_and(|of| of != boot);
        step.layer.is_none() && (unsynced || paths.steps().join(id).is_symlink())
    };
    let gone: Vec<String> =
        state.steps.iter().filter(|(id, step)| doubtful(id, step)).map(|(id, _)| id.clone()).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let write = database.begin_write()?;
    for id in &gone {
        schema::delete(&write, schema::STEPS, id)?;
        state.steps.remove(id);
    }
    write.commit()?;
    Ok(())
}

fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).doing(|| at("read", path))?.trim().to_owned())
}
