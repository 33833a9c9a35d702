//! From the first instruction inside the new namespaces to the user's program.

use std::os::fd::AsFd;

use wharf_sys::{
    mount::Propagation,
    namespace::{self, flags},
};

use crate::{
    Stdio,
    error::{LaunchError, Result},
    hooks::{self, Status},
    launch::Plan,
    program::{self, Program},
    report::Sender,
    rootfs::{self, Tree, devices, mask},
};

/// Runs in the new process and returns only on failure.
pub(crate) fn run(plan: &Plan<'_>, report: &Sender) -> LaunchError {
    match prepare(plan, report) {
        Ok(program) => program.execute(report),
        Err(error) => error,
    }
}

fn prepare<'a>(plan: &'a Plan<'_>, report: &Sender) -> Result<Program<'a>> {
    if plan.namespaces.is_new(flags::USER) {
        report.wait()?;
    }
    if plan.namespaces.has(flags::USER) {
        program::become_root()?;
    }
    program::join_cgroups(&plan.cgroup_files)?;
    if plan.namespaces.is_new(flags::CGROUP) {
        namespace::unshare(flags::CGROUP)?;
    }
    rustix::process::setsid().map_err(LaunchError::other)?;
    // Files made here get exactly the modes asked for.
    rustix::process::umask(rustix::fs::Mode::empty());
    set_names(plan)?;
    let mut tree = Tree::enter(&plan.root)?;
    rootfs::build(plan, &mut tree)?;
    let terminal = match plan.stdio {
        Stdio::Streams(_) => None,
        Stdio::Terminal => Some(make_terminal(&tree, report)?),
    };
    rootfs::set_sysctls(plan, &mut tree)?;
    let procfs = tree.procfs()?;
    program::set_oom_score(&procfs, plan.process, report)?;
    program::make_working_directory(&tree.root, &plan.process.cwd);
    mask::apply(plan, &tree)?;
    let pid = run_create_hooks(plan, report)?;
    let read_only = plan.spec.root.as_ref().is_some_and(|root| root.readonly);
    tree.pivot(read_only, root_propagation(&plan.linux.rootfs_propagation))?;
    if let (Some(hooks), Some(pid)) = (&plan.spec.hooks, pid) {
        let list = &hooks.start_container;
        hooks::run("startContainer", list, plan.spec, plan.subject, Status::Created, pid)?;
    }
    let filter = plan.filter.as_ref().map(|(program, profile)| (program.as_ref(), *profile));
    Program::new(plan.process, plan.stdio, terminal, filter, procfs)
}

/// Waits for the hooks that run outside, and runs those that run inside but see the host's tree. Answers this
/// process's id in the host's view, where it was asked for.
fn run_create_hooks(plan: &Plan<'_>, report: &Sender) -> Result<Option<i32>> {
    let Some(hooks) = hooks::before_start(plan.spec) else { return Ok(None) };
    let pid = report.created()?;
    let list = &hooks.create_container;
    hooks::run("createContainer", list, plan.spec, plan.subject, Status::Creating, pid)?;
    Ok(Some(pid))
}

fn set_names(plan: &Plan<'_>) -> Result<()> {
    if plan.namespaces.is_new(flags::UTS) {
        if !plan.spec.hostname.is_empty() {
            namespace::set_hostname(&plan.spec.hostname)?;
        }
        if !plan.spec.domainname.is_empty() {
            namespace::set_domainname(&plan.spec.domainname)?;
        }
    }
    if plan.namespaces.is_new(flags::NETWORK) {
        namespace::loopback_up()?;
    }
    Ok(())
}

fn make_terminal(tree: &Tree, report: &Sender) -> Result<std::os::fd::OwnedFd> {
    let devpts =
        tree.devpts.as_ref().ok_or_else(|| LaunchError::other("open terminal: no devpts is mounted"))?;
    let (master, slave) = devices::open_terminal(devpts.as_fd())?;
    devices::make_console(tree, slave.as_fd())?;
    report.send_console(master.as_fd())?;
    Ok(slave)
}

fn root_propagation(name: &str) -> Option<(Propagation, bool)> {
    let (name, recursive) = name.strip_prefix('r').map_or((name, false), |name| (name, true));
    let propagation = match name {
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some((propagation, recursive))
}
