//! Architectures and their system call numbers.

/// What the kernel of a machine can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    /// 64-bit registers with 32-bit pointers: numbers of x86_64 with a bit set.
    X32,
    Aarch64,
    Arm,
}

/// Set in the numbers of x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls that have numbers of their own on x32 (`asm/unistd_x32.h`), from 512 up.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

impl Arch {
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: Self = Self::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: Self = Self::Aarch64;

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_NATIVE" => Self::NATIVE,
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// Architectures whose programs run on none of our machines: nothing to filter.
    pub(super) fn is_foreign(name: &str) -> bool {
        let families = ["MIPS", "PPC", "S390", "RISCV", "LOONGARCH", "PARISC", "M68K", "SH"];
        name.strip_prefix("SCMP_ARCH_").is_some_and(|rest| families.iter().any(|f| rest.starts_with(f)))
    }

    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Calls `visit` with the number and name of every call. Going through all numbers once is far cheaper than
    /// searching each name of a profile, which is a comparison with each of them.
    pub(super) fn each_call(self, visit: &mut dyn FnMut(u32, &'static str)) {
        // The crate's tables are of one type for each architecture.
        macro_rules! each {
            ($arch:ident) => {
                for call in syscalls::$arch::Sysno::iter() {
                    if let Ok(number) = u32::try_from(call.id()) {
                        visit(number, call.name());
                    }
                }
            };
        }
        match self {
            Self::X86_64 => each!(x86_64),
            Self::X86 => each!(x86),
            Self::Aarch64 => each!(aarch64),
            Self::Arm => each!(arm),
            Self::X32 => {
                Self::X86_64.each_call(&mut |number, name| {
                    if !X32_OWN.contains(&name) {
                        visit(number | X32_BIT, name);
                    }
                });
                for (number, name) in (512..).zip(X32_OWN) {
                    visit(number | X32_BIT, name);
                }
            }
        }
    }

    /// The number of a call; `None` where this architecture has none of that name.
    #[cfg(test)]
    pub(super) fn number(self, wanted: &str) -> Option<u32> {
        let mut found = None;
        self.each_call(&mut |number, name| {
            if name == wanted {
                found = Some(number);
            }
        });
        found
    }
}
