//! Where a file system puts what is made in a directory.

use std::fs::File;
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Tells the file system that the trees in `directory` have nothing to do with each other, so that it spreads them over
/// the disk: `FS_TOPDIR_FL`, `chattr +T` (ext4's Orlov allocator). One that knows no such difference refuses, which
/// does no harm.
///
/// ext4 else puts them all into the block group of `directory` and looks through its inodes one by one. Where it has
/// no journal it steps over each that was freed in the last minutes, so that making a file costs the more the more
/// were removed (`recently_deleted` in fs/ext4/ialloc.c).
pub fn children(directory: &Path) {
    let Ok(directory) = File::open(directory) else { return };
    if let Ok(flags) = ioctl_getflags(&directory)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
}
