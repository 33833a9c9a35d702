//! Whiteouts: how a layer says that something below it is gone (image-spec, layer, "Whiteouts"), and how overlayfs
//! does (a character device 0:0, and an attribute on opaque directories).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use wharf_sys::root::{Dir, Result};

use rustix::fs::{FileType, Stat};

/// What starts the name of a whiteout in a layer.
const PREFIX: &[u8] = b".wh.";
/// What starts the names that aufs kept for itself; they mean nothing today.
const META: &[u8] = b".wh..wh.";
/// The name that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The attribute that makes a directory opaque to overlayfs.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// What becomes of whiteouts when an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// They turn into overlayfs's own: the target is a layer directory of an overlay.
    Overlay,
    /// They remove what they name: the target holds the layers below, as with the vfs driver.
    Apply,
    /// They are names like any other: the archive is no layer.
    Plain,
}

/// A name in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Ordinary,
    /// Hides the entry of this name.
    Hides(OsString),
    /// Hides everything below its directory.
    Opaque,
    /// Left over from aufs: skipped.
    Meta,
    /// Hides something that is no name, such as `..`.
    Invalid,
}

/// What a name means in a layer.
pub(crate) fn classify(name: &OsStr) -> Name {
    let bytes = name.as_bytes();
    if bytes == OPAQUE {
        return Name::Opaque;
    }
    if bytes.starts_with(META) {
        return Name::Meta;
    }
    match bytes.strip_prefix(PREFIX) {
        None => Name::Ordinary,
        Some(b"" | b"." | b"..") => Name::Invalid,
        Some(hidden) => Name::Hides(OsStr::from_bytes(hidden).to_owned()),
    }
}

/// The path of the whiteout that hides `path`, as a layer has it.
pub(crate) fn hiding(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..at], PREFIX, &path[at..]].concat()
}

/// The path of the mark that makes the directory `path` opaque, as a layer has it.
pub(crate) fn opaque_mark(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { OPAQUE.to_vec() } else { [path, b"/", OPAQUE].concat() }
}

/// Whether overlayfs takes this for a whiteout.
pub(crate) fn is_overlay_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether overlayfs takes this directory for an opaque one.
pub(crate) fn is_overlay_opaque(dir: &Dir) -> Result<bool> {
    Ok(dir.get_xattr_self(OsStr::new(OPAQUE_XATTR))?.is_some_and(|value| value == b"y"))
}

/// Whether the attribute belongs to overlayfs itself: it must come neither out of an archive nor into one.
#[must_use]
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, meaning) in [
            ("a.wh.b", Name::Ordinary),
            (".wh.a", Name::Hides("a".into())),
            (".wh..wh..opq", Name::Opaque),
            (".wh..wh.plnk", Name::Meta),
            (".wh.", Name::Invalid),
            (".wh..", Name::Invalid),
            (".wh...", Name::Invalid),
            (".wh....", Name::Hides("...".into())),
        ] {
            assert_eq!(classify(OsStr::new(name)), meaning, "{name}");
        }
    }

    #[test]
    fn marks_are_placed_beside_and_inside() {
        assert_eq!(hiding(b"a/b"), b"a/.wh.b");
        assert_eq!(hiding(b"b"), b".wh.b");
        assert_eq!(opaque_mark(b"a/b"), b"a/b/.wh..wh..opq");
    }
}
