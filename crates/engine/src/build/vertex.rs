//! Steps as they are told to whoever watches.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use wharf_build::graph::{Edge, Graph, NodeId};
use wharf_build::solve::Event;
use wharf_oci::{Digest, Hasher};

use super::event::{BuildEvent, Tell, Vertex, VertexLog, VertexStatus};
use super::{Build, BuildFailure};

/// A step that is under way, to tell of its parts and of what it says.
#[derive(Clone)]
pub struct Step {
    digest: Digest,
    tell: Tell,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Step").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Step {
    /// What it is known by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Tells how far a part is.
    pub fn status(&self, id: &str, current: u64, total: u64, started: Timestamp, done: bool) {
        (self.tell)(BuildEvent::Status(VertexStatus {
            vertex: self.digest,
            id: id.to_owned(),
            current,
            total,
            started,
            completed: done.then(Timestamp::now),
        }));
    }

    /// Does a part that cannot be counted, and tells when it began and ended.
    pub fn part<T>(&self, id: &str, work: impl FnOnce() -> T) -> T {
        let started = Timestamp::now();
        self.status(id, 0, 0, started, false);
        let done = work();
        self.status(id, 0, 0, started, true);
        done
    }

    /// Says something; `stream` 1 is standard output, 2 standard error.
    pub fn log(&self, stream: u8, data: Bytes) {
        (self.tell)(BuildEvent::Log(VertexLog { vertex: self.digest, stream, time: Timestamp::now(), data }));
    }
}

impl Build {
    /// Does something that is shown as a step of its own.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn step<T>(
        &self,
        name: &str,
        work: impl FnOnce(&Step) -> Result<T, BuildFailure>,
    ) -> Result<T, BuildFailure> {
        let mut hasher = Hasher::new();
        hasher.update(self.id.as_bytes());
        hasher.update(name.as_bytes());
        let step = Step { digest: hasher.finish(), tell: self.tell.clone() };
        let mut vertex = Vertex {
            digest: step.digest,
            inputs: Vec::new(),
            name: name.to_owned(),
            started: Some(Timestamp::now()),
            completed: None,
            cached: false,
            error: String::new(),
        };
        (self.tell)(BuildEvent::Vertex(vertex.clone()));
        let done = work(&step);
        vertex.completed = Some(Timestamp::now());
        if let Err(failure) = &done {
            vertex.error.clone_from(&failure.message);
        }
        (self.tell)(BuildEvent::Vertex(vertex));
        done.map_err(|failure| BuildFailure { vertex: failure.vertex.or(Some(step.digest)), ..failure })
    }
}

/// The steps of a graph.
pub(super) struct Steps {
    vertices: Mutex<Vec<Vertex>>,
    tell: Tell,
}

impl Steps {
    /// Tells of all steps of a graph before any begins.
    pub(super) fn announce(build: &Build, graph: &Graph, result: Edge) -> Self {
        let digests = Self::digests(build, graph);
        let vertices = graph.nodes().map(|(at, node)| Vertex {
            digest: digests[at.0],
            inputs: node.inputs.iter().map(|edge| digests[edge.node.0]).collect(),
            name: node.name.clone(),
            started: None,
            completed: None,
            cached: false,
            error: String::new(),
        });
        let vertices: Vec<Vertex> = vertices.collect();
        let needed = needed(graph, result);
        for (vertex, _) in vertices.iter().zip(needed).filter(|(_, needed)| *needed) {
            (build.tell)(BuildEvent::Vertex(vertex.clone()));
        }
        Self { vertices: Mutex::new(vertices), tell: build.tell.clone() }
    }

    /// No steps: for what is done beside any graph.
    pub(super) fn none(build: &Build) -> Self {
        Self { vertices: Mutex::default(), tell: build.tell.clone() }
    }

    /// What the nodes of a graph are known by in a build.
    pub(super) fn digests(build: &Build, graph: &Graph) -> Vec<Digest> {
        let mut digests: Vec<Digest> = Vec::new();
        for (_, node) in graph.nodes() {
            let mut hasher = Hasher::new();
            hasher.update(build.id.as_bytes());
            hasher.update(format!("{} {:?} {:?}", node.name, node.operation, node.platform).as_bytes());
            for edge in &node.inputs {
                hasher.update(digests[edge.node.0].hex().as_bytes());
            }
            digests.push(hasher.finish());
        }
        digests
    }

    /// Passes on what the solver says.
    pub(super) fn hear(&self, event: &Event) {
        let now = Some(Timestamp::now());
        // Whole assignments only: a panic elsewhere leaves them whole.
        let mut vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        let vertex = match event {
            Event::Started(node) => {
                let vertex = &mut vertices[node.0];
                vertex.started = now;
                vertex
            }
            Event::Cached(node) => {
                let vertex = &mut vertices[node.0];
                (vertex.started, vertex.completed, vertex.cached) = (now, now, true);
                vertex
            }
            Event::Finished(node) => {
                let vertex = &mut vertices[node.0];
                vertex.completed = now;
                vertex
            }
            Event::Failed(node, why) => {
                let vertex = &mut vertices[node.0];
                vertex.completed = now;
                vertex.error.clone_from(why);
                vertex
            }
        }
        .clone();
        // Told under the lock, so that two states of one step arrive in their order.
        (self.tell)(BuildEvent::Vertex(vertex));
    }

    /// A node's step.
    pub(super) fn of(&self, node: NodeId) -> Step {
        let vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        Step { digest: vertices[node.0].digest, tell: self.tell.clone() }
    }
}

/// Which nodes a result stands on.
fn needed(graph: &Graph, result: Edge) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().count()];
    let mut left = vec![result.node];
    while let Some(node) = left.pop() {
        if !std::mem::replace(&mut needed[node.0], true) {
            left.extend(graph.node(node).inputs.iter().map(|edge| edge.node));
        }
    }
    needed
}
