//! The set-up child: a short-lived fork that turns the bundle into a process and reports.
//!
//! What it needs (the parsed specification, the seccomp program) stays in its memory and goes with it. The
//! process it makes is the supervisor's child, not its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_oci::runtime::{NamespaceKind, Process, Spec};
use wharf_runtime::hooks::Subject;
use wharf_runtime::{ExecRequest, LaunchError, LaunchRequest, RootSource, Stdio};
use wharf_shim::protocol::{Carried, Failure, FailureKind};
use wharf_sys::pipe::{Pipe, null};
use wharf_sys::socket::{self, Kind};

use crate::foreign::Foreign;

/// Bytes a report may have: warnings are the longest part.
const LONGEST_REPORT: usize = 64 * 1024;

/// What the set-up child says when it is done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// With the descriptors that it names.
    Started(Facts),
    Failed(Failure),
}

/// What the supervisor has to know about a started process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) pid: i32,
    pub(crate) descriptors: Vec<Carried>,
    pub(crate) cgroup: String,
    /// Whether processes can outlive the container's first one.
    pub(crate) shares_pids: bool,
    /// Whether hooks are to run after the end.
    #[serde(default)]
    pub(crate) poststop: bool,
    /// For the daemon's log.
    pub(crate) warnings: Vec<String>,
}

/// What to start.
#[derive(Debug)]
pub(crate) enum Job<'a> {
    /// The container's first process.
    Launch { id: &'a str, root: RootSource<'a>, network: Option<BorrowedFd<'a>> },
    /// One more process beside the first one.
    Exec { init: BorrowedFd<'a>, process: &'a Process },
}

/// Forks the set-up child; its report comes at the returned socket.
///
/// # Errors
/// `EAGAIN` and the like when no process can be made.
pub(crate) fn start(
    bundle: &Path,
    foreign: Option<&Foreign>,
    job: &Job<'_>,
    open_stdin: bool,
) -> io::Result<OwnedFd> {
    let (ours, theirs) = socket::pair(Kind::Messages)?;
    wharf_sys::process::fork_child(|| {
        let (report, descriptors) = match run(bundle, foreign, job, open_stdin) {
            Ok((facts, descriptors)) => (Report::Started(facts), descriptors),
            Err(error) => (Report::Failed(failure(&error)), Vec::new()),
        };
        let beside: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = serde_json::to_vec(&report)
            .map_err(io::Error::from)
            .and_then(|text| socket::send_message(&theirs, &text, &beside));
        i32::from(sent.is_err())
    })?;
    Ok(ours)
}

/// Receives the report of a set-up child; one that ended without a report is a failure.
pub(crate) fn receive(socket: &OwnedFd) -> (Report, Vec<OwnedFd>) {
    let mut buffer = vec![0; LONGEST_REPORT];
    let failed =
        |message: String| (Report::Failed(Failure { kind: FailureKind::Other, message }), Vec::new());
    match socket::receive_message(socket, &mut buffer) {
        Ok((0, _)) => failed("set-up process ended without a report".into()),
        Ok((length, descriptors)) => match serde_json::from_slice(&buffer[..length]) {
            Ok(report) => (report, descriptors),
            Err(error) => failed(format!("set-up process reported nonsense: {error}")),
        },
        Err(error) => failed(format!("set-up process: {error}")),
    }
}

fn run(
    bundle: &Path,
    foreign: Option<&Foreign>,
    job: &Job<'_>,
    open_stdin: bool,
) -> Result<(Facts, Vec<OwnedFd>), LaunchError> {
    wharf_sys::signal::unblock_all().map_err(LaunchError::other)?;
    let (spec, known) = read_with(bundle, "config.json", wharf_runtime::seccomp::read_spec)?;
    let seccomp = known.or(spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()));
    let process = match job {
        Job::Launch { .. } => {
            spec.process.as_ref().ok_or_else(|| LaunchError::other("config.json names no process"))?
        }
        Job::Exec { process, .. } => process,
    };
    let streams = if process.terminal { None } else { Some(Streams::new(open_stdin)?) };
    let stdio = streams.as_ref().map_or(Stdio::Terminal, |streams| {
        Stdio::Streams([streams.theirs[0].as_fd(), streams.theirs[1].as_fd(), streams.theirs[2].as_fd()])
    });
    let launched = match job {
        Job::Launch { id, root, network } => {
            let (root, network) = (*root, *network);
            match foreign {
                Some(foreign) => foreign.launch(&root, network, stdio)?,
                None => {
                    let subject = Subject { id, bundle };
                    let spec = &spec;
                    wharf_runtime::launch(&LaunchRequest { spec, seccomp, root, network, stdio, subject })?
                }
            }
        }
        Job::Exec { init, process } => match foreign {
            Some(foreign) => foreign.exec(process, stdio)?,
            None => {
                let (spec, init) = (&spec, *init);
                wharf_runtime::exec(&ExecRequest { spec, seccomp, init, process, stdio })?
            }
        },
    };
    let (mut kinds, mut descriptors) = (vec![Carried::Pidfd], vec![launched.pidfd]);
    let console = launched.console.map(|console| (Carried::Terminal, console));
    for (kind, fd) in console.into_iter().chain(streams.map(|streams| streams.ours).unwrap_or_default()) {
        kinds.push(kind);
        descriptors.push(fd);
    }
    let facts = Facts {
        pid: launched.pid,
        descriptors: kinds,
        cgroup: spec.linux.as_ref().map(|linux| linux.cgroups_path.clone()).unwrap_or_default(),
        shares_pids: shares_pids(&spec),
        // A foreign runtime sees to its own.
        poststop: foreign.is_none() && has_poststop(&spec),
        warnings: launched.warnings,
    };
    Ok((facts, descriptors))
}

fn read<T: serde::de::DeserializeOwned>(bundle: &Path, name: &str) -> Result<T, LaunchError> {
    read_with(bundle, name, |text| serde_json::from_slice(text))
}

fn read_with<T>(
    bundle: &Path,
    name: &str,
    parse: impl FnOnce(&[u8]) -> serde_json::Result<T>,
) -> Result<T, LaunchError> {
    let path = bundle.join(name);
    let failed =
        |error: &dyn std::fmt::Display| LaunchError::other(format!("read {}: {error}", path.display()));
    let text = std::fs::read(&path).map_err(|error| failed(&error))?;
    parse(&text).map_err(|error| failed(&error))
}

/// Whether the container has no pid namespace of its own, whose end would end all its processes.
fn shares_pids(spec: &Spec) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    !namespaces.any(|namespace| namespace.kind == NamespaceKind::Pid && namespace.path.is_empty())
}

/// The cgroup that the bundle names; empty if it cannot be told.
pub(crate) fn cgroup_path(bundle: &Path) -> String {
    read::<Spec>(bundle, "config.json")
        .ok()
        .and_then(|spec| spec.linux)
        .map(|linux| linux.cgroups_path)
        .unwrap_or_default()
}

/// Whether the bundle's container has no pid namespace of its own.
pub(crate) fn shares_pids_in(bundle: &Path) -> bool {
    read::<Spec>(bundle, "config.json").is_ok_and(|spec| shares_pids(&spec))
}

fn has_poststop(spec: &Spec) -> bool {
    spec.hooks.as_ref().is_some_and(|hooks| !hooks.poststop.is_empty())
}

/// Whether the bundle's hooks include some for after the end.
pub(crate) fn has_poststop_in(bundle: &Path) -> bool {
    read::<Spec>(bundle, "config.json").is_ok_and(|spec| has_poststop(&spec))
}

/// Runs the bundle's hooks for after the end; what failed, one sentence each.
pub(crate) fn run_poststop(bundle: &Path, id: &str) -> Vec<String> {
    match read::<Spec>(bundle, "config.json") {
        Ok(spec) => wharf_runtime::hooks::after_end(&spec, Subject { id, bundle }),
        Err(error) => vec![error.to_string()],
    }
}

/// Standard streams without a terminal: the process's ends and the supervisor's.
struct Streams {
    theirs: [OwnedFd; 3],
    ours: Vec<(Carried, OwnedFd)>,
}

impl Streams {
    fn new(open_stdin: bool) -> Result<Self, LaunchError> {
        let failed = |error: io::Error| LaunchError::other(format!("make standard streams: {error}"));
        let mut ours = Vec::new();
        let input = if open_stdin {
            let pipe = Pipe::new().map_err(failed)?;
            ours.push((Carried::Stdin, pipe.write));
            pipe.read
        } else {
            null().map_err(failed)?
        };
        let (output, error) = (Pipe::new().map_err(failed)?, Pipe::new().map_err(failed)?);
        ours.extend([(Carried::Stdout, output.read), (Carried::Stderr, error.read)]);
        Ok(Self { theirs: [input, output.write, error.write], ours })
    }
}

fn failure(error: &LaunchError) -> Failure {
    let kind = match error.kind() {
        wharf_runtime::FailureKind::NotFound => FailureKind::NotFound,
        wharf_runtime::FailureKind::NotExecutable => FailureKind::NotExecutable,
        wharf_runtime::FailureKind::Other => FailureKind::Other,
    };
    Failure { kind, message: error.to_string() }
}
