//! Where a container's output is kept: lines become entries, entries go to a file in batches.

pub(crate) mod file;
pub(crate) mod json;

use std::fs::File;
use std::io;

use wharf_shim::log::{Entry, PARTIAL, STDERR};
use wharf_shim::protocol::LogConfig;
use wharf_sys::time::wall_nanos;

use self::file::RotatingFile;
use self::json::JsonFormat;

/// The longest text of one entry in bytes, as in Docker; a longer line goes on in the next entry.
const LONGEST: usize = 16 * 1024;

/// Which of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A container's log.
#[derive(Debug)]
pub(crate) struct Log {
    kept: Option<Kept>,
    /// Per stream, the start of a line whose end was not seen yet; less than [`LONGEST`].
    pending: [Vec<u8>; 2],
}

/// A log that is kept in files.
#[derive(Debug)]
struct Kept {
    format: Format,
    file: RotatingFile,
    batch: Vec<u8>,
    /// Entries in the batch.
    entries: u64,
    /// Entries lost since the last that could be written.
    dropped: u64,
}

#[derive(Debug)]
enum Format {
    Json(JsonFormat),
    Local { time: i64 },
}

/// One entry read back from the log.
#[derive(Debug)]
pub(crate) struct ReadBack {
    pub(crate) stream: Stream,
    /// Bytes of the file that it took.
    pub(crate) length: usize,
}

impl Log {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// As `open(2)`.
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let (format, file) = match config {
            LogConfig::JsonFile { path, max_size, max_file, attrs } => {
                (Format::Json(JsonFormat::new(&attrs)), RotatingFile::open(path, max_size, max_file)?)
            }
            LogConfig::Local { path, max_size, max_file } => {
                (Format::Local { time: 0 }, RotatingFile::open(path, max_size, max_file)?)
            }
            LogConfig::None => return Ok(Self::none()),
        };
        let kept = Kept { format, file, batch: Vec::new(), entries: 0, dropped: 0 };
        Ok(Self { kept: Some(kept), pending: Default::default() })
    }

    /// A log that keeps nothing.
    pub(crate) fn none() -> Self {
        Self { kept: None, pending: Default::default() }
    }

    /// Takes what a stream said. The number of entries that were found to be lost, when a full disk has
    /// room again.
    pub(crate) fn append(&mut self, stream: Stream, data: &[u8]) -> u64 {
        let Some(kept) = &mut self.kept else { return 0 };
        let pending = &mut self.pending[stream.index()];
        kept.start_batch();
        let mut rest = data;
        while let Some(end) = find_newline(rest) {
            kept.line(stream, pending, &rest[..end], true);
            rest = &rest[end + 1..];
        }
        kept.line(stream, pending, rest, false);
        kept.finish_batch()
    }

    /// The stream has ended: what it said after its last newline is an entry of its own.
    pub(crate) fn finish(&mut self, stream: Stream) -> u64 {
        let pending = std::mem::take(&mut self.pending[stream.index()]);
        match &mut self.kept {
            Some(kept) if !pending.is_empty() => {
                kept.start_batch();
                kept.entry(stream, &pending, false);
                kept.finish_batch()
            }
            _ => 0,
        }
    }

    /// Whether clients can be fed from it.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// What a stream said since its last entry.
    pub(crate) fn pending(&self, stream: Stream) -> &[u8] {
        &self.pending[stream.index()]
    }

    /// How many bytes `text` has when it is read back from this log.
    pub(crate) fn length_read_back(&self, text: &[u8]) -> usize {
        match self.kept.as_ref().map(|kept| &kept.format) {
            Some(Format::Json(_)) => json::length_read_back(text),
            _ => text.len(),
        }
    }

    /// Where the next entry goes: generation and offset.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.kept.as_ref().map_or((0, 0), |kept| kept.file.position())
    }

    /// Puts the compressed form of a rotated file in its place.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub(crate) fn put_compressed(&self, inode: u64, file: &std::path::Path) -> io::Result<()> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.file.put_compressed(inode, file))
    }

    /// The oldest generation there is.
    pub(crate) fn oldest(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.file.oldest())
    }

    /// Opens a generation for reading.
    pub(crate) fn read_generation(&self, generation: u64) -> Option<File> {
        self.kept.as_ref()?.file.read_generation(generation)
    }

    /// Reads the entry at the head of `bytes` into `text`; `None`: not all of it is there.
    pub(crate) fn read_back(&self, bytes: &[u8], text: &mut Vec<u8>) -> Option<Option<ReadBack>> {
        match self.kept.as_ref().map(|kept| &kept.format) {
            Some(Format::Json(_)) => {
                let end = find_newline(bytes)?;
                let stream = json::decode(&bytes[..end], text);
                // A damaged line is passed over.
                let stream = stream.unwrap_or_else(|| {
                    text.clear();
                    Stream::Stdout
                });
                Some(Some(ReadBack { stream, length: end + 1 }))
            }
            _ => read_local(bytes, text),
        }
    }

    /// Gives memory back that only a busy stream needs.
    pub(crate) fn shrink(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.batch = Vec::new();
        }
        for pending in &mut self.pending {
            pending.shrink_to_fit();
        }
    }

    /// Makes what was logged durable.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.file.sync())
    }
}

impl Kept {
    fn start_batch(&mut self) {
        let now = wall_nanos();
        match &mut self.format {
            Format::Json(json) => json.set_time(now),
            Format::Local { time } => *time = now,
        }
    }

    /// Adds to a stream's line; `ends` says that a newline follows.
    fn line(&mut self, stream: Stream, pending: &mut Vec<u8>, mut text: &[u8], ends: bool) {
        while pending.len() + text.len() >= LONGEST {
            let (head, rest) = text.split_at(LONGEST - pending.len());
            if pending.is_empty() {
                self.entry(stream, head, false);
            } else {
                pending.extend_from_slice(head);
                self.entry(stream, pending, false);
                pending.clear();
            }
            text = rest;
        }
        if !ends {
            pending.extend_from_slice(text);
        } else if pending.is_empty() {
            self.entry(stream, text, true);
        } else {
            pending.extend_from_slice(text);
            self.entry(stream, pending, true);
            *pending = Vec::new();
        }
    }

    fn entry(&mut self, stream: Stream, text: &[u8], newline: bool) {
        if self.file.is_full(self.batch.len()) {
            self.write_batch();
            // Without a new file the old one grows on, which is better than losing lines.
            let _old_file_grows = self.file.rotate();
        }
        self.format.encode(stream, text, newline, &mut self.batch);
        self.entries += 1;
    }

    fn write_batch(&mut self) {
        if self.entries > 0 && self.file.append(&self.batch).is_err() {
            self.dropped += self.entries;
        }
        self.batch.clear();
        self.entries = 0;
    }

    /// Writes the batch; if entries were lost before and the disk takes some again, says so in the log and
    /// to the caller.
    fn finish_batch(&mut self) -> u64 {
        let lost = self.dropped;
        if lost > 0 && self.entries > 0 {
            let (mut notice, text) = (Vec::new(), format!("wharf: {lost} log entries were dropped here"));
            self.format.encode(Stream::Stderr, text.as_bytes(), true, &mut notice);
            if self.file.append(&notice).is_ok() {
                self.dropped = 0;
                self.write_batch();
                return lost;
            }
        }
        self.write_batch();
        0
    }
}

impl Format {
    fn encode(&self, stream: Stream, text: &[u8], newline: bool, out: &mut Vec<u8>) {
        match self {
            Self::Json(json) => json.push(stream, text, newline, out),
            Self::Local { time } => {
                let origin = if stream == Stream::Stderr { STDERR } else { 0 };
                let flags = origin | if newline { 0 } else { PARTIAL };
                Entry { flags, time: *time, text }.encode(out);
            }
        }
    }
}

fn read_local(bytes: &[u8], text: &mut Vec<u8>) -> Option<Option<ReadBack>> {
    use wharf_shim::log::{Decoded, decode};
    match decode(bytes) {
        Decoded::Incomplete => None,
        Decoded::Damaged => Some(None),
        Decoded::Entry(entry, length) => {
            text.clear();
            text.extend_from_slice(entry.text);
            if entry.flags & PARTIAL == 0 {
                text.push(b'\n');
            }
            let stream = if entry.flags & STDERR == 0 { Stream::Stdout } else { Stream::Stderr };
            Some(Some(ReadBack { stream, length }))
        }
    }
}

/// The place of the first newline.
fn find_newline(text: &[u8]) -> Option<usize> {
    wharf_sys::memory::find_byte(b'\n', text)
}

#[cfg(test)]
mod tests;
