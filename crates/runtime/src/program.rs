//! The last steps of any process of a container: limits, identity, filter, exec.
//!
//! The order follows what each step needs: limits and descriptors while still privileged, the filter before
//! the privilege to install it goes (or, with `no_new_privs`, as late as can be), the search for the
//! program as the user who will run it.

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};
use wharf_oci::runtime::{LinuxSeccomp, Process};
use wharf_sys::{
    capability::{self, CapabilitySet},
    error::describe,
    process::{self, StringList},
    rlimit::{self, Outcome},
    root::Root,
    seccomp::{self as filter, FilterFlags, Instruction},
};

use crate::{
    Stdio,
    error::{FailureKind, LaunchError, Result},
    report::Sender,
    rootfs,
};

/// A process about to be executed, its root already in place.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    process: &'a Process,
    filter: Option<(&'a [Instruction], &'a LinuxSeccomp)>,
    procfs: Root,
}

impl<'a> Program<'a> {
    /// Takes over standard streams; `terminal` is the slave for [`Stdio::Terminal`].
    pub(crate) fn new(
        process: &'a Process,
        stdio: Stdio<'_>,
        terminal: Option<OwnedFd>,
        filter: Option<(&'a [Instruction], &'a LinuxSeccomp)>,
        procfs: Root,
    ) -> Result<Self> {
        attach_streams(process, stdio, terminal)?;
        Ok(Self { process, filter, procfs })
    }

    /// Returns only on failure.
    pub(crate) fn execute(&self, report: &Sender) -> LaunchError {
        match self.become_user(report) {
            Ok((path, args, env)) => {
                let errno = process::execve(&path, &args, &env);
                // From here on runc's child speaks for itself: the container has started, and ends with 255.
                let text = format!("exec {}: {}\n", path.to_string_lossy(), describe(errno));
                let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
                process::exit_now(255)
            }
            Err(error) => error,
        }
    }

    fn become_user(&self, report: &Sender) -> Result<(CString, StringList, StringList)> {
        let process = self.process;
        set_limits(process, report)?;
        set_security_labels(process, &self.procfs)?;
        let env = environment(process);
        let capabilities = Sets::of(process, report)?;
        if process.no_new_privileges {
            capability::set_no_new_privileges()?;
        } else {
            self.install_filter()?;
        }
        capability::limit_bounding(capabilities.bounding)?;
        // A directory that only root may enter still works for its user, as with runc.
        let entered = change_directory(&process.cwd);
        set_identity(process, &capabilities)?;
        enter_directory(process, entered)?;
        let path = find_program(process)?;
        let args = StringList::new(&process.args)?;
        let env = StringList::new(env)?;
        rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
        process::reset_signals()?;
        process::close_on_exec_from(3)?;
        if process.no_new_privileges {
            self.install_filter()?;
        }
        Ok((path, args, env))
    }

    fn install_filter(&self) -> Result<()> {
        let Some((program, profile)) = self.filter else { return Ok(()) };
        let mut flags = FilterFlags::default();
        for flag in &profile.flags {
            flags.0 |= match flag.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => FilterFlags::TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => FilterFlags::LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FilterFlags::SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => FilterFlags::WAIT_KILLABLE_RECV,
                other => return Err(LaunchError::other(format!("seccomp flag {other:?} not supported"))),
            };
        }
        filter::install(program, flags)?;
        Ok(())
    }
}

/// In a user namespace that has just got its ids, this process is nobody until it takes one.
pub(crate) fn become_root() -> Result<()> {
    let failed = |errno| LaunchError::other(format!("become root of user namespace: {}", describe(errno)));
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed)
}

/// Moves this process into the groups whose files were opened beforehand.
pub(crate) fn join_cgroups(files: &[OwnedFd]) -> Result<()> {
    for file in files {
        rustix::io::write(file, b"0")
            .map_err(|errno| LaunchError::other(format!("join cgroup: {}", describe(errno))))?;
    }
    Ok(())
}

/// Lowering the score needs CAP_SYS_RESOURCE; without it the container runs with the score it has.
pub(crate) fn set_oom_score(procfs: &Root, process: &Process, report: &Sender) -> Result<()> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    match rootfs::write(procfs, "self/oom_score_adj", &score.to_string()) {
        Err(error) if matches!(error.errno(), Errno::ACCESS | Errno::PERM) => {
            report.warn(&format!("oom_score_adj {score} needs CAP_SYS_RESOURCE, which the engine lacks"));
            Ok(())
        }
        result => result.map_err(LaunchError::other),
    }
}

/// As runc does, a missing working directory is made; where that fails, entering it says so.
pub(crate) fn make_working_directory(root: &Root, cwd: &str) {
    if !matches!(cwd, "" | "/") {
        let _ = root.create_dir_all(cwd, 0o755);
    }
}

fn attach_streams(process: &Process, stdio: Stdio<'_>, terminal: Option<OwnedFd>) -> Result<()> {
    let failed = |errno| LaunchError::other(format!("attach standard streams: {}", describe(errno)));
    let sources = match (&stdio, &terminal) {
        (Stdio::Streams(streams), _) => *streams,
        (Stdio::Terminal, Some(slave)) => {
            rustix::process::ioctl_tiocsctty(slave).map_err(failed)?;
            if let Some(size) = process.console_size {
                let size = rustix::termios::Winsize {
                    ws_row: size.height,
                    ws_col: size.width,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                rustix::termios::tcsetwinsize(slave, size).map_err(failed)?;
            }
            [slave.as_fd(); 3]
        }
        (Stdio::Terminal, None) => return Err(failed(Errno::NOTTY)),
    };
    for fd in sources {
        give_to_user(fd, process);
    }
    if sources.iter().all(|fd| fd.as_raw_fd() > 2) {
        return put_streams(sources).map_err(failed);
    }
    // Copies first, so that no source is overwritten before its turn.
    let copies = sources.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
    let [input, output, error] = copies;
    let (input, output, error) = (input.map_err(failed)?, output.map_err(failed)?, error.map_err(failed)?);
    put_streams([input.as_fd(), output.as_fd(), error.as_fd()]).map_err(failed)
}

fn put_streams([input, output, error]: [BorrowedFd<'_>; 3]) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)
}

/// Lets the user open `/dev/stdout` again. Done on the descriptor, before any path of the container is looked
/// at; what cannot be given away (a device, a file of another mount) stays.
fn give_to_user(fd: BorrowedFd<'_>, process: &Process) {
    let Ok(stat) = rustix::fs::fstat(fd) else { return };
    let ours = || match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        _ => rustix::termios::isatty(fd),
    };
    if stat.st_uid != process.user.uid && ours() {
        let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(process.user.uid)), None);
    }
}

fn set_limits(process: &Process, report: &Sender) -> Result<()> {
    for limit in &process.rlimits {
        if let Outcome::Lowered { soft, hard } = rlimit::set(&limit.kind, limit.soft, limit.hard)? {
            let (name, wanted) = (&limit.kind, (limit.soft, limit.hard));
            report.warn(&format!(
                "{name} {}:{} needs CAP_SYS_RESOURCE, which the engine lacks: lowered to {soft}:{hard}",
                wanted.0, wanted.1
            ));
        }
    }
    Ok(())
}

/// Labels take effect at exec. They are written through our own `proc`, never a path in the container.
fn set_security_labels(process: &Process, procfs: &Root) -> Result<()> {
    if !process.apparmor_profile.is_empty() {
        let value = format!("exec {}", process.apparmor_profile);
        let written = rootfs::write(procfs, "self/attr/apparmor/exec", &value)
            .or_else(|_| rootfs::write(procfs, "self/attr/exec", &value));
        written.map_err(|error| {
            LaunchError::other(format!(
                "unable to apply apparmor profile {}: {error}",
                process.apparmor_profile
            ))
        })?;
    }
    if !process.selinux_label.is_empty() {
        rootfs::write(procfs, "self/attr/exec", &process.selinux_label)
            .map_err(|error| LaunchError::other(format!("unable to apply SELinux label: {error}")))?;
    }
    Ok(())
}

/// Capability sets, as far as this engine has them itself.
struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    fn of(process: &Process, report: &Sender) -> Result<Self> {
        let own = capability::permitted()?;
        let Some(wanted) = &process.capabilities else {
            return Ok(Self { bounding: own, effective: own, permitted: own, ambient: CapabilitySet::EMPTY });
        };
        let (bounding, unknown) = CapabilitySet::from_names(&wanted.bounding);
        if !unknown.is_empty() {
            report.warn(&format!("unknown capabilities were ignored: {}", unknown.join(", ")));
        }
        let missing = bounding.without(own);
        if !missing.is_empty() {
            report.warn(&format!("capabilities the engine lacks: {}", missing.names().join(", ")));
        }
        let set = |names: &[String]| CapabilitySet::from_names(names).0.and(own);
        Ok(Self {
            bounding: bounding.and(own),
            effective: set(&wanted.effective),
            permitted: set(&wanted.permitted),
            ambient: set(&wanted.ambient),
        })
    }
}

fn set_identity(process: &Process, sets: &Sets) -> Result<()> {
    let failed = |what: &'static str| move |errno| LaunchError::other(format!("{what}: {}", describe(errno)));
    let user = &process.user;
    capability::keep_over_setuid(true)?;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed("set supplementary groups"))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("set group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("set user"))?;
    capability::keep_over_setuid(false)?;
    // Nothing is inheritable (CVE-2022-24769) but what ambient capabilities need.
    capability::set(sets.effective, sets.permitted, sets.ambient)?;
    if !sets.ambient.is_empty() {
        capability::set_ambient(sets.ambient)?;
    }
    Ok(())
}

/// Enters a directory by a lookup that takes no magic links: `/proc/self/fd/N` leads nowhere
/// (CVE-2024-21626).
fn change_directory(path: &str) -> std::result::Result<(), Errno> {
    if path == "/" {
        return rustix::process::chdir("/");
    }
    let root = Root::open("/").map_err(|error| error.errno())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = root.open_at(path, flags, Mode::empty()).map_err(|error| error.errno())?;
    rustix::process::fchdir(directory)
}

fn enter_directory(process: &Process, entered: std::result::Result<(), Errno>) -> Result<()> {
    let cwd = &process.cwd;
    if entered.is_err() {
        change_directory(cwd).map_err(|errno| {
            LaunchError::other(format!(
                "chdir to cwd ({cwd:?}) set in config.json failed: {}",
                describe(errno)
            ))
        })?;
    }
    // A directory outside the root has no path.
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(LaunchError::other(
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
    }
}

/// The environment, with `HOME` as the container's own list of users has it.
fn environment(process: &Process) -> Vec<String> {
    let mut env = process.env.clone();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", home_of(process.user.uid).unwrap_or_else(|| "/".to_owned())));
    }
    env
}

fn home_of(uid: u32) -> Option<String> {
    /// A list of users that is longer than this is not read.
    const PASSWD_MAX: u64 = 1 << 20;
    let text = Root::open("/").ok()?.read("/etc/passwd", PASSWD_MAX).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?.parse::<u32>().ok()?;
        (id == uid).then(|| fields.nth(2).unwrap_or_default().to_owned()).filter(|home| !home.is_empty())
    })
}

/// Finds the program as Go's `exec.LookPath` does, whose words clients know.
fn find_program(process: &Process) -> Result<CString> {
    let Some(name) = process.args.first() else {
        return Err(LaunchError::other("args must not be empty"));
    };
    let failed = |kind, why: &str| LaunchError::new(kind, format!("exec: {name:?}: {why}"));
    let not_found = || failed(FailureKind::NotFound, "executable file not found in $PATH");
    let found = if name.contains('/') {
        match executable(name) {
            Ok(()) => name.clone(),
            Err(Errno::NOENT) => {
                let why = format!("stat {name}: no such file or directory");
                return Err(failed(FailureKind::NotFound, &why));
            }
            Err(Errno::NOTDIR) => {
                return Err(failed(FailureKind::NotExecutable, &format!("stat {name}: not a directory")));
            }
            Err(errno) => return Err(failed(FailureKind::NotExecutable, &describe(errno))),
        }
    } else {
        let path = process.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
        let candidates = path.split(':').map(|dir| match dir {
            "" => format!("./{name}"),
            dir => format!("{}/{name}", dir.trim_end_matches('/')),
        });
        candidates.filter(|_| !name.is_empty()).find(|path| executable(path).is_ok()).ok_or_else(not_found)?
    };
    CString::new(found).map_err(|_| failed(FailureKind::Other, "invalid argument"))
}

fn executable(path: &str) -> std::result::Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}
