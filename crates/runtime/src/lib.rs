//! The OCI runtime: a bundle becomes a process.
//!
//! [`launch`] and [`exec`] are called in a short-lived, forked, single-threaded child of the process that
//! shall be the container's parent (the supervisor): they leave that child in other cgroups and
//! namespaces, and the new process becomes a child of the *caller's parent* (`CLONE_PARENT`).
//! After either returns, the caller reports to its parent and ends.

pub mod error;
pub mod hooks;
mod init;
pub mod init_reaper;
mod join;
mod launch;
mod program;
mod report;
pub mod resources;
mod rootfs;
pub mod seccomp;

use std::os::fd::{BorrowedFd, OwnedFd};

pub use error::{FailureKind, LaunchError, Result};
pub use launch::root_mount;
use wharf_oci::runtime::{LinuxSeccomp, Process, Spec};
use wharf_sys::mount::Recipe;

/// Where the root file system comes from.
#[derive(Clone, Copy, Debug)]
pub struct RootSource<'a> {
    /// The mount made by the daemon, attached nowhere. A copy of it is used where the kernel can copy a
    /// detached mount (6.15), else it is used up by the first launch.
    pub mount: Option<BorrowedFd<'a>>,
    /// How to make it again.
    pub recipe: &'a Recipe,
}

/// The standard streams of a process.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// Standard input, output and error.
    Streams([BorrowedFd<'a>; 3]),
    /// A new terminal of the container's own `devpts`; its master comes back as `console`. Its first size
    /// is `process.consoleSize`.
    Terminal,
}

/// A container to start.
#[derive(Clone, Copy, Debug)]
pub struct LaunchRequest<'a> {
    /// `config.json`. `spec.root.path` is not read, [`RootSource`] stands for it, nor is `spec.linux.seccomp`.
    pub spec: &'a Spec,
    /// The system call filter, see [`seccomp::read_spec`].
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// The root file system.
    pub root: RootSource<'a>,
    /// The network namespace to join in place of a new one that the specification asks for.
    pub network: Option<BorrowedFd<'a>>,
    /// Standard streams of the first process.
    pub stdio: Stdio<'a>,
    /// What hooks are told of.
    pub subject: hooks::Subject<'a>,
}

/// A process to add to a running container.
#[derive(Clone, Copy, Debug)]
pub struct ExecRequest<'a> {
    /// The container's `config.json`, but for `spec.linux.seccomp`.
    pub spec: &'a Spec,
    /// The system call filter.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// Its first process.
    pub init: BorrowedFd<'a>,
    /// The process to run.
    pub process: &'a Process,
    /// Standard streams of the process.
    pub stdio: Stdio<'a>,
}

/// A process that was executed.
#[derive(Debug)]
pub struct Launched {
    /// Process id in the caller's pid namespace.
    pub pid: i32,
    /// Names the process.
    pub pidfd: OwnedFd,
    /// The terminal's master side, for [`Stdio::Terminal`].
    pub console: Option<OwnedFd>,
    /// What was asked for but could not be had, one sentence each (a limit that was lowered).
    pub warnings: Vec<String>,
}

/// Finds out, once for all children of this process, what is the same for every container.
pub fn prepare() {
    // Where there is none, each launch says so.
    let _found = wharf_sys::cgroup::Layout::get();
}

/// Starts a container's first process and waits until it was executed.
///
/// # Errors
/// See [`LaunchError`]; then nothing is left but the cgroup's directories, which whoever asked removes.
pub fn launch(request: &LaunchRequest<'_>) -> Result<Launched> {
    launch::launch(request)
}

/// Runs one more process in a container and waits until it was executed.
///
/// # Errors
/// See [`LaunchError`].
pub fn exec(request: &ExecRequest<'_>) -> Result<Launched> {
    join::exec(request)
}
