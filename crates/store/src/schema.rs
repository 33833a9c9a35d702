//! The metadata database: its tables, its version and the way from older ones.
//!
//! ```text
//! wharf.redb
//! ├── meta      "schema" → 1
//! ├── blobs     digest → Blob            bytes in blobs/sha256/HEX, synced before the record
//! ├── layers    diff id → Layer          where the layer is unpacked, and from which blob it can be again
//! ├── images    config digest → Image    manifest, layers and blobs that the image keeps alive
//! ├── names     reference → Name         tags and repository digests
//! ├── leases    BOOT/REQUEST → Lease     what a request under way, or cut short today, keeps
//! ├── steps     id → StepRecord          trees that build steps left, see [`crate::Step`]
//! └── KIND      key → bytes              documents of other parts (volumes, …), see [`crate::Documents`]
//! ```
//!
//! Values are JSON, so that a later version may add fields; a change that JSON defaults cannot carry
//! raises [`VERSION`] and adds a step to [`migrate`].

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Doing, Error, Result};

/// The schema this version writes.
pub(crate) const VERSION: u64 = 1;
/// redb's page cache, bytes. Everything hot is kept decoded in memory, so that it only serves commits.
const CACHE: usize = 256 * 1024;
/// Room behind the database that is claimed before a transaction begins, bytes: far more than any writes anew.
const HEADROOM: u64 = 512 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// A table of JSON documents.
pub(crate) type Table = TableDefinition<'static, &'static str, &'static [u8]>;
pub(crate) const BLOBS: Table = TableDefinition::new("blobs");
pub(crate) const LAYERS: Table = TableDefinition::new("layers");
pub(crate) const IMAGES: Table = TableDefinition::new("images");
pub(crate) const NAMES: Table = TableDefinition::new("names");
pub(crate) const LEASES: Table = TableDefinition::new("leases");
pub(crate) const STEPS: Table = TableDefinition::new("steps");

/// The database, open.
///
/// After a write that failed, be it for want of room, redb refuses every later one until it is opened anew. So the room
/// is claimed before a transaction begins: where there is none, that one fails, and those after it need not.
#[derive(Debug)]
pub(crate) struct Metadata {
    database: Database,
    /// The same file, only to claim room for it.
    file: File,
    /// The length of the file for which that was last done.
    claimed: AtomicU64,
    /// Bytes kept back beside it by whoever keeps them: on a full disk they are given up for what would free room.
    reserve: PathBuf,
}

impl Metadata {
    /// Begins a transaction that has the room it needs.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction> {
        self.claim().doing(|| "make room for the metadata database".to_owned())?;
        Ok(self.database.begin_write()?)
    }

    fn claim(&self) -> std::io::Result<()> {
        let length = self.file.metadata()?.len();
        if self.claimed.load(Ordering::Relaxed) == length {
            return Ok(());
        }
        let claim = || rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, length + HEADROOM);
        let claimed = match claim() {
            Err(Errno::NOSPC) if fs::remove_file(&self.reserve).is_ok() => {
                tracing::warn!("the disk is full: what was kept back is used");
                claim()
            }
            first => first,
        };
        match claimed {
            // A file system that cannot claim room promises none.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.claimed.store(length, Ordering::Relaxed);
        Ok(())
    }
}

impl Deref for Metadata {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// Opens the database, making or migrating it as needed.
pub(crate) fn open(path: &Path) -> Result<Metadata> {
    let database = if path.exists() { ready(path)? } else { create(path)? };
    let file = File::options().read(true).write(true).open(path).doing(|| crate::error::at("open", path))?;
    let reserve = path.with_file_name("reserve");
    Ok(Metadata { database, file, claimed: AtomicU64::new(0), reserve })
}

/// Makes a new database, which has its name once it is whole and on the disk: one that a power cut left half made could
/// not be opened.
fn create(path: &Path) -> Result<Database> {
    let making = path.with_extension("new");
    if making.exists() {
        fs::remove_file(&making).doing(|| crate::error::at("remove", &making))?;
    }
    let database = ready(&making)?;
    fs::rename(&making, path).doing(|| crate::error::at("rename", &making))?;
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|parent| parent.sync_all()).doing(|| crate::error::at("sync", parent))?;
    Ok(database)
}

/// The database with the tables of this version.
fn ready(path: &Path) -> Result<Database> {
    let database = Database::builder().set_cache_size(CACHE).create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse(path.display().to_string()),
        other => other.into(),
    })?;
    match version(&database)? {
        Some(VERSION) => {}
        Some(newer) if newer > VERSION => return Err(Error::NewerSchema { found: newer, known: VERSION }),
        older => migrate(&database, older)?,
    }
    Ok(database)
}

fn version(database: &Database) -> Result<Option<u64>> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(table) => Ok(table.get("schema")?.map(|version| version.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Brings a database of an older version (none: a new one) to [`VERSION`], in one transaction.
fn migrate(database: &Database, from: Option<u64>) -> Result<()> {
    let write = database.begin_write()?;
    if from.is_none() {
        for table in [BLOBS, LAYERS, IMAGES, NAMES] {
            write.open_table(table)?;
        }
    }
    write.open_table(META)?.insert("schema", VERSION)?;
    write.commit()?;
    Ok(())
}

/// All records of a table, decoded.
pub(crate) fn load<T: DeserializeOwned>(database: &Database, table: Table) -> Result<Vec<(String, T)>> {
    let read = database.begin_read()?;
    let mut all = Vec::new();
    let records = match read.open_table(table) {
        // A table that came with a later version.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(all),
        other => other?,
    };
    for item in records.iter()? {
        let (key, value) = item?;
        let record = serde_json::from_slice(value.value()).map_err(|error| Error::Record {
            key: format!("{table} {}", key.value()),
            reason: error.to_string(),
        })?;
        all.push((key.value().to_owned(), record));
    }
    Ok(all)
}

/// Writes one record.
pub(crate) fn put<T: Serialize>(write: &WriteTransaction, table: Table, key: &str, record: &T) -> Result<()> {
    let bytes = serde_json::to_vec(record)
        .map_err(|error| Error::Record { key: format!("{table} {key}"), reason: error.to_string() })?;
    write.open_table(table)?.insert(key, bytes.as_slice())?;
    Ok(())
}

/// Removes one record; whether there was one.
pub(crate) fn delete(write: &WriteTransaction, table: Table, key: &str) -> Result<bool> {
    let removed = write.open_table(table)?.remove(key)?.is_some();
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_never_finished_is_none() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("wharf.redb");
        std::fs::write(path.with_extension("new"), [0; 4096]).unwrap();
        drop(open(&path).unwrap());
        assert!(path.exists() && !path.with_extension("new").exists());
        assert_eq!(version(&open(&path).unwrap()).unwrap(), Some(VERSION));
    }

    #[test]
    fn a_new_database_has_the_present_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(open(&path).unwrap());
        assert_eq!(version(&open(&path).unwrap()).unwrap(), Some(VERSION));
    }

    #[test]
    fn a_newer_schema_is_refused_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let database = open(&path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("schema", VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        let error = open(&path).unwrap_err();
        assert!(matches!(error, Error::NewerSchema { found, .. } if found == VERSION + 1), "{error}");
    }

    #[test]
    fn two_owners_of_one_root_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let _first = open(&path).unwrap();
        assert!(matches!(open(&path), Err(Error::InUse(_))));
    }
}
