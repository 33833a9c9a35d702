//! `--storage-opt size`: what a container may write to its root file system, by project quota.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use wharf_api::HostConfig;
use wharf_sys::mount::Recipe;
use wharf_sys::quota;

use super::Containers;
use super::record::Record;
use crate::error::{Error, Result};

/// Projects below this number are left to others.
const FIRST: u32 = 1 << 20;
const UNSUPPORTED: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

/// The size asked for, in bytes; 0: none.
///
/// # Errors
/// Docker's, for other options and what is no size.
fn size(host: &HostConfig) -> Result<u64> {
    let mut size = 0;
    for (name, value) in host.storage_opt.iter().flatten() {
        if name != "size" {
            return Err(Error::internal(format!("Unknown option {name}")));
        }
        size = bytes(value).ok_or_else(|| Error::internal(format!("invalid size: '{value}'")))?;
    }
    Ok(size)
}

/// A size as Docker reads it here: units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Refuses a size where it could not be kept: only an overlay on a file system that enforces projects' quotas can.
///
/// # Errors
/// Docker's words.
pub(crate) fn check(host: &HostConfig, data_root: &Path) -> Result<()> {
    if host.storage_opt.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
        return Ok(());
    }
    if let Some(name) = host.storage_opt.iter().flatten().map(|(name, _)| name).find(|name| *name != "size") {
        return Err(Error::internal(format!("Unknown option {name}")));
    }
    let enforced = File::open(data_root).is_ok_and(|root| quota::enforces_projects(root.as_fd()));
    if enforced { size(host).map(drop) } else { Err(Error::internal(UNSUPPORTED)) }
}

impl Containers {
    /// Puts a new container's writable directories under its limit.
    pub(super) fn limit_size(&self, record: &Record) -> Result<()> {
        // Between finding a number that is free and taking it, nobody else may look.
        static TAKING: Mutex<()> = Mutex::new(());
        let bytes = size(&record.host_config)?;
        if bytes == 0 {
            return Ok(());
        }
        let Recipe::Overlay { upper, work, .. } = self.store.recipe(&record.id)? else {
            return Err(Error::internal(UNSUPPORTED));
        };
        let failed = |error: &dyn std::fmt::Display| Error::internal(format!("limit size: {error}"));
        let snapshots = upper.parent().and_then(Path::parent).unwrap_or(&upper);
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let number = free_project(snapshots).map_err(|error| failed(&error))?;
        for directory in [upper.parent().unwrap_or(&upper), &upper, &work] {
            let opened = File::open(directory).map_err(|error| failed(&error))?;
            quota::set_project(opened.as_fd(), number).map_err(|error| failed(&error))?;
        }
        let opened = File::open(&upper).map_err(|error| failed(&error))?;
        quota::limit_project(opened.as_fd(), number, bytes).map_err(|error| failed(&error))
    }
}

/// A project number that no snapshot has.
fn free_project(snapshots: &Path) -> std::io::Result<u32> {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let directory = File::open(entry.ok()?.path()).ok()?;
        quota::project(directory.as_fd()).ok()
    };
    let highest = std::fs::read_dir(snapshots)?.filter_map(of).max().unwrap_or(0);
    Ok(highest.max(FIRST) + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn refusal(name: &str, value: &str, root: &str) -> Option<String> {
        let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let host = HostConfig { storage_opt: Some(options), ..HostConfig::default() };
        check(&host, Path::new(root)).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn what_cannot_be_kept_is_refused_in_dockers_words() {
        assert_eq!(refusal("size", "1g", "/proc").as_deref(), Some(UNSUPPORTED));
        assert_eq!(refusal("foo", "1", "/proc").as_deref(), Some("Unknown option foo"));
        assert!(check(&HostConfig::default(), Path::new("/proc")).is_ok());
    }

    #[test]
    fn sizes_are_read() {
        let host = |value: &str| {
            let options = BTreeMap::from([("size".to_owned(), value.to_owned())]);
            HostConfig { storage_opt: Some(options), ..HostConfig::default() }
        };
        assert_eq!(size(&host("10m")).unwrap(), 10 << 20);
        assert_eq!(size(&host("1GiB")).unwrap(), 1 << 30);
        assert!(size(&host("x")).is_err());
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert!(free_project(dir.path()).unwrap() > FIRST);
    }
}
