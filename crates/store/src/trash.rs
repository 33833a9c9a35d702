//! Removal in two steps: a rename that answers at once, and a thread that frees.
//!
//! What lies in the trash still counts as used. A crash in between costs nothing: the thread starts
//! with whatever it finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::error::{Doing, Result, at};

/// The trash of one data root.
#[derive(Debug)]
pub(crate) struct Trash {
    dir: PathBuf,
    next: AtomicU64,
    wake: Option<mpsc::Sender<PathBuf>>,
    worker: Option<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
}

impl Trash {
    /// Starts the thread that frees, first of all what an earlier run left.
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        let mut left = Vec::new();
        let mut next = 0;
        for entry in fs::read_dir(&dir).doing(|| at("read", &dir))? {
            let path = entry.doing(|| at("read", &dir))?.path();
            let number =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number + 1));
            left.push(path);
        }
        let (wake, work) = mpsc::channel::<PathBuf>();
        let closing = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&closing);
        let worker = std::thread::Builder::new()
            .name("reclaim".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                for path in left.into_iter().chain(work) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = free(&path) {
                        tracing::warn!("free {}: {error}", path.display());
                    }
                }
            })
            .doing(|| "start the reclaim thread".to_owned())?;
        Ok(Self { dir, next: AtomicU64::new(next), wake: Some(wake), worker: Some(worker), closing })
    }

    /// Takes `path` away; its bytes are freed in the background. Nothing there is no error.
    pub(crate) fn take(&self, path: &Path) -> Result<()> {
        let grave = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.doing(|| at("remove", path))?,
        }
        if let Some(wake) = &self.wake {
            // The thread ends only after this sender is gone; if it died, the next start frees.
            let _ = wake.send(grave);
        }
        Ok(())
    }
}

impl Drop for Trash {
    /// Ends the thread after the item in hand; the next start goes on with the rest.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.wake.take());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn free(path: &Path) -> io::Result<()> {
    let result = if path.symlink_metadata()?.is_dir() {
        // Never follows a symlink: the standard library walks by directory descriptors.
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_is_freed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("7/a/b")).unwrap();
        let trash = Trash::open(root.path().to_owned()).unwrap();
        assert_eq!(trash.next.load(Ordering::Relaxed), 8);
        while fs::read_dir(root.path()).unwrap().count() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn taking_what_is_not_there_is_fine() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(root.path().to_owned()).unwrap();
        trash.take(Path::new("/nonexistent/x")).unwrap();
    }
}
