//! One listener: first what the file holds, then what happens.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Take};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use wharf_sys::time::wall_nanos;

use super::{Event, EventFilter, Shared};
use crate::error::{Error, Result};

/// How many events are read from the file at a time.
const BATCH: usize = 256;

/// A stream of events, made by [`super::Events::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    live: broadcast::Receiver<Arc<Event>>,
    /// The number of the next event to look at.
    next: u64,
    replay: Replay,
    ready: VecDeque<Arc<Event>>,
    since: i64,
    until: Option<i64>,
    filter: EventFilter,
}

/// Where the file is being read.
#[derive(Debug)]
enum Replay {
    /// To be opened.
    Wanted,
    Reading(Cursor),
    /// The channel is the source.
    Done,
}

#[derive(Debug)]
struct Cursor {
    files: VecDeque<BufReader<Take<File>>>,
    line: Vec<u8>,
}

impl Subscription {
    pub(super) fn new(
        shared: Arc<Shared>,
        live: broadcast::Receiver<Arc<Event>>,
        first_live: u64,
        since: Option<i64>,
        until: Option<i64>,
        filter: EventFilter,
    ) -> Self {
        let past = since.is_some() || until.is_some();
        Self {
            shared,
            live,
            next: if past { 0 } else { first_live },
            replay: if past { Replay::Wanted } else { Replay::Done },
            ready: VecDeque::new(),
            since: since.unwrap_or(i64::MIN),
            until,
            filter,
        }
    }

    /// The next event; `None` when `until` has come. Dropping the future mid-way ends the subscription.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match std::mem::replace(&mut self.replay, Replay::Done) {
                Replay::Done => match self.next_live().await {
                    Live::Event(event) => return Some(Ok(event)),
                    Live::Ended => return None,
                    Live::Behind => self.replay = Replay::Wanted,
                },
                from_file => {
                    if let Err(error) = self.read_file(from_file).await {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    async fn next_live(&mut self) -> Live {
        loop {
            let received = match self.until {
                None => self.live.recv().await,
                Some(until) => {
                    let left = Duration::from_nanos(until.saturating_sub(wall_nanos()).max(0).unsigned_abs());
                    match tokio::time::timeout(left, self.live.recv()).await {
                        Ok(received) => received,
                        Err(_) => return Live::Ended,
                    }
                }
            };
            match received {
                Ok(event) if event.sequence < self.next => {}
                Ok(event) => {
                    self.next = event.sequence + 1;
                    if self.until.is_some_and(|until| event.time > until) {
                        return Live::Ended;
                    }
                    if event.time >= self.since && self.filter.includes(&event) {
                        return Live::Event(event);
                    }
                }
                Err(RecvError::Lagged(_)) => return Live::Behind,
                Err(RecvError::Closed) => return Live::Ended,
            }
        }
    }

    /// Reads a batch of events from the file into `ready`.
    async fn read_file(&mut self, replay: Replay) -> Result<()> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut cursor = match replay {
                Replay::Reading(cursor) => cursor,
                Replay::Wanted | Replay::Done => Cursor::open(&shared)?,
            };
            let batch = cursor.batch()?;
            std::io::Result::Ok((cursor, batch))
        });
        let (cursor, batch) = read
            .await
            .map_err(|error| Error::internal(format!("read events.log: {error}")))?
            .map_err(|error| Error::io("read events.log", &error))?;
        if !batch.is_empty() {
            self.replay = Replay::Reading(cursor);
        }
        for event in batch {
            if event.sequence < self.next {
                continue;
            }
            self.next = event.sequence + 1;
            let wanted = event.time >= self.since && self.until.is_none_or(|until| event.time <= until);
            if wanted && self.filter.includes(&event) {
                self.ready.push_back(Arc::new(event));
            }
        }
        Ok(())
    }
}

enum Live {
    Event(Arc<Event>),
    Ended,
    /// The channel has dropped events that the file holds.
    Behind,
}

impl Cursor {
    fn open(shared: &Shared) -> std::io::Result<Self> {
        let mut log = shared.log();
        shared.flush_into(&mut log);
        let readers = log.readers()?;
        let files = readers.into_iter().map(|(file, length)| BufReader::new(file.take(length))).collect();
        Ok(Self { files, line: Vec::new() })
    }

    /// Up to [`BATCH`] events; none at the end. Lines that are not events are passed over.
    fn batch(&mut self) -> std::io::Result<Vec<Event>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(file) = self.files.front_mut() else { break };
            self.line.clear();
            if file.read_until(b'\n', &mut self.line)? == 0 {
                self.files.pop_front();
                continue;
            }
            batch.extend(serde_json::from_slice::<Event>(&self.line));
        }
        Ok(batch)
    }
}
