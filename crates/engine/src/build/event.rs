//! What is told of a build while it runs, whoever shows it.

use bytes::Bytes;
use jiff::Timestamp;
use wharf_build::dockerfile::{Lines, Warning};
use wharf_oci::Digest;

/// Who is told; called from many threads, and must not wait for a client.
pub type Tell = std::sync::Arc<dyn Fn(BuildEvent) + Send + Sync>;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum BuildEvent {
    /// A step was met, began or ended: all that is known of it now.
    Vertex(Vertex),
    /// A part of a step, which can be counted, came on.
    Status(VertexStatus),
    /// A step said something.
    Log(VertexLog),
    /// The Dockerfile could be better.
    Warning(VertexWarning),
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    /// What it is known by in this build.
    pub digest: Digest,
    /// The steps it works on.
    pub inputs: Vec<Digest>,
    /// How it is shown.
    pub name: String,
    /// `None`: not yet.
    pub started: Option<Timestamp>,
    /// `None`: not yet.
    pub completed: Option<Timestamp>,
    /// The cache had it.
    pub cached: bool,
    /// Why it failed; empty: it did not.
    pub error: String,
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct VertexStatus {
    /// The step.
    pub vertex: Digest,
    /// The part: within the step, each has its own.
    pub id: String,
    /// How far it is.
    pub current: u64,
    /// How far it goes; 0: unknown.
    pub total: u64,
    /// When it began.
    pub started: Timestamp,
    /// `None`: not yet.
    pub completed: Option<Timestamp>,
}

/// Output of a step.
#[derive(Debug, Clone)]
pub struct VertexLog {
    /// The step.
    pub vertex: Digest,
    /// 1: standard output, 2: standard error.
    pub stream: u8,
    /// When it was read.
    pub time: Timestamp,
    /// What.
    pub data: Bytes,
}

/// A warning of the language's rules.
#[derive(Debug, Clone)]
pub struct VertexWarning {
    /// The step that it is shown at.
    pub vertex: Digest,
    /// What.
    pub warning: Warning,
    /// Where.
    pub lines: Lines,
    /// The Dockerfile: its name and its text.
    pub file: String,
    /// All of it.
    pub text: std::sync::Arc<str>,
}
