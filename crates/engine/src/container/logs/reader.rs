//! Reading a log a batch at a time, on through rotations.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::files::{self, Source};
use super::render::{Format, Render};
use super::tail;

/// What a batch of output holds before it is handed on, in bytes.
const BATCH: usize = 256 * 1024;
/// The input buffer, in bytes; it grows for longer entries.
const BUFFER: usize = 256 * 1024;
/// The longest entry that is read, in bytes; longer ones can only be damage.
const MAX_ENTRY: usize = 4 << 20;
/// How much input one step reads, so that a step never takes long even where nothing of it is wanted.
const STEP_INPUT: usize = 8 << 20;

/// Reads one log. Every call may sleep.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    format: Format,
    render: Render,
    follow: bool,
    current: Option<Source>,
    waiting: VecDeque<Source>,
    buffer: Vec<u8>,
    /// The part of `buffer` that holds what was read and not used.
    start: usize,
    end: usize,
    /// The rest of an entry longer than any can be is passed over.
    discarding: bool,
    /// The current file was seen to be rotated away: at its next end there is no more to come.
    last_pass: bool,
    /// The next file is about to appear: a watch on the current one would not tell.
    unsettled: bool,
}

/// What a step brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// May be empty.
    pub(super) output: Bytes,
    pub(super) then: Then,
}

/// What comes after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// There is more to read.
    More,
    /// All that is there was read; more may come.
    Wait,
    End,
}

impl Reader {
    /// Opens the files of the log at `path`. `tail`: only that many entries of what is there now. With
    /// `follow` reading goes on as the log grows.
    pub(super) fn open(
        path: PathBuf,
        format: Format,
        render: Render,
        tail: Option<u64>,
        follow: bool,
    ) -> io::Result<Self> {
        let mut sources = files::open_all(&path, since_time(render.since))?;
        if let Some(wanted) = tail {
            tail::keep_last(&mut sources, format, wanted)?;
        }
        let mut waiting = VecDeque::from(sources);
        if follow && let Some(last) = waiting.back_mut() {
            last.unbound();
        }
        Ok(Self {
            path,
            format,
            render,
            follow,
            current: waiting.pop_front(),
            waiting,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            discarding: false,
            last_pass: false,
            unsettled: false,
        })
    }

    /// The process has ended: nothing will come after what is there.
    pub(super) fn stop_following(&mut self) {
        self.follow = false;
    }

    /// The file that grows, to be watched; `None` where only looking again helps.
    pub(super) fn watched(&self) -> Option<&std::fs::File> {
        if self.unsettled { None } else { self.current.as_ref().and_then(Source::file) }
    }

    /// Reads on.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let mut out = Vec::new();
        let mut read = 0;
        loop {
            let mut skip = self.current.as_ref().map_or(0, |source| source.skip);
            let input = &self.buffer[self.start..self.end];
            if !input.is_empty() && out.capacity() == 0 {
                out.reserve(input.len().min(BATCH) + BATCH / 8);
            }
            let fed = self.render.feed(self.format, input, &mut skip, BATCH, &mut out);
            self.start += fed.consumed;
            if let Some(source) = &mut self.current {
                source.skip = skip;
            }
            if fed.past_end {
                self.current = None;
                self.waiting.clear();
                return Ok(Step { output: out.into(), then: Then::End });
            }
            if out.len() >= BATCH || read >= STEP_INPUT {
                return Ok(Step { output: out.into(), then: Then::More });
            }
            match self.fill()? {
                0 => {}
                length => {
                    read += length;
                    continue;
                }
            }
            match self.at_end()? {
                AtEnd::ReadOn => {}
                AtEnd::Wait => {
                    self.release_idle_buffer();
                    return Ok(Step { output: out.into(), then: Then::Wait });
                }
                AtEnd::Done => return Ok(Step { output: out.into(), then: Then::End }),
            }
        }
    }

    /// Reads into the buffer; 0 at the end of the current file.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(source) = &mut self.current else { return Ok(0) };
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            if self.end >= MAX_ENTRY {
                self.discarding = true;
                self.end = 0;
            } else {
                self.buffer.resize((self.end * 2).max(BUFFER), 0);
            }
        }
        let length = source.read(&mut self.buffer[self.end..])?;
        self.end += length;
        if self.discarding {
            self.discard();
        }
        Ok(length)
    }

    /// Passes over input up to the end of a line that is too long to be one.
    fn discard(&mut self) {
        match super::json_line::find_newline(&self.buffer[..self.end]) {
            Some(at) => {
                self.start = at + 1;
                self.discarding = false;
            }
            None => self.end = 0,
        }
    }

    /// What follows the end of the current file.
    fn at_end(&mut self) -> io::Result<AtEnd> {
        if !self.waiting.is_empty() {
            self.next_source();
            return Ok(AtEnd::ReadOn);
        }
        if !self.follow {
            return Ok(AtEnd::Done);
        }
        let Some(source) = &mut self.current else {
            // Nothing was logged yet, or the supervisor was between two files.
            self.waiting = files::open_all(&self.path, None)?.into();
            return Ok(self.follow_waiting());
        };
        if source.rewind_if_cut()? {
            (self.start, self.end) = (0, 0);
            return Ok(AtEnd::ReadOn);
        }
        if self.last_pass {
            self.waiting = files::after(&self.path, source)?.into();
            return Ok(self.follow_waiting());
        }
        let rotated = files::is_rotated(&self.path, source)?;
        self.unsettled = rotated.is_none();
        if rotated == Some(true) {
            // The supervisor may have written between the last read and the rename.
            self.last_pass = true;
            return Ok(AtEnd::ReadOn);
        }
        Ok(AtEnd::Wait)
    }

    fn follow_waiting(&mut self) -> AtEnd {
        match self.waiting.back_mut() {
            None => {
                self.unsettled = true;
                AtEnd::Wait
            }
            Some(last) => {
                last.unbound();
                self.next_source();
                AtEnd::ReadOn
            }
        }
    }

    fn next_source(&mut self) {
        self.current = self.waiting.pop_front();
        (self.start, self.end) = (0, 0);
        self.last_pass = false;
        self.unsettled = false;
        self.discarding = false;
    }

    /// A follower may wait for days: it keeps no buffer meanwhile.
    fn release_idle_buffer(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
        }
    }
}

enum AtEnd {
    ReadOn,
    Wait,
    Done,
}

/// The moment before which a file was last written if it holds nothing since `nanos`. Entries get their time
/// before they are written, and file times are coarse: a second of slack.
fn since_time(nanos: i64) -> Option<SystemTime> {
    let nanos = u64::try_from(nanos).ok()?.checked_sub(1_000_000_000)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn render() -> Render {
        Render {
            stdout: true,
            stderr: true,
            since: i64::MIN,
            until: i64::MAX,
            timestamps: false,
            details: false,
            framed: false,
        }
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn line(text: &str) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    }

    /// Everything up to the end, or up to where a follower waits.
    fn read(reader: &mut Reader) -> String {
        let mut all = Vec::new();
        loop {
            let step = reader.step().unwrap();
            all.extend_from_slice(&step.output);
            if step.then != Then::More {
                return String::from_utf8(all).unwrap();
            }
        }
    }

    #[test]
    fn a_follower_reads_through_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(path.clone(), Format::JsonFile, render(), None, true).unwrap();
        assert_eq!(read(&mut reader), "");
        append(&path, &line("a"));
        assert_eq!(read(&mut reader), "a\n");
        let cut = line("b");
        append(&path, &cut[..10]);
        assert_eq!(read(&mut reader), "");
        append(&path, &cut[10..]);
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        append(&path, &line("c"));
        assert_eq!(read(&mut reader), "b\nc\n");
        for (older, newer) in [("log.1", "log.3"), ("log", "log.2")] {
            std::fs::rename(dir.path().join(older), dir.path().join(newer)).unwrap();
        }
        append(&dir.path().join("log.1"), &line("d"));
        append(&path, &line("e"));
        assert_eq!(read(&mut reader), "d\ne\n");
        reader.stop_following();
        assert_eq!(reader.step().unwrap(), Step { output: Bytes::new(), then: Then::End });
    }

    #[test]
    fn a_cut_file_is_read_again_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &line("first"));
        let mut reader = Reader::open(path.clone(), Format::JsonFile, render(), Some(0), true).unwrap();
        assert_eq!(read(&mut reader), "");
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&mut reader), "");
        append(&path, &line("x"));
        assert_eq!(read(&mut reader), "x\n");
    }

    #[test]
    fn a_reader_that_does_not_follow_stops_at_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &line("a"));
        let mut reader = Reader::open(path.clone(), Format::JsonFile, render(), None, false).unwrap();
        append(&path, &line("b"));
        assert_eq!(read(&mut reader), "a\n");
    }

    #[test]
    fn batches_join_to_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let long = "x".repeat(16 * 1024);
        let lines: String = (0..100).map(|number| line(&format!("{number} {long}"))).collect();
        append(&path, &lines);
        let mut reader = Reader::open(path, Format::JsonFile, render(), None, false).unwrap();
        let expected: String = (0..100).map(|number| format!("{number} {long}\n")).collect();
        assert!(read(&mut reader) == expected);
    }

    #[test]
    fn an_endless_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &"y".repeat(MAX_ENTRY + BUFFER));
        append(&path, &format!("\n{}", line("after")));
        let mut reader = Reader::open(path, Format::JsonFile, render(), None, false).unwrap();
        assert_eq!(read(&mut reader), "after\n");
    }
}
