//! Disks small enough to be filled.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A file system of a few megabytes, in memory; unmounted when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// One with room for so many MiB.
    #[track_caller]
    pub fn new(mib: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("small-disk-").tempdir().expect("make a folder");
        let size = std::ffi::CString::new(format!("size={mib}m,mode=755")).expect("no zero byte");
        mount("small-disk", folder.path(), "tmpfs", MountFlags::empty(), size.as_c_str())
            .expect("mount a tmpfs");
        Self { folder }
    }

    /// A path on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves no byte free.
    #[track_caller]
    pub fn fill(&self) {
        let mut file =
            File::options().create(true).append(true).open(self.path("filler")).expect("open the filler");
        let block = vec![0; 1 << 16];
        for length in [block.len(), 4096, 1] {
            while file.write_all(&block[..length]).is_ok() {}
        }
    }

    /// Gives so many bytes of the room back.
    #[track_caller]
    pub fn leave(&self, bytes: u64) {
        let filler = File::options().write(true).open(self.path("filler")).expect("open the filler");
        let length = filler.metadata().expect("the filler's length").len();
        filler.set_len(length.saturating_sub(bytes)).expect("cut the filler");
    }

    /// Gives the room back.
    #[track_caller]
    pub fn free(&self) {
        std::fs::remove_file(self.path("filler")).expect("remove the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.folder.path(), UnmountFlags::empty()) {
            let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
            assert!(std::thread::panicking(), "something still uses the disk: {error}");
        }
    }
}
