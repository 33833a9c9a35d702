//! The file behind the events: JSON lines in `events.log`, and in `events.log.1` the ones before.
//!
//! Together they stay below [`MAX_BYTES`]. Lines are not synced: they survive the daemon's death, and a
//! power cut costs at most the last seconds' events.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Event;
use crate::error::{Error, Result};

/// What both files may hold together, in bytes.
pub(super) const MAX_BYTES: u64 = 10 << 20;
/// How much of a file's end is searched for its last line, in bytes; lines are far shorter.
const LAST_LINE_WINDOW: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct EventLog {
    current: PathBuf,
    older: PathBuf,
    file: File,
    length: u64,
    /// The size at which the current file becomes the older one.
    limit: u64,
}

impl EventLog {
    /// Opens the files in `directory` and finds the last event. A line cut by a power failure is removed.
    pub(super) fn open(directory: &Path) -> Result<(Self, Option<Event>)> {
        let current = directory.join("events.log");
        let older = directory.join("events.log.1");
        let file = open_append(&current).map_err(|error| Error::io("open events.log", &error))?;
        let length = whole_length(&file).map_err(|error| Error::io("read events.log", &error))?;
        file.set_len(length).map_err(|error| Error::io("shorten events.log", &error))?;
        let last = last_event(&current).or_else(|| last_event(&older));
        Ok((Self { current, older, file, length, limit: MAX_BYTES / 2 }, last))
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + lines.len() as u64 > self.limit {
            std::fs::rename(&self.current, &self.older)?;
            self.file = open_append(&self.current)?;
            self.length = 0;
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A cut line must not run into the next one.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// The files as they are now, oldest first, each with the length to read.
    pub(super) fn readers(&self) -> io::Result<Vec<(File, u64)>> {
        let mut readers = Vec::new();
        match File::open(&self.older) {
            Ok(file) => {
                let length = file.metadata()?.len();
                readers.push((file, length));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        readers.push((File::open(&self.current)?, self.length));
        Ok(readers)
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

/// Where the last whole line ends.
fn whole_length(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let tail = read_tail(file, length)?;
    let cut = tail.iter().rev().take_while(|&&byte| byte != b'\n').count();
    Ok(length - cut as u64)
}

fn read_tail(mut file: &File, length: u64) -> io::Result<Vec<u8>> {
    let window = length.min(LAST_LINE_WINDOW);
    file.seek(SeekFrom::Start(length - window))?;
    let mut tail = Vec::new();
    file.take(window).read_to_end(&mut tail)?;
    Ok(tail)
}

fn last_event(path: &Path) -> Option<Event> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let tail = read_tail(&file, length).ok()?;
    tail.rsplit(|&byte| byte == b'\n').find_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Kind;
    use super::*;

    fn line(sequence: u64) -> Vec<u8> {
        let event = Event {
            sequence,
            time: 7,
            kind: Kind::Image,
            action: "tag".into(),
            id: "i".into(),
            attributes: BTreeMap::new(),
        };
        let mut line = serde_json::to_vec(&event).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn a_cut_line_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, last) = EventLog::open(dir.path()).unwrap();
        assert_eq!(last, None);
        log.append(&line(1)).unwrap();
        log.append(b"{\"sequence\":2,\"ti").unwrap();
        let (mut log, last) = EventLog::open(dir.path()).unwrap();
        assert_eq!(last.unwrap().sequence, 1);
        log.append(&line(2)).unwrap();
        let text = std::fs::read(dir.path().join("events.log")).unwrap();
        assert_eq!(text, [line(1), line(2)].concat());
    }

    #[test]
    fn the_files_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = EventLog::open(dir.path()).unwrap();
        log.limit = 1000;
        for sequence in 1..=100 {
            log.append(&line(sequence)).unwrap();
        }
        let sizes: Vec<u64> = log.readers().unwrap().iter().map(|(_, length)| *length).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|&size| size <= 1000), "{sizes:?}");
        assert_eq!(EventLog::open(dir.path()).unwrap().1.unwrap().sequence, 100);
    }

    #[test]
    fn the_number_is_found_in_the_older_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = EventLog::open(dir.path()).unwrap();
        log.append(&line(9)).unwrap();
        std::fs::rename(dir.path().join("events.log"), dir.path().join("events.log.1")).unwrap();
        assert_eq!(EventLog::open(dir.path()).unwrap().1.unwrap().sequence, 9);
    }
}
