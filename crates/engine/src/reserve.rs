//! Bytes kept back on the data root's disk, so that a disk which others filled has room for what must be written: the
//! database after a crash, and how containers ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

const BYTES: u64 = 2 << 20;

/// The bytes, a file of zeroes.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// As far as is known here.
    held: bool,
}

impl Reserve {
    /// That of a data root.
    pub(crate) fn of(data_root: &Path) -> Self {
        let path = data_root.join("reserve");
        Self { held: path.exists(), path }
    }

    /// Takes the bytes where they are not held and the disk has plenty.
    pub(crate) fn fill(&mut self) {
        // The store gives them up, too, for its database.
        if self.held && self.path.exists() {
            return;
        }
        let Some(parent) = self.path.parent() else { return };
        let plenty = statvfs(parent).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > 4 * BYTES);
        if !plenty {
            return;
        }
        let taken = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?))
            .inspect_err(|error| tracing::debug!("keep {BYTES} bytes back: {error}"));
        self.held = taken.is_ok();
        if !self.held {
            // A file system that cannot promise room is as well off without the file.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the bytes to whoever needs them now; false: there are none.
    pub(crate) fn give_up(&mut self) -> bool {
        self.held = false;
        let given = fs::remove_file(&self.path).is_ok();
        if given {
            tracing::warn!("the disk is full: what was kept back is used");
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_and_given_up_once() {
        let root = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::of(root.path());
        assert!(!reserve.give_up());
        reserve.fill();
        let held = fs::metadata(root.path().join("reserve")).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&held) * 512 >= BYTES);
        assert!(Reserve::of(root.path()).held);
        assert!(reserve.give_up() && !reserve.give_up());
        assert!(!root.path().join("reserve").exists());
    }
}
