//! A log file that is turned over when it is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The current file and its older ones: `path`, `path.1` (the newest of the old), `path.2` …
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    generation: u64,
}

/// The generation of the first current file; older ones count down from it.
const FIRST_GENERATION: u64 = 1 << 32;

impl RotatingFile {
    /// Opens the current file for appending.
    ///
    /// # Errors
    /// As `open(2)`.
    pub(crate) fn open(path: PathBuf, max_size: Option<u64>, max_file: u32) -> io::Result<Self> {
        let file = open_append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, max_size, max_file: max_file.max(1), generation: FIRST_GENERATION })
    }

    /// Whether the next entry belongs into a new file, `unwritten` bytes being on their way to this one.
    pub(crate) fn is_full(&self, unwritten: usize) -> bool {
        self.max_size.is_some_and(|max| self.size + unwritten as u64 >= max)
    }

    /// Appends whole entries, all or nothing.
    ///
    /// # Errors
    /// As `write(2)`; the file then ends where it ended before.
    pub(crate) fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        match self.file.write_all(entries) {
            Ok(()) => {
                self.size += entries.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half an entry would make the next one unreadable too. If cutting fails as well, a reader
                // skips one damaged line.
                let _damage_is_one_line = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    /// Starts a new file, dropping the oldest. Never blocks on readers: they keep what they opened.
    ///
    /// # Errors
    /// As `open(2)`; writing then goes on in the old file.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.max_file).rev() {
            let older = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            // Compressed ones move along; a missing one leaves a gap that fills up with the next turns.
            move_if_there(&older, &numbered(&self.path, number))?;
            if number > 1 {
                move_if_there(&compressed(&older), &compressed(&numbered(&self.path, number)))?;
            }
        }
        if self.max_file == 1 {
            fs::remove_file(&self.path)?;
        }
        self.file = open_append(&self.path)?;
        self.size = 0;
        self.generation += 1;
        Ok(())
    }

    /// The current file's generation and its end: where what is logged next begins.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.generation, self.size)
    }

    /// The oldest generation that can still be read without a gap.
    pub(crate) fn oldest(&self) -> u64 {
        let older = (1..self.max_file).take_while(|&number| numbered(&self.path, number).exists()).count();
        self.generation - older as u64
    }

    /// Puts the compressed form of a rotated file in its place.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub(crate) fn put_compressed(&self, inode: u64, file: &Path) -> io::Result<()> {
        wharf_shim::log::put_compressed(&self.path, inode, file)
    }

    /// Opens a generation for reading; `None`: it is gone.
    pub(crate) fn read_generation(&self, generation: u64) -> Option<File> {
        match self.generation.checked_sub(generation)? {
            0 => File::open(&self.path).ok(),
            age => File::open(numbered(&self.path, u32::try_from(age).ok()?)).ok(),
        }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Docker's mode for log files.
    File::options().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

fn compressed(path: &Path) -> PathBuf {
    with_suffix(path, ".gz")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_over_keeps_the_number_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatingFile::open(path.clone(), Some(4), 3).unwrap();
        for text in ["one\n", "two\n", "three\n", "four\n"] {
            if file.is_full(0) {
                file.rotate().unwrap();
            }
            file.append(text.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(
            (read("log"), read("log.1"), read("log.2")),
            ("four\n".into(), "three\n".into(), "two\n".into())
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);

        let (current, _) = file.position();
        assert_eq!(file.oldest(), current - 2);
        assert_eq!(io::read_to_string(file.read_generation(current - 1).unwrap()).unwrap(), "three\n");
        assert!(file.read_generation(current - 3).is_none());
    }

    #[test]
    fn one_file_alone_starts_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatingFile::open(path.clone(), Some(1), 1).unwrap();
        file.append(b"old\n").unwrap();
        assert!(file.is_full(0));
        file.rotate().unwrap();
        file.append(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_file_that_is_continued_knows_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        RotatingFile::open(path.clone(), None, 1).unwrap().append(b"12345").unwrap();
        let again = RotatingFile::open(path, Some(5), 1).unwrap();
        assert!(again.is_full(0));
        assert_eq!(again.position().1, 5);
    }
}
