//! The files of one log: the current one, and the rotated ones beside it (`.1` the newest, maybe `.gz`).
//!
//! The supervisor renames them at any moment. Files are therefore opened from the newest to the oldest and
//! known by inode: a rename in between shows a file twice, which is noticed, and never hides one.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;

/// One opened file, read from its start to its end.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) content: Content,
    /// Entries to pass over first.
    pub(super) skip: u64,
    identity: Identity,
    modified: SystemTime,
}

#[derive(Debug)]
pub(super) enum Content {
    Plain {
        file: File,
        /// Where the next read starts.
        offset: u64,
        /// Where reading ends; `None`: where the file does, however far it grows.
        end: Option<u64>,
    },
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Source {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
        let content = if path.extension().is_some_and(|extension| extension == "gz") {
            Content::Gzip(Box::new(MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Content::Plain { file, offset: 0, end: Some(metadata.len()) }
        };
        Ok(Self { content, skip: 0, identity, modified: metadata.modified()? })
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Gzip(decoder) => decoder.read(buffer),
            Content::Plain { file, offset, end } => {
                let room = end.map_or(u64::MAX, |end| end.saturating_sub(*offset));
                let length = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                let read = loop {
                    match rustix::io::pread(&*file, &mut buffer[..length], *offset) {
                        Err(rustix::io::Errno::INTR) => {}
                        result => break result?,
                    }
                };
                *offset += read as u64;
                Ok(read)
            }
        }
    }

    /// Lets reading go on as the file grows.
    pub(super) fn unbound(&mut self) {
        if let Content::Plain { end, .. } = &mut self.content {
            *end = None;
        }
    }

    /// Starts again from the beginning where someone has cut the file below the offset (`truncate -s 0`).
    pub(super) fn rewind_if_cut(&mut self) -> io::Result<bool> {
        if let Content::Plain { file, offset, .. } = &mut self.content
            && file.metadata()?.len() < *offset
        {
            *offset = 0;
            return Ok(true);
        }
        Ok(false)
    }

    /// The file, to be watched.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.content {
            Content::Plain { file, .. } => Some(file),
            Content::Gzip(_) => None,
        }
    }
}

/// All files, oldest first. Those last written before `since` hold nothing wanted and are left out.
pub(super) fn open_all(path: &Path, since: Option<SystemTime>) -> io::Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    // While the supervisor renames, one name at a time is missing.
    let mut missing = 0;
    for index in 0.. {
        let Some(source) = open_generation(path, index)? else {
            missing += 1;
            if missing > 1 {
                break;
            }
            continue;
        };
        missing = 0;
        if sources.iter().any(|known| known.identity == source.identity) {
            continue;
        }
        if index > 0 && since.is_some_and(|since| source.modified < since) {
            break;
        }
        sources.push(source);
    }
    sources.reverse();
    Ok(sources)
}

/// The file `index` rotations back, plain or compressed.
fn open_generation(path: &Path, index: u32) -> io::Result<Option<Source>> {
    let plain = generation(path, index);
    let compressed = append(&plain, ".gz");
    let names = if index == 0 { vec![plain] } else { vec![plain, compressed] };
    for name in names {
        match Source::open(&name) {
            Ok(source) => return Ok(Some(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn generation(path: &Path, index: u32) -> PathBuf {
    if index == 0 { path.to_owned() } else { append(path, &format!(".{index}")) }
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether `path` names another file than `source`, that is, `source` was rotated away. `None`: it names
/// none, because the supervisor is between the rename and the next file, or the container is being removed.
pub(super) fn is_rotated(path: &Path, source: &Source) -> io::Result<Option<bool>> {
    match std::fs::metadata(path) {
        Ok(now) => Ok(Some(Identity { device: now.dev(), inode: now.ino() } != source.identity)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files written after `source`, oldest first. Where `source` is gone or compressed by now, they are
/// those last written after it.
pub(super) fn after(path: &Path, source: &Source) -> io::Result<Vec<Source>> {
    let last_written = match source.file() {
        Some(file) => file.metadata()?.modified()?,
        None => source.modified,
    };
    let mut sources = open_all(path, None)?;
    let first = match sources.iter().position(|other| other.identity == source.identity) {
        Some(index) => index + 1,
        None => sources.iter().position(|other| other.modified > last_written).unwrap_or(sources.len()),
    };
    Ok(sources.split_off(first))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn content(mut source: Source) -> String {
        let mut buffer = [0; 64];
        let length = source.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn files_come_oldest_first_and_gaps_of_one_are_jumped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "now").unwrap();
        std::fs::write(dir.path().join("log.2"), "old").unwrap();
        let file = File::create(dir.path().join("log.3.gz")).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(b"oldest").unwrap();
        gzip.finish().unwrap();
        let all: Vec<String> = open_all(&path, None).unwrap().into_iter().map(content).collect();
        assert_eq!(all, ["oldest", "old", "now"]);
        let future = SystemTime::now() + std::time::Duration::from_secs(60);
        assert_eq!(open_all(&path, Some(future)).unwrap().len(), 1);
    }

    #[test]
    fn a_rotated_file_knows_its_successors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "a").unwrap();
        let first = open_all(&path, None).unwrap().remove(0);
        assert_eq!(is_rotated(&path, &first).unwrap(), Some(false));
        std::fs::rename(&path, dir.path().join("log.2")).unwrap();
        assert_eq!(is_rotated(&path, &first).unwrap(), None);
        std::fs::write(dir.path().join("log.1"), "b").unwrap();
        std::fs::write(&path, "c").unwrap();
        assert_eq!(is_rotated(&path, &first).unwrap(), Some(true));
        let later: Vec<String> = after(&path, &first).unwrap().into_iter().map(content).collect();
        assert_eq!(later, ["b", "c"]);
    }

    #[test]
    fn a_file_that_never_was_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open_all(&dir.path().join("log"), None).unwrap().is_empty());
    }
}
