//! What happened in a build, kept for as long as somebody may ask, and told in the order it happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::google::protobuf::Timestamp as WireTime;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::WarnRequest;
use bollard_buildkit_proto::moby::buildkit::v1::{self as wire, StatusResponse};
use bollard_buildkit_proto::pb;
use jiff::Timestamp;
use prost::Message;
use tokio::sync::Notify;
use wharf_build::dockerfile::Lines;
use wharf_engine::build::{BuildEvent, Tell, Vertex, VertexLog, VertexWarning};
use wharf_oci::Digest;

/// The output of one step that is kept, in bytes; BuildKit's own limit.
const LOG_LIMIT: usize = 2 << 20;

/// The warnings of a client's frontend, at most.
const MOST_WARNINGS: usize = 1_000;

/// The events in one message, at most.
const BATCH: usize = 512;

/// What happened in a build.
#[derive(Debug, Default)]
pub(super) struct Progress {
    heard: Mutex<Heard>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    events: Vec<Told>,
    ended: bool,
    /// Warnings of frontends that are not built in.
    warned: usize,
    /// Bytes of output by step.
    logged: HashMap<Digest, usize>,
    counts: Counts,
    /// How the steps stand.
    steps: HashMap<Digest, (bool, bool)>,
}

/// Something that is told.
#[derive(Debug)]
enum Told {
    Event(BuildEvent),
    /// A warning of a frontend that is not built in.
    Warning(wire::VertexWarning),
}

/// How much happened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: i32,
    pub(super) completed: i32,
    pub(super) cached: i32,
    pub(super) warnings: i32,
}

impl Progress {
    /// Whom a build tells.
    pub(super) fn tell(self: &Arc<Self>) -> Tell {
        let progress = self.clone();
        Arc::new(move |event| progress.add(event))
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Lists and counts are whole whatever panicked.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: BuildEvent) {
        {
            let mut heard = self.lock();
            if heard.ended {
                return;
            }
            match event {
                BuildEvent::Log(log) => heard.log(log),
                other => {
                    heard.count(&other);
                    heard.events.push(Told::Event(other));
                }
            }
        }
        self.more.notify_waiters();
    }

    /// A frontend warns.
    pub(super) fn warn(&self, given: WarnRequest) {
        {
            let mut heard = self.lock();
            if heard.ended || heard.warned >= MOST_WARNINGS {
                return;
            }
            heard.counts.warnings += 1;
            heard.warned += 1;
            heard.events.push(Told::Warning(wire::VertexWarning {
                vertex: given.digest,
                level: given.level,
                short: given.short,
                detail: given.detail,
                url: given.url,
                info: given.info,
                ranges: given.ranges,
            }));
        }
        self.more.notify_waiters();
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.more.notify_waiters();
    }

    /// All that happened so far, as it was told: messages one after another, each with its length before it, as many as
    /// `most` bytes have room for.
    pub(super) fn written(&self, most: usize) -> Vec<u8> {
        let heard = self.lock();
        let mut written = Vec::new();
        for batch in heard.events.chunks(BATCH) {
            let message = message(batch);
            if written.len() + message.encoded_len() > most {
                break;
            }
            written.extend(message.encode_length_delimited_to_vec());
        }
        written
    }

    /// How much happened so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The next message behind the first `seen` events, which it advances; `None`: that was all.
    pub(super) async fn next(&self, seen: &mut usize) -> Option<StatusResponse> {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            {
                let heard = self.lock();
                let new = heard.events.get(*seen..).unwrap_or_default();
                if !new.is_empty() {
                    let batch = &new[..new.len().min(BATCH)];
                    *seen += batch.len();
                    return Some(message(batch));
                }
                if heard.ended {
                    return None;
                }
            }
            more.await;
        }
    }
}

impl Heard {
    fn log(&mut self, mut log: VertexLog) {
        let logged = self.logged.entry(log.vertex).or_default();
        if *logged >= LOG_LIMIT {
            return;
        }
        *logged += log.data.len();
        if *logged >= LOG_LIMIT {
            let notice = format!("\n[output clipped, log limit {}MiB reached]\n", LOG_LIMIT >> 20);
            log.data = [&log.data[..], notice.as_bytes()].concat().into();
        }
        self.events.push(Told::Event(BuildEvent::Log(log)));
    }

    fn count(&mut self, event: &BuildEvent) {
        let counts = &mut self.counts;
        match event {
            BuildEvent::Vertex(vertex) => {
                let known = self.steps.entry(vertex.digest).or_insert_with(|| {
                    counts.total += 1;
                    (false, false)
                });
                if vertex.completed.is_some() && !known.0 {
                    known.0 = true;
                    counts.completed += 1;
                }
                if vertex.cached && !known.1 {
                    known.1 = true;
                    counts.cached += 1;
                }
            }
            BuildEvent::Warning(_) => counts.warnings += 1,
            _ => {}
        }
    }
}

/// A moment, as the wire has it.
pub(super) fn moment(time: Timestamp) -> WireTime {
    WireTime { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// Lines, as the wire has them.
pub(super) fn range(lines: Lines) -> pb::Range {
    let position =
        |line: u32| Some(pb::Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
    pb::Range { start: position(lines.first), end: position(lines.last) }
}

/// A Dockerfile's text, as the wire has it.
pub(super) fn source_info(file: &str, text: &str) -> pb::SourceInfo {
    pb::SourceInfo {
        filename: file.to_owned(),
        data: text.as_bytes().to_vec(),
        definition: None,
        language: "Dockerfile".to_owned(),
    }
}

fn message(events: &[Told]) -> StatusResponse {
    let mut message = StatusResponse::default();
    for told in events {
        let event = match told {
            Told::Event(event) => event,
            Told::Warning(warning) => {
                message.warnings.push(warning.clone());
                continue;
            }
        };
        match event {
            BuildEvent::Vertex(step) => message.vertexes.push(vertex(step)),
            BuildEvent::Status(status) => message.statuses.push(wire::VertexStatus {
                id: status.id.clone(),
                vertex: status.vertex.to_string(),
                name: String::new(),
                current: i64::try_from(status.current).unwrap_or(i64::MAX),
                total: i64::try_from(status.total).unwrap_or(i64::MAX),
                timestamp: Some(moment(Timestamp::now())),
                started: Some(moment(status.started)),
                completed: status.completed.map(moment),
            }),
            BuildEvent::Log(log) => message.logs.push(wire::VertexLog {
                vertex: log.vertex.to_string(),
                timestamp: Some(moment(log.time)),
                stream: i64::from(log.stream),
                msg: log.data.to_vec(),
            }),
            BuildEvent::Warning(found) => message.warnings.push(warning(found)),
        }
    }
    message
}

fn vertex(step: &Vertex) -> wire::Vertex {
    wire::Vertex {
        digest: step.digest.to_string(),
        inputs: step.inputs.iter().map(ToString::to_string).collect(),
        name: step.name.clone(),
        cached: step.cached,
        started: step.started.map(moment),
        completed: step.completed.map(moment),
        error: step.error.clone(),
        progress_group: None,
    }
}

fn warning(found: &VertexWarning) -> wire::VertexWarning {
    let rule = found.warning.rule;
    wire::VertexWarning {
        vertex: found.vertex.to_string(),
        level: 1,
        short: format!("{}: {} (line {})", rule.name, found.warning.message, found.lines.first).into_bytes(),
        detail: vec![rule.description.as_bytes().to_vec()],
        url: rule.url(),
        info: Some(source_info(&found.file, &found.text)),
        ranges: vec![range(found.lines)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(completed: bool, cached: bool) -> BuildEvent {
        BuildEvent::Vertex(Vertex {
            digest: Digest::of(b"step"),
            inputs: Vec::new(),
            name: "step".to_owned(),
            started: None,
            completed: completed.then(Timestamp::now),
            cached,
            error: String::new(),
        })
    }

    #[tokio::test]
    async fn all_is_told_to_who_comes_late() {
        let progress = Arc::new(Progress::default());
        let tell = progress.tell();
        tell(step(false, false));
        tell(step(true, true));
        progress.end();
        let mut seen = 0;
        assert_eq!(progress.next(&mut seen).await.unwrap().vertexes.len(), 2);
        assert!(progress.next(&mut seen).await.is_none());
        assert_eq!(progress.counts(), Counts { total: 1, completed: 1, cached: 1, warnings: 0 });
    }

    #[tokio::test]
    async fn endless_output_is_clipped() {
        let progress = Arc::new(Progress::default());
        let tell = progress.tell();
        for _ in 0..5 {
            tell(BuildEvent::Log(VertexLog {
                vertex: Digest::of(b"step"),
                stream: 1,
                time: Timestamp::now(),
                data: vec![b'x'; 1 << 20].into(),
            }));
        }
        progress.end();
        let mut seen = 0;
        let told = progress.next(&mut seen).await.unwrap();
        assert_eq!(told.logs.len(), 2);
        assert!(told.logs[1].msg.ends_with(b"[output clipped, log limit 2MiB reached]\n"));
    }
}
