//! Volumes on disk: `volumes/NAME/_data`, and beside it `volume.json`, whose presence makes the volume one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
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
    /// The plugin that has it; none is this engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plugin: Option<String>,
    /// Containers that the plugin has mounted it for, and where each found it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) mounted: BTreeMap<String, String>,
}

impl Stored {
    /// The name of its driver.
    pub(super) fn driver(&self) -> &str {
        self.plugin.as_deref().unwrap_or("local")
    }

    /// What is mounted in place of its own directory.
    pub(super) fn device(&self) -> Option<super::options::DeviceMount> {
        let options = self.options.as_ref().filter(|options| self.plugin.is_none() && !options.is_empty())?;
        super::options::mount(options)
    }

    /// Whether it is a directory of the engine's own and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.plugin.is_none() && self.device().is_none()
    }
}

const DOCUMENT: &str = "volume.json";
/// Directories on their way out, and in; no volume's name starts with a dot.
const REMOVED: &str = ".removed-";
const NEW: &str = ".new-";

/// The directory of volume `name`.
pub(super) fn place(data_root: &Path, name: &str) -> PathBuf {
    data_root.join("volumes").join(file_name(name))
}

/// A name as one of a directory: plugins' volumes may be called anything, local ones only what stays as it is.
fn file_name(name: &str) -> String {
    let plain = |at: usize, byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && at > 0)
    };
    name.bytes().enumerate().fold(String::new(), |mut text, (at, byte)| {
        if plain(at, byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
        text
    })
}

/// The name that a directory stands for; `None` for one that no volume has.
fn name_of(file_name: &str) -> Option<String> {
    let mut pieces = file_name.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
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
            Some(stored) if !name.starts_with('.') => {
                // One that somebody else put there has no name.
                found.extend(name_of(&name).map(|name| (name, stored)));
            }
            // One that cannot be removed now (an immutable file) keeps no engine from starting.
            _ => drop(remove_tree(&entry.path()).inspect_err(|error| tracing::warn!("{error}"))),
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

/// Makes the volume, durably: whoever comes to know of it finds all of it after a power cut. `owner`: who its directory
/// belongs to, where it is not root.
pub(super) fn make(data_root: &Path, name: &str, stored: &Stored, owner: Option<(u32, u32)>) -> Result<()> {
    let draft = Draft::new(data_root)?;
    if let Some((user, group)) = owner {
        let data = draft.data();
        std::os::unix::fs::chown(&data, Some(user), Some(group))
            .map_err(|error| Error::io(format_args!("chown {}", data.display()), &error))?;
    }
    draft.keep(name, stored)
}

/// A volume in the making; goes unless it is kept.
#[derive(Debug)]
pub(super) struct Draft {
    top: PathBuf,
    place: PathBuf,
}

impl Draft {
    pub(super) fn new(data_root: &Path) -> Result<Self> {
        let top = data_root.join("volumes");
        let place = top.join(format!("{NEW}{}", super::random_name()));
        make_dir(&place, 0o701)?;
        let draft = Self { top, place };
        make_dir(&draft.data(), 0o755)?;
        Ok(draft)
    }

    /// What will be the volume's content.
    pub(super) fn data(&self) -> PathBuf {
        self.place.join("_data")
    }

    /// Syncs all content, which may be much.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = File::open(&self.place).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        synced.map_err(|error| Error::io("sync volume", &error))
    }

    /// Makes it the volume of a name that there is not.
    pub(super) fn keep(self, name: &str, stored: &Stored) -> Result<()> {
        write(&self.place, stored)?;
        let failed = |error: std::io::Error| Error::io(format_args!("create {name}"), &error);
        let place = self.top.join(file_name(name));
        // What a failure left there is no volume: it has no document.
        if place.exists() && read(&place)?.is_none() {
            remove_tree(&place)?;
        }
        fs::rename(&self.place, &place).map_err(failed)?;
        sync_dir(&self.top).map_err(failed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Kept ones have another name by now.
        if let Err(error) = remove_tree(&self.place) {
            tracing::warn!("{error}");
        }
    }
}

/// Writes the document of the volume in `place`, durably.
pub(super) fn write(place: &Path, stored: &Stored) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format_args!("write {}", place.display()), &error);
    let text = serde_json::to_vec(stored).map_err(|error| Error::internal(error.to_string()))?;
    let draft = place.join(".volume.json");
    let mut file = File::create(&draft).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, place.join(DOCUMENT)).map_err(failed)?;
    sync_dir(place).map_err(failed)
}

/// Gives a volume another name, durably.
pub(super) fn rename(data_root: &Path, name: &str, new: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format_args!("rename {name}"), &error);
    let top = data_root.join("volumes");
    fs::rename(top.join(file_name(name)), top.join(file_name(new))).map_err(failed)?;
    sync_dir(&top).map_err(failed)
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes the volume away: out of sight at once, then its bytes.
pub(super) fn remove(data_root: &Path, name: &str) -> Result<()> {
    let gone = data_root.join("volumes").join(format!("{REMOVED}{}", super::random_name()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_directory_s_and_comes_back() {
        for name in ["ab", "F3-v.1_x"] {
            assert_eq!(file_name(name), name);
        }
        for name in ["a/b", "../x", ".hidden", "remote:a b", "100%", "ä", "%2f", "\u{0}"] {
            let file = file_name(name);
            assert!(!file.starts_with('.') && !file.contains(['/', '\0']), "{file}");
            assert_eq!(name_of(&file).as_deref(), Some(name));
        }
        for foreign in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(name_of(foreign), None);
        }
    }
}
