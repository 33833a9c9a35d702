//! What a daemon and a supervisor say to each other.
//!
//! Frames are JSON documents, one per `SOCK_SEQPACKET` message, at most [`MAX_FRAME`] bytes; descriptors
//! travel beside them (`SCM_RIGHTS`). Every request carries a number that its answer repeats; events carry
//! none. Fields are only ever added, so that a daemon can speak to the supervisors of the last two releases.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wharf_oci::runtime::Process;
use wharf_sys::mount::Recipe;

/// The version of this protocol; said in [`Request::Hello`] and its answer.
pub const PROTOCOL_VERSION: u32 = 1;
/// The largest frame either side accepts, in bytes.
pub const MAX_FRAME: usize = 256 * 1024;

/// All a supervisor needs to run its container without asking anyone, written by the daemon as
/// `supervisor.json` beside the bundle's `config.json` before the supervisor is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SupervisorConfig {
    /// The container's id, 64 hex digits.
    pub id: String,
    /// The container's directory: holds `config.json`, this file, `journal`, the log.
    pub bundle: PathBuf,
    /// The socket on which later daemons find this supervisor (a name in the run-time directory).
    pub socket: PathBuf,
    /// How to mount the root file system again where the mount itself cannot be cloned.
    pub rootfs: Recipe,
    /// Where the container's standard streams go.
    pub log: LogConfig,
    /// Whether standard input stays open and can be attached to.
    pub open_stdin: bool,
    /// Whether standard input closes when the first attached client that sends it goes.
    pub stdin_once: bool,
    /// What happens after the container's process ends.
    pub restart: RestartPolicy,
    /// Who makes the container's processes; `None`: the runtime that is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<ForeignRuntime>,
}

/// An OCI runtime that is driven through its command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignRuntime {
    /// The program, an absolute path or a name to be found in `PATH`.
    pub program: PathBuf,
    /// Words before the command.
    pub arguments: Vec<String>,
    /// Where it keeps its state (`--root`).
    pub root: PathBuf,
}

/// Where output is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum LogConfig {
    /// Docker's json-file format; `path` is the current file, older ones are `path.1`, `path.2` …
    JsonFile {
        path: PathBuf,
        /// Bytes after which the file is rotated; `None` never.
        max_size: Option<u64>,
        /// How many files are kept, the current one among them; at least 1.
        max_file: u32,
        /// Extra attributes of every line (from labels, env, tag), already chosen by the daemon.
        attrs: std::collections::BTreeMap<String, String>,
    },
    /// Length-prefixed binary entries, see [`crate::log`].
    Local { path: PathBuf, max_size: Option<u64>, max_file: u32 },
    /// Nothing is kept.
    None,
}

/// Docker's restart policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    /// `maximum_retry_count` 0 means no limit.
    OnFailure {
        maximum_retry_count: u32,
    },
}

/// How an attached connection carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Docker's eight-byte headers (no terminal).
    Multiplexed,
    /// The bytes themselves (a terminal, or a WebSocket bridged by the daemon).
    Raw,
}

/// One client's wish to be connected to a process's streams. Its connection travels beside the frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Replay what the log holds before following (`logs=1`).
    pub replay: bool,
    /// Follow the live streams (`stream=1`); without it the connection ends after the replay.
    pub stream: bool,
    pub framing: Framing,
    /// The byte sequence on a terminal's standard input that ends this attachment; empty: none.
    pub detach_keys: Vec<u8>,
    /// What the daemon had already read from the connection: the first bytes of standard input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_ahead: Vec<u8>,
}

/// Daemon to supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// First on every connection; answered by [`Answer::Hello`].
    Hello { version: u32 },
    /// Start the container's process. Answered by [`Answer::Started`] once it was executed, or by
    /// [`Answer::Failed`], after which the supervisor has undone everything and ends.
    Launch,
    /// Connect a client to the container's own streams; may come before [`Request::Launch`]. One descriptor.
    Attach(Attach),
    /// Run one more process in the container. Answered by [`Answer::Started`] or [`Answer::Failed`].
    /// With `attach`, one descriptor: the client's connection.
    Exec { id: String, process: Box<Process>, open_stdin: bool, attach: Option<Attach> },
    /// Set the size of a terminal: the container's, or that of the exec named.
    Resize { exec: Option<String>, height: u16, width: u16 },
    /// Send a signal to the container's first process, or to the exec named.
    Signal { exec: Option<String>, signal: i32 },
    /// Kill every process of the container (`cgroup.kill`, or freeze, kill, thaw).
    KillAll,
    /// A person asked the container to stop: after its next end (or now, if it waits for a restart) it is
    /// not started again.
    StopIntended,
    /// The restart policy changed.
    UpdateRestart { restart: RestartPolicy },
    /// The container's first process has ended with this code, as a shell would say it: of a supervisor that
    /// adopted it, the process is not the child, but may be the daemon's.
    Reaped { code: i32 },
    /// A rotated log file was compressed: `file` takes the place of the one with that inode. Denied while a
    /// client is fed from the plain one.
    LogCompressed { inode: u64, file: PathBuf },
    /// Answered by [`Answer::Status`] with descriptors.
    Status,
    /// Hold these descriptors, which come along in this order, in place of what was held under the same names.
    Keep { descriptors: Vec<Carried> },
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    Hello {
        version: u32,
    },
    Done,
    /// For the container itself (`Launch`) the descriptors named come along, in this order.
    Started {
        pid: i32,
        started_at: Timestamp,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        descriptors: Vec<Carried>,
        /// What was asked for but could not be had, one sentence each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    Status(Box<Status>),
    Failed(Failure),
}

/// What a descriptor beside an answer is. A daemon keeps them, so that a supervisor that was killed can be
/// replaced by one that adopts its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carried {
    /// The container's first process.
    Pidfd,
    /// The mount of the root file system.
    Root,
    /// Where its standard input is written (no terminal, input open).
    Stdin,
    /// Where its standard output is read (no terminal).
    Stdout,
    /// Where its standard error is read (no terminal).
    Stderr,
    /// The master side of its terminal.
    Terminal,
    /// The network namespace that its processes join, made by the daemon.
    Netns,
    /// Something of the daemon's that is only kept, under a number that the daemon knows.
    Kept(u8),
}

impl Carried {
    /// Whether it is neither a process nor a stream, so that it lasts over restarts.
    #[must_use]
    pub const fn lasts(self) -> bool {
        matches!(self, Self::Root | Self::Netns | Self::Kept(_))
    }
}

/// Why something could not be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    /// A failure of no particular kind; `message` says what was being done.
    pub fn other(message: String) -> Self {
        Self { kind: FailureKind::Other, message }
    }
}

/// What a failure means to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The program to execute does not exist (exit code 127).
    NotFound,
    /// The program cannot be executed (exit code 126).
    NotExecutable,
    /// The request does not fit the container's state.
    Conflict,
    /// Anything else; the message says what was being done.
    Other,
}

/// What the supervisor knows of its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub phase: Phase,
    /// How often the policy has started it again since the last start by a person.
    pub restart_count: u32,
    /// The last end, if any.
    pub last_exit: Option<Exit>,
    /// Execs that still run: (id, pid).
    pub execs: Vec<(String, i32)>,
    /// The descriptors that come along, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<Carried>,
}

/// Where the container's process is in its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Launch was not asked for yet.
    Created,
    Running {
        pid: i32,
        started_at: Timestamp,
    },
    /// Waiting for the policy's back-off to pass.
    Restarting {
        until: Timestamp,
    },
    /// Ended for good; the supervisor is about to end too.
    Ended,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell would say it: the code, or 128 + the signal's number. `None`: nobody can know.
    pub code: Option<i32>,
    pub oom_killed: bool,
    pub finished_at: Timestamp,
}

/// Wall-clock nanoseconds since 1970 (for records; durations use CLOCK_BOOTTIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Supervisor to daemon, unasked; also the lines of the journal (`journal` in the container's directory,
/// one JSON document a line, synced at ends), from which a later daemon learns what it missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The container's process was executed (again).
    Started {
        pid: i32,
        started_at: Timestamp,
        restart_count: u32,
    },
    /// It ended. `restart_in_ms`: the policy starts it again after that long.
    Exited {
        exit: Exit,
        restart_in_ms: Option<u64>,
        restart_count: u32,
    },
    /// A restart by the policy failed; treated as an end with code 128 and this message.
    RestartFailed {
        failure: Failure,
        restart_in_ms: Option<u64>,
        restart_count: u32,
    },
    /// The kernel killed a process of the container for memory.
    Oom {
        at: Timestamp,
    },
    ExecExited {
        id: String,
        exit: Exit,
    },
    /// A client typed its detach keys (`exec`: of that exec's streams).
    Detached {
        exec: Option<String>,
    },
    /// The log was rotated. Not in the journal.
    LogRotated,
    /// Log lines were dropped (a full disk).
    LogDropped {
        lines: u64,
    },
}

/// A frame from the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestFrame {
    pub number: u64,
    #[serde(flatten)]
    pub request: Request,
}

/// A frame from the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SupervisorFrame {
    Answer {
        number: u64,
        #[serde(flatten)]
        answer: Answer,
    },
    Event(Event),
}
