//! Waking followers when their file changes: one inotify instance and one thread for all of them, started
//! with the first.

use std::collections::HashMap;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::sync::watch;

/// How long a follower sleeps at most where its file is watched: a guard against a lost wake-up.
const WATCHED: Duration = Duration::from_secs(2);
/// How often it looks where it is not (no inotify watches left).
const UNWATCHED: Duration = Duration::from_millis(100);

/// Wakes one follower. It may be woken for nothing.
#[derive(Debug)]
pub(super) struct Watch {
    registered: Option<(i32, watch::Receiver<()>)>,
}

#[derive(Debug)]
struct Watcher {
    inotify: OwnedFd,
    files: Mutex<HashMap<i32, watch::Sender<()>>>,
}

static WATCHER: OnceLock<Option<Watcher>> = OnceLock::new();

impl Watch {
    /// Watches `file` for writes and renames.
    pub(super) fn new(file: Option<&File>) -> Self {
        let registered = file.and_then(|file| watcher()?.register(file));
        Self { registered }
    }

    /// Everything before this call has been seen.
    pub(super) fn mark_seen(&mut self) {
        if let Some((_, changes)) = &mut self.registered {
            changes.mark_unchanged();
        }
    }

    /// Resolves when the file has changed since [`Self::mark_seen`].
    pub(super) async fn changed(&mut self) {
        match &mut self.registered {
            None => tokio::time::sleep(UNWATCHED).await,
            Some((_, changes)) => match tokio::time::timeout(WATCHED, changes.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // The kernel dropped the watch: the file is gone.
                Ok(Err(_)) => {
                    self.registered = None;
                    tokio::time::sleep(UNWATCHED).await;
                }
            },
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((id, changes)) = self.registered.take()
            && let Some(watcher) = watcher()
        {
            drop(changes);
            watcher.release(id);
        }
    }
}

fn watcher() -> Option<&'static Watcher> {
    static THREAD: OnceLock<()> = OnceLock::new();
    let watcher = WATCHER.get_or_init(|| {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC).ok()?;
        Some(Watcher { inotify, files: Mutex::default() })
    });
    let watcher = watcher.as_ref()?;
    THREAD.get_or_init(|| {
        let spawned = std::thread::Builder::new().name("logs".into()).stack_size(64 * 1024);
        if let Err(error) = spawned.spawn(move || watcher.run()) {
            // Followers then look every WATCHED.
            tracing::warn!(%error, "log files are not watched");
        }
    });
    Some(watcher)
}

impl Watcher {
    fn register(&self, file: &File) -> Option<(i32, watch::Receiver<()>)> {
        // Through the descriptor: the path may name another file by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF;
        let mut files = self.files();
        let id = inotify::add_watch(&self.inotify, path, flags).ok()?;
        let changes = files.entry(id).or_insert_with(|| watch::channel(()).0).subscribe();
        Some((id, changes))
    }

    fn release(&self, id: i32) {
        let mut files = self.files();
        if files.get(&id).is_some_and(|sender| sender.receiver_count() == 0) {
            files.remove(&id);
            // It fails only where the kernel has dropped it already.
            let _ = inotify::remove_watch(&self.inotify, id);
        }
    }

    /// No code panics while it holds the lock.
    fn files(&self) -> MutexGuard<'_, HashMap<i32, watch::Sender<()>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let mut files = self.files();
                    if event.events().contains(inotify::ReadFlags::IGNORED) {
                        files.remove(&event.wd());
                    } else if let Some(sender) = files.get(&event.wd()) {
                        sender.send_replace(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "log files are not watched any more");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn writes_and_renames_wake_a_follower() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        let mut watch = Watch::new(Some(&file));
        let mut other = Watch::new(Some(&file));
        assert!(watch.registered.is_some());
        file.write_all(b"x").unwrap();
        watch.changed().await;
        other.changed().await;
        drop(other);
        watch.mark_seen();
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        watch.changed().await;
    }
}
