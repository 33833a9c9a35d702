//! Reads an archive member by member.

use std::io::{self, BufRead, Read};

use super::entry::{Entry, Kind, Time};
use super::header::{Dialect, Header};
use super::pax::{self, Record};
use super::sparse::{self, PaxSparse};
use super::{BLOCK, Segment};
use crate::error::{Error, Result};

/// Extended headers and long names may have this many bytes (Go's limit); real ones have a few hundred.
const MAX_META: u64 = 1 << 20;

/// What a ustar size field shows when the true size is only in the extended header: the largest it can hold.
const SIZE_SATURATED: u64 = 0o77_777_777_777;

/// An archive being read. [`Reader::next`] gives a member, reading from the reader itself gives its stored content,
/// which is skipped where the caller does not read it.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Stored bytes of the current member not read yet.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
    ended: bool,
}

/// Headers that describe the member after them.
#[derive(Default)]
struct Pending {
    pax: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.path.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the archive in `input`.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, ended: false }
    }

    /// The next member, `None` at the archive's end. After an error nothing more can be read.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut pending = Pending::default();
        while !self.ended {
            let Some(block) = self.header_block()? else { break };
            let header = Header::parse(&block)?;
            let twice = match header.flag() {
                b'x' => pending.pax.replace(self.meta(&header)?).is_some(),
                b'L' => pending.path.replace(self.long_name(&header)?).is_some(),
                b'K' => pending.link.replace(self.long_name(&header)?).is_some(),
                b'g' => {
                    // Docker's reader ignores global records, POSIX applies them: only harmless ones can pass.
                    check_global(&self.meta(&header)?)?;
                    false
                }
                _ => return self.member(&header, &pending).map(Some),
            };
            if twice {
                return Err(Error::Header("two extended headers for one member"));
            }
        }
        if pending.is_empty() { Ok(None) } else { Err(Error::Truncated) }
    }

    /// The input after the archive, for what follows it.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Gives stored content to `write` in the pieces in which it lies in memory, at most `limit` bytes; returns how many.
    pub fn copy_to(&mut self, limit: u64, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let total = limit.min(self.left);
        let mut left = total;
        while left > 0 {
            let piece = self.input.fill_buf()?;
            if piece.is_empty() {
                return Err(Error::Truncated);
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            write(&piece[..count])?;
            self.input.consume(count);
            left -= count as u64;
            self.left -= count as u64;
        }
        Ok(total)
    }

    fn skip_rest(&mut self) -> Result<()> {
        self.copy_to(u64::MAX, |_| Ok(()))?;
        // Docker's client sends contexts that end with their last byte, neither padded nor closed.
        while self.padding > 0 {
            let piece = self.input.fill_buf()?.len();
            if piece == 0 {
                self.ended = true;
                self.padding = 0;
            }
            let count = usize::try_from(self.padding).unwrap_or(usize::MAX).min(piece);
            self.input.consume(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    /// The next block that is not the end: two blocks of zeros, or the end of the input.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.input.fill_buf()?.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        self.ended = true;
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.input.read_exact(&mut block)?;
        // Some readers stop at one block of zeros, some go on: what follows would be seen by some only.
        if block.iter().any(|byte| *byte != 0) {
            return Err(Error::Header("single block of zeros inside the archive"));
        }
        Ok(None)
    }

    /// The content of an extended header.
    fn meta(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let size = header.size()?;
        if size > MAX_META {
            return Err(Error::Header("extended header too long"));
        }
        let mut data = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut data)?;
        if (data.len() as u64) < size {
            return Err(Error::Truncated);
        }
        self.padding = padding(size);
        self.skip_rest()?;
        Ok(data)
    }

    fn long_name(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let mut name = self.meta(header)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn member(&mut self, header: &Header<'_>, pending: &Pending) -> Result<Entry> {
        let mut stored = header.size()?;
        let mut entry = fixed_fields(header)?;
        let old_sparse =
            if header.flag() == b'S' { Some(sparse::old_gnu(header.0, &mut self.input)?) } else { None };
        let mut pax_sparse = PaxSparse::default();
        if let Some(data) = &pending.pax {
            let records = pax::records(data)?;
            stored = overridden_size(&records, stored)?;
            for record in records {
                apply(&mut entry, &mut pax_sparse, record)?;
            }
        }
        // The order of Go's reader: a GNU long name wins over a PAX path.
        if let Some(path) = &pending.path {
            entry.path.clone_from(path);
        }
        if let Some(link) = &pending.link {
            entry.link.clone_from(link);
        }
        if entry.kind == Kind::File && matches!(header.flag(), b'\0' | b'0') && entry.path.ends_with(b"/") {
            // How archives older than the directory type wrote directories.
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File && stored != 0 {
            return Err(Error::Header("content in a member that cannot have any"));
        }
        if let Some(name) = pax_sparse.name.take() {
            entry.path = name;
        }
        self.padding = padding(stored);
        let map = match old_sparse {
            Some(map) => Some(map),
            None => pax_sparse.finish(&mut self.input, &mut stored)?,
        };
        self.left = stored;
        entry.size = stored;
        if let Some((segments, real_size)) = map {
            self.sparse(&mut entry, segments, real_size)?;
        }
        Ok(entry)
    }

    fn sparse(&self, entry: &mut Entry, segments: Vec<Segment>, real_size: u64) -> Result<()> {
        if entry.kind != Kind::File {
            return Err(Error::Header("sparse map of a member that is no file"));
        }
        sparse::check(&segments, real_size, self.left)?;
        entry.size = real_size;
        entry.sparse = Some(segments);
        Ok(())
    }
}

impl<R: BufRead> Read for Reader<R> {
    /// Reads the current member's stored content: of a sparse file the segments one after another.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn fixed_fields(header: &Header<'_>) -> Result<Entry> {
    let kind = match header.flag() {
        // Type 7 is a contiguous file, which nobody has; POSIX wants it read as a file.
        b'0' | b'\0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Link,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Error::Kind(other)),
    };
    if header.flag() == b'S' && header.dialect() != Dialect::Gnu {
        return Err(Error::Kind(b'S'));
    }
    let mut entry = Entry::new(kind, header.path());
    entry.link = header.link();
    entry.mode = header.mode()?;
    entry.uid = header.uid()?;
    entry.gid = header.gid()?;
    entry.modified = Time { seconds: header.modified()?, nanos: 0 };
    if matches!(kind, Kind::Char | Kind::Block) {
        entry.device = header.device()?;
    }
    Ok(entry)
}

/// The size that counts. Writers put the true one, zero or the largest possible in the fixed field; anything else is a
/// way to make readers disagree about where the next header is.
fn overridden_size(records: &[Record<'_>], ustar: u64) -> Result<u64> {
    let Some((_, value)) = records.iter().rev().find(|(key, _)| *key == b"size") else { return Ok(ustar) };
    if value.is_empty() {
        return Ok(ustar);
    }
    let pax = pax::decimal(value)?;
    let agrees = ustar == pax || ustar == 0 || (ustar == SIZE_SATURATED && pax > SIZE_SATURATED);
    if agrees { Ok(pax) } else { Err(Error::SizeDisagreement { ustar, pax }) }
}

fn apply(entry: &mut Entry, sparse: &mut PaxSparse, (key, value): Record<'_>) -> Result<()> {
    if let Some(name) = key.strip_prefix(pax::XATTR) {
        entry.xattrs.retain(|(known, _)| known != name);
        entry.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    if key.starts_with(b"GNU.sparse.") {
        return sparse.take((key, value));
    }
    // An empty value gives the fixed field back its meaning.
    if value.is_empty() {
        return Ok(());
    }
    match key {
        b"path" => entry.path = value.to_vec(),
        b"linkpath" => entry.link = value.to_vec(),
        b"uid" => entry.uid = pax::id(value)?,
        b"gid" => entry.gid = pax::id(value)?,
        b"mtime" => entry.modified = pax::time(value)?,
        b"atime" => entry.accessed = Some(pax::time(value)?),
        _ => {}
    }
    Ok(())
}

fn check_global(data: &[u8]) -> Result<()> {
    let changes_content = |(key, _): &Record<'_>| {
        matches!(*key, b"path" | b"linkpath" | b"size")
            || key.starts_with(b"GNU.sparse.")
            || key.starts_with(pax::XATTR)
    };
    if pax::records(data)?.iter().any(changes_content) {
        return Err(Error::Header("global header that changes members"));
    }
    Ok(())
}
