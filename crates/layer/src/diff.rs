//! Writes what a container changed as a layer.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;
use wharf_oci::{DiffId, Hasher};
use wharf_sys::root::{Dir, Root};

use crate::changes::{ChangeKind, changes_between};
use crate::error::Result;
use crate::pack::{Packer, join};
use crate::tar::Time;
use crate::whiteout;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffSummary {
    /// The digest of the whole stream.
    pub diff_id: DiffId,
    /// Bytes of the whole stream.
    pub stream_size: u64,
    /// Bytes of all regular files and of symbolic links' targets, which Docker calls a layer's size.
    pub size: u64,
}

/// Writes an overlay's `upper` directory as a layer: whiteouts and opaque directories become the image format's.
pub fn diff(upper: &Root, output: impl Write) -> Result<DiffSummary> {
    let mut packer = Packer::new(Hashed::new(output), None);
    overlay(&upper.top()?, &[], &mut packer)?;
    finish(packer)
}

/// [`diff`] for who makes the digest anyway, with nothing newer than `latest`, in seconds since 1970. Returns what Docker
/// calls the layer's size, in bytes, and whether something was newer.
pub fn write_diff(upper: &Root, latest: Option<i64>, output: impl Write) -> Result<(u64, bool)> {
    let mut packer = Packer::new(output, None).not_after(latest);
    overlay(&upper.top()?, &[], &mut packer)?;
    let (size, bounded) = (packer.size(), packer.is_bounded());
    packer.finish()?;
    Ok((size, bounded))
}

/// Writes the changes that make `lower` into `upper`, two whole trees, as a layer.
pub fn diff_between(lower: &Root, upper: &Root, output: impl Write) -> Result<DiffSummary> {
    let mut packer = Packer::new(Hashed::new(output), None);
    for change in changes_between(lower, upper)? {
        let path = change.path.strip_prefix("/").unwrap_or(&change.path).as_os_str().as_bytes();
        if change.kind == ChangeKind::Deleted {
            packer.mark(whiteout::hiding(path), Time::default())?;
        } else if let Some((dir, name)) = upper.parent(&change.path)? {
            packer.one(&dir, &name, path)?;
        }
    }
    finish(packer)
}

fn overlay<W: Write>(upper: &Dir, path: &[u8], packer: &mut Packer<W>) -> Result<()> {
    for entry in upper.entries()? {
        let inner = join(path, &entry.name);
        if entry.kind == FileType::RegularFile {
            packer.file(upper, &entry.name, &inner)?;
            continue;
        }
        if whiteout::is_overlay_whiteout(&upper.stat(&entry.name)?) {
            packer.mark(whiteout::hiding(&inner), Time::default())?;
            continue;
        }
        let Some(stat) = packer.one(upper, &entry.name, &inner)? else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        let below = upper.dir(&entry.name)?;
        if whiteout::is_overlay_opaque(&below)? {
            packer.mark(whiteout::opaque_mark(&inner), Time::default())?;
        }
        overlay(&below, &inner, packer)?;
    }
    Ok(())
}

fn finish<W: Write>(packer: Packer<Hashed<W>>) -> Result<DiffSummary> {
    let size = packer.size();
    let hashed = packer.finish()?;
    Ok(DiffSummary { diff_id: DiffId(hashed.hasher.finish()), stream_size: hashed.length, size })
}

/// Computes the digest of what is written.
#[derive(Debug)]
struct Hashed<W> {
    output: W,
    hasher: Hasher,
    length: u64,
}

impl<W> Hashed<W> {
    fn new(output: W) -> Self {
        Self { output, hasher: Hasher::new(), length: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
