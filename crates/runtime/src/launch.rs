//! From a bundle to its first process: the part that runs in the host's view.
//!
//! Everything that needs the host is opened here and carried into the container as descriptors: bind
//! sources, cgroups, namespaces to join. `init.rs` goes on from there and never looks at a host path again.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use wharf_oci::runtime::{Linux, LinuxSeccomp, NamespaceKind, Process, Spec};
use wharf_sys::{
    cgroup::Cgroup,
    mount::{Attributes, DetachedMount, Propagation},
    namespace::{self, IdRange, flags},
    process::{self, CloneOptions, Forked},
    seccomp::Instruction,
};

use crate::{
    LaunchRequest, Launched, RootSource, Stdio,
    error::{LaunchError, Result},
    hooks::{self, Status, Subject},
    init, report, resources,
    rootfs::plan::{self, PlannedMount},
    seccomp,
};

/// All that the new process needs, made before it is.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) linux: &'a Linux,
    pub(crate) process: &'a Process,
    pub(crate) stdio: Stdio<'a>,
    pub(crate) subject: Subject<'a>,
    pub(crate) root: DetachedMount,
    pub(crate) mounts: Vec<PlannedMount<'a>>,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroup_files: Vec<OwnedFd>,
    cgroup_target: Option<OwnedFd>,
    pub(crate) filter: Option<(Cow<'static, [Instruction]>, &'a LinuxSeccomp)>,
    /// Device nodes of the host, by path: a user namespace may not make its own.
    pub(crate) host_devices: Vec<(String, DetachedMount)>,
}

/// Which namespaces are new and which are another's.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    new: u64,
    joined: Vec<(u64, OwnedFd)>,
}

impl Namespaces {
    fn open(linux: &Linux, network: Option<BorrowedFd<'_>>) -> Result<Self> {
        let mut namespaces = Self::default();
        for namespace in &linux.namespaces {
            let flag = flag_of(namespace.kind);
            let given = network.filter(|_| namespace.path.is_empty());
            if let (flags::NETWORK, Some(given)) = (flag, given) {
                namespaces.joined.push((flag, given.try_clone_to_owned().map_err(LaunchError::other)?));
            } else if let (flags::USER, Some(given)) = (flag, given)
                && let Some(users) = users_of(given)?
            {
                namespaces.joined.push((flag, users));
            } else if namespace.path.is_empty() {
                namespaces.new |= flag;
            } else {
                namespaces.joined.push((flag, namespace::open(namespace.path.as_ref())?));
            }
        }
        if namespaces.new & flags::MOUNT == 0 {
            return Err(LaunchError::other("a container needs a mount namespace of its own"));
        }
        // A user namespace comes last: it takes the right to join the others.
        namespaces.joined.sort_by_key(|(flag, _)| *flag == flags::USER);
        Ok(namespaces)
    }

    /// Whether it is not the host's.
    pub(crate) fn has(&self, flag: u64) -> bool {
        self.is_new(flag) || self.joined.iter().any(|(joined, _)| *joined == flag)
    }

    pub(crate) fn is_new(&self, flag: u64) -> bool {
        self.new & flag != 0
    }
}

/// Whose a network is that was made outside; `None`: the host's users'.
fn users_of(network: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let users = namespace::owner(network)?;
    let own = namespace::open("/proc/self/ns/user".as_ref())?;
    let identity = |fd: &OwnedFd| {
        let stat = rustix::fs::fstat(fd).map_err(LaunchError::other)?;
        Ok::<_, LaunchError>((stat.st_dev, stat.st_ino))
    };
    Ok((identity(&users)? != identity(&own)?).then_some(users))
}

pub(crate) fn flag_of(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => flags::PID,
        NamespaceKind::Network => flags::NETWORK,
        NamespaceKind::Mount => flags::MOUNT,
        NamespaceKind::Ipc => flags::IPC,
        NamespaceKind::Uts => flags::UTS,
        NamespaceKind::User => flags::USER,
        NamespaceKind::Cgroup => flags::CGROUP,
        NamespaceKind::Time => flags::TIME,
    }
}

pub(crate) fn launch(request: &LaunchRequest<'_>) -> Result<Launched> {
    let spec = request.spec;
    let linux = spec.linux.as_ref().ok_or_else(|| LaunchError::other("config.json has no linux part"))?;
    let process = spec.process.as_ref().ok_or_else(|| LaunchError::other("config.json names no process"))?;
    let cgroup = make_cgroup(linux)?;
    let namespaces = Namespaces::open(linux, request.network)?;
    let user_namespace = namespaces.has(flags::USER);
    let mut plan = Plan {
        spec,
        linux,
        process,
        stdio: request.stdio,
        subject: request.subject,
        root: root_mount(&request.root)?,
        mounts: plan::prepare(spec, cgroup.as_ref())?,
        cgroup_files: cgroup.as_ref().map(Cgroup::join_files).transpose()?.unwrap_or_default(),
        cgroup_target: cgroup.as_ref().map(Cgroup::clone_target).transpose()?.flatten(),
        filter: request
            .seccomp
            .map(|one| Ok::<_, LaunchError>((seccomp::compiled(one)?, one)))
            .transpose()?,
        host_devices: if user_namespace { plan::host_devices(linux)? } else { Vec::new() },
        namespaces,
    };
    for (flag, fd) in plan.namespaces.joined.iter().filter(|(flag, _)| *flag != flags::USER) {
        namespace::join(fd.as_fd(), *flag)?;
    }
    if user_namespace && !plan.namespaces.is_new(flags::NETWORK) {
        plan::keep_sysfs(&mut plan.mounts)?;
    }
    for (flag, fd) in plan.namespaces.joined.iter().filter(|(flag, _)| *flag == flags::USER) {
        namespace::join(fd.as_fd(), *flag)?;
    }
    spawn(&plan)
}

/// The cgroup with its limits in force, so that its first process never runs without them.
fn make_cgroup(linux: &Linux) -> Result<Option<Cgroup>> {
    if linux.cgroups_path.is_empty() {
        return Ok(None);
    }
    let cgroup = Cgroup::create(&linux.cgroups_path)?;
    if let Some(resources) = &linux.resources {
        cgroup.apply(&resources::limits(resources)?)?;
    }
    Ok(Some(cgroup))
}

/// A copy of the daemon's mount where the kernel can copy one that is detached (6.15); else that mount
/// itself the first time, and a new one after that.
///
/// # Errors
/// What the kernel refused.
pub fn root_mount(source: &RootSource<'_>) -> Result<DetachedMount> {
    let Some(mount) = source.mount else { return Ok(source.recipe.mount()?) };
    match DetachedMount::clone_tree(mount, "", true) {
        Err(error) if error.errno() == Errno::INVAL => {
            let own = DetachedMount::from_fd(mount.try_clone_to_owned().map_err(LaunchError::other)?);
            // The kernel changes a mount for us only while it is attached nowhere else: then it was not used yet.
            let unused = own.set_attr(&Attributes::new().propagation(Propagation::Private), true).is_ok();
            if unused { Ok(own) } else { Ok(source.recipe.mount()?) }
        }
        result => Ok(result?),
    }
}

fn spawn(plan: &Plan<'_>) -> Result<Launched> {
    let (receiver, sender) = report::channel()?;
    // The view of the cgroup tree starts at the process's own group, so that comes after joining.
    let options = CloneOptions {
        namespaces: plan.namespaces.new & !flags::CGROUP,
        sibling: true,
        cgroup: plan.cgroup_target.as_ref().map(AsFd::as_fd),
    };
    let child = if may_share_memory(plan) {
        process::clone_in_memory(&options, || {
            let error = init::run(plan, &sender);
            sender.fail(&error);
            1
        })?
    } else {
        match process::clone(&options)? {
            Forked::Child => {
                drop(receiver);
                let error = init::run(plan, &sender);
                sender.fail(&error);
                process::exit_now(1)
            }
            Forked::Parent(child) => child,
        }
    };
    drop(sender);
    if plan.namespaces.is_new(flags::USER) {
        let ranges = |list: &[wharf_oci::runtime::IdMapping]| list.iter().map(id_range).collect::<Vec<_>>();
        let (users, groups) = (ranges(&plan.linux.uid_mappings), ranges(&plan.linux.gid_mappings));
        namespace::write_id_maps(child.pid, &users, &groups)?;
        receiver.release()?;
    }
    let mut report = receiver.finish(|| created(plan, child.pid))?;
    if let Some(hooks) = &plan.spec.hooks {
        let (list, subject) = (&hooks.poststart, plan.subject);
        let failed = hooks::run_all("poststart", list, plan.spec, subject, Status::Running, child.pid);
        report.warnings.extend(failed);
    }
    let console = report.console;
    Ok(Launched { pid: child.pid, pidfd: child.pidfd, console, warnings: report.warnings })
}

/// Whether the new process may work in this one's memory until it executes its program. Not where it waits for this
/// one on the way (for its ids, for hooks), and only where nobody else is in its pid namespace who could look into it.
fn may_share_memory(plan: &Plan<'_>) -> bool {
    plan.namespaces.is_new(flags::PID) && !plan.namespaces.has(flags::USER) && plan.spec.hooks.is_none()
}

/// The container's tree stands: the hooks that run in the host's view.
fn created(plan: &Plan<'_>, pid: i32) -> Result<i32> {
    if let Some(hooks) = &plan.spec.hooks {
        for (kind, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            hooks::run(kind, list, plan.spec, plan.subject, Status::Creating, pid)?;
        }
    }
    Ok(pid)
}

pub(crate) fn id_range(mapping: &wharf_oci::runtime::IdMapping) -> IdRange {
    IdRange { inside: mapping.container_id, outside: mapping.host_id, size: mapping.size }
}
