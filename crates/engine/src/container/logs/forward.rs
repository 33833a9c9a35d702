//! Log drivers that send lines elsewhere: `syslog` and `journald`.
//!
//! The supervisor keeps the container's output in a local file whatever the driver is. A task per running
//! container follows that file and sends what comes; how far it got is kept beside the container (the
//! cursor), so that a daemon that comes back goes on from there. A receiver that is away is tried again, and
//! nothing is lost as long as the local files hold it; a crash may send the last second's lines twice.

mod entry;
mod journald;
mod syslog;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use wharf_shim::protocol::LogConfig;

use super::reader::{Reader, Then};
use super::render::{Format, Render};
use super::watch::Watch;
use crate::container::record::Record;
use crate::container::{Container, Containers, Happening, News, log_config};
use crate::error::{Error, Result};
use crate::pools::{Class, Pools};
use entry::Entry;

/// The first pause after a failed attempt, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The cursor's file in the container's directory.
const CURSOR: &str = "forwarded";

/// Where lines go.
#[derive(Debug)]
enum Sink {
    Syslog(syslog::Syslog),
    Journald(journald::Journald),
}

impl Sink {
    /// May sleep.
    fn send(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        match self {
            Self::Syslog(syslog) => syslog.send(entry),
            Self::Journald(journald) => journald.send(entry),
        }
    }
}

/// What sinks say of a container beside its lines.
#[derive(Debug, Clone)]
struct Origin {
    id: String,
    name: String,
    image: String,
    tag: String,
    attributes: BTreeMap<String, String>,
}

impl Origin {
    fn of(record: &Record, mut attributes: BTreeMap<String, String>) -> Self {
        let tag = attributes.remove("tag").filter(|tag| !tag.is_empty());
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            image: record.config.image.clone(),
            tag: tag.unwrap_or_else(|| record.short_id().to_owned()),
            attributes,
        }
    }
}

/// How far a log was sent: up to and with the `count`-th entry of those with time `time`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    time: i64,
    count: u64,
}

impl Cursor {
    fn load(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let mut next = || words.next().and_then(|word| word.parse::<i64>().ok());
        let (time, count) = (next().unwrap_or(0), next().unwrap_or(0));
        Self { time, count: u64::try_from(count).unwrap_or(0) }
    }

    fn store(self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, format!("{} {}\n", self.time, self.count))?;
        std::fs::rename(fresh, path)
    }

    fn pass(&mut self, time: i64) {
        if time == self.time {
            self.count += 1;
        } else {
            *self = Self { time, count: 1 };
        }
    }
}

/// Sends on what containers with such drivers write, from now on. Within the async runtime.
pub(crate) fn watch(containers: &Arc<Containers>) {
    let mut news = containers.listen();
    let containers = Arc::downgrade(containers);
    tokio::spawn(async move {
        let mut running: BTreeMap<String, signal::Sender<bool>> = BTreeMap::new();
        while let Some(News { container, what }) = news.recv().await {
            let Some(containers) = containers.upgrade() else { return };
            match what {
                Happening::Started => {
                    if let Some(forwarder) = Forwarder::new(&containers, &container) {
                        let (sender, stopped) = signal::channel(false);
                        tokio::spawn(forwarder.run(stopped));
                        running.insert(container.id().to_owned(), sender);
                    }
                }
                // The task sees the sender go, sends the rest and ends.
                Happening::Ended | Happening::Removed => drop(running.remove(container.id())),
                _ => {}
            }
        }
    });
}

/// The sending of one run of one container.
#[derive(Debug)]
struct Forwarder {
    pools: Pools,
    driver: String,
    options: BTreeMap<String, String>,
    origin: Origin,
    log: PathBuf,
    cursor_file: PathBuf,
}

/// What moves between the task and the pool.
#[derive(Debug)]
struct Work {
    reader: Reader,
    sink: Sink,
    cursor: Cursor,
    /// Entries at the start that were sent before.
    known: u64,
}

impl Forwarder {
    /// `None`: the container's driver keeps its lines here.
    fn new(containers: &Containers, container: &Container) -> Option<Self> {
        let view = container.view();
        let asked = &view.record.host_config.log_config;
        if !matches!(asked.r#type.as_str(), "syslog" | "journald") {
            return None;
        }
        let LogConfig::JsonFile { path, attrs, .. } = log_config::of(&containers.config, &view.record) else {
            return None;
        };
        Some(Self {
            pools: containers.pools.clone(),
            driver: asked.r#type.clone(),
            options: asked.config.clone().unwrap_or_default(),
            origin: Origin::of(&view.record, attrs),
            cursor_file: containers.config.bundle(container.id()).join(CURSOR),
            log: path,
        })
    }

    /// Until the container has ended and all was sent. A receiver that stays away after the end is given up:
    /// the next start goes on from the cursor.
    async fn run(self, mut stopped: signal::Receiver<bool>) {
        let mut pause = BACK_OFF.0;
        loop {
            match self.attempt(&mut stopped).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(container = %self.origin.id, %error, "log lines wait to be sent")
                }
            }
            if stopped.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    async fn attempt(&self, stopped: &mut signal::Receiver<bool>) -> Result<()> {
        let mut work = self.open().await?;
        loop {
            let mut watch = Watch::new(work.reader.watched());
            watch.mark_seen();
            let ended = stopped.has_changed().is_err();
            if ended {
                work.reader.stop_following();
            }
            work = match self.pass(work).await? {
                Some(work) if !ended => work,
                _ => return Ok(()),
            };
            tokio::select! {
                () = watch.changed() => {}
                _ = stopped.changed() => {}
            }
        }
    }

    async fn open(&self) -> Result<Work> {
        let (driver, options, origin) = (self.driver.clone(), self.options.clone(), self.origin.clone());
        let (log, cursor_file) = (self.log.clone(), self.cursor_file.clone());
        let opening = move || {
            let failed = |error: io::Error| Error::io(format_args!("open {driver}"), &error);
            let sink = if driver == "syslog" {
                Sink::Syslog(syslog::Syslog::connect(&options, origin).map_err(failed)?)
            } else {
                Sink::Journald(journald::Journald::connect(origin).map_err(failed)?)
            };
            let cursor = Cursor::load(&cursor_file);
            let render = Render {
                stdout: true,
                stderr: true,
                since: cursor.time,
                until: i64::MAX,
                timestamps: true,
                details: false,
                framed: true,
            };
            let reader = Reader::open(log, Format::JsonFile, render, None, true).map_err(failed)?;
            Ok(Work { reader, sink, cursor, known: cursor.count })
        };
        self.pools.run(Class::Files, opening).await
    }

    /// Sends all there is; `None` at the end of the log.
    async fn pass(&self, mut work: Work) -> Result<Option<Work>> {
        loop {
            let (cursor_file, driver) = (self.cursor_file.clone(), self.driver.clone());
            let step = move || {
                let step = work.reader.step().map_err(|error| Error::io("read log", &error))?;
                let sent = work.send(&step.output);
                // What was sent counts, also where the rest failed.
                work.cursor.store(&cursor_file).map_err(|error| Error::io("write log cursor", &error))?;
                sent.map_err(|error| Error::io(format_args!("send to {driver}"), &error))?;
                Ok((work, step.then))
            };
            let (next, then) = self.pools.run(Class::Files, step).await?;
            work = next;
            match then {
                Then::More => {}
                Then::Wait => return Ok(Some(work)),
                Then::End => return Ok(None),
            }
        }
    }
}

impl Work {
    fn send(&mut self, output: &[u8]) -> io::Result<()> {
        for entry in entry::entries(output) {
            if self.known > 0 && entry.time == self.cursor.time {
                self.known -= 1;
                continue;
            }
            self.sink.send(&entry)?;
            self.cursor.pass(entry.time);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_count_entries_of_one_time_and_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CURSOR);
        assert_eq!(Cursor::load(&path), Cursor::default());
        let mut cursor = Cursor::default();
        for time in [5, 7, 7] {
            cursor.pass(time);
        }
        assert_eq!(cursor, Cursor { time: 7, count: 2 });
        cursor.store(&path).unwrap();
        assert_eq!(Cursor::load(&path), cursor);
    }

    pub(super) fn origin() -> Origin {
        Origin {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image: "busybox".into(),
            tag: "0123456789ab".into(),
            attributes: BTreeMap::from([("a.b".into(), "c".into())]),
        }
    }

    #[test]
    fn lines_are_sent_once_from_the_cursor_on() {
        let dir = tempfile::tempdir().unwrap();
        let socket = std::os::unix::net::UnixDatagram::bind(dir.path().join("log")).unwrap();
        let address = format!("unixgram://{}/log", dir.path().display());
        let options = BTreeMap::from([("syslog-address".to_owned(), address)]);
        let log = dir.path().join("c-json.log");
        let line = |text: &str, second: u32| {
            format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:0{second}Z\"}}\n"
            )
        };
        std::fs::write(&log, line("a", 1) + &line("b", 2) + &line("c", 2) + &line("d", 3)).unwrap();
        let render = |since| Render {
            stdout: true,
            stderr: true,
            since,
            until: i64::MAX,
            timestamps: true,
            details: false,
            framed: true,
        };
        let second = super::super::clock::parse(b"2026-01-01T00:00:02Z").unwrap();
        let cursor = Cursor { time: second, count: 1 };
        let mut work = Work {
            reader: Reader::open(log, Format::JsonFile, render(second), None, false).unwrap(),
            sink: Sink::Syslog(syslog::Syslog::connect(&options, origin()).unwrap()),
            cursor,
            known: cursor.count,
        };
        let output = work.reader.step().unwrap().output;
        work.send(&output).unwrap();
        let mut buffer = [0; 1024];
        for text in [": c", ": d"] {
            let length = socket.recv(&mut buffer).unwrap();
            let message = str::from_utf8(&buffer[..length]).unwrap();
            assert!(message.starts_with("<30>") && message.ends_with(text), "{message}");
        }
        assert_eq!(work.cursor, Cursor { time: second + 1_000_000_000, count: 1 });
    }
}
