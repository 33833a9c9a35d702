//! Writes a tree as an archive, in the order of names, so that the same tree gives the same bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use wharf_sys::root::{Dir, Root};

use crate::error::Result;
use crate::tar::{Entry, Kind, Time, Writer};

/// How to write a tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions<'a> {
    /// The name of the top in the archive: what is below it is `NAME/…`. Empty: the top has no member of its own and
    /// what is in it has plain names.
    pub name: &'a [u8],
    /// Gives everything this owner instead of its own.
    pub owner: Option<(u32, u32)>,
}

/// Writes what `path` names (a link there is not followed) and all below it to `output`. Sockets have no place in an
/// archive and are left out, as are files that vanish while they are looked at.
pub fn pack<W: Write>(root: &Root, path: &Path, options: PackOptions<'_>, output: W) -> Result<W> {
    let Some((parent, name)) = root.parent(path)? else {
        return pack_dir(&root.top()?, options, output);
    };
    if options.name.is_empty() {
        return pack_dir(&parent.dir(&name)?, options, output);
    }
    let mut packer = Packer::new(output, options.owner);
    packer.tree(&parent, &name, options.name.to_vec())?;
    packer.finish()
}

/// Writes a directory and all below it, as [`pack`] does.
pub fn pack_dir<W: Write>(dir: &Dir, options: PackOptions<'_>, output: W) -> Result<W> {
    let mut packer = Packer::new(output, options.owner);
    if !options.name.is_empty() {
        let top = packer.describe(&dir.stat_self()?, Kind::Directory, options.name);
        packer.writer.append(&top)?;
    }
    packer.children(dir, options.name)?;
    packer.finish()
}

/// Writes several trees as one archive, each below a name of its own (empty: at the top), nothing newer than `latest`.
pub fn pack_all<W: Write>(trees: &[(&Root, &[u8])], latest: Option<i64>, output: W) -> Result<W> {
    let mut packer = Packer::new(output, None).not_after(latest);
    for (root, name) in trees {
        let top = root.top()?;
        if !name.is_empty() {
            let entry = packer.describe(&top.stat_self()?, Kind::Directory, name);
            packer.writer.append(&entry)?;
        }
        packer.children(&top, name)?;
    }
    packer.finish()
}

/// Writes entries of trees, hard links between them as links.
pub(crate) struct Packer<W: Write> {
    writer: Writer<W>,
    owner: Option<(u32, u32)>,
    /// Seconds since 1970: no member is newer.
    latest: Option<i64>,
    /// Whether something was.
    bounded: bool,
    /// Bytes of all regular files and of symbolic links' targets so far.
    size: u64,
    /// The member that first had an inode which has several names.
    seen: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(output: W, owner: Option<(u32, u32)>) -> Self {
        Self {
            writer: Writer::new(output),
            owner,
            latest: None,
            bounded: false,
            size: 0,
            seen: HashMap::new(),
        }
    }

    /// What is newer than `latest`, in seconds since 1970, is as old as that in the archive.
    pub(crate) fn not_after(self, latest: Option<i64>) -> Self {
        Self { latest, ..self }
    }

    pub(crate) const fn is_bounded(&self) -> bool {
        self.bounded
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> Result<W> {
        self.writer.finish()
    }

    /// A member without content that no tree has: a whiteout.
    pub(crate) fn mark(&mut self, path: Vec<u8>, modified: Time) -> Result<()> {
        let mut entry = Entry::new(Kind::File, path);
        entry.mode = 0;
        entry.modified = modified;
        self.writer.append(&entry)
    }

    /// An entry and, of a directory, all below it.
    fn tree(&mut self, dir: &Dir, name: &OsStr, path: Vec<u8>) -> Result<()> {
        let Some(stat) = self.one(dir, name, &path)? else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        match dir.dir(name) {
            Ok(inner) => self.children(&inner, &path),
            Err(error) if is_gone(error.errno()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn children(&mut self, dir: &Dir, path: &[u8]) -> Result<()> {
        for entry in dir.entries()? {
            let inner = join(path, &entry.name);
            if entry.kind == FileType::RegularFile {
                self.file(dir, &entry.name, &inner)?;
            } else {
                self.tree(dir, &entry.name, inner)?;
            }
        }
        Ok(())
    }

    /// One entry, without what is below it. `None`: it is gone or has no place in an archive.
    pub(crate) fn one(&mut self, dir: &Dir, name: &OsStr, path: &[u8]) -> Result<Option<Stat>> {
        let stat = match dir.stat(name) {
            Ok(stat) => stat,
            Err(error) if is_gone(error.errno()) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(dir, name, path),
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(None),
        };
        let mut entry = self.describe(&stat, kind, path);
        if kind == Kind::Symlink {
            entry.link = dir.read_link(name)?.as_bytes().to_vec();
            self.size += entry.link.len() as u64;
        } else if matches!(kind, Kind::Char | Kind::Block) {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        if !self.is_second_name(&stat, &mut entry) {
            entry.xattrs = xattrs(dir, name)?;
        }
        self.writer.append(&entry)?;
        Ok(Some(stat))
    }

    /// An entry that is listed as a regular file.
    pub(crate) fn file(&mut self, dir: &Dir, name: &OsStr, path: &[u8]) -> Result<Option<Stat>> {
        // Not blocking: a FIFO may be in the file's place by now.
        let fd = match dir.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => fd,
            Err(error) if is_gone(error.errno()) || error.errno() == Errno::LOOP => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&fd).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut entry = self.describe(&stat, Kind::File, path);
        if self.is_second_name(&stat, &mut entry) {
            self.writer.append(&entry)?;
        } else {
            entry.size = u64::try_from(stat.st_size).unwrap_or(0);
            if has_xattrs(&fd) {
                entry.xattrs = xattrs(dir, name)?;
            }
            self.size += entry.size;
            self.writer.append_file(&entry, File::from(fd))?;
        }
        Ok(Some(stat))
    }

    /// Turns the entry into a hard link when an earlier member is the same inode.
    fn is_second_name(&mut self, stat: &Stat, entry: &mut Entry) -> bool {
        if stat.st_nlink < 2 || entry.kind == Kind::Directory {
            return false;
        }
        match self.seen.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => {
                entry.kind = Kind::Link;
                entry.link.clone_from(first);
                entry.device = (0, 0);
                true
            }
            None => {
                self.seen.insert((stat.st_dev, stat.st_ino), entry.path.clone());
                false
            }
        }
    }

    /// Times have whole seconds, as Docker writes them.
    fn describe(&mut self, stat: &Stat, kind: Kind, path: &[u8]) -> Entry {
        let mut entry = Entry::new(kind, path);
        if kind == Kind::Directory && !path.ends_with(b"/") {
            entry.path.push(b'/');
        }
        entry.mode = stat.st_mode & 0o7777;
        (entry.uid, entry.gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let seconds = self.latest.map_or(stat.st_mtime, |latest| stat.st_mtime.min(latest));
        self.bounded |= seconds != stat.st_mtime;
        entry.modified = Time { seconds, nanos: 0 };
        entry
    }
}

/// A path in the archive.
pub(crate) fn join(path: &[u8], name: &OsStr) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
    [path, slash, name.as_bytes()].concat()
}

fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}

/// Whether an open file has attributes, which few have.
fn has_xattrs(file: &OwnedFd) -> bool {
    !matches!(rustix::fs::flistxattr_query(file), Ok(0) | Err(Errno::OPNOTSUPP))
}

/// The attributes that mean something elsewhere. Labels and signatures of this host (`security.selinux`, `security.ima`)
/// and overlayfs's own do not.
fn xattrs(dir: &Dir, name: &OsStr) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut names = match dir.list_xattrs(name) {
        Err(error) if is_gone(error.errno()) => return Ok(found),
        names => names?,
    };
    names.retain(|name| is_portable(name.as_bytes()));
    names.sort_unstable();
    for attribute in names {
        if let Some(value) = dir.get_xattr(name, &attribute)? {
            found.push((attribute.as_bytes().to_vec(), value));
        }
    }
    Ok(found)
}

pub(crate) fn is_portable(xattr: &[u8]) -> bool {
    let overlay = crate::whiteout::is_overlay_xattr(xattr);
    xattr == b"security.capability"
        || xattr.starts_with(b"system.posix_acl_")
        || (xattr.starts_with(b"user.") && !overlay)
}
