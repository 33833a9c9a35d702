//! The copying itself: one entry after another, directories before what is in them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, Timespec};
use rustix::io::Errno;
use wharf_sys::root::{Dir, Root, RootError};

use super::CopyOptions;
use super::regular::{Copier, Wanted};
use crate::error::{Error, Result};
use crate::whiteout::is_overlay_xattr;

/// Mode of directories that nothing stands for in the source.
const IMPLIED_MODE: u32 = 0o755;
/// How deep directories may nest.
const DEEPEST: usize = 4096;
/// How many links may lead to one another, as the kernel has it.
const LINKS: usize = 40;

/// One copy under way.
pub(super) struct Walk<'a> {
    source: &'a Root,
    target: &'a Root,
    options: &'a CopyOptions<'a>,
    /// Where files with several names went: device and inode to a path in the target.
    links: HashMap<(u64, u64), PathBuf>,
    copier: Copier,
}

/// A directory that is filled.
struct Place {
    dir: Dir,
    /// It is new: nothing is in the way of what is put there.
    is_new: bool,
    /// It was opened in [`CopyOptions::upper`].
    direct: bool,
    /// What is made in it belongs to root's group, if root makes it.
    roots: bool,
}

impl Place {
    fn of(dir: Dir, is_new: bool, direct: bool) -> Result<Self> {
        let roots = is_new && dir.stat_self()?.st_gid == 0;
        Ok(Self { dir, is_new, direct, roots })
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a Root, target: &'a Root, options: &'a CopyOptions<'a>) -> Self {
        Self { source, target, options, links: HashMap::new(), copier: Copier::new() }
    }

    /// Copies the content of a directory into `to`, which is made where it is missing.
    pub(super) fn directory(&mut self, from: &Path, to: &Path) -> Result<()> {
        let stat = self.source.stat_follow(from)?;
        let is_new = self.make_new(to)?;
        let source = self.source.dir(from)?;
        let (target, to) = self.opened(to, is_new)?;
        self.entries(&source, from, &target, &to, 0)?;
        let like_source = self.options.parents || self.options.whole;
        if is_new
            && like_source
            && let Some((parent, name)) = self.target.parent(&to)?
        {
            self.attributes(self.named(from)?.as_ref(), &stat, &parent, &name)?;
        }
        Ok(())
    }

    /// A directory of the target and its path without links. A new one, which nothing is below, is taken where an overlay
    /// keeps it: the overlay has nothing to add there.
    fn opened(&self, to: &Path, is_new: bool) -> Result<(Place, PathBuf)> {
        let Some(upper) = self.options.upper else {
            return Ok((Place::of(self.target.dir(to)?, is_new, false)?, to.to_owned()));
        };
        let to = self.target.canonicalize(to)?;
        let dir = if is_new { upper.dir(&to)? } else { self.target.dir(&to)? };
        Ok((Place::of(dir, is_new, is_new)?, to))
    }

    /// Copies a file, device or FIFO to the path `to`.
    pub(super) fn file(&mut self, from: &Path, to: &Path) -> Result<()> {
        if let Some(parent) = to.parent() {
            self.make(parent)?;
        }
        let Some((source, name)) = self.source.parent(from)? else { return Ok(()) };
        let Some((target, new)) = self.target.parent(to)? else {
            return Err(Error::OverwriteWithFile(to.to_owned()));
        };
        let kind = FileType::from_raw_mode(source.stat(&name)?.st_mode);
        let target = Place::of(target, false, false)?;
        self.entry(&source, (&name, kind), from, &target, &new, to, 0)
    }

    /// A path of the source as an entry; the top is none.
    fn named(&self, path: &Path) -> Result<Option<Named>> {
        Ok(self.source.parent(path)?.map(|(dir, name)| Named { dir, name }))
    }

    /// Makes the directories of `path` below `base`, each with the attributes of the source's own.
    pub(super) fn parents(&mut self, path: &Path, base: &Path) -> Result<()> {
        self.make(base)?;
        let mut from = PathBuf::new();
        for part in path.components() {
            from.push(part);
            let to = base.join(&from);
            let stat = self.source.stat_follow(&from)?;
            if self.make_new(&to)?
                && let Some((parent, name)) = self.target.parent(&to)?
            {
                self.attributes(self.named(&from)?.as_ref(), &stat, &parent, &name)?;
            }
        }
        Ok(())
    }

    /// Makes a directory and those above it that are missing.
    pub(super) fn make(&mut self, path: &Path) -> Result<()> {
        self.make_new(path).map(drop)
    }

    /// [`Self::make`]; whether the last one is new.
    fn make_new(&mut self, path: &Path) -> Result<bool> {
        self.make_behind(path, LINKS)
    }

    /// [`Self::make_new`], also behind `links` links that lead to nothing yet: what they name is made, inside the target.
    fn make_behind(&mut self, path: &Path, links: usize) -> Result<bool> {
        match self.target.stat_follow(path) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Ok(false),
            Ok(_) => return Err(Error::OverwriteWithDirectory(path.to_owned())),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let above = path.parent().unwrap_or(Path::new(""));
        if !above.as_os_str().is_empty() {
            self.make_behind(above, links)?;
        }
        let Some((parent, name)) = self.target.parent(path)? else { return Ok(false) };
        match parent.stat(&name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                let Some(links) = links.checked_sub(1) else {
                    return Err(RootError::new("mkdir", path, Errno::LOOP).into());
                };
                let link = PathBuf::from(parent.read_link(&name)?);
                let led = self.target.canonicalize(above)?.join(link);
                return self.make_behind(&super::clean(&led.to_string_lossy()), links);
            }
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        parent.mkdir(&name, IMPLIED_MODE)?;
        let (uid, gid) = self.options.owner.unwrap_or((0, 0));
        parent.chown(&name, uid, gid)?;
        parent.chmod(&name, IMPLIED_MODE)?;
        Ok(true)
    }

    fn entries(&mut self, source: &Dir, from: &Path, target: &Place, to: &Path, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::Limit { limit: DEEPEST as u64, unit: "directories" });
        }
        for entry in source.entries()? {
            let (from, to) = (from.join(&entry.name), to.join(&entry.name));
            if self.options.exclude.is_some_and(|exclude| exclude(&from)) {
                continue;
            }
            self.entry(source, (&entry.name, entry.kind), &from, target, &entry.name, &to, depth)
                .map_err(|error| error.at(&to))?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "two names in two directories, and their paths for errors")]
    fn entry(
        &mut self,
        source: &Dir,
        (name, kind): (&OsStr, FileType),
        from: &Path,
        target: &Place,
        new: &OsStr,
        to: &Path,
        depth: usize,
    ) -> Result<()> {
        if kind == FileType::RegularFile
            && let Some((input, stat)) = Copier::open(source, name)?
        {
            return self.regular((input, &stat), target, new, to);
        }
        let stat = source.stat(name)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let made = self.merge_directory(target, new, to)?;
            self.entries(&source.dir(name)?, from, &made, to, depth + 1)?;
            let entry = Named { dir: source.try_clone()?, name: name.to_owned() };
            return self.attributes(Some(&entry), &stat, &target.dir, new);
        }
        if self.prepare(&stat, target, new, to)? {
            return Ok(());
        }
        match kind {
            FileType::Symlink => target.dir.symlink(new, &source.read_link(name)?)?,
            // A regular file was met above; one that comes only now was not there.
            FileType::Socket | FileType::RegularFile => return Ok(()),
            device => {
                let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                // It would hide a name there instead of being one.
                if target.direct && device == FileType::CharacterDevice && number == (0, 0) {
                    return Err(RootError::new("mknod", to, Errno::PERM).into());
                }
                target.dir.mknod(new, device, 0o600, number)?;
            }
        }
        let entry = Named { dir: source.try_clone()?, name: name.to_owned() };
        self.attributes(Some(&entry), &stat, &target.dir, new)
    }

    fn regular(
        &mut self,
        (mut input, stat): (File, &Stat),
        target: &Place,
        new: &OsStr,
        to: &Path,
    ) -> Result<()> {
        if self.prepare(stat, target, new, to)? {
            return Ok(());
        }
        let mut output = target.dir.create_file(new, 0o600)?;
        self.copier.content(&mut input, &mut output, u64::try_from(stat.st_size).unwrap_or(0))?;
        let bits = stat.st_mode & 0o7777;
        let bits = self.options.mode.as_ref().map_or(bits, |mode| mode.apply(bits, false));
        let owner = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        self.copier.dress((&input, stat), &output, &Wanted { name: new, owner, bits }, target.roots)
    }

    /// Makes the place of a file empty; whether it is there already, as another name of one that was copied.
    fn prepare(&mut self, stat: &Stat, target: &Place, new: &OsStr, to: &Path) -> Result<bool> {
        if !target.is_new {
            clear(&target.dir, new, to, self.options.replace)?;
        }
        Ok(stat.st_nlink > 1 && self.link(stat, target, new, to)?)
    }

    /// The target directory that a source directory's content goes into.
    fn merge_directory(&self, target: &Place, name: &OsStr, to: &Path) -> Result<Place> {
        let Place { dir, is_new, direct, .. } = target;
        let stat = if *is_new { None } else { Some(dir.stat(name)) };
        match stat {
            Some(Ok(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Place::of(dir.dir(name)?, false, *direct);
            }
            Some(Ok(_)) if self.options.replace => dir.unlink(name)?,
            Some(Ok(_)) => return Err(Error::OverwriteWithDirectory(to.to_owned())),
            Some(Err(error)) if !error.is_not_found() => return Err(error.into()),
            Some(Err(_)) | None => {}
        }
        dir.mkdir(name, 0o700)?;
        match self.options.upper {
            Some(upper) if !direct => Place::of(upper.dir(to)?, true, true),
            _ => Place::of(dir.dir(name)?, true, *direct),
        }
    }

    /// Makes a second name of a file that was copied already; `false` for its first.
    fn link(&mut self, stat: &Stat, target: &Place, new: &OsStr, to: &Path) -> Result<bool> {
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else {
            self.links.insert((stat.st_dev, stat.st_ino), to.to_owned());
            return Ok(false);
        };
        // What was copied is in the upper directory, whichever way it came there.
        let root = self.options.upper.filter(|_| target.direct).unwrap_or(self.target);
        let Some((dir, name)) = root.parent(first)? else { return Ok(false) };
        target.dir.link(new, &dir, &name)?;
        Ok(true)
    }

    /// Gives an entry the owner, mode, attributes and times of its source, in that order: a change of owner takes set-id
    /// bits and capabilities away.
    fn attributes(&self, source: Option<&Named>, stat: &Stat, target: &Dir, name: &OsStr) -> Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        target.chown(name, uid, gid)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Symlink {
            let bits = stat.st_mode & 0o7777;
            let bits =
                self.options.mode.as_ref().map_or(bits, |mode| mode.apply(bits, kind == FileType::Directory));
            target.chmod(name, bits)?;
        }
        if let Some(source) = source {
            extended(source, target, name)?;
        }
        #[expect(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
        let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
        target.set_times(
            name,
            time(stat.st_atime, stat.st_atime_nsec),
            time(stat.st_mtime, stat.st_mtime_nsec),
        )?;
        Ok(())
    }
}

/// Copies extended attributes.
fn extended(source: &Named, target: &Dir, name: &OsStr) -> Result<()> {
    for attribute in source.dir.list_xattrs(&source.name)? {
        // The overlay's own say how its layers are stacked, not what is in the tree.
        if is_overlay_xattr(attribute.as_bytes()) {
            continue;
        }
        if let Some(value) = source.dir.get_xattr(&source.name, &attribute)? {
            match target.set_xattr(name, &attribute, &value) {
                // What the file system or the kernel's policy does not take is left out.
                Err(error) if matches!(error.errno(), Errno::OPNOTSUPP | Errno::PERM) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// An entry by its directory and name.
struct Named {
    dir: Dir,
    name: OsString,
}

/// Takes away what is in the place of a new file.
fn clear(target: &Dir, name: &OsStr, to: &Path, replace: bool) -> Result<()> {
    match target.stat(name) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && replace => {
            Ok(target.remove_all(name)?)
        }
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(Error::OverwriteWithFile(to.to_owned()))
        }
        Ok(_) => Ok(target.unlink(name)?),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
