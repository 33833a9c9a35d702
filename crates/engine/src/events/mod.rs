//! What happened, numbered, kept across restarts and replayed.
//!
//! [`Events::emit`] never waits: it numbers the event, hands it to whoever listens and lets a worker append
//! it to the file. A listener that falls behind the channel is fed from the file, so that nobody loses an
//! event that the file still holds.

mod filter;
mod log;
mod subscription;
mod timestamp;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use wharf_api::{EventActor, EventMessage};
use wharf_sys::time::wall_nanos;

pub use filter::EventFilter;
pub use subscription::Subscription;
pub use timestamp::{parse_timestamp, parse_timestamp_or};

use crate::error::Result;
use crate::state_log::Errands;
use log::EventLog;

/// How many events a listener may be behind before it is fed from the file.
const CHANNEL: usize = 256;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Container,
    Image,
    Volume,
    Network,
    Daemon,
    Plugin,
    Builder,
}

impl Kind {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Plugin => "plugin",
            Self::Builder => "builder",
        }
    }
}

/// One thing that happened. Serialised, it is a line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 for the engine's whole life, without gaps.
    pub sequence: u64,
    /// Wall-clock nanoseconds since 1970; never smaller than that of the event before.
    pub time: i64,
    pub kind: Kind,
    pub action: String,
    /// The object it happened to: a container's id, an image's id or reference, a volume's name.
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

impl From<&Event> for EventMessage {
    fn from(event: &Event) -> Self {
        let mut message = Self {
            r#type: event.kind.name().to_owned(),
            action: event.action.clone(),
            actor: EventActor { id: event.id.clone(), attributes: event.attributes.clone() },
            scope: "local".to_owned(),
            time: event.time.div_euclid(1_000_000_000),
            time_nano: event.time,
            ..Self::default()
        };
        // Fields from before types and actors, for these two only.
        if matches!(event.kind, Kind::Container | Kind::Image) {
            message.status.clone_from(&event.action);
            message.id.clone_from(&event.id);
        }
        if event.kind == Kind::Container {
            message.from = event.attributes.get("image").cloned().unwrap_or_default();
        }
        message
    }
}

/// The engine's events.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    sender: broadcast::Sender<Arc<Event>>,
    /// Who writes them down; nobody yet: a blocking worker.
    errands: OnceLock<Errands>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Taken by workers only; `state` may be locked while this is, never the other way round.
    log: Mutex<EventLog>,
}

#[derive(Debug)]
struct State {
    next: u64,
    last_time: i64,
    /// Lines on their way to the file.
    pending: Vec<u8>,
    /// Whether a worker is about to write them.
    flushing: bool,
}

impl Events {
    /// Opens the log `events.log` in `directory` and goes on counting where it ends.
    pub fn open(directory: &Path) -> Result<Self> {
        let (log, last) = EventLog::open(directory)?;
        let (next, last_time) = last.map_or((1, 0), |event| (event.sequence + 1, event.time));
        let state = State { next, last_time, pending: Vec::new(), flushing: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), log: Mutex::new(log) });
        Ok(Self { shared, sender: broadcast::channel(CHANNEL).0, errands: OnceLock::new() })
    }

    /// Has events written down by a thread that mostly wakes at these moments anyway.
    pub(crate) fn write_with(&self, errands: Errands) {
        let _only_once = self.errands.set(errands);
    }

    /// Records that `action` happened to `id` now. Must be called within the async runtime.
    pub fn emit(&self, kind: Kind, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        self.emit_at(kind, action, id, attributes, wall_nanos());
    }

    /// Records what happened at a time that the caller knows better (an exit read from a journal).
    pub fn emit_at(
        &self,
        kind: Kind,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
        time: i64,
    ) {
        let mut state = self.shared.state();
        let event = Arc::new(Event {
            sequence: state.next,
            time: time.max(state.last_time),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
        });
        state.next += 1;
        state.last_time = event.time;
        state.append(&event);
        let schedule = !std::mem::replace(&mut state.flushing, true);
        // Sent under the lock, so that listeners see events in their order. Nobody listening is fine.
        let _ = self.sender.send(event);
        drop(state);
        if schedule {
            let (first, second) = (self.shared.clone(), self.shared.clone());
            if !self.errands.get().is_some_and(|errands| errands.give(move || first.flush())) {
                tokio::task::spawn_blocking(move || second.flush());
            }
        }
    }

    /// Follows the events that pass `filter`. With `since` or `until` (nanoseconds since 1970) those of the
    /// past between them come first; the stream ends at `until`.
    pub fn subscribe(&self, since: Option<i64>, until: Option<i64>, filter: EventFilter) -> Subscription {
        let state = self.shared.state();
        let live = self.sender.subscribe();
        let first_live = state.next;
        drop(state);
        Subscription::new(self.shared.clone(), live, first_live, since, until, filter)
    }

    /// How many clients listen, for `info`.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Writes what was not written yet; for an orderly end. May sleep.
    pub fn flush(&self) {
        self.shared.flush();
    }
}

impl State {
    fn append(&mut self, event: &Event) {
        // Strings, numbers and a map with string keys always serialise.
        if serde_json::to_writer(&mut self.pending, event).is_ok() {
            self.pending.push(b'\n');
        }
    }
}

impl Shared {
    /// No code panics while it holds the lock, so that a poisoned one still guards a whole state.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves pending lines to the file. May sleep.
    fn flush(&self) {
        let mut log = self.log();
        self.flush_into(&mut log);
    }

    fn flush_into(&self, log: &mut EventLog) {
        loop {
            let mut state = self.state();
            let lines = std::mem::take(&mut state.pending);
            if lines.is_empty() {
                state.flushing = false;
                return;
            }
            drop(state);
            if let Err(error) = log.append(&lines) {
                tracing::warn!(%error, "events are not kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emit(events: &Events, action: &str) {
        events.emit(Kind::Container, action, "c1", BTreeMap::from([("name".into(), "one".into())]));
    }

    async fn actions(mut from: Subscription) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = from.next().await {
            all.push(event.unwrap().action.clone());
        }
        all
    }

    #[tokio::test]
    async fn numbering_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path()).unwrap();
        emit(&events, "create");
        emit(&events, "start");
        events.flush();
        drop(events);
        let events = Events::open(dir.path()).unwrap();
        emit(&events, "die");
        let mut all = events.subscribe(Some(0), None, EventFilter::default());
        for (sequence, action) in [(1, "create"), (2, "start"), (3, "die")] {
            let event = all.next().await.unwrap().unwrap();
            assert_eq!((event.sequence, event.action.as_str()), (sequence, action));
        }
    }

    #[tokio::test]
    async fn past_events_come_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path()).unwrap();
        emit(&events, "old");
        let mut live = events.subscribe(None, None, EventFilter::default());
        emit(&events, "new");
        assert_eq!(live.next().await.unwrap().unwrap().action, "new");
        let past = events.subscribe(None, Some(wall_nanos()), EventFilter::default());
        assert_eq!(actions(past).await, ["old", "new"]);
        let none = events.subscribe(None, Some(10), EventFilter::default());
        assert!(actions(none).await.is_empty());
    }

    #[tokio::test]
    async fn a_lagging_listener_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path()).unwrap();
        let mut slow = events.subscribe(None, None, EventFilter::default());
        let count = CHANNEL as u64 * 3;
        for _ in 0..count {
            emit(&events, "tick");
        }
        for expected in 1..=count {
            assert_eq!(slow.next().await.unwrap().unwrap().sequence, expected);
        }
        emit(&events, "tock");
        assert_eq!(slow.next().await.unwrap().unwrap().action, "tock");
    }

    #[tokio::test]
    async fn an_end_in_the_future_ends_the_stream() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path()).unwrap();
        let soon = events.subscribe(None, Some(wall_nanos() + 30_000_000), EventFilter::default());
        emit(&events, "one");
        assert_eq!(actions(soon).await, ["one"]);
    }
}
