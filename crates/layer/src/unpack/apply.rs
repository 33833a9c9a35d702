//! Puts one member after another into the tree.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;
use wharf_sys::root::{Dir, Root, RootError};

use super::UnpackOptions;
use super::attributes::{set_named, set_open, times};
use crate::error::{Error, Result};
use crate::tar::{Entry, Kind, Reader, Segment};
use crate::whiteout::{self, Name, OPAQUE_XATTR, Whiteouts};

/// Mode of directories that the archive has no member for.
const IMPLIED_MODE: u32 = 0o755;
/// The bits of a mode that something may be made with: the set-id ones come after the owner.
const PLAIN_MODE: u32 = 0o777;

pub(super) struct Unpacker<'a> {
    root: &'a Root,
    base: &'a Path,
    options: &'a UnpackOptions,
    /// The directory of the last member: the next one is nearly always in it too.
    current: Option<(PathBuf, Rc<Dir>)>,
    /// Directories' times are set at the end, since every member made in them changes them.
    directories: Vec<(PathBuf, Timestamps)>,
    /// What this archive made: whiteouts hide only what was there before. Kept for `Apply` alone.
    made: HashSet<PathBuf>,
    size: u64,
    entries: u64,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(root: &'a Root, base: &'a Path, options: &'a UnpackOptions) -> Self {
        let (directories, made) = (Vec::new(), HashSet::new());
        Self { root, base, options, current: None, directories, made, size: 0, entries: 0 }
    }

    pub(super) fn member(&mut self, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.options.limits.entries {
            return Err(Error::Limit { limit: self.options.limits.entries, unit: "entries" });
        }
        let inner = clean(&entry.path)?;
        let Some(name) = inner.file_name().map(OsStr::to_owned) else { return self.top(entry) };
        let path = self.base.join(&inner);
        let layer = self.options.whiteouts != Whiteouts::Plain;
        let done = match if layer { whiteout::classify(&name) } else { Name::Ordinary } {
            Name::Ordinary => self.place(entry, &path, &name, data),
            Name::Meta => Ok(()),
            Name::Invalid => return Err(Error::Path(inner)),
            Name::Opaque => self.opaque(&path),
            Name::Hides(hidden) => self.hide(&path, &hidden),
        };
        done.map_err(|error| error.at(inner))
    }

    /// The base itself keeps its attributes, as with Docker, unless it is asked for otherwise.
    fn top(&self, entry: &Entry) -> Result<()> {
        if self.options.top && self.base.as_os_str().is_empty() && entry.kind == Kind::Directory {
            let (top, (user, group)) =
                (self.root.top()?, self.options.owner.unwrap_or((entry.uid, entry.gid)));
            let top = top.readable()?;
            let failed = |errno| RootError::new("set owner of", ".", errno);
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::fchown(&top, Some(user), Some(group)).map_err(failed)?;
            rustix::fs::fchmod(&top, Mode::from_raw_mode(entry.mode & 0o7777)).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(u64, u64)> {
        for (path, times) in &self.directories {
            let Some((parent, name)) = self.root.parent(path)? else { continue };
            match parent.set_times(&name, times.last_access, times.last_modification) {
                // A later member replaced it.
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
        Ok((self.size, self.entries))
    }

    fn place(
        &mut self,
        entry: &Entry,
        path: &Path,
        name: &OsStr,
        data: &mut Reader<impl BufRead>,
    ) -> Result<()> {
        let dir = self.parent(path)?;
        let owner = self.options.owner.unwrap_or((entry.uid, entry.gid));
        match entry.kind {
            Kind::File => self.file(entry, owner, &dir, name, data)?,
            Kind::Directory => self.directory(entry, owner, &dir, path, name)?,
            Kind::Link => self.link(entry, &dir, name)?,
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.replacing(entry, &dir, name, || dir.symlink(name, target))?;
                self.size += entry.link.len() as u64;
                set_named(&dir, name, entry, owner, true)?;
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Char => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                self.replacing(entry, &dir, name, || dir.mknod(name, kind, entry.mode, entry.device))?;
                set_named(&dir, name, entry, owner, false)?;
            }
        }
        if self.options.whiteouts == Whiteouts::Apply {
            // With its parents, which the archive may have no members for.
            for made in path.ancestors() {
                if !self.made.insert(made.to_owned()) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        owner: (u32, u32),
        dir: &Dir,
        name: &OsStr,
        data: &mut Reader<impl BufRead>,
    ) -> Result<()> {
        let mut file = self.replacing(entry, dir, name, || dir.create_file(name, entry.mode & PLAIN_MODE))?;
        self.size += entry.size;
        let failed = |op: &'static str| move |errno| Error::Tree(RootError::new(op, name, errno));
        match &entry.sparse {
            Some(segments) => write_segments(&file, segments, entry.size, data)?,
            None => {
                data.copy_to(entry.size, |piece| file.write_all(piece).map_err(Error::Stream))?;
            }
        }
        set_open(file.as_fd(), entry, owner).map_err(failed("set attributes"))?;
        rustix::fs::futimens(&file, &times(entry)).map_err(failed("utimens"))
    }

    fn directory(
        &mut self,
        entry: &Entry,
        owner: (u32, u32),
        dir: &Dir,
        path: &Path,
        name: &OsStr,
    ) -> Result<()> {
        let mut hides_lower = false;
        if let Err(error) = dir.mkdir(name, entry.mode & PLAIN_MODE) {
            if error.errno() != Errno::EXIST {
                return Err(error.into());
            }
            let existing = dir.stat(name)?;
            if FileType::from_raw_mode(existing.st_mode) != FileType::Directory {
                // A directory in the place of a whiteout: the one below stays hidden.
                hides_lower = whiteout::is_overlay_whiteout(&existing);
                self.clear_place(entry, dir, name)?;
                dir.mkdir(name, entry.mode & PLAIN_MODE)?;
            }
        }
        let opened = dir.open(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let failed = |errno| Error::Tree(RootError::new("set attributes", name, errno));
        set_open(opened.as_fd(), entry, owner).map_err(failed)?;
        if hides_lower && self.options.whiteouts == Whiteouts::Overlay {
            dir.set_xattr(name, OsStr::new(OPAQUE_XATTR), b"y")?;
        }
        self.directories.push((path.to_owned(), times(entry)));
        Ok(())
    }

    fn link(&mut self, entry: &Entry, dir: &Dir, name: &OsStr) -> Result<()> {
        let target = clean(&entry.link)?;
        let wrong = || Error::Link { path: OsStr::from_bytes(&entry.path).into(), target: target.clone() };
        let Some(old) = target.file_name() else { return Err(wrong()) };
        let parent = target.parent().map(|parent| self.root.dir(self.base.join(parent)));
        let Some(Ok(from)) = parent else { return Err(wrong()) };
        match self.replacing(entry, dir, name, || dir.link(name, &from, old)) {
            Err(Error::Tree(error)) if matches!(error.errno(), Errno::NOENT | Errno::PERM | Errno::XDEV) => {
                Err(wrong())
            }
            done => done,
        }
    }

    /// Makes something; when the place is taken, clears it and tries again.
    fn replacing<T>(
        &mut self,
        entry: &Entry,
        dir: &Dir,
        name: &OsStr,
        make: impl Fn() -> wharf_sys::root::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(error) if error.errno() == Errno::EXIST => {
                self.clear_place(entry, dir, name)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn clear_place(&mut self, entry: &Entry, dir: &Dir, name: &OsStr) -> Result<()> {
        if self.options.keep_kind {
            let is_dir = FileType::from_raw_mode(dir.stat(name)?.st_mode) == FileType::Directory;
            let (place, new) = (clean(&entry.path)?, self.base.to_owned());
            match (is_dir, entry.kind) {
                (true, kind) if kind != Kind::Directory => return Err(Error::OverwriteDirectory(place, new)),
                (false, Kind::Directory) => return Err(Error::OverwriteNonDirectory(place, new)),
                _ => {}
            }
        }
        // A link or directory on the way to the remembered directory may be what goes.
        self.current = None;
        Ok(dir.remove_all(name)?)
    }

    /// The directory that `path` is in, made where the archive has no member for it.
    fn parent(&mut self, path: &Path) -> Result<Rc<Dir>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((known, dir)) = &self.current
            && known == parent
        {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.root.dir(parent) {
            Err(error) if error.is_not_found() => self.root.create_dir_all(parent, IMPLIED_MODE)?,
            found => found?,
        };
        let dir = Rc::new(dir);
        self.current = Some((parent.to_owned(), Rc::clone(&dir)));
        Ok(dir)
    }

    /// A whiteout: the entry of this name in the layers below is gone.
    fn hide(&mut self, path: &Path, hidden: &OsStr) -> Result<()> {
        let dir = self.parent(path)?;
        if self.options.whiteouts == Whiteouts::Apply {
            return self.remove_unmade(&dir, &path.with_file_name(hidden), hidden);
        }
        match dir.mknod(hidden, FileType::CharacterDevice, 0, (0, 0)) {
            Err(error) if error.errno() == Errno::EXIST => {
                // The layer has this name itself: only a directory lets the one below shine through.
                let is_dir = FileType::from_raw_mode(dir.stat(hidden)?.st_mode) == FileType::Directory;
                if is_dir { Ok(dir.set_xattr(hidden, OsStr::new(OPAQUE_XATTR), b"y")?) } else { Ok(()) }
            }
            done => Ok(done?),
        }
    }

    /// An opaque mark: nothing of the directory in the layers below is left.
    fn opaque(&mut self, path: &Path) -> Result<()> {
        let dir = self.parent(path)?;
        if self.options.whiteouts == Whiteouts::Overlay {
            return Ok(dir.set_xattr_self(OsStr::new(OPAQUE_XATTR), b"y")?);
        }
        for entry in dir.entries()? {
            self.remove_unmade(&dir, &path.with_file_name(&entry.name), &entry.name)?;
        }
        Ok(())
    }

    /// Removes what the layers below left at `path`, keeping what this archive made.
    fn remove_unmade(&mut self, dir: &Dir, path: &Path, name: &OsStr) -> Result<()> {
        self.current = None;
        if !self.made.contains(path) {
            return match dir.remove_all(name) {
                Err(error) if error.is_not_found() => Ok(()),
                done => Ok(done?),
            };
        }
        let Ok(inner) = dir.dir(name) else { return Ok(()) };
        for entry in inner.entries()? {
            self.remove_unmade(&inner, &path.join(&entry.name), &entry.name)?;
        }
        Ok(())
    }
}

fn write_segments(
    file: &File,
    segments: &[Segment],
    size: u64,
    data: &mut Reader<impl BufRead>,
) -> Result<()> {
    file.set_len(size)?;
    for segment in segments {
        let mut at = segment.offset;
        data.copy_to(segment.length, |piece| {
            file.write_all_at(piece, at).map_err(Error::Stream)?;
            at += piece.len() as u64;
            Ok(())
        })?;
    }
    Ok(())
}

/// A member's path relative to the root: without empty components and `.`, and refused with `..`, which readers
/// resolve in different ways.
pub(super) fn clean(path: &[u8]) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Error::Path(OsString::from(OsStr::from_bytes(path)).into())),
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    Ok(clean)
}
