//! The layer below every image: the mount points that every container needs.
//!
//! Being the lowest, it shows only where the image has nothing of its own, and what the engine needs
//! never appears as a change the container made.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use crate::error::{Doing, Result, at};

/// Docker's set-up of a container's init layer (moby, daemon/initlayer).
const DIRECTORIES: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: [&str; 5] = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes the base layer's directory whole; what is there stays.
pub(crate) fn make(dir: &Path) -> Result<()> {
    let tree = super::tree(dir);
    fs::create_dir_all(&tree).doing(|| at("create", &tree))?;
    for name in DIRECTORIES {
        let path = tree.join(name);
        present(DirBuilder::new().mode(0o755).create(&path)).doing(|| at("create", &path))?;
    }
    for name in FILES {
        let path = tree.join(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path);
        present(made.map(drop)).doing(|| at("create", &path))?;
    }
    let mtab = tree.join("etc/mtab");
    present(symlink("/proc/mounts", &mtab)).doing(|| at("create", &mtab))
}

fn present(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
