//! Writes an archive: ustar headers, PAX records where ustar cannot say it. The same members give the same bytes.

use std::io::{self, Read, Write};

use super::entry::{Entry, Kind};
use super::{BLOCK, pax};
use crate::error::{Error, Result};

/// The largest numbers that fit the octal fields of 8 and 12 bytes.
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;

/// An archive being written.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts an archive in `output`.
    pub fn new(output: W) -> Self {
        Self { output, buffer: vec![0; 256 * 1024] }
    }

    /// Appends a member without content.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.append_file(entry, io::empty())
    }

    /// Appends a member with `entry.size` bytes of content. A shorter `content` (a file that shrinks while it is read) is
    /// filled up with zeros, since the header is out already; what is longer is cut.
    pub fn append_file(&mut self, entry: &Entry, content: impl Read) -> Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            self.write_records(entry, &records)?;
        }
        self.output.write_all(&header(entry, type_flag(entry.kind), entry.size)).map_err(Error::Stream)?;
        self.write_content(content, entry.size)
    }

    /// Writes the end of the archive and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.output.write_all(&[0; 2 * BLOCK]).map_err(Error::Stream)?;
        self.output.flush().map_err(Error::Stream)?;
        Ok(self.output)
    }

    fn write_records(&mut self, entry: &Entry, records: &[u8]) -> Result<()> {
        let mut about = Entry::new(Kind::File, [b"PaxHeaders.0/", last_part(&entry.path)].concat());
        about.size = records.len() as u64;
        self.output.write_all(&header(&about, b'x', about.size)).map_err(Error::Stream)?;
        self.write_content(records, about.size)
    }

    fn write_content(&mut self, mut content: impl Read, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let limit = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match content.read(&mut self.buffer[..limit]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Stream(error)),
            };
            self.output.write_all(&self.buffer[..count]).map_err(Error::Stream)?;
            left -= count as u64;
        }
        let fill = left + size.wrapping_neg() % BLOCK as u64;
        io::copy(&mut io::repeat(0).take(fill), &mut self.output).map_err(Error::Stream)?;
        Ok(())
    }
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Link => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// What the fixed header cannot say about a member.
fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let plain = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    if !plain(&entry.path) {
        pax::push(&mut records, b"path", &entry.path);
    }
    if !plain(&entry.link) {
        pax::push(&mut records, b"linkpath", &entry.link);
    }
    if entry.size > MAX_SIZE {
        pax::push(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > MAX_ID {
            pax::push(&mut records, key, id.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(entry.modified.seconds);
    if entry.modified.nanos != 0 || !seconds.is_ok_and(|seconds| seconds <= MAX_SIZE) {
        pax::push(&mut records, b"mtime", pax::format_time(entry.modified).as_bytes());
    }
    if let Some(accessed) = entry.accessed {
        pax::push(&mut records, b"atime", pax::format_time(accessed).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        pax::push(&mut records, &[pax::XATTR, name].concat(), value);
    }
    records
}

fn header(entry: &Entry, flag: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    text(&mut block[0..100], &entry.path);
    octal(&mut block[100..108], entry.mode.into());
    octal(&mut block[108..116], if entry.uid > MAX_ID { 0 } else { entry.uid.into() });
    octal(&mut block[116..124], if entry.gid > MAX_ID { 0 } else { entry.gid.into() });
    octal(&mut block[124..136], if size > MAX_SIZE { 0 } else { size });
    let seconds = u64::try_from(entry.modified.seconds).unwrap_or(0);
    octal(&mut block[136..148], if seconds > MAX_SIZE { 0 } else { seconds });
    block[156] = flag;
    text(&mut block[157..257], &entry.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], entry.device.0.into());
    octal(&mut block[337..345], entry.device.1.into());
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// A name as far as it fits; where it does not, a record has all of it.
fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits with leading zeros and a NUL at the end. The callers keep numbers within the field.
fn octal(field: &mut [u8], mut number: u64) {
    let Some((last, digits)) = field.split_last_mut() else { return };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number & 7) as u8;
        number >>= 3;
    }
}

fn last_part(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // ASCII and short, so that this header needs no records of its own.
    let end = name.iter().position(|byte| !byte.is_ascii()).unwrap_or(name.len());
    &name[..end.min(80)]
}
