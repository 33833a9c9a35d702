//! Volumes on disk: `volumes/NAME/_data`, and beside it `volume.json`, whose presence makes the volume one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is kept of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Seconds since 1970.
    pub(super) created: i64,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) options: Option<BTreeMap<String, String>>,
    /// The container it was made for and is to go with, if nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
}

const DOCUMENT: &str = "volume.json";
/// Directories on their way out; no volume's name starts with a dot.
const REMOVED: &str = ".removed-";

/// The directory of volume `name`.
pub(super) fn place(data_root: &Path, name: &str) -> PathBuf {
    data_root.join("volumes").join(name)
}

/// All volumes; what a crash left half made or half removed goes.
pub(super) fn scan(data_root: &Path) -> Result<BTreeMap<String, Stored>> {
    let top = data_root.join("volumes");
    make_dir(&top, 0o701)?;
    let entries = fs::read_dir(&top).map_err(|error| Error::io("read volumes", &error))?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read volumes", &error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match read(&entry.path())? {
            Some(stored) if !name.starts_with(REMOVED) => {
                found.insert(name, stored);
            }
            _ => remove_tree(&entry.path())?,
        }
    }
    Ok(found)
}

/// The document of the volume in `place`, `None` where there is none.
pub(super) fn read(place: &Path) -> Result<Option<Stored>> {
    let path = place.join(DOCUMENT);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::internal(format!("read {}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format_args!("read {}", path.display()), &error)),
    }
}

/// Makes the volume, durably: the directory's bytes before the document that names it.
pub(super) fn make(data_root: &Path, name: &str, stored: &Stored) -> Result<()> {
    let place = place(data_root, name);
    let failed = |error: std::io::Error| Error::io(format_args!("create {name}"), &error);
    make_dir(&place, 0o701)?;
    make_dir(&place.join("_data"), 0o755)?;
    let text =
        serde_json::to_vec(stored).map_err(|error| Error::internal(format!("create {name}: {error}")))?;
    let draft = place.join(".volume.json");
    let mut file = File::create(&draft).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, place.join(DOCUMENT)).map_err(failed)?;
    for dir in [place.as_path(), &data_root.join("volumes")] {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Takes the volume away: out of sight at once, then its bytes.
pub(super) fn remove(data_root: &Path, name: &str) -> Result<()> {
    let gone = place(data_root, &format!("{REMOVED}{}", super::random_name()));
    match fs::rename(place(data_root, name), &gone) {
        Ok(()) => remove_tree(&gone),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format_args!("remove {name}"), &error)),
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io(format_args!("mkdir {}", path.display()), &error)),
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format_args!("remove {}", path.display()), &error)),
    }
}

/// The bytes a tree takes, hard links counted once; what cannot be looked at counts nothing.
pub(super) fn size(path: &Path) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut total = 0;
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                waiting.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
}
