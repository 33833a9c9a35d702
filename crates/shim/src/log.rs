//! The on-disk form of the `local` log driver, written by the supervisor and read back by the daemon.
//!
//! A file is a run of entries and nothing else. Each entry is
//!
//! ```text
//! length  u32 LE   bytes of the body
//! body    flags u8, time i64 LE (nanoseconds since 1970), text
//! length  u32 LE   the same again, so that the last entries are found from the end
//! ```
//!
//! Text is kept as the process wrote it, without the newline that ended it; [`PARTIAL`] says that there was
//! none (a line over 16 KiB goes on in the next entry of its stream, or the stream ended).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Flag: the entry came from standard error; otherwise from standard output.
pub const STDERR: u8 = 1;
/// Flag: no newline followed the text.
pub const PARTIAL: u8 = 2;
/// Bytes of a body before its text.
pub const BODY_HEAD: usize = 9;
/// Bytes an entry has beside its text.
pub const OVERHEAD: usize = BODY_HEAD + 8;
/// The longest body a reader accepts, in bytes; a longer one means that the file is damaged.
pub const MAX_BODY: usize = 1 << 20;

/// One entry, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub flags: u8,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Without the newline.
    pub text: &'a [u8],
}

impl Entry<'_> {
    /// Appends the entry's on-disk form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // The supervisor splits lines at 16 KiB, so that a body always fits.
        let length = u32::try_from(BODY_HEAD + self.text.len()).unwrap_or(u32::MAX).to_le_bytes();
        out.reserve(OVERHEAD + self.text.len());
        out.extend_from_slice(&length);
        out.push(self.flags);
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(self.text);
        out.extend_from_slice(&length);
    }
}

/// What the head of some bytes holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An entry, and how many bytes it takes.
    Entry(Entry<'a>, usize),
    /// Not all of an entry is there yet.
    Incomplete,
    /// Not an entry.
    Damaged,
}

/// Reads the entry at the head of `bytes`.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let Some(head) = bytes.first_chunk::<4>() else { return Decoded::Incomplete };
    let length = u32::from_le_bytes(*head) as usize;
    if !(BODY_HEAD..=MAX_BODY).contains(&length) {
        return Decoded::Damaged;
    }
    let Some(body) = bytes.get(4..4 + length) else { return Decoded::Incomplete };
    let Some(tail) = bytes[4 + length..].first_chunk::<4>() else { return Decoded::Incomplete };
    if tail != head {
        return Decoded::Damaged;
    }
    let mut time = [0; 8];
    time.copy_from_slice(&body[1..BODY_HEAD]);
    let entry = Entry { flags: body[0], time: i64::from_le_bytes(time), text: &body[BODY_HEAD..] };
    Decoded::Entry(entry, length + 8)
}

/// The end of the name of a compressed file that is not in its place yet.
pub const UNFINISHED: &str = ".gz.new";
/// How many rotations back a file is looked for.
const OLDEST: u32 = 1000;

/// Puts the compressed form of a rotated file of the log at `path` in its place. The file is known by its inode:
/// its name changes with every rotation. Where it is gone, `compressed` goes too. Only whoever rotates the log may
/// call this, or anyone while nobody does.
///
/// # Errors
/// As `rename(2)`; both files are there then, which readers take for the plain one.
pub fn put_compressed(path: &Path, inode: u64, compressed: &Path) -> io::Result<()> {
    let named = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let is_it = |plain: &PathBuf| fs::metadata(plain).is_ok_and(|metadata| metadata.ino() == inode);
    match (1..OLDEST).map(|number| named(format!(".{number}"))).find(is_it) {
        Some(plain) => {
            let mut place = plain.clone().into_os_string();
            place.push(".gz");
            fs::rename(compressed, place)?;
            fs::remove_file(plain)
        }
        None => fs::remove_file(compressed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_written() {
        let mut bytes = Vec::new();
        let first = Entry { flags: STDERR, time: -5, text: b"a\xff\0" };
        let second = Entry { flags: PARTIAL, time: i64::MAX, text: b"" };
        first.encode(&mut bytes);
        second.encode(&mut bytes);
        assert_eq!(decode(&bytes), Decoded::Entry(first, 3 + OVERHEAD));
        assert_eq!(decode(&bytes[3 + OVERHEAD..]), Decoded::Entry(second, OVERHEAD));
    }

    #[test]
    fn cut_and_damaged_entries_are_told_apart() {
        let mut bytes = Vec::new();
        Entry { flags: 0, time: 1, text: b"text" }.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Decoded::Incomplete);
        }
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(decode(&bytes), Decoded::Damaged);
        assert_eq!(decode(&[0; 8]), Decoded::Damaged);
    }
}
