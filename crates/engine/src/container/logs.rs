//! `logs`: what a container wrote, read back from its log files.
//!
//! Files are read and turned into ready frames in batches on the pool for files, one call a batch, so that
//! a slow client holds no thread. A follower waits for the file to change or the container to stop.

mod clock;
pub(crate) mod compress;
mod files;
pub(crate) mod forward;
mod json_line;
mod reader;
mod render;
mod tail;
mod watch;

use std::future::Future;
use std::path::PathBuf;

use bytes::Bytes;
use wharf_shim::protocol::LogConfig;
use wharf_sys::time::wall_nanos;

use super::wait::WaitCondition;
use super::{Containers, State, log_config};
use crate::body::{ByteSender, ByteStream};
use crate::error::{Error, Result};
use crate::events::parse_timestamp;
use crate::pools::{Class, Pools};

use reader::{Reader, Then};
use render::{Format, Render};
use watch::Watch;

/// What a client asks for; times and tail as it wrote them.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub since: String,
    pub until: String,
    pub timestamps: bool,
    pub details: bool,
    /// A number; anything else means all.
    pub tail: String,
}

/// A log about to be sent.
#[derive(Debug)]
pub struct Logs {
    /// The process had a terminal: the bytes are raw, without frames.
    pub tty: bool,
    pub stream: ByteStream,
}

impl LogOptions {
    /// Refuses what no container's log could answer, before any container is looked for.
    pub fn check(&self) -> Result<()> {
        if self.stdout || self.stderr {
            return Ok(());
        }
        Err(Error::invalid("Bad parameters: you must choose at least one stream"))
    }

    fn render(&self, tty: bool) -> Result<Render> {
        Ok(Render {
            stdout: self.stdout,
            stderr: self.stderr,
            // Docker takes a zero for "not given" too.
            since: parse_timestamp(&self.since)?.filter(|&since| since != 0).unwrap_or(i64::MIN),
            until: parse_timestamp(&self.until)?.filter(|&until| until != 0).unwrap_or(i64::MAX),
            timestamps: self.timestamps,
            details: self.details,
            framed: !tty,
        })
    }

    /// Negative numbers and words mean all.
    fn tail(&self) -> Option<u64> {
        self.tail.parse::<i64>().ok().and_then(|count| u64::try_from(count).ok())
    }
}

impl Containers {
    /// A container's log. Following ends with the process, even where the policy starts it again: as in Docker.
    pub async fn logs(&self, asked: &str, options: &LogOptions) -> Result<Logs> {
        options.check()?;
        let container = self.find(asked)?;
        // Registered before the look at the state, so that an end in between is not missed.
        let end = self.wait(container.id(), WaitCondition::NextExit)?;
        let view = container.view();
        if matches!(view.state(), State::Dead(_) | State::Removing(_)) {
            let why = "can not get logs from container which is dead or marked for removal";
            return Err(Error::conflict(why));
        }
        let stopped = view.state().is_active().then_some(async {
            // An engine that closes ends the following too.
            let _ = end.done().await;
        });
        let config = log_config::of(&self.config, &view.record);
        read(&self.pools, &config, view.tty(), options, stopped).await
    }
}

/// Reads the log that `config` names. Following ends when `stopped` resolves and all was read; with
/// `stopped` absent the log is not followed.
pub(crate) async fn read(
    pools: &Pools,
    config: &LogConfig,
    tty: bool,
    options: &LogOptions,
    stopped: Option<impl Future<Output = ()> + Send + 'static>,
) -> Result<Logs> {
    let (path, format) = match config {
        LogConfig::JsonFile { path, .. } => (path.clone(), Format::JsonFile),
        LogConfig::Local { path, .. } => (path.clone(), Format::Local),
        LogConfig::None => {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        }
    };
    let render = options.render(tty)?;
    let (until, follow) = (render.until, options.follow && stopped.is_some());
    let reader = open(pools, path, format, render, options.tail(), follow).await?;
    let (sender, stream) = ByteStream::channel();
    let pump = Pump { pools: pools.clone(), sender, until };
    match stopped.filter(|_| follow) {
        Some(stopped) => tokio::spawn(pump.follow(reader, stopped)),
        None => tokio::spawn(pump.run(reader)),
    };
    Ok(Logs { tty, stream })
}

async fn open(
    pools: &Pools,
    path: PathBuf,
    format: Format,
    render: Render,
    tail: Option<u64>,
    follow: bool,
) -> Result<Reader> {
    let opening = move || {
        Reader::open(path, format, render, tail, follow).map_err(|error| Error::io("open log", &error))
    };
    pools.run(Class::Files, opening).await
}

/// Moves batches from a reader to a client.
#[derive(Debug)]
struct Pump {
    pools: Pools,
    sender: ByteSender,
    /// Nothing is waited for after this moment; nanoseconds since 1970.
    until: i64,
}

/// What a pass over the log ended with.
enum Pass {
    /// The reader waits for more.
    Waiting(Reader),
    Ended,
}

impl Pump {
    async fn run(self, reader: Reader) {
        self.pass(reader).await;
    }

    async fn follow(self, mut reader: Reader, stopped: impl Future<Output = ()> + Send) {
        tokio::pin!(stopped);
        loop {
            let mut watch = Watch::new(reader.watched());
            watch.mark_seen();
            // Whatever comes after the mark wakes; whatever came before it is read now.
            reader = match self.pass(reader).await {
                Pass::Waiting(reader) => reader,
                Pass::Ended => return,
            };
            tokio::select! {
                () = &mut stopped => {
                    reader.stop_following();
                    self.pass(reader).await;
                    return;
                }
                () = self.sender.closed() => return,
                () = sleep_until(self.until) => return,
                () = watch.changed() => {}
            }
        }
    }

    /// Sends all there is. Nobody left to send to is an end like any other.
    async fn pass(&self, mut reader: Reader) -> Pass {
        loop {
            let stepped = self.pools.run(Class::Files, move || {
                let step = reader.step().map_err(|error| Error::io("read log", &error))?;
                Ok((reader, step))
            });
            let (read, step) = match stepped.await {
                Ok(stepped) => stepped,
                Err(error) => {
                    self.sender.clone().fail(error).await;
                    return Pass::Ended;
                }
            };
            let sent = self.send(step.output).await;
            match step.then {
                Then::More if sent.is_ok() => reader = read,
                Then::Wait if sent.is_ok() => return Pass::Waiting(read),
                _ => return Pass::Ended,
            }
        }
    }

    async fn send(&self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.sender.send(bytes).await }
    }
}

async fn sleep_until(until: i64) {
    if until == i64::MAX {
        return std::future::pending().await;
    }
    let left = until.saturating_sub(wall_nanos()).max(0).unsigned_abs();
    tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn json(path: &Path) -> LogConfig {
        LogConfig::JsonFile { path: path.to_owned(), max_size: None, max_file: 1, attrs: Default::default() }
    }

    fn line(text: &str) -> String {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    }

    async fn rest(mut logs: Logs) -> String {
        let mut all = Vec::new();
        while let Some(bytes) = logs.stream.next().await {
            all.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    type Never = std::future::Pending<()>;

    #[tokio::test]
    async fn a_follower_gets_what_comes_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, line("one") + &line("two")).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let options = LogOptions { follow: true, stdout: true, tail: "1".into(), ..LogOptions::default() };
        let stopped = async { stopped.await.unwrap_or(()) };
        let mut logs = read(&Pools::default(), &json(&path), true, &options, Some(stopped)).await.unwrap();
        assert_eq!(logs.stream.next().await.unwrap().unwrap(), "two\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line("three").as_bytes()).unwrap();
        assert_eq!(logs.stream.next().await.unwrap().unwrap(), "three\n");
        file.write_all(line("four").as_bytes()).unwrap();
        stop.send(()).unwrap();
        assert_eq!(rest(logs).await, "four\n");
    }

    #[tokio::test]
    async fn options_read_as_docker_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, line("one") + &line("two")).unwrap();
        for (tail, expected) in
            [("", "one\ntwo\n"), ("all", "one\ntwo\n"), ("-1", "one\ntwo\n"), ("0", ""), ("1", "two\n")]
        {
            let options = LogOptions { stdout: true, tail: tail.into(), ..LogOptions::default() };
            let logs = read(&Pools::default(), &json(&path), true, &options, None::<Never>).await.unwrap();
            assert_eq!(rest(logs).await, expected, "tail {tail:?}");
        }
        let wrong = LogOptions { stdout: true, since: "abc".into(), ..LogOptions::default() };
        let error = read(&Pools::default(), &json(&path), true, &wrong, None::<Never>).await.unwrap_err();
        assert_eq!(error.message(), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert!(LogOptions::default().check().is_err());
        let none = read(&Pools::default(), &LogConfig::None, true, &wrong, None::<Never>).await.unwrap_err();
        assert_eq!(none.kind(), crate::ErrorKind::NotImplemented);
    }

    #[tokio::test]
    async fn following_ends_at_until() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { follow: true, stdout: true, until: "1".into(), ..LogOptions::default() };
        let never = Some(std::future::pending());
        let logs =
            read(&Pools::default(), &json(&dir.path().join("log")), true, &options, never).await.unwrap();
        assert_eq!(rest(logs).await, "");
    }
}
