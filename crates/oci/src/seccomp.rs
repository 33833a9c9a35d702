//! Docker's default system call profile, as of Docker 29.4.2, resolved for a container.
//!
//! The profile's meaning is Docker's, so that images behave the same; how it is written down is ours: calls by
//! what they are about, one line of names each.

use crate::runtime::{LinuxSeccomp, SeccompAction, SeccompOperator, SyscallArg, SyscallRule};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Calls that any container may make.
const ALWAYS: &[&str] = &[
    // Files by path.
    "access faccessat faccessat2 chdir fchdir getcwd creat open openat openat2 link linkat unlink unlinkat symlink symlinkat",
    "readlink readlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat truncate truncate64 name_to_handle_at",
    "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 umask",
    "utime utimes futimesat utimensat utimensat_time64",
    "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount listmount",
    "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr",
    "listxattrat removexattr lremovexattr fremovexattr removexattrat",
    // Files by descriptor.
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek close close_range dup dup2 dup3",
    "fcntl fcntl64 flock ioctl getdents getdents64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 readahead",
    "fsync fdatasync sync syncfs sync_file_range splice tee vmsplice sendfile sendfile64 copy_file_range pipe pipe2",
    "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    // Waiting.
    "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old",
    "epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4",
    "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Memory.
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall mseal",
    "remap_file_pages map_shadow_stack memfd_create memfd_secret membarrier pkey_alloc pkey_free pkey_mprotect cachestat",
    "process_mrelease",
    // Processes and threads.
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid pidfd_open pidfd_send_signal gettid getpid getppid",
    "getpgid getpgrp setpgid getsid setsid set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area",
    "futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue rseq restart_syscall prctl seccomp uretprobe",
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self riscv_hwprobe",
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam",
    "sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval",
    "sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu",
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname capget capset",
    // Users and groups.
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32",
    "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32",
    "setfsuid setfsuid32 setfsgid setfsgid32 getgroups getgroups32 setgroups setgroups32",
    // Signals.
    "kill tkill tgkill pause alarm sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask",
    "rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo",
    // Time.
    "time gettimeofday nanosleep adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime",
    "clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer setitimer timer_create timer_delete timer_getoverrun",
    "timer_gettime timer_gettime64 timer_settime timer_settime64",
    // Sockets but for `socket` itself, messages between processes, randomness.
    "accept accept4 bind connect listen shutdown getpeername getsockname getsockopt setsockopt socketcall socketpair",
    "recv recvfrom recvmsg recvmmsg recvmmsg_time64 send sendto sendmsg sendmmsg",
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    "mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64",
    "getrandom",
];

/// Since Linux 4.8 these respect a filter that is in force.
const SINCE_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// Calls of this machine's own.
#[cfg(target_arch = "x86_64")]
const MACHINE: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const MACHINE: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: &str = "";

/// What this machine runs: its own programs and those of its 32-bit relatives.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[&str] = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[&str] = &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURES: &[&str] = &[];

/// Calls that a capability opens.
const BY_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Bits of `clone` that make namespaces: mount, cgroup, uts, ipc, user, pid, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains: plain Linux, 32-bit `uname`, 64-bit `uname` of 2.6, both, and asking which it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// All socket families below this one may be used (`AF_UNIX` to `AF_ROSE`).
const FIRST_GAP: u64 = 12;

/// Families above it that may be: not those that Linux dropped, nor `AF_ALG` (38), which opens the kernel's
/// cryptography to attack, nor `AF_VSOCK` (40), which reaches machines past the network namespace.
///
/// 32-bit programs reach the same through `socketcall(2)`, whose arguments lie behind a pointer that no filter can
/// follow. Refusing that call whole breaks old 32-bit programs, which is why Docker took it back; it leaves the matter
/// to AppArmor and SELinux, and so does this profile.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

fn rule(names: &[&str], args: Vec<SyscallArg>) -> SyscallRule {
    let names = names.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
    SyscallRule { names, action: SeccompAction::Allow, errno_ret: None, args }
}

fn when(name: &str, op: SeccompOperator, value: u64) -> SyscallRule {
    rule(&[name], vec![SyscallArg { index: 0, value, value_two: 0, op }])
}

/// The profile for a container with `capabilities` (`CAP_…`) on a kernel of version `kernel`.
pub fn docker_default(capabilities: &[String], kernel: (u32, u32)) -> LinuxSeccomp {
    use SeccompOperator::{Equal, Less, MaskedEqual};
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let mut syscalls = vec![rule(ALWAYS, Vec::new())];
    if kernel >= (4, 8) {
        syscalls.push(rule(&[SINCE_4_8], Vec::new()));
    }
    syscalls.push(when("socket", Less, FIRST_GAP));
    syscalls.extend(FAMILIES.iter().map(|family| when("socket", Equal, *family)));
    syscalls.extend(PERSONALITIES.iter().map(|domain| when("personality", Equal, *domain)));
    syscalls.push(rule(&[MACHINE], Vec::new()));
    let opened = BY_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    syscalls.extend(opened.map(|(_, names)| rule(&[names], Vec::new())));
    if !has("CAP_SYS_ADMIN") {
        syscalls.push(when("clone", MaskedEqual, CLONE_NAMESPACES));
        // Its flags lie in memory, where no filter sees them; without it programs fall back to clone.
        let clone3 = rule(&["clone3"], Vec::new());
        syscalls.push(SyscallRule { action: SeccompAction::Errno, errno_ret: Some(ENOSYS), ..clone3 });
    }
    LinuxSeccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(EPERM),
        architectures: ARCHITECTURES.iter().map(|&name| name.to_owned()).collect(),
        flags: Vec::new(),
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> usize {
        let rules = profile.syscalls.iter().filter(|rule| rule.action == SeccompAction::Allow);
        rules.filter(|rule| rule.names.iter().any(|known| known == name)).count()
    }

    #[test]
    fn no_call_stands_twice_among_the_unconditional_ones() {
        let mut names: Vec<&str> = ALWAYS.iter().flat_map(|line| line.split_whitespace()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn capabilities_open_their_calls() {
        let none = docker_default(&[], (5, 15));
        let admin = docker_default(&["CAP_SYS_ADMIN".to_owned()], (5, 15));
        for name in ["mount", "setns", "bpf"] {
            assert_eq!((allowed(&none, name), allowed(&admin, name)), (0, 1), "{name}");
        }
        assert_eq!(allowed(&none, "chroot"), 0);
        assert_eq!((allowed(&none, "ptrace"), allowed(&docker_default(&[], (4, 4)), "ptrace")), (1, 0));
    }

    #[test]
    fn kernel_crypto_and_vsock_families_are_closed() {
        assert!(!FAMILIES.contains(&38) && !FAMILIES.contains(&40) && FIRST_GAP <= 12);
    }
}
