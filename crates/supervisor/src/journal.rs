//! What happened, for daemons that were not there: one JSON document a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use wharf_shim::protocol::Event;

/// The journal's name in the container's directory.
const NAME: &str = "journal";
/// Bytes after which a container that starts again and again begins a new journal. The daemon needs the
/// last lines only.
const LONGEST: u64 = 256 * 1024;

/// The open journal of this supervisor's life.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    size: u64,
}

impl Journal {
    /// Begins a journal in `bundle`; `resume` goes on with the one there.
    ///
    /// # Errors
    /// As `open(2)`.
    pub(crate) fn open(bundle: &Path, resume: bool) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(bundle.join(NAME))?;
        let mut size = file.metadata()?.len();
        // A file that was ever cut is flushed to the disk when it is closed (ext4), so a new one is not.
        if !resume && size > 0 {
            file.set_len(0)?;
            size = 0;
        }
        Ok(Self { file, size })
    }

    /// Appends an event, if it is one that must outlive everybody.
    ///
    /// # Errors
    /// As `write(2)`.
    pub(crate) fn append(&mut self, event: &Event) -> io::Result<()> {
        if matches!(event, Event::ExecExited { .. } | Event::Detached { .. }) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.size > LONGEST {
            self.file.set_len(0)?;
            self.size = 0;
        }
        self.size += line.len() as u64;
        self.file.write_all(&line)
    }

    /// Makes the lines durable.
    ///
    /// # Errors
    /// As `fdatasync(2)`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
