//! Whether a tree still is what its layer made it, and putting right what is not.
//!
//! The layer is read again and each member held against what is in the tree: kind, owner, mode, and of files the bytes.
//! What the tree has beside is damage too. Only layers of overlays can be looked at: a tree that holds the layers below
//! as well says nothing of one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use wharf_oci::{Digest, Hasher};
use wharf_sys::root::{Dir, Root};

use super::UnpackOptions;
use super::apply::{Unpacker, clean};
use crate::error::Result;
use crate::tar::{Entry, Kind, Reader};
use crate::whiteout::{self, Name, Whiteouts};

/// Files are read in pieces of this many bytes.
const PIECE: usize = 256 * 1024;

/// What a layer says of one path.
#[derive(Debug)]
enum Expected {
    Member {
        kind: Kind,
        mode: u32,
        owner: (u32, u32),
        content: Option<(u64, Digest)>,
        link: Vec<u8>,
    },
    /// Something of the layers below is hidden.
    Whiteout,
}

/// The paths of the tree that are not what the uncompressed layer `input` says; none is a tree as it was.
///
/// # Errors
/// When the layer or the tree cannot be read.
pub fn verify(input: impl Read, tree: &Root) -> Result<BTreeSet<PathBuf>> {
    let mut reader = Reader::new(BufReader::with_capacity(PIECE, input));
    let mut expected = BTreeMap::new();
    while let Some(entry) = reader.next()? {
        note(&entry, &mut reader, &mut expected)?;
    }
    let mut damaged = BTreeSet::new();
    for (path, wanted) in &expected {
        if !holds(tree, path, wanted)? {
            damaged.insert(path.clone());
        }
    }
    strangers(&tree.top()?, Path::new(""), &expected, &mut damaged)?;
    Ok(damaged)
}

/// Puts right the `damaged` paths of a tree from its uncompressed layer; all others are left alone, so that it may be
/// mounted meanwhile.
///
/// # Errors
/// When the layer or the tree cannot be read, or the disk fails.
pub fn mend(input: impl Read, tree: &Root, damaged: &BTreeSet<PathBuf>) -> Result<()> {
    for path in damaged {
        let Ok(Some((dir, name))) = tree.parent(path) else { continue };
        match dir.stat(&name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => dir.unlink(&name)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let options = UnpackOptions::new(Whiteouts::Overlay);
    let mut reader = Reader::new(BufReader::with_capacity(PIECE, input));
    let mut unpacker = Unpacker::new(tree, Path::new(""), &options);
    let mut said = BTreeSet::new();
    while let Some(entry) = reader.next()? {
        let path = subject(&clean(&entry.path)?);
        // A directory gets its time back where something in it changes.
        let holds_damage = || damaged.iter().any(|damage| damage.parent() == Some(&path));
        if damaged.contains(&path) || entry.kind == Kind::Directory && holds_damage() {
            unpacker.member(&entry, &mut reader)?;
        }
        said.extend(path.ancestors().map(Path::to_owned));
    }
    for path in damaged.iter().filter(|path| !said.contains(*path)) {
        let Ok(Some((dir, name))) = tree.parent(path) else { continue };
        match dir.remove_all(&name) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    unpacker.finish().map(drop)
}

/// The path that a member is about: of a whiteout, what it hides; of an opaque mark, its directory.
fn subject(path: &Path) -> PathBuf {
    match path.file_name().map(whiteout::classify) {
        Some(Name::Hides(hidden)) => path.with_file_name(hidden),
        Some(Name::Opaque) => path.parent().map(Path::to_owned).unwrap_or_default(),
        _ => path.to_owned(),
    }
}

fn note(
    entry: &Entry,
    data: &mut Reader<impl BufRead>,
    expected: &mut BTreeMap<PathBuf, Expected>,
) -> Result<()> {
    let path = clean(&entry.path)?;
    let Some(name) = path.file_name() else { return Ok(()) };
    match whiteout::classify(name) {
        Name::Ordinary => {}
        Name::Hides(hidden) => {
            let hidden = path.with_file_name(hidden);
            // The layer's own directory of that name hides by itself.
            expected.entry(hidden).or_insert(Expected::Whiteout);
            return Ok(());
        }
        Name::Opaque | Name::Meta | Name::Invalid => return Ok(()),
    }
    if entry.kind != Kind::Directory
        && matches!(expected.get(&path), Some(Expected::Member { kind: Kind::Directory, .. }))
    {
        expected.retain(|other, _| !other.starts_with(&path));
    }
    let content = if entry.kind == Kind::File { Some((entry.size, digest(entry, data)?)) } else { None };
    let member = Expected::Member {
        kind: entry.kind,
        mode: entry.mode & 0o7777,
        owner: (entry.uid, entry.gid),
        content,
        link: entry.link.clone(),
    };
    expected.insert(path, member);
    Ok(())
}

/// The digest of a member's content, holes included.
fn digest(entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let Some(segments) = &entry.sparse else {
        data.copy_to(entry.size, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        return Ok(hasher.finish());
    };
    let mut at = 0;
    for segment in segments {
        zeros(&mut hasher, segment.offset.saturating_sub(at));
        data.copy_to(segment.length, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        at = segment.offset + segment.length;
    }
    zeros(&mut hasher, entry.size.saturating_sub(at));
    Ok(hasher.finish())
}

fn zeros(hasher: &mut Hasher, mut count: u64) {
    const NONE: [u8; 4096] = [0; 4096];
    while count > 0 {
        let piece = usize::try_from(count).unwrap_or(NONE.len()).min(NONE.len());
        hasher.update(&NONE[..piece]);
        count -= piece as u64;
    }
}

fn holds(tree: &Root, path: &Path, wanted: &Expected) -> Result<bool> {
    let Ok(Some((dir, name))) = tree.parent(path) else { return Ok(false) };
    let Ok(stat) = dir.stat(&name) else { return Ok(false) };
    let Expected::Member { kind, mode, owner, content, link } = wanted else {
        return Ok(whiteout::is_overlay_whiteout(&stat));
    };
    if *kind == Kind::Link {
        let target = clean(link).ok().and_then(|target| tree.stat(&target).ok());
        return Ok(target.is_some_and(|target| (target.st_dev, target.st_ino) == (stat.st_dev, stat.st_ino)));
    }
    let as_it_was = FileType::from_raw_mode(stat.st_mode) == file_type(*kind)
        && (stat.st_uid, stat.st_gid) == *owner
        && (*kind == Kind::Symlink || stat.st_mode & 0o7777 == *mode);
    if !as_it_was {
        return Ok(false);
    }
    match content {
        Some((size, digest)) => has_content(&dir, &name, &stat, *size, digest),
        None if *kind == Kind::Symlink => Ok(dir.read_link(&name)?.as_bytes() == link),
        None => Ok(true),
    }
}

fn has_content(dir: &Dir, name: &OsStr, stat: &Stat, size: u64, digest: &Digest) -> Result<bool> {
    if u64::try_from(stat.st_size) != Ok(size) {
        return Ok(false);
    }
    let mut file = std::fs::File::from(dir.open(name, rustix::fs::OFlags::RDONLY)?);
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; PIECE]);
    loop {
        // What the disk cannot give is damaged.
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish() == *digest),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(_) => return Ok(false),
        }
    }
}

const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File | Kind::Link => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
    }
}

/// What is in the tree without the layer having said so; directories that it has something in are implied.
fn strangers(
    dir: &Dir,
    path: &Path,
    expected: &BTreeMap<PathBuf, Expected>,
    damaged: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    for entry in dir.entries()? {
        let inner = path.join(&entry.name);
        let implied = || {
            let mut after = expected
                .range::<Path, _>((std::ops::Bound::Excluded(inner.as_path()), std::ops::Bound::Unbounded));
            after.next().is_some_and(|(next, _)| next.starts_with(&inner))
        };
        let is_dir = entry.kind == FileType::Directory;
        if expected.contains_key(&inner) || is_dir && implied() {
            if is_dir {
                strangers(&dir.dir(&entry.name)?, &inner, expected, damaged)?;
            }
        } else {
            damaged.insert(inner);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tar::EntryType;

    use super::*;

    fn layer() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind, mode, bytes: &[u8], link: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1_700_000_000);
            header.set_size(bytes.len() as u64);
            if link.is_empty() {
                tar.append_data(&mut header, path, bytes).unwrap();
            } else {
                tar.append_link(&mut header, path, link).unwrap();
            }
        };
        add("dir/", EntryType::Directory, 0o755, b"", "");
        add("dir/file", EntryType::Regular, 0o644, b"content", "");
        add("dir/link", EntryType::Link, 0o644, b"", "dir/file");
        add("dir/sym", EntryType::Symlink, 0o777, b"", "file");
        add("dir/.wh.gone", EntryType::Regular, 0o644, b"", "");
        add("implied/inner/file", EntryType::Regular, 0o600, b"first", "");
        add("implied/inner/file", EntryType::Regular, 0o600, b"second", "");
        tar.into_inner().unwrap()
    }

    #[test]
    fn damage_is_found_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, tar) = (Root::open(folder.path()).unwrap(), layer());
        super::super::unpack(&tar[..], &tree, &UnpackOptions::new(Whiteouts::Overlay)).unwrap();
        let damaged = || verify(&tar[..], &tree).unwrap();
        assert_eq!(damaged(), BTreeSet::new());
        let at = |path: &str| folder.path().join(path);
        let cases: [(&dyn Fn(), &[&str]); 6] = [
            (&|| std::fs::write(at("dir/file"), "kontent").unwrap(), &["dir/file"]),
            (&|| std::fs::remove_file(at("dir/file")).unwrap(), &["dir/file", "dir/link"]),
            (&|| std::fs::remove_dir_all(at("implied")).unwrap(), &["implied/inner/file"]),
            (&|| std::fs::write(at("dir/more"), "x").unwrap(), &["dir/more"]),
            (&|| std::fs::set_permissions(at("dir"), PermissionsExt::from_mode(0o700)).unwrap(), &["dir"]),
            (&|| std::fs::remove_file(at("dir/gone")).unwrap(), &["dir/gone"]),
        ];
        for (harm, paths) in cases {
            harm();
            let found = damaged();
            let paths: BTreeSet<PathBuf> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(found, paths);
            mend(&tar[..], &tree, &found).unwrap();
            // What a mended file was linked to shows only now.
            mend(&tar[..], &tree, &damaged()).unwrap();
            assert_eq!(damaged(), BTreeSet::new(), "{paths:?}");
        }
        assert_eq!(std::fs::read(at("dir/link")).unwrap(), b"content");
    }
}
