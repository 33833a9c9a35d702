//! What waits for the log's thread: handed over in groups, with one wake-up for each.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::writer::Append;

/// A queue of appends from any thread to the log's.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    appends: Vec<Append>,
    /// Whether the thread sleeps and nobody has woken it yet.
    asleep: bool,
    closed: bool,
}

/// The thread's end of the queue, which is closed with it, also by a panic.
#[derive(Debug)]
pub(super) struct Receiver(pub(super) Arc<Queue>);

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What the thread finds.
#[derive(Debug)]
pub(super) enum Found {
    /// All that waited, in order.
    Group(Vec<Append>),
    /// It was time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    /// Adds an append; false: the queue is closed, and nothing was added.
    pub(super) fn push(&self, append: Append) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        waiting.appends.push(append);
        self.wake(waiting);
        true
    }

    /// Takes no more; what waits is still found.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.wake(waiting);
    }

    /// Drops what waits, so that those who wait for it hear of that; for when the thread is no more.
    fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.appends);
        drop(waiting);
        drop(left);
    }

    /// Waits for a group until `until`, for ever without one.
    pub(super) fn take(&self, until: Option<Instant>) -> Found {
        let mut waiting = self.lock();
        loop {
            if !waiting.appends.is_empty() {
                return Found::Group(std::mem::take(&mut waiting.appends));
            }
            if waiting.closed {
                return Found::Closed;
            }
            waiting.asleep = true;
            waiting = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    waiting.asleep = false;
                    return Found::Nothing;
                }
                Some(left) => {
                    let (waiting, _) =
                        self.filled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
                    waiting
                }
            };
        }
    }

    /// Wakes the thread once it can have the lock.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::writer::Until;
    use super::*;

    fn append(byte: u8) -> Append {
        Append { frame: vec![byte], until: Until::Never }
    }

    #[test]
    fn groups_come_in_order_and_what_is_left_before_the_end() {
        let queue = Arc::new(Queue::default());
        assert!(matches!(queue.take(Some(Instant::now())), Found::Nothing));
        let pushing = queue.clone();
        let pusher = std::thread::spawn(move || {
            for byte in 0..200 {
                assert!(pushing.push(append(byte)));
                if byte % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            pushing.close();
            assert!(!pushing.push(append(0)));
        });
        let mut seen = Vec::new();
        while let Found::Group(group) = queue.take(None) {
            seen.extend(group.iter().map(|append| append.frame[0]));
        }
        pusher.join().unwrap();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_waits_hears_of_a_thread_that_is_gone() {
        let queue = Arc::new(Queue::default());
        let (sender, mut receiver) = oneshot::channel();
        queue.push(Append { frame: Vec::new(), until: Until::Written(sender) });
        drop(Receiver(queue.clone()));
        assert!(receiver.try_recv().is_err() && !queue.push(append(1)));
    }
}
