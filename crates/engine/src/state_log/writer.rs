//! The thread that writes the log and syncs it for groups of waiters.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::compact;
use super::queue::{Found, Queue, Receiver};
use crate::error::{Error, Result};
use crate::reserve::Reserve;

/// How long an append that nobody waits for may stay unsynced.
const LAZY: Duration = Duration::from_millis(800);
/// Below this size the log is not worth rewriting, in bytes.
const SMALL: u64 = 4 << 20;

/// One frame and who waits for it.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) frame: Vec<u8>,
    pub(super) until: Until,
}

/// What an append waits for.
#[derive(Debug)]
pub(super) enum Until {
    Never,
    Written(oneshot::Sender<Result<()>>),
    Synced(oneshot::Sender<Result<()>>),
    /// No append at all: something else is to be done.
    Done(Errand),
}

/// Something small that may sleep as a write does.
pub(crate) struct Errand(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Errand {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Errand")
    }
}

/// Where errands are given, as long as there is a thread that does them.
#[derive(Debug, Clone)]
pub(crate) struct Errands(Weak<Queue>);

impl Errands {
    /// Has the thread do `work` after what it was given before; false: there is none any more, and nothing was done.
    pub(crate) fn give(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let append = Append { frame: Vec::new(), until: Until::Done(Errand(Box::new(work))) };
        self.0.upgrade().is_some_and(|queue| queue.push(append))
    }
}

/// The sending side; dropping it ends the thread after a last sync.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    waits: AtomicU64,
}

impl Writer {
    /// Starts the thread on the log at `path`, of `length` bytes, of which `live` are not history; `reserve` is for when
    /// the disk is full.
    pub(super) fn start(path: PathBuf, length: u64, live: u64, mut reserve: Reserve) -> Result<Self> {
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|error| Error::io(format_args!("open {}", path.display()), &error))?;
        let queue = Arc::new(Queue::default());
        let receiver = Receiver(queue.clone());
        reserve.fill();
        let thread = Thread { path, file, length, live, unsynced: None, reserve };
        let thread = std::thread::Builder::new()
            .name("state-log".to_owned())
            .stack_size(256 << 10)
            .spawn(move || thread.run(&receiver))
            .map_err(|error| Error::io("start the state log's thread", &error))?;
        Ok(Self { queue, thread: Some(thread), waits: AtomicU64::new(0) })
    }

    /// The way to the thread for other small writes.
    pub(super) fn errands(&self) -> Errands {
        Errands(Arc::downgrade(&self.queue))
    }

    /// Hands an append over; its waiter hears of everything that goes wrong.
    pub(super) fn send(&self, append: Append) {
        if matches!(append.until, Until::Synced(_)) {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        // It is open as long as this is; were the thread gone, the waiter's channel would say so.
        let _ = self.queue.push(append);
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panicked thread has nothing left to write.
            let _ = thread.join();
        }
    }
}

struct Thread {
    path: PathBuf,
    file: File,
    length: u64,
    live: u64,
    /// Since when something written waits for a sync.
    unsynced: Option<Instant>,
    reserve: Reserve,
}

impl Thread {
    fn run(mut self, receiver: &Receiver) {
        loop {
            match receiver.0.take(self.unsynced.map(|since| since + LAZY)) {
                Found::Group(group) => self.commit(group),
                Found::Nothing => self.settle(),
                Found::Closed => {
                    self.settle();
                    return;
                }
            }
        }
    }

    /// Writes a group in one call, syncs it when someone waits for that, and answers.
    fn commit(&mut self, group: Vec<Append>) {
        let mut bytes = Vec::with_capacity(group.iter().map(|one| one.frame.len()).sum());
        for one in &group {
            bytes.extend_from_slice(&one.frame);
        }
        let written = if bytes.is_empty() { Ok(()) } else { self.write(&bytes) };
        let (mut waiting, mut errands) = (Vec::new(), Vec::new());
        for one in group {
            match one.until {
                Until::Never => {}
                // Whoever gave up waiting needs no answer, here and below.
                Until::Written(waiter) => drop(waiter.send(written.clone())),
                Until::Synced(waiter) => waiting.push(waiter),
                Until::Done(errand) => errands.push(errand),
            }
        }
        // Before the sync, which may take its time.
        errands.into_iter().for_each(|Errand(work)| work());
        let overdue = self.unsynced.is_some_and(|since| since.elapsed() >= LAZY);
        if !waiting.is_empty() || overdue {
            wharf_sys::failpoint::pass("log.written");
            let done = written.and_then(|()| self.sync());
            waiting.into_iter().for_each(|waiter| drop(waiter.send(done.clone())));
        }
        self.compact();
    }

    /// Appends `bytes`, all or nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut written = self.append(bytes);
        if matches!(&written, Err(error) if error.kind() == ErrorKind::StorageFull) && self.reserve.give_up()
        {
            written = self.append(bytes);
        }
        if let Err(error) = written {
            let error = Error::io("write state log", &error);
            tracing::error!("{error}");
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).inspect_err(|_| {
            if let Err(error) = self.file.set_len(self.length) {
                tracing::error!("cut state log: {error}");
            }
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.unsynced = None;
        self.file.sync_data().map_err(|error| Error::io("sync state log", &error))
    }

    /// Syncs what nobody waits for.
    fn settle(&mut self) {
        self.reserve.fill();
        if self.unsynced.is_some()
            && let Err(error) = self.sync()
        {
            tracing::error!("{error}");
        }
    }

    /// Rewrites the log once most of it is history. A failure leaves the old one in use.
    fn compact(&mut self) {
        if self.length < SMALL.max(4 * self.live) {
            return;
        }
        match compact::rewrite(&self.path) {
            Ok((file, length)) => {
                (self.file, self.length, self.live) = (file, length, length);
                self.unsynced = None;
            }
            Err(error) => {
                tracing::error!("{error}");
                // Not again before it has doubled.
                self.live = self.length / 2;
            }
        }
    }
}
