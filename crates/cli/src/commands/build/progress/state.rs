//! What is known of a build under way.

use std::collections::HashMap;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex as Wire, VertexLog, VertexStatus, VertexWarning,
};

/// The last lines of a step's output that are kept.
const LINES: usize = 40;

/// A step.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Vertex {
    pub(in super::super) name: String,
    /// In seconds since 1970; likewise below.
    pub(super) started: Option<f64>,
    pub(super) completed: Option<f64>,
    pub(super) cached: bool,
    pub(in super::super) error: String,
    pub(super) parts: Vec<Part>,
    /// The last lines of its output.
    pub(in super::super) lines: Vec<String>,
    /// A line that has no end yet.
    open: Vec<u8>,
}

/// A part of a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) id: String,
    pub(super) current: i64,
    pub(super) total: i64,
    pub(super) started: Option<f64>,
    pub(super) completed: Option<f64>,
}

/// All steps in the order in which they were met.
#[derive(Debug, Default)]
pub(in super::super) struct State {
    pub(in super::super) vertices: Vec<Vertex>,
    by_digest: HashMap<String, usize>,
    pub(in super::super) warnings: Vec<VertexWarning>,
}

/// Something that is worth a line.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Started(usize),
    Part(usize, Part),
    /// A whole line of output, and when it came.
    Line(usize, String, f64),
    Completed(usize),
}

impl State {
    /// Takes in an update; returns what it changed.
    pub(super) fn take(&mut self, update: StatusResponse) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut ended = Vec::new();
        for vertex in update.vertexes {
            self.vertex(vertex, &mut changes, &mut ended);
        }
        for status in update.statuses {
            self.status(&status, &mut changes);
        }
        for log in update.logs {
            self.log(&log, &mut changes);
        }
        for at in ended {
            self.flush(at, &mut changes);
            changes.push(Change::Completed(at));
        }
        self.warnings.extend(update.warnings);
        changes
    }

    fn vertex(&mut self, wire: Wire, changes: &mut Vec<Change>, ended: &mut Vec<usize>) {
        let at = *self.by_digest.entry(wire.digest.clone()).or_insert(self.vertices.len());
        if at == self.vertices.len() {
            self.vertices.push(Vertex::default());
        }
        let vertex = &mut self.vertices[at];
        if !wire.name.is_empty() {
            vertex.name = wire.name;
        }
        let (started, completed) = (wire.started.map(seconds), wire.completed.map(seconds));
        if started.is_some() && vertex.started.is_none() {
            changes.push(Change::Started(at));
        }
        if completed.is_some() && vertex.completed.is_none() {
            ended.push(at);
        }
        vertex.started = started.or(vertex.started);
        vertex.completed = completed;
        vertex.cached = wire.cached;
        vertex.error = wire.error;
    }

    fn status(&mut self, status: &VertexStatus, changes: &mut Vec<Change>) {
        let Some(&at) = self.by_digest.get(&status.vertex) else { return };
        let part = Part {
            id: status.id.clone(),
            current: status.current,
            total: status.total,
            started: status.started.map(seconds),
            completed: status.completed.map(seconds),
        };
        let parts = &mut self.vertices[at].parts;
        match parts.iter_mut().find(|known| known.id == part.id) {
            Some(known) => known.clone_from(&part),
            None => parts.push(part.clone()),
        }
        changes.push(Change::Part(at, part));
    }

    fn log(&mut self, log: &VertexLog, changes: &mut Vec<Change>) {
        let Some(&at) = self.by_digest.get(&log.vertex) else { return };
        let time = log.timestamp.map_or(0.0, seconds);
        for byte in &log.msg {
            if *byte == b'\n' {
                self.line(at, time, changes);
            } else {
                self.vertices[at].open.push(*byte);
            }
        }
    }

    fn line(&mut self, at: usize, time: f64, changes: &mut Vec<Change>) {
        let vertex = &mut self.vertices[at];
        let bytes = std::mem::take(&mut vertex.open);
        let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        if vertex.lines.len() == LINES {
            vertex.lines.remove(0);
        }
        vertex.lines.push(line.clone());
        changes.push(Change::Line(at, line, time - vertex.started.unwrap_or(time)));
    }

    /// What is left of the output when a step ends.
    fn flush(&mut self, at: usize, changes: &mut Vec<Change>) {
        if !self.vertices[at].open.is_empty() {
            let time = self.vertices[at].completed.unwrap_or_default();
            self.line(at, time, changes);
        }
    }

    /// The step that failed last, if any.
    pub(in super::super) fn failed(&self) -> Option<&Vertex> {
        self.vertices
            .iter()
            .rev()
            .find(|vertex| !vertex.error.is_empty() && !vertex.error.contains("context canceled"))
    }
}

impl Vertex {
    /// How long it took, or has taken until `now`.
    pub(super) fn seconds(&self, now: f64) -> f64 {
        self.started.map_or(0.0, |started| (self.completed.unwrap_or(now) - started).max(0.0))
    }
}

pub(super) fn seconds(time: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds are enough")]
    let whole = time.seconds as f64;
    whole + f64::from(time.nanos) / 1e9
}

/// `12.3kB / 45.6kB`, as far as it is known.
pub(super) fn amount(part: &Part) -> String {
    match (part.current, part.total) {
        (current, total) if total > 0 => format!(" {} / {}", size(current), size(total)),
        (current, _) if current > 0 => format!(" {}", size(current)),
        _ => String::new(),
    }
}

/// `12.34kB`, as BuildKit says it.
fn size(bytes: i64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1000.0 && unit + 1 < units.len() {
        number /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{number:.2}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn output_comes_by_the_line_and_before_the_end() {
        let mut state = State::default();
        let vertex =
            Wire { digest: "d".to_owned(), name: "RUN x".to_owned(), started: time(1), ..Wire::default() };
        let log = |text: &str| VertexLog {
            vertex: "d".to_owned(),
            timestamp: time(3),
            msg: text.as_bytes().to_vec(),
            stream: 1,
        };
        let first = StatusResponse {
            vertexes: vec![vertex.clone()],
            logs: vec![log("one\ntw")],
            ..StatusResponse::default()
        };
        let changes = state.take(first);
        assert!(matches!(&changes[..], [Change::Started(0), Change::Line(0, line, _)] if line == "one"));
        let end = Wire { completed: time(5), ..vertex };
        let changes = state.take(StatusResponse {
            vertexes: vec![end],
            logs: vec![log("o")],
            ..StatusResponse::default()
        });
        assert!(matches!(&changes[..], [Change::Line(0, line, _), Change::Completed(0)] if line == "two"));
        assert!((state.vertices[0].seconds(0.0) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn amounts_are_buildkits() {
        let part = |current, total| Part { current, total, ..Part::default() };
        assert_eq!(amount(&part(214, 0)), " 214B");
        assert_eq!(amount(&part(1_500, 2_000_000)), " 1.50kB / 2.00MB");
    }
}
