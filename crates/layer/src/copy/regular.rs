//! Regular files, which trees are mostly made of: all that can be done through a file's descriptor is done there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Gid, Mode as Bits, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use wharf_sys::root::{Dir, RootError};

use crate::error::Result;
use crate::whiteout::is_overlay_xattr;

/// Files up to this size, in bytes, are read and written; the kernel copies larger ones by itself.
const SMALL: usize = 256 * 1024;
/// The longest list of attributes, and the longest value, in bytes: the kernel's own bounds.
const ATTRIBUTES: usize = 64 * 1024;

/// What copying files needs again and again.
pub(super) struct Copier {
    buffer: Vec<u8>,
    /// Whether files may share blocks, as far as is known.
    shares: bool,
    /// Whether what this process makes belongs to root.
    root: bool,
}

impl Copier {
    pub(super) fn new() -> Self {
        let root = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        Self { buffer: Vec::new(), shares: true, root }
    }

    /// Opens an entry that is listed as a regular file; `None`: it is none.
    pub(super) fn open(source: &Dir, name: &OsStr) -> Result<Option<(File, Stat)>> {
        // Not blocking: what is opened is looked at only then.
        let file = match source.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(error) if error.errno() == Errno::LOOP => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| RootError::new("stat", name, errno))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| (file.into(), stat)))
    }

    /// Copies what is in a file, `size` bytes as far as is known.
    pub(super) fn content(&mut self, input: &mut File, output: &mut File, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.shares {
            match rustix::fs::ioctl_ficlone(&*output, &*input) {
                Ok(()) => return Ok(()),
                // Neither these file systems nor this pair of them.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY) => self.shares = false,
                Err(_) => {}
            }
        }
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= SMALL) else {
            return io::copy(input, output).map(drop);
        };
        self.buffer.resize(SMALL, 0);
        let mut done = 0;
        // A file that grows meanwhile is copied as long as it was.
        while done < size {
            match input.read(&mut self.buffer[..size - done]) {
                Ok(0) => break,
                Ok(count) => {
                    output.write_all(&self.buffer[..count])?;
                    done += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives a new file its owner, mode, attributes and times, in that order: a change of owner takes set-id bits and
    /// capabilities away. `roots`: files made in its directory belong to the group of whoever makes them, or to root's.
    pub(super) fn dress(
        &self,
        (input, stat): (&File, &Stat),
        output: &File,
        wanted: &Wanted<'_>,
        roots: bool,
    ) -> Result<()> {
        let failed = |op: &'static str| move |errno: Errno| RootError::new(op, wanted.name, errno);
        let (uid, gid) = wanted.owner;
        if !(self.root && roots && (uid, gid) == (0, 0)) {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::fchown(output, uid, gid).map_err(failed("chown"))?;
        }
        rustix::fs::fchmod(output, Bits::from_raw_mode(wanted.bits)).map_err(failed("chmod"))?;
        extended(input, output, wanted.name)?;
        #[expect(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
        let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(rustix::fs::futimens(output, &times).map_err(failed("utimens"))?)
    }
}

/// What a copy is to be like.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a OsStr,
    pub(super) owner: (u32, u32),
    /// The twelve bits of its mode.
    pub(super) bits: u32,
}

/// Copies extended attributes. The overlay's own say how its layers are stacked, not what is in the tree.
fn extended(input: &File, output: &File, name: &OsStr) -> Result<()> {
    let failed = |op: &'static str| move |errno: Errno| RootError::new(op, name, errno);
    let mut small = [0_u8; 256];
    let list = match rustix::fs::flistxattr(input, &mut small[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0_u8; ATTRIBUTES];
            let length = rustix::fs::flistxattr(input, &mut list[..]).map_err(failed("listxattr"))?;
            list.truncate(length);
            list
        }
        Err(errno) => return Err(failed("listxattr")(errno).into()),
    };
    let mut value = vec![0_u8; ATTRIBUTES];
    let names = list.split(|byte| *byte == 0);
    for attribute in names.filter(|name| !name.is_empty() && !is_overlay_xattr(name)) {
        let attribute = OsStr::from_bytes(attribute);
        let length = match rustix::fs::fgetxattr(input, attribute, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(errno) => return Err(failed("getxattr")(errno).into()),
        };
        match rustix::fs::fsetxattr(output.as_fd(), attribute, &value[..length], XattrFlags::empty()) {
            // What the file system or the kernel's policy does not take is left out.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(failed("setxattr")(errno).into()),
        }
    }
    Ok(())
}
