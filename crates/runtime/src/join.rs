//! One more process in a running container.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    mount::MountAttrFlags,
};
use wharf_sys::{
    capability,
    cgroup::Cgroup,
    mount::DetachedMount,
    namespace::{self, flags},
    process::{self, CloneOptions, Forked},
    root::Root,
    seccomp::Instruction,
};

use crate::{
    ExecRequest, Launched, Stdio,
    error::{LaunchError, Result},
    launch::flag_of,
    program::{self, Program},
    report::{self, Sender},
    rootfs::devices,
    seccomp,
};

pub(crate) fn exec(request: &ExecRequest<'_>) -> Result<Launched> {
    let linux = request.spec.linux.as_ref();
    let linux = linux.ok_or_else(|| LaunchError::other("config.json has no linux part"))?;
    let filter = request.seccomp.map(seccomp::compiled).transpose()?;
    let (cgroup_files, cgroup_target) = match linux.cgroups_path.as_str() {
        "" => (Vec::new(), None),
        path => {
            let cgroup = Cgroup::open(path)?;
            (cgroup.join_files()?, cgroup.clone_target()?)
        }
    };
    let kinds = linux.namespaces.iter().fold(0, |kinds, namespace| kinds | flag_of(namespace.kind));
    // Nothing of ours may be looked at from inside once we are there.
    capability::set_dumpable(false)?;
    // The namespaces themselves are joined by the child, all but the pid namespace, which only takes
    // children: in it, the child must be born.
    if kinds & flags::PID != 0 {
        namespace::join(request.init, flags::PID)?;
    }
    let (receiver, sender) = report::channel()?;
    let cgroup = cgroup_target.as_ref().map(AsFd::as_fd);
    match process::clone(&CloneOptions { namespaces: 0, sibling: true, cgroup })? {
        Forked::Child => {
            drop(receiver);
            let error = run(request, filter.as_deref(), &cgroup_files, kinds & !flags::PID, &sender);
            sender.fail(&error);
            process::exit_now(1)
        }
        Forked::Parent(child) => {
            drop(sender);
            let report = receiver.finish(|| Ok(0))?;
            let console = report.console;
            Ok(Launched { pid: child.pid, pidfd: child.pidfd, console, warnings: report.warnings })
        }
    }
}

fn run(
    request: &ExecRequest<'_>,
    filter: Option<&[Instruction]>,
    cgroup_files: &[OwnedFd],
    kinds: u64,
    report: &Sender,
) -> LaunchError {
    let prepared = || {
        program::join_cgroups(cgroup_files)?;
        namespace::join(request.init, kinds)?;
        if kinds & flags::USER != 0 {
            program::become_root()?;
        }
        rustix::process::setsid().map_err(LaunchError::other)?;
        let procfs = private_procfs()?;
        program::set_oom_score(&procfs, request.process, report)?;
        let terminal = match request.stdio {
            Stdio::Streams(_) => None,
            Stdio::Terminal => Some(make_terminal(report)?),
        };
        Program::new(request.process, request.stdio, terminal, filter.zip(request.seccomp), procfs)
    };
    match prepared() {
        Ok(program) => program.execute(report),
        Err(error) => error,
    }
}

/// A `proc` of our own, so that what the container has made of its `/proc` is never written to. A user
/// namespace may be refused one; there only the container's own is left, verified to be one.
fn private_procfs() -> Result<Root> {
    if let Ok(mount) = DetachedMount::new("proc", "proc", &[], MountAttrFlags::empty()) {
        return Ok(Root::from_fd(mount.into_fd()));
    }
    let root = Root::open("/").map_err(LaunchError::other)?;
    let proc =
        root.open_at("/proc", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(LaunchError::other)?;
    let magic = rustix::fs::fstatfs(&proc).map_err(LaunchError::other)?.f_type;
    if magic != 0x9fa0 {
        return Err(LaunchError::other("/proc of the container is no proc file system"));
    }
    Ok(Root::from_fd(proc))
}

fn make_terminal(report: &Sender) -> Result<OwnedFd> {
    /// `f_type` of a devpts (`linux/magic.h`).
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let root = Root::open("/").map_err(LaunchError::other)?;
    let devpts = root.open_at("/dev/pts", OFlags::PATH, Mode::empty()).map_err(LaunchError::other)?;
    let magic = rustix::fs::fstatfs(&devpts).map_err(LaunchError::other)?.f_type;
    if magic != DEVPTS_SUPER_MAGIC {
        return Err(LaunchError::other("open terminal: /dev/pts of the container is no devpts"));
    }
    let (master, slave) = devices::open_terminal(devpts.as_fd())?;
    report.send_console(master.as_fd())?;
    Ok(slave)
}
