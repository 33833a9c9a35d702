//! The pid file: says who the daemon is, and by its lock that there is one.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

/// A locked pid file; dropping it removes it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    _file: File,
}

impl PidFile {
    /// Takes the file; fails while another daemon holds it.
    pub(crate) fn take(path: &Path) -> Result<Self, String> {
        let fail = |doing: &str, error: &io::Error| format!("{doing} {}: {error}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| fail("make the directory of", &error))?;
        }
        let opened = File::options().create(true).read(true).write(true).truncate(false).open(path);
        let mut file = opened.map_err(|error| fail("open", &error))?;
        if let Err(error) = file.try_lock() {
            let holder = fs::read_to_string(path).unwrap_or_default();
            return match error {
                fs::TryLockError::WouldBlock => Err(format!(
                    "process with PID {} is still running: {} is locked",
                    holder.trim(),
                    path.display()
                )),
                fs::TryLockError::Error(error) => Err(fail("lock", &error)),
            };
        }
        let write = |file: &mut File| -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| fail("write", &error))?;
        Ok(Self { path: path.to_owned(), _file: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays is not locked and stops nobody.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/daemon.pid");
        let held = PidFile::take(&path).unwrap();
        let refused = PidFile::take(&path).unwrap_err();
        assert!(
            refused.starts_with(&format!("process with PID {} is still running", std::process::id())),
            "{refused}"
        );
        drop(held);
        assert!(!path.exists());
        PidFile::take(&path).unwrap();
    }
}
