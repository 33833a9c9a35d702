//! Feeding a client from the log: one that asked for it, or one that lags.
//!
//! A place in the log is a generation and an offset. A client that went over from live output had already
//! got the start of the entry that each stream was at; that much of the next entry is skipped. Rotation
//! does not disturb it: the file it reads stays open, and the next one is found by its generation.

use std::fs::File;
use std::os::unix::fs::FileExt;

use wharf_shim::protocol::Framing;

use super::{Queue, frame_header};
use crate::log::{Log, Stream};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// An entry that is longer than this is damage: 16 KiB of text, each byte escaped to six.
const LONGEST_ENTRY: usize = 1 << 20;

/// A place in the log that moves towards its end.
#[derive(Debug)]
pub(super) struct Catchup {
    file: Option<File>,
    generation: u64,
    offset: u64,
    /// Per stream: how much of its next entry the client has, as read back and as the process wrote it.
    skip: [Skip; 2],
    /// Whether the log's end is the end.
    ends: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Skip {
    read_back: usize,
    raw: usize,
}

/// What reading a piece of the log led to.
#[derive(Debug)]
pub(super) enum Progress {
    /// There may be more.
    More,
    /// The client has everything; it is live from now on.
    Live,
    /// The client has everything, and nothing more comes.
    End,
    /// The log does not have what comes next any more.
    Lost(&'static str),
}

impl Catchup {
    /// All that the log has; with `ends`, nothing after it.
    pub(super) fn from_start(log: &Log, ends: bool) -> Self {
        let generation = log.oldest();
        let file = log.read_generation(generation);
        Self { file, generation, offset: 0, skip: Default::default(), ends }
    }

    /// What comes after this moment.
    pub(super) fn from_here(log: &Log) -> Self {
        let (generation, offset) = log.position();
        let skip = Stream::BOTH.map(|stream| {
            let pending = log.pending(stream);
            Skip { read_back: log.length_read_back(pending), raw: pending.len() }
        });
        Self { file: log.read_generation(generation), generation, offset, skip, ends: false }
    }

    /// No live output will come any more.
    pub(super) fn end_after_log(&mut self) {
        self.ends = true;
    }

    /// Queues the next piece of the log.
    pub(super) fn read(
        &mut self,
        log: &Log,
        framing: Framing,
        wants: [bool; 2],
        queue: &mut Queue,
    ) -> Progress {
        const GONE: &str = "wharf: output was lost, the log does not reach back so far\n";
        let mut bytes = vec![0; CHUNK];
        let mut have = 0;
        loop {
            let Some(file) = &self.file else { return Progress::Lost(GONE) };
            match file.read_at(&mut bytes[have..], self.offset + have as u64) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Lost("wharf: output was lost, the log cannot be read\n"),
            }
            let used = self.queue_entries(log, &bytes[..have], framing, wants, queue);
            if used > 0 {
                self.offset += used as u64;
                return Progress::More;
            }
            if have == bytes.len() {
                if have > LONGEST_ENTRY {
                    return Progress::Lost("wharf: output was lost, the log is damaged\n");
                }
                bytes.resize(have * 2, 0);
            }
        }
        if self.generation == log.position().0 {
            return self.arrive(log, framing, wants, queue);
        }
        self.generation += 1;
        self.offset = 0;
        self.file = log.read_generation(self.generation);
        Progress::More
    }

    /// Queues the whole entries in `bytes`; how many bytes they took.
    fn queue_entries(
        &mut self,
        log: &Log,
        bytes: &[u8],
        framing: Framing,
        wants: [bool; 2],
        queue: &mut Queue,
    ) -> usize {
        let (mut used, mut text) = (0, Vec::new());
        while let Some(entry) = log.read_back(&bytes[used..], &mut text) {
            let Some(entry) = entry else {
                // Damage: nothing after it in this file can be trusted.
                return bytes.len();
            };
            used += entry.length;
            let skip = std::mem::take(&mut self.skip[entry.stream.index()]);
            let text = &text[skip.read_back.min(text.len())..];
            if wants[entry.stream.index()] && !text.is_empty() {
                queue.push(frame_header(framing, entry.stream, text.len()).bytes());
                queue.push(text);
            }
        }
        used
    }

    /// At the log's end: what follows is what the streams said since their last entries.
    fn arrive(&self, log: &Log, framing: Framing, wants: [bool; 2], queue: &mut Queue) -> Progress {
        if self.ends {
            return Progress::End;
        }
        for stream in Stream::BOTH {
            let pending = log.pending(stream);
            let rest = &pending[self.skip[stream.index()].raw.min(pending.len())..];
            if wants[stream.index()] && !rest.is_empty() {
                queue.push(frame_header(framing, stream, rest.len()).bytes());
                queue.push(rest);
            }
        }
        Progress::Live
    }
}
