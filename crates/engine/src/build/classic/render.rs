//! The lines of a classic build: steps in the Dockerfile's order, whatever order they run in.

use std::collections::HashMap;

use tokio::sync::mpsc;
use wharf_api::{JsonMessage, ProgressDetail};
use wharf_build::dockerfile::{Instruction, Lines};
use wharf_build::graph::Operation;
use wharf_oci::{Digest, Hasher};

use super::super::vertex::Steps;
use super::super::{Build, BuildEvent, BuildFailure, Planned, Vertex};
use super::{error_message, stream_message};
use crate::body::ByteSender;
use crate::error::Error;

/// What a terminal shows before and after errors' output, as dockerd has it.
const RED: (&str, &str) = ("\u{1b}[91m", "\u{1b}[0m");

/// What a renderer is told.
pub(super) enum Told {
    /// The steps there will be.
    Steps(Vec<Line>),
    /// Something happened.
    Event(BuildEvent),
    /// The image is there; these are the last words.
    End(Vec<JsonMessage>),
    /// There is no image.
    Failed(BuildFailure),
}

/// An instruction.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    /// The steps that do it; none for one that only changes the config.
    vertices: Vec<Digest>,
    /// A process runs.
    runs: bool,
    /// It begins a stage.
    begins: bool,
    /// How many instructions its base image adds.
    triggers: usize,
    /// What it is called.
    id: String,
    /// How errors of it begin: `COPY failed: `.
    name: String,
}

/// The instructions of the stages that are built.
pub(super) fn steps(build: &Build, planned: &Planned) -> Vec<Line> {
    let graph = &planned.plan.graph;
    let digests = Steps::digests(build, graph);
    let mut lines = Vec::new();
    let mut id = Digest::of(b"");
    let mut push = |text: &str, at: Lines, begins: Option<usize>, name: &str| {
        let of_this = graph.nodes().filter(|(_, node)| node.lines == Some(at));
        let mut vertices = Vec::new();
        let mut runs = false;
        for (node, content) in of_this {
            vertices.push(digests[node.0]);
            runs |= matches!(content.operation, Operation::Execute(_));
        }
        let mut hasher = Hasher::new();
        hasher.update(id.hex().as_bytes());
        hasher.update(text.as_bytes());
        id = hasher.finish();
        let (text, name) = (text.trim().to_owned(), name.to_owned());
        // An empty tree has no name.
        let id = if text == "FROM scratch" { String::new() } else { id.hex()[..12].to_owned() };
        let triggers = begins.unwrap_or(0);
        lines.push(Line { text, vertices, runs, begins: begins.is_some(), triggers, id, name });
    };
    for argument in &planned.dockerfile.arguments {
        push(&argument.text, argument.lines, None, "ARG");
    }
    for at in &planned.plan.stages {
        let stage = &planned.dockerfile.stages[*at];
        let triggers = planned.plan.triggers.get(at).copied().unwrap_or(0);
        push(&stage.text, stage.lines, Some(triggers), "FROM");
        for located in &stage.instructions {
            let name = match &located.item {
                Instruction::Copy(_) | Instruction::Add(_) => located.item.name(),
                _ => "",
            };
            push(&located.text, located.lines, None, name);
        }
    }
    lines
}

/// Whether nothing is asked for but an empty tree.
pub(super) fn is_empty(planned: &Planned) -> bool {
    let Some(stage) = planned.plan.stages.last().and_then(|at| planned.dockerfile.stages.get(*at)) else {
        return true;
    };
    planned.plan.result.is_none() && stage.instructions.is_empty() && stage.base == "scratch"
}

/// Writes the lines.
pub(super) struct Render {
    sender: ByteSender,
    quiet: bool,
    /// Whether the client was told anything: then an error is one more message.
    began: bool,
    lines: Vec<Line>,
    /// The line being told.
    at: usize,
    /// Whether its head was.
    headed: bool,
    /// Whether it was said to run.
    running: bool,
    vertices: HashMap<Digest, Vertex>,
    /// Output that is not told yet.
    output: HashMap<Digest, Vec<(u8, bytes::Bytes)>>,
}

impl Render {
    pub(super) fn new(sender: ByteSender, quiet: bool) -> Self {
        Self {
            sender,
            quiet,
            began: false,
            lines: Vec::new(),
            at: 0,
            headed: false,
            running: false,
            vertices: HashMap::new(),
            output: HashMap::new(),
        }
    }

    /// Tells until the end; an error that comes before anything was told is left to the caller.
    pub(super) async fn run(mut self, mut hear: mpsc::UnboundedReceiver<Told>) -> Option<Error> {
        while let Some(told) = hear.recv().await {
            match told {
                Told::Steps(lines) => {
                    self.lines = lines;
                    self.advance(false).await;
                }
                Told::Event(event) => self.event(event).await,
                Told::End(words) => {
                    self.advance(true).await;
                    for word in words {
                        self.say(word, true).await;
                    }
                    return None;
                }
                Told::Failed(failure) => return self.failed(failure).await,
            }
        }
        None
    }

    async fn event(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Vertex(vertex) => {
                self.vertices.insert(vertex.digest, vertex);
                self.advance(false).await;
            }
            BuildEvent::Log(log) => {
                self.output.entry(log.vertex).or_default().push((log.stream, log.data));
                self.advance(false).await;
            }
            // A pull before the first step.
            BuildEvent::Status(status) if self.lines.is_empty() && status.total > 0 => {
                let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
                let detail = ProgressDetail {
                    current: number(status.current),
                    total: number(status.total),
                    ..ProgressDetail::default()
                };
                let done = status.completed.is_some();
                let message = JsonMessage {
                    id: status.id,
                    status: if done { "Download complete" } else { "Downloading" }.to_owned(),
                    progress_detail: Some(if done { ProgressDetail::default() } else { detail }),
                    ..JsonMessage::default()
                };
                self.say(message, false).await;
            }
            BuildEvent::Status(_) | BuildEvent::Warning(_) => {}
        }
    }

    /// Tells what can be told in order; `all`: the build is done.
    async fn advance(&mut self, all: bool) {
        while self.at < self.lines.len() {
            self.head().await;
            let line = &self.lines[self.at];
            let known: Vec<&Vertex> =
                line.vertices.iter().filter_map(|digest| self.vertices.get(digest)).collect();
            let ended = known.len() == line.vertices.len() && known.iter().all(|one| one.completed.is_some());
            let cached = !known.is_empty() && known.iter().all(|one| one.cached);
            let began = known.iter().any(|one| one.started.is_some() && !one.cached);
            if known.iter().any(|one| !one.error.is_empty()) {
                self.show(began).await;
                return;
            }
            self.show(began).await;
            if !ended && !all {
                return;
            }
            self.tail(cached).await;
        }
    }

    async fn head(&mut self) {
        if !std::mem::replace(&mut self.headed, true) {
            let (number, count) = (self.at + 1, self.lines.len());
            let line = &self.lines[self.at];
            let triggers = match line.triggers {
                0 => String::new(),
                1 => "# Executing 1 build trigger\n".to_owned(),
                many => format!("# Executing {many} build triggers\n"),
            };
            let text = format!("Step {number}/{count} : {}\n", line.text);
            self.say(stream_message(text), false).await;
            if !triggers.is_empty() {
                self.say(stream_message(triggers), false).await;
            }
        }
    }

    /// Tells what the line's process has said so far.
    async fn show(&mut self, began: bool) {
        let line = &self.lines[self.at];
        let (id, digests) = (line.id.clone(), line.vertices.clone());
        if line.runs && began && !std::mem::replace(&mut self.running, true) {
            self.say(stream_message(format!(" ---> Running in {id}\n")), false).await;
        }
        for digest in digests {
            for (stream, data) in self.output.remove(&digest).unwrap_or_default() {
                let text = String::from_utf8_lossy(&data);
                let text = if stream == 2 { format!("{}{text}{}", RED.0, RED.1) } else { text.into_owned() };
                self.say(stream_message(text), false).await;
            }
        }
    }

    async fn tail(&mut self, cached: bool) {
        let line = &self.lines[self.at];
        let (id, begins) = (line.id.clone(), line.begins);
        if std::mem::take(&mut self.running) {
            self.say(stream_message(format!(" ---> Removed intermediate container {id}\n")), false).await;
        } else if cached && !begins {
            self.say(stream_message(" ---> Using cache\n"), false).await;
        }
        self.say(stream_message(format!(" ---> {id}\n")), false).await;
        self.at += 1;
        self.headed = false;
    }

    /// Goes to the line that failed, and says why.
    async fn failed(mut self, failure: BuildFailure) -> Option<Error> {
        let at = self
            .lines
            .iter()
            .position(|line| failure.vertex.is_some_and(|digest| line.vertices.contains(&digest)));
        if let Some(at) = at {
            // What else was under way does not matter any more.
            while self.at < at {
                self.head().await;
                self.show(false).await;
                self.tail(false).await;
            }
            self.head().await;
            self.show(false).await;
        }
        let name = at.map(|at| self.lines[at].name.clone()).unwrap_or_default();
        let message = words(&failure, &name);
        if !self.began {
            return Some(Error::new(failure.kind, message));
        }
        let code = failure.code.map_or(0, i64::from);
        self.say(error_message(code, &message), true).await;
        None
    }

    async fn say(&mut self, message: JsonMessage, even_quiet: bool) {
        if self.quiet && !even_quiet {
            return;
        }
        self.began = true;
        // A client that went away ends the build elsewhere.
        let _ = self.sender.message(&message).await;
    }
}

/// A failure in the words of the builder that this one stands for.
fn words(failure: &BuildFailure, name: &str) -> String {
    let message = failure.message.as_str();
    if let Some(code) = failure.code
        && let Some(command) =
            message.strip_prefix("process \"").and_then(|rest| rest.rsplit_once("\" did not"))
    {
        return format!("The command '{}' returned a non-zero code: {code}", command.0);
    }
    let missing = message
        .strip_prefix("failed to compute cache key: failed to calculate checksum: \"/")
        .and_then(|rest| rest.strip_suffix("\": not found"));
    if let Some(path) = missing {
        let why = "file not found in build context or excluded by .dockerignore";
        return format!("{name} failed: {why}: stat {path}: file does not exist");
    }
    message.to_owned()
}
