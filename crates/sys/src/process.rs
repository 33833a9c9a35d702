//! Making processes: fork, clone3, exec, and starting our own executable again.

use std::{
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::CWD,
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    mount::MountAttrFlags,
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    error::{Context, Error, Result},
    mount::{Attributes, DetachedMount},
};

/// The error number of the last failed C library call of this thread.
pub fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Ends the process at once, running no destructor or exit handler: how every forked child ends.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// What a clone is asked for; see `clone3(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneOptions<'fd> {
    /// `CLONE_NEW*` bits.
    pub namespaces: u64,
    /// The child's parent is the caller's parent; it will tell that one of its end.
    pub sibling: bool,
    /// Directory of a cgroup v2 the child is born in.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// A child made by [`clone`].
#[derive(Debug)]
pub struct Child {
    /// Process id as the caller's pid namespace numbers it.
    pub pid: i32,
    /// Names the process without the risk of a reused id.
    pub pidfd: OwnedFd,
}

/// The return of [`clone`], in one process or the other.
#[derive(Debug)]
pub enum Forked {
    /// In the caller.
    Parent(Child),
    /// In the child, which must end by exec or [`exit_now`].
    Child,
}

/// `struct clone_args` of `linux/sched.h`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    fn new(options: &CloneOptions<'_>, pidfd: &mut RawFd) -> Self {
        let mut args = Self {
            flags: options.namespaces | libc::CLONE_PIDFD as u64,
            pidfd: (&raw mut *pidfd) as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..Self::default()
        };
        if options.sibling {
            // The kernel then takes the caller's own exit signal and insists on none here.
            args.flags |= libc::CLONE_PARENT as u64;
            args.exit_signal = 0;
        }
        if let Some(cgroup) = options.cgroup {
            /// `CLONE_INTO_CGROUP` of `linux/sched.h`.
            const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        args
    }
}

/// Splits the process in two, as fork(2) does, into new namespaces.
///
/// Only for processes of one thread: a lock that another thread holds stays locked in the child.
///
/// # Errors
/// What the kernel refused: `EPERM`, `EAGAIN` at a limit, `ENOSPC` for too many namespaces.
pub fn clone(options: &CloneOptions<'_>) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs::new(options, &mut pidfd);
    // SAFETY: without CLONE_VM the child has its own copy of all memory and the same stack, as after
    // fork(2); `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Forked::Child),
        pid => made(pid, pidfd).map(Forked::Parent),
    }
}

/// What the caller of clone3 got.
fn made(pid: i64, pidfd: RawFd) -> Result<Child> {
    if pid <= 0 {
        return Err(Error::new("clone process", errno()));
    }
    // SAFETY: the kernel has just stored a descriptor there for us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(|_| Error::new("clone process", Errno::OVERFLOW))?;
    Ok(Child { pid, pidfd })
}

/// As [`clone`], but the child works in the caller's own memory, while the caller stands still until the child has
/// executed a program or ended (`vfork(2)`): nothing is copied and no page is touched twice.
///
/// `work` must end by exec or [`exit_now`], and must not close a descriptor of the caller's by dropping its owner, for
/// the tables of descriptors are two. What it allocates stays with the caller. Nobody that the caller would not trust
/// with its memory may look into the child: no process of a container may see it before it executes its program.
///
/// # Errors
/// As [`clone`].
pub fn clone_in_memory<F: FnOnce() -> i32>(options: &CloneOptions<'_>, work: F) -> Result<Child> {
    extern "C" fn enter<F: FnOnce() -> i32>(work: *mut libc::c_void) -> ! {
        // SAFETY: `work` is the caller's `Option<F>` below, which lives while the caller stands still.
        let work = unsafe { &mut *work.cast::<Option<F>>() };
        exit_now(work.take().map_or(1, |work| work()))
    }
    let stack = crate::memory::Stack::new().context(|| "clone process: stack")?;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs::new(options, &mut pidfd);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    (args.stack, args.stack_size) = (stack.bottom() as u64, stack.size() as u64);
    let mut work = Some(work);
    // SAFETY: the child runs on a stack of its own and never returns; the caller's frame, and with it `args`, `pidfd`,
    // `work` and `stack`, lives on until the child has left this memory, by the kernel's promise of CLONE_VFORK.
    let pid = unsafe { arch::clone_into(&args, enter::<F>, (&raw mut work).cast()) };
    if pid < 0 {
        let errno = i32::try_from(-pid).unwrap_or(libc::EIO);
        return Err(Error::new("clone process", Errno::from_raw_os_error(errno)));
    }
    made(pid, pidfd)
}

/// The one step that no library has: a clone3 whose child starts on another stack.
mod arch {
    use std::arch::asm;
    #[cfg(target_arch = "aarch64")]
    use std::ptr;

    use super::CloneArgs;

    /// # Safety
    /// `args` describe a stack that nobody else uses, and `enter` never returns.
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn clone_into(
        args: &CloneArgs,
        enter: extern "C" fn(*mut libc::c_void) -> !,
        work: *mut libc::c_void,
    ) -> i64 {
        let result: i64;
        // SAFETY: in the caller this is a plain system call; the child jumps to `enter` on its new, aligned stack with
        // nothing above it.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, r12",
                "call r13",
                "ud2",
                "2:",
                inlateout("rax") libc::SYS_clone3 => result,
                in("rdi") args,
                in("rsi") size_of::<CloneArgs>(),
                in("r12") work,
                in("r13") enter,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }

    /// # Safety
    /// As above.
    #[cfg(target_arch = "aarch64")]
    pub(super) unsafe fn clone_into(
        args: &CloneArgs,
        enter: extern "C" fn(*mut libc::c_void) -> !,
        work: *mut libc::c_void,
    ) -> i64 {
        let result: i64;
        // SAFETY: as above.
        unsafe {
            asm!(
                "svc 0",
                "cbnz x0, 2f",
                "mov x29, xzr",
                "mov x0, x20",
                "blr x21",
                "brk 1",
                "2:",
                inlateout("x0") ptr::from_ref(args).expose_provenance() as i64 => result,
                in("x1") size_of::<CloneArgs>(),
                in("x8") libc::SYS_clone3,
                in("x20") work,
                in("x21") enter,
            );
        }
        result
    }
}

/// Forks a child that runs `work` and ends with its result as exit code.
///
/// Meant for processes of one thread. The C library makes its allocator usable in the child, so tests
/// may use it from several threads as well; other locks held elsewhere at that moment stay locked.
///
/// # Errors
/// `EAGAIN` at a limit, `ENOMEM`.
pub fn fork_child(work: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: the child runs `work` on its own copy of memory and never returns to the caller's frames.
    match unsafe { libc::fork() } {
        0 => exit_now(work()),
        pid if pid > 0 => Ok(pid),
        _ => Err(Error::new("fork", errno())),
    }
}

/// Waits for a child and answers its exit code, or 128 + the number of the signal that ended it.
///
/// # Errors
/// `ECHILD` where it is not our child, or was waited for.
pub fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let result = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if result == pid {
            return Ok(exit_code(status));
        }
        let error = errno();
        if error != Errno::INTR {
            return Err(Error::new(format!("wait for process {pid}"), error));
        }
    }
}

/// A wait status as a shell shows it.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Runs `work` in a child that shares the table of descriptors, and answers what it returned.
///
/// `work` must not allocate or take locks: the caller may have other threads.
pub(crate) fn fork_sharing_files(work: impl FnOnce() -> i64) -> rustix::io::Result<i64> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = libc::CLONE_FILES as u64;
    // No exit signal: the caller's SIGCHLD handling must not see this child.
    let args = CloneArgs { flags, ..CloneArgs::default() };
    // SAFETY: as in `clone`; `work` keeps to system calls by this function's contract.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        let answer = work().to_ne_bytes();
        let done = rustix::io::write(&writer, &answer);
        exit_now(i32::from(done.is_err()));
    }
    if pid < 0 {
        return Err(errno());
    }
    let pid = i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?;
    // The child shares our descriptors, so the end of the pipe is its end, which is waited for first.
    let ended = wait(pid);
    drop(writer);
    let mut answer = [0; 8];
    match rustix::io::read(&reader, &mut answer)? {
        8 if ended.is_ok() => Ok(i64::from_ne_bytes(answer)),
        _ => Err(Errno::IO),
    }
}

/// Null-terminated arguments or environment for exec.
#[derive(Debug)]
pub struct StringList {
    strings: Vec<CString>,
}

impl StringList {
    /// # Errors
    /// `EINVAL` where one contains a nul byte.
    pub fn new<S: AsRef<OsStr>>(items: impl IntoIterator<Item = S>) -> Result<Self> {
        let strings = items.into_iter().map(|item| CString::new(item.as_ref().as_bytes()));
        let strings = strings.collect::<std::result::Result<_, _>>();
        strings.map(|strings| Self { strings }).map_err(|_| Error::new("nul byte in argument", Errno::INVAL))
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    }
}

/// Replaces the program of this process; returns only on failure.
pub fn execve(path: &CStr, args: &StringList, env: &StringList) -> Errno {
    let (args, env) = (args.pointers(), env.pointers());
    // SAFETY: both lists end in a null pointer and the strings they point to outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    errno()
}

/// Replaces the program of this process by the file a descriptor refers to; returns only on failure.
pub fn execve_fd(file: BorrowedFd<'_>, args: &StringList, env: &StringList) -> Errno {
    let (args, env) = (args.pointers(), env.pointers());
    // SAFETY: both lists end in a null pointer and the strings they point to outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    errno()
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// None known on supported kernels.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: only sets flags of descriptors; no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(Error::new("close descriptors on exec", errno())) }
}

/// Our own executable behind a read-only mount: a process started from it can be looked up under
/// `/proc/PID/exe` by a container, but nobody can write to the file that way (CVE-2019-5736).
#[derive(Debug)]
pub struct SelfExecutable {
    file: OwnedFd,
}

impl SelfExecutable {
    /// Prepares the running executable.
    ///
    /// # Errors
    /// What the kernel refused; needs the right to mount.
    pub fn prepare() -> Result<Self> {
        let mount = DetachedMount::clone_tree(CWD, "/proc/self/exe", false)
            .map_err(|error| Error::new("prepare executable", error.errno()))?;
        let change = Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY);
        mount.set_attr(&change, false)?;
        Ok(Self { file: mount.into_fd() })
    }

    /// The executable, opened as a path.
    pub fn as_file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Starts it with `args` (the first being the program's name), `descriptors` as the child's 0, 1, 2
    /// and so on, the caller's environment, a session of its own and no blocked signals.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Child> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        spawn(OsStr::new(&path), args, descriptors)
    }
}

/// Where this process's arguments lie in its memory, which is what `/proc/PID/cmdline` shows.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    start: usize,
    length: usize,
}

impl CommandLine {
    /// Finds it; `None` where `/proc` does not say.
    pub fn own() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // `arg_start` and `arg_end` are the 48th and 49th field of proc_pid_stat(5); the name before may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45).map(str::parse::<usize>);
        let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
        (start != 0).then(|| end.checked_sub(start).map(|length| Self { start, length }))?
    }

    /// Shows other arguments, cut to the room that those at the start took.
    pub fn show<S: AsRef<OsStr>>(self, words: impl IntoIterator<Item = S>) {
        let mut text = Vec::with_capacity(self.length);
        for word in words {
            text.extend_from_slice(word.as_ref().as_bytes());
            text.push(0);
        }
        text.resize(self.length, 0);
        let Some(last) = text.last_mut() else { return };
        *last = 0;
        let place = ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel named these bytes as this process's arguments; they lie on its stack below every frame,
        // writable, for its whole life, and still end in a nul, so that whoever reads them as strings stays inside.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), place, text.len()) };
    }
}

/// Sources are moved out of the way of their targets first.
const SAFE_DESCRIPTOR: RawFd = 64;

/// Starts a program, see [`SelfExecutable::spawn`]. The caller's memory is not copied (`vfork`).
///
/// # Errors
/// What the kernel refused.
pub fn spawn<S: AsRef<OsStr>>(
    path: &OsStr,
    args: impl IntoIterator<Item = S>,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Child> {
    let failed =
        |what: &str, code: i32| Error::new(format!("start program: {what}"), Errno::from_raw_os_error(code));
    let path = CString::new(path.as_bytes()).map_err(|_| failed("path", libc::EINVAL))?;
    let args = StringList::new(args)?;
    let env = StringList::new(std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }))?;
    let held = descriptors
        .iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, SAFE_DESCRIPTOR).context(|| "start program: descriptor"))
        .collect::<Result<Vec<_>>>()?;
    let mut actions = SpawnSettings::new().map_err(|code| failed("settings", code))?;
    for (target, fd) in held.iter().enumerate() {
        let target = RawFd::try_from(target).map_err(|_| failed("descriptor", libc::EMFILE))?;
        actions.duplicate(fd.as_raw_fd(), target).map_err(|code| failed("descriptor", code))?;
    }
    let pid = actions.spawn(&path, &args, &env).map_err(|code| failed(&path.to_string_lossy(), code))?;
    // The child cannot have been waited for by anyone yet, so its id is still its own.
    let id = rustix::process::Pid::from_raw(pid).ok_or_else(|| failed("pid", libc::ESRCH))?;
    let pidfd = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty())
        .context(|| "start program: pidfd")?;
    Ok(Child { pid, pidfd })
}

/// `posix_spawn` file actions and attributes, freed together.
struct SpawnSettings {
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl SpawnSettings {
    fn new() -> std::result::Result<Self, i32> {
        // SAFETY: both are plain structures that their init functions fill before any other use.
        unsafe {
            let mut settings: Self = std::mem::zeroed();
            check(libc::posix_spawn_file_actions_init(&raw mut settings.actions))?;
            check(libc::posix_spawnattr_init(&raw mut settings.attributes))?;
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::posix_spawnattr_setsigmask(&raw mut settings.attributes, &raw const none))?;
            let mut defaults = none;
            libc::sigaddset(&raw mut defaults, libc::SIGPIPE);
            check(libc::posix_spawnattr_setsigdefault(&raw mut settings.attributes, &raw const defaults))?;
            /// `POSIX_SPAWN_SETSID` of `spawn.h`.
            const SETSID: i32 = 0x80;
            let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | SETSID;
            // Flags are a short in the C interface; all of these fit.
            check(libc::posix_spawnattr_setflags(&raw mut settings.attributes, flags as libc::c_short))?;
            Ok(settings)
        }
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> std::result::Result<(), i32> {
        // SAFETY: `actions` was initialised in `new`.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.actions, from, to) })
    }

    fn spawn(&self, path: &CStr, args: &StringList, env: &StringList) -> std::result::Result<i32, i32> {
        let (args, env) = (args.pointers(), env.pointers());
        let mut pid = 0;
        // SAFETY: both lists end in a null pointer, the strings and settings outlive the call, and the
        // C functions only read them in spite of the mutable pointers in their signature.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const self.actions,
                &raw const self.attributes,
                args.as_ptr().cast(),
                env.as_ptr().cast(),
            )
        })?;
        Ok(pid)
    }
}

impl Drop for SpawnSettings {
    fn drop(&mut self) {
        // SAFETY: both were initialised in `new` and are not used afterwards.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

fn check(code: i32) -> std::result::Result<(), i32> {
    if code == 0 { Ok(()) } else { Err(code) }
}

/// Gives a signal its default action, also the two that the C library keeps for itself and starts programs without.
fn default_action(signal: i32) {
    // The kernel's `struct sigaction`: the default action, no flags, an empty mask.
    let action = [0_u64; 4];
    // SAFETY: the kernel reads as many bytes and installs no handler. What cannot be changed answers an error, which
    // is fine.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null_mut::<u64>(), 8_usize)
    };
}

/// Whether [`listen_to_all_signals`] was called, in this process or one that it was forked from.
static ALL_LISTENED_TO: AtomicBool = AtomicBool::new(false);

/// Stops ignoring signals that whoever started this process had ignored, for it and all forked from it.
pub fn listen_to_all_signals() {
    (1..=64).filter(|signal| !HANDLED.contains(signal)).for_each(default_action);
    ALL_LISTENED_TO.store(true, Ordering::Relaxed);
}

/// What the standard library ignores, or handles to tell of a stack that overflows.
const HANDLED: [i32; 3] = [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS];

/// Gives every signal its default action and blocks none: ignored and blocked signals survive exec, handlers do not.
///
/// # Errors
/// None known.
pub fn reset_signals() -> Result<()> {
    let all = !ALL_LISTENED_TO.load(Ordering::Relaxed);
    (1..=64).filter(|signal| all || HANDLED.contains(signal)).for_each(default_action);
    crate::signal::unblock_all().context(|| "unblock signals")
}

/// Lets a descriptor survive exec.
///
/// # Errors
/// None for an open descriptor.
pub fn keep_on_exec(fd: BorrowedFd<'_>) -> Result<()> {
    fcntl_setfd(fd, FdFlags::empty()).context(|| "keep descriptor on exec")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_forked_child_ends_with_its_code() {
        let pid = fork_child(|| 42).unwrap();
        assert_eq!(wait(pid).unwrap(), 42);
    }

    #[test]
    fn a_child_in_our_memory_is_waited_for_until_it_leaves() {
        let mut place = String::new();
        let options = CloneOptions { namespaces: crate::namespace::flags::UTS, ..CloneOptions::default() };
        let child = clone_in_memory(&options, || {
            place.push_str("written by the child");
            7
        })
        .unwrap();
        assert_eq!(place, "written by the child");
        assert_eq!(wait(child.pid).unwrap(), 7);
    }

    #[test]
    fn a_child_in_our_memory_may_execute_a_program() {
        let words = StringList::new(["sh", "-c", "exit 9"]).unwrap();
        let child = clone_in_memory(&CloneOptions::default(), || {
            execve(c"/bin/sh", &words, &StringList { strings: Vec::new() });
            1
        });
        assert_eq!(wait(child.unwrap().pid).unwrap(), 9);
    }

    #[test]
    fn what_the_kernel_refuses_is_told() {
        // A bit that no kernel knows.
        let options = CloneOptions { namespaces: 1 << 60, ..CloneOptions::default() };
        assert_eq!(clone_in_memory(&options, || 0).unwrap_err().errno(), Errno::INVAL);
    }

    #[test]
    fn spawned_programs_get_exactly_the_descriptors_given() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let script = "ls /proc/self/fd | wc -l; echo done >&3";
        let fds = [null.as_fd(), writer.as_fd(), null.as_fd(), writer.as_fd()];
        let child = spawn(OsStr::new("/bin/sh"), ["sh", "-c", script], &fds).unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(wait(child.pid).unwrap(), 0);
        assert!(text.ends_with("done\n"), "{text}");
    }

    #[test]
    fn our_executable_cannot_be_opened_for_writing_through_its_mount() {
        let executable = SelfExecutable::prepare().unwrap();
        let path = format!("/proc/self/fd/{}", executable.as_file().as_raw_fd());
        let error = std::fs::OpenOptions::new().write(true).open(path).unwrap_err();
        assert!([libc::EROFS, libc::ETXTBSY].contains(&error.raw_os_error().unwrap()), "{error}");
    }
}
