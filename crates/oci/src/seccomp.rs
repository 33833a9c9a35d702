//! Docker's default system call filter, resolved for a container's capabilities, the machine and the kernel.
//!
//! What is allowed to all, what a capability or an architecture adds, and what depends on arguments are data below;
//! everything else fails with `EPERM`. Denied on purpose although harmless-looking: `io_uring_*` (its operations pass no
//! filter), sockets of the families `AF_ALG` and `AF_VSOCK`, and `clone3`, whose flags a filter cannot see (it answers
//! `ENOSYS`, so that C libraries fall back to `clone`).

use crate::runtime::{LinuxSeccomp, SeccompAction, SeccompOperator, SyscallArg, SyscallRule};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Socket families (`linux/socket.h`) that are denied.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// Personalities that change nothing of security: `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and asking.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// Allowed to every container.
const ALLOWED: &[&str] = &[
    "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset",
    "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres",
    "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64",
    "close", "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
    "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs",
    "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue", "futex_time64",
    "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64",
    "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage",
    "getsid", "getsockname", "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid",
    "getuid32", "getxattr", "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1",
    "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit", "ipc", "kill",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32",
    "lgetxattr", "link", "linkat", "listen", "listxattr", "listxattrat", "llistxattr", "_llseek",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2",
    "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal",
    "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at",
    "nanosleep", "newfstatat", "_newselect", "open", "openat", "openat2", "pause", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll",
    "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6",
    "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
    "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages",
    "removexattr", "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
    "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
    "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto",
    "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32",
    "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "set_robust_list", "setsid",
    "setsockopt", "set_thread_area", "set_tid_address", "setuid", "setuid32", "setxattr", "setxattrat",
    "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask",
    "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statx",
    "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
    "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname",
    "unlink", "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork",
    "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
];

/// Allowed with a capability.
const WITH_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "listmount",
            "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr",
            "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname",
            "setns", "statmount", "syslog", "umount", "umount2", "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    ),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// Allowed on a machine's architecture, as Rust names it.
const ON_MACHINE: &[(&str, &[&str])] = &[
    ("x86_64", &["arch_prctl", "modify_ldt"]),
    ("aarch64", &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"]),
    ("riscv64", &["riscv_flush_icache", "riscv_hwprobe"]),
];

/// The first kernel on which `ptrace` cannot be used to pass a filter.
const SAFE_PTRACE: (u32, u32) = (4, 8);

/// The filter of a container with `capabilities` (the bounding set) on this machine and a kernel of that version.
#[must_use]
pub fn docker_default(capabilities: &[String], kernel: (u32, u32)) -> LinuxSeccomp {
    let holds = |name: &str| capabilities.iter().any(|held| held == name);
    let mut allowed: Vec<&str> = ALLOWED.to_vec();
    allowed.extend(WITH_CAPABILITY.iter().filter(|(capability, _)| holds(capability)).flat_map(|(_, names)| *names));
    allowed.extend(ON_MACHINE.iter().filter(|(machine, _)| *machine == std::env::consts::ARCH).flat_map(|(_, names)| *names));
    if kernel >= SAFE_PTRACE {
        allowed.extend(["process_vm_readv", "process_vm_writev", "ptrace"]);
    }
    let mut syscalls = vec![rule(&allowed, Vec::new()), rule(&["socket"], families())];
    syscalls.extend(PERSONALITIES.map(|value| rule(&["personality"], vec![argument(SeccompOperator::Equal, value, 0)])));
    if !holds("CAP_SYS_ADMIN") {
        syscalls.push(rule(&["clone"], vec![argument(SeccompOperator::MaskedEqual, CLONE_NAMESPACES, 0)]));
        syscalls.push(SyscallRule { action: SeccompAction::Errno, errno_ret: Some(ENOSYS), ..rule(&["clone3"], Vec::new()) });
    }
    LinuxSeccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(EPERM),
        architectures: architectures(),
        flags: Vec::new(),
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls,
    }
}

fn rule(names: &[&str], args: Vec<SyscallArg>) -> SyscallRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    SyscallRule { names, action: SeccompAction::Allow, errno_ret: None, args }
}

/// Every family but the two denied.
fn families() -> Vec<SyscallArg> {
    [AF_ALG, AF_VSOCK].map(|family| argument(SeccompOperator::NotEqual, family, 0)).into()
}

fn argument(op: SeccompOperator, value: u64, value_two: u64) -> SyscallArg {
    SyscallArg { index: 0, value, value_two, op }
}

/// The machine's own calling convention and the 32-bit ones its kernel may serve beside it.
fn architectures() -> Vec<String> {
    let names: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => &[],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(profile: &LinuxSeccomp, name: &str) -> bool {
        let plain = |rule: &SyscallRule| rule.action == SeccompAction::Allow && rule.args.is_empty();
        profile.syscalls.iter().any(|rule| plain(rule) && rule.names.iter().any(|known| known == name))
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let plain = docker_default(&[], (6, 1));
        assert!(allows(&plain, "read") && allows(&plain, "ptrace"));
        for name in ["mount", "unshare", "bpf", "io_uring_setup", "keyctl", "userfaultfd", "socket", "clone3"] {
            assert!(!allows(&plain, name), "{name}");
        }
        let admin = docker_default(&["CAP_SYS_ADMIN".to_owned()], (6, 1));
        assert!(allows(&admin, "mount") && allows(&admin, "clone3"));
        assert!(!allows(&docker_default(&[], (4, 4)), "ptrace"));
    }

    #[test]
    fn clone3_says_it_does_not_exist() {
        let profile = docker_default(&[], (6, 1));
        let rule = profile.syscalls.iter().find(|rule| rule.names == ["clone3"]).unwrap();
        assert_eq!((rule.action, rule.errno_ret), (SeccompAction::Errno, Some(ENOSYS)));
    }
}
