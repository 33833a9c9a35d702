//! Hooks: programs of the bundle's that run at points of a container's life (OCI runtime spec, "POSIX-platform
//! Hooks").
//!
//! Each gets the container's state as JSON on its standard input, exactly the environment it names, and the
//! standard streams of whoever runs it. Where one fails the container is not started; only after the start a
//! failure is no more than a warning.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use wharf_oci::runtime::{Hook, Hooks, OCI_VERSION, Spec};
use wharf_sys::error::describe;
use wharf_sys::pidfd::PidFd;
use wharf_sys::pipe::Pipe;
use wharf_sys::process::{self, StringList};

use crate::error::{LaunchError, Result};

/// The container as its hooks are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The directory of its `config.json`.
    pub bundle: &'a Path,
}

/// Where in its life the container is, as the specification calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Stopped,
}

/// The specification's state document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_none")]
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: &'a std::collections::BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(pid: &i32) -> bool {
    *pid == 0
}

/// Whether the process that is being made has to wait for hooks, or run some.
pub(crate) fn before_start(spec: &Spec) -> Option<&Hooks> {
    let early = |hooks: &&Hooks| {
        let lists = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
        lists.iter().any(|list| !list.is_empty())
    };
    spec.hooks.as_ref().filter(early)
}

/// Runs one kind of hooks in turn; the first that fails ends it. `pid` is the process's id in the host's view, 0
/// where there is none.
pub(crate) fn run(
    kind: &str,
    hooks: &[Hook],
    spec: &Spec,
    subject: Subject<'_>,
    status: Status,
    pid: i32,
) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let (id, bundle) = (subject.id, subject.bundle);
    let state = State { oci_version: OCI_VERSION, id, status, pid, bundle, annotations: &spec.annotations };
    let state = serde_json::to_vec(&state).map_err(LaunchError::other)?;
    for (number, hook) in hooks.iter().enumerate() {
        run_one(hook, &state)
            .map_err(|why| LaunchError::other(format!("error running {kind} hook #{number}: {why}")))?;
    }
    Ok(())
}

/// Runs all hooks of one kind whatever becomes of each; the failures, one sentence each.
pub(crate) fn run_all(
    kind: &str,
    hooks: &[Hook],
    spec: &Spec,
    subject: Subject<'_>,
    status: Status,
    pid: i32,
) -> Vec<String> {
    let one = |hook| run(kind, std::slice::from_ref(hook), spec, subject, status, pid).err();
    hooks.iter().filter_map(one).map(|error| error.to_string()).collect()
}

fn run_one(hook: &Hook, state: &[u8]) -> std::result::Result<(), String> {
    let path = CString::new(hook.path.as_str()).map_err(|error| error.to_string())?;
    let own_name = [hook.path.clone()];
    let args = if hook.args.is_empty() { &own_name[..] } else { &hook.args };
    let args = StringList::new(args).map_err(|error| error.to_string())?;
    let env = StringList::new(&hook.env).map_err(|error| error.to_string())?;
    let input = Pipe::new().map_err(|error| error.to_string())?;
    let child = process::fork_child(|| {
        let ready = rustix::stdio::dup2_stdin(&input.read).is_ok()
            && process::reset_signals().is_ok()
            && process::close_on_exec_from(3).is_ok();
        if ready {
            let error = process::execve(&path, &args, &env);
            let text = format!("exec {}: {}\n", hook.path, describe(error));
            let _nobody_reads = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        }
        127
    });
    let pid = child.map_err(|error| error.to_string())?;
    let pidfd = PidFd::open(pid).map_err(|error| error.to_string())?;
    drop(input.read);
    // A hook need not read it; what it is told fits into a pipe.
    let _unread = File::from(input.write).write_all(state);
    if !ends_in_time(&pidfd, hook.timeout)? {
        let _ended_just_now = pidfd.kill();
        let _killed = process::wait(pid);
        return Err(format!("ran longer than {} s", hook.timeout.unwrap_or(0)));
    }
    match process::wait(pid).map_err(|error| error.to_string())? {
        0 => Ok(()),
        127 => Err(format!("{} could not be run, or ended with 127", hook.path)),
        code => Err(format!("exit status {code}")),
    }
}

fn ends_in_time(pidfd: &PidFd, seconds: Option<i64>) -> std::result::Result<bool, String> {
    let timeout = seconds.map(|seconds| Timespec { tv_sec: seconds.max(0), tv_nsec: 0 });
    loop {
        let mut watched = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Runs the hooks that come after a container's end; what failed, one sentence each.
pub fn after_end(spec: &Spec, subject: Subject<'_>) -> Vec<String> {
    let hooks = spec.hooks.as_ref().map_or(&[][..], |hooks| &hooks.poststop);
    run_all("poststop", hooks, spec, subject, Status::Stopped, 0)
}
