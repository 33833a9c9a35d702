//! Files and folders that outlast a power cut once the call returns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a folder and its missing parents, each synced into the one above.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return fs::create_dir(path);
    };
    folder(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(parent)
}

/// Syncs the names in a folder.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes `bytes` in `scratch`, syncs them, and renames them to `path`, whose folder is made and synced.
pub(super) fn replace(scratch: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let temporary = scratch.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    let mut file = File::create_new(&temporary)?;
    let outcome = file.write_all(bytes).and_then(|()| file.sync_data());
    match outcome.and_then(|()| move_to(&temporary, path)) {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Renames a synced file to `path`, whose folder is made and synced.
pub(super) fn move_to(from: &Path, path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    folder(parent)?;
    fs::rename(from, path)?;
    sync_folder(parent)
}

/// Makes an empty file; whether it was there before makes no difference.
pub(super) fn mark(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    folder(parent)?;
    match File::create_new(path) {
        Ok(_) => sync_folder(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => super::refresh(path),
        Err(error) => Err(error),
    }
}

/// Removes a file and syncs that it is gone; whether there was one.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match super::found(fs::remove_file(path))? {
        Some(()) => path.parent().map_or(Ok(()), sync_folder).map(|()| true),
        None => Ok(false),
    }
}
