//! Removal in two steps: a rename that answers at once, and a thread that frees.
//!
//! What lies in the trash still counts as used. A crash in between costs nothing: the thread starts
//! with whatever it finds. It rests twice as long as it works, and much longer while layers are unpacked, so that who
//! works on the same disk meanwhile is not held up, unless the disk is nearly full.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use wharf_sys::root::{Dir, Entry, Root};

use crate::error::{Doing, Result, at};

/// The trash of one data root.
#[derive(Debug)]
pub(crate) struct Trash {
    dir: PathBuf,
    next: AtomicU64,
    wake: Option<mpsc::Sender<PathBuf>>,
    worker: Option<JoinHandle<()>>,
    signs: Arc<Signs>,
}

/// What the thread looks at while it frees.
#[derive(Debug, Default)]
struct Signs {
    closing: AtomicBool,
    /// How many layers are being unpacked.
    unpacking: AtomicUsize,
}

/// Work that freeing makes way for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Precedence(Arc<Signs>);

impl Drop for Precedence {
    fn drop(&mut self) {
        self.0.unpacking.fetch_sub(1, Ordering::Relaxed);
    }
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
        let signs = Arc::<Signs>::default();
        let seen = Arc::clone(&signs);
        let worker = std::thread::Builder::new()
            .name("reclaim".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                for path in left.into_iter().chain(work) {
                    if seen.closing.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = free(&path, &mut Pace::new(&seen)) {
                        tracing::warn!("free {}: {error}", path.display());
                    }
                }
            })
            .doing(|| "start the reclaim thread".to_owned())?;
        Ok(Self { dir, next: AtomicU64::new(next), wake: Some(wake), worker: Some(worker), signs })
    }

    /// Lets freeing make way until the result is dropped.
    pub(crate) fn give_way(&self) -> Precedence {
        self.signs.unpacking.fetch_add(1, Ordering::Relaxed);
        Precedence(Arc::clone(&self.signs))
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
    /// Ends the thread; the next start goes on with the rest.
    fn drop(&mut self) {
        self.signs.closing.store(true, Ordering::Relaxed);
        drop(self.wake.take());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Removes a tree in the trash's own pace, for who keeps such trees elsewhere.
///
/// # Errors
/// When the disk fails.
pub fn remove_slowly(path: &Path) -> io::Result<()> {
    free(path, &mut Pace::new(&Signs::default()))
}

fn free(path: &Path, pace: &mut Pace<'_>) -> io::Result<()> {
    let result = if path.symlink_metadata()?.is_dir() {
        // Never follows a symlink: the tree is walked by directory descriptors.
        let top = Root::open(path).and_then(|root| root.top());
        top.map_err(io::Error::from).and_then(|top| empty(top, pace)).and_then(|()| fs::remove_dir(path))
    } else {
        fs::remove_file(path)
    };
    match result {
        // Stopped: the next start goes on.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all that is in `top`. Without recursion: whoever made the tree may have made it deeper than a thread's stack.
fn empty(top: Dir, pace: &mut Pace<'_>) -> io::Result<()> {
    let mut above = vec![Level { left: top.entries()?, dir: top }];
    while let Some(level) = above.last_mut() {
        let Some(entry) = level.left.last() else {
            above.pop();
            // The directory that was emptied is the last one of those that are left above it.
            if let Some(level) = above.last_mut()
                && let Some(entry) = level.left.pop()
            {
                level.dir.rmdir(&entry.name)?;
            }
            continue;
        };
        if entry.kind == FileType::Directory {
            let dir = level.dir.dir(&entry.name)?;
            above.push(Level { left: dir.entries()?, dir });
            continue;
        }
        level.dir.unlink(&entry.name)?;
        level.left.pop();
        pace.rest(&level.dir)?;
    }
    Ok(())
}

struct Level {
    dir: Dir,
    /// What is still in it; the last comes next.
    left: Vec<Entry>,
}

/// Names that are removed between two looks at the clock.
const NAMES: u32 = 32;
/// How many times longer than the work a rest is, and while layers are unpacked: these have to be written by somebody
/// who waits, the others are gone already for all who look.
const REST: u32 = 2;
const REST_MEANWHILE: u32 = 30;
/// The longest rest.
const LONGEST: Duration = Duration::from_millis(300);
/// With less than one part in so many of the disk free, nobody rests.
const FULL: u64 = 10;

/// How fast is removed.
struct Pace<'a> {
    signs: &'a Signs,
    names: u32,
    since: Instant,
}

impl<'a> Pace<'a> {
    fn new(signs: &'a Signs) -> Self {
        Self { signs, names: 0, since: Instant::now() }
    }

    fn rest(&mut self, dir: &Dir) -> io::Result<()> {
        self.names += 1;
        if !self.names.is_multiple_of(NAMES) {
            return Ok(());
        }
        if self.signs.closing.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let space = rustix::fs::fstatvfs(dir)?;
        if space.f_bavail >= space.f_blocks / FULL {
            let meanwhile = self.signs.unpacking.load(Ordering::Relaxed) > 0;
            let times = if meanwhile { REST_MEANWHILE } else { REST };
            std::thread::sleep((self.since.elapsed() * times).min(LONGEST));
        }
        self.since = Instant::now();
        Ok(())
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
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kept")).unwrap();
        fs::write(dir.path().join("kept/file"), "x").unwrap();
        fs::create_dir_all(dir.path().join("tree/deep/er")).unwrap();
        for number in 0..100 {
            fs::write(dir.path().join(format!("tree/deep/{number}")), "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("kept"), dir.path().join("tree/deep/er/link")).unwrap();
        remove_slowly(&dir.path().join("tree")).unwrap();
        assert!(!dir.path().join("tree").exists() && dir.path().join("kept/file").exists());
        remove_slowly(&dir.path().join("tree")).unwrap_err();
    }

    #[test]
    fn precedence_ends_with_its_holder() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(root.path().to_owned()).unwrap();
        let (one, other) = (trash.give_way(), trash.give_way());
        drop(one);
        assert_eq!(trash.signs.unpacking.load(Ordering::Relaxed), 1);
        drop(other);
        assert_eq!(trash.signs.unpacking.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn taking_what_is_not_there_is_fine() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(root.path().to_owned()).unwrap();
        trash.take(Path::new("/nonexistent/x")).unwrap();
    }
}
