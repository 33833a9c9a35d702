//! Limits on what a directory tree may take, by project quota (`quotactl(2)`, `xfs_quota(8)`, ext4 with
//! `prjquota`).
//!
//! A project is a number that inodes carry; a directory that says so passes it on to what is made in it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::process::errno;

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` of `linux/fs.h`, by the generic ABI.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;
/// `PRJQUOTA` of `linux/quota.h`.
const PROJECT: u32 = 2;
/// `Q_XGETQSTAT` and `Q_XSETQLIM` of `linux/dqblk_xfs.h`; ext4 answers them too.
const GET_STATE: u32 = 0x5805;
const SET_LIMIT: u32 = 0x5804;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const ENFORCED: u16 = 1 << 5;
/// Limits are counted in blocks of this size.
const BLOCK: u64 = 512;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota` of `linux/dqblk_xfs.h`.
#[repr(C)]
#[derive(Default)]
struct Limits {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes: [u64; 4],
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: i16,
    reserved: [u64; 1],
}

const _: () = assert!(size_of::<Attributes>() == 28 && size_of::<Limits>() == 112);

fn quotactl(
    file: BorrowedFd<'_>,
    command: u32,
    id: u32,
    data: *mut libc::c_void,
) -> std::result::Result<(), Errno> {
    // SAFETY: callers pass a structure of the command's size that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command << 8 | PROJECT, id, data) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Whether the file system of an open file or directory enforces limits of projects.
pub fn enforces_projects(file: BorrowedFd<'_>) -> bool {
    // struct fs_quota_stat is 80 bytes; its flags are the second half of the first word.
    let mut state = [0_u16; 64];
    quotactl(file, GET_STATE, 0, state.as_mut_ptr().cast()).is_ok() && state[1] & ENFORCED != 0
}

/// The project of an open file or directory.
///
/// # Errors
/// `ENOTTY` where the file system has no projects.
pub fn project(file: BorrowedFd<'_>) -> Result<u32> {
    Ok(attributes(file)?.project)
}

fn attributes(file: BorrowedFd<'_>) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one such structure.
    match unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut attributes) } {
        0 => Ok(attributes),
        _ => Err(Error::new("read project of directory", errno())),
    }
}

/// Makes an open, empty directory and all that is made in it part of a project.
///
/// # Errors
/// `ENOTTY`, `EOPNOTSUPP` where the file system has no projects.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the kernel reads one such structure.
    match unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES as _, &raw const attributes) } {
        0 => Ok(()),
        _ => Err(Error::new("set project of directory", errno())),
    }
}

/// Limits what a project may take, in bytes; 0: no limit. `file` is anything of its file system.
///
/// # Errors
/// `ESRCH`, `ENOSYS` where the file system keeps no quota of projects.
pub fn limit_project(file: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    /// `FS_DQUOT_VERSION`, `FS_PROJ_QUOTA`, `FS_DQ_BSOFT | FS_DQ_BHARD`.
    const VERSION: i8 = 1;
    const OF_PROJECT: i8 = 2;
    const BLOCKS: u16 = 1 << 2 | 1 << 3;
    let blocks = bytes.div_ceil(BLOCK);
    let mut limits = Limits {
        version: VERSION,
        flags: OF_PROJECT,
        fields: BLOCKS,
        id: project,
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..Limits::default()
    };
    quotactl(file, SET_LIMIT, project, (&raw mut limits).cast())
        .map_err(|errno| Error::new(format!("limit project {project} to {bytes} bytes"), errno))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_system_without_quota_enforces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(dir.path()).unwrap();
        if enforces_projects(file.as_fd()) {
            // Then all of it has to work.
            set_project(file.as_fd(), 77_777).unwrap();
            assert_eq!(project(file.as_fd()).unwrap(), 77_777);
            limit_project(file.as_fd(), 77_777, 1 << 20).unwrap();
            assert!(std::fs::write(dir.path().join("large"), vec![1; 2 << 20]).is_err());
            return limit_project(file.as_fd(), 77_777, 0).unwrap();
        }
        assert!(limit_project(file.as_fd(), 77_777, 1 << 20).is_err());
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!enforces_projects(proc.as_fd()));
        assert!(project(proc.as_fd()).is_err());
    }
}
