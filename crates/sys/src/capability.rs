//! Capabilities of a process (`capabilities(7)`).

use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    process::errno,
};

/// Names by number, without the prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Reads names such as `CAP_CHOWN`; answers those it does not know beside the set.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> (Self, Vec<&str>) {
        let (mut set, mut unknown) = (Self::EMPTY, Vec::new());
        for name in names {
            let name = name.as_ref();
            match number(name) {
                Some(number) => set.0 |= 1 << number,
                None => unknown.push(name),
            }
        }
        (set, unknown)
    }

    /// Whether it has a capability, by its full name.
    pub fn has(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Full names of what is in it.
    pub fn names(self) -> Vec<String> {
        let has = |number: &usize| self.0 & (1 << number) != 0;
        (0..NAMES.len()).filter(has).map(|number| format!("CAP_{}", NAMES[number])).collect()
    }
}

fn number(name: &str) -> Option<usize> {
    let name = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == name)
}

/// `struct __user_cap_header_struct` and `_data_struct` of `linux/capability.h`, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

const fn low(set: CapabilitySet) -> u32 {
    set.0 as u32
}

const fn high(set: CapabilitySet) -> u32 {
    (set.0 >> 32) as u32
}

/// The permitted set of this process.
///
/// # Errors
/// None known.
pub fn permitted() -> Result<CapabilitySet> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads one header and writes two structures; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    match result {
        0 => Ok(CapabilitySet(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)),
        _ => Err(Error::new("read capabilities", errno())),
    }
}

/// Sets the three sets of this process.
///
/// # Errors
/// `EPERM` where `permitted` would grow.
pub fn set(effective: CapabilitySet, permitted: CapabilitySet, inheritable: CapabilitySet) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |part: fn(CapabilitySet) -> u32| Data {
        effective: part(effective),
        permitted: part(permitted),
        inheritable: part(inheritable),
    };
    let data = [half(low), half(high)];
    // SAFETY: version 3 reads one header and two structures; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(Error::new("set capabilities", errno())) }
}

/// A `prctl(2)` with up to two number arguments.
fn control(option: i32, first: u64, second: u64, what: &str) -> Result<i32> {
    // SAFETY: the options used in this module take numbers only.
    match unsafe { libc::prctl(option, first, second, 0, 0) } {
        -1 => Err(Error::new(what, errno())),
        value => Ok(value),
    }
}

/// Takes all that is not in `kept` from the bounding set.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn limit_bounding(kept: CapabilitySet) -> Result<()> {
    for number in 0..64 {
        if kept.0 & (1 << number) != 0 {
            continue;
        }
        match control(libc::PR_CAPBSET_DROP, number, 0, "drop capability from bounding set") {
            Ok(_) => {}
            // The first number the kernel does not know ends the set.
            Err(error) if error.errno() == Errno::INVAL => break,
            // What is not there need not be dropped.
            // SAFETY: takes numbers only.
            Err(_) if unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } == 0 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `wanted`, which must be permitted and inheritable.
///
/// # Errors
/// `EPERM` where it is not.
pub fn set_ambient(wanted: CapabilitySet) -> Result<()> {
    let clear = u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    control(libc::PR_CAP_AMBIENT, clear, 0, "clear ambient capabilities")?;
    for number in (0..64).filter(|number| wanted.0 & (1 << number) != 0) {
        control(libc::PR_CAP_AMBIENT, raise, number, "raise ambient capability")?;
    }
    Ok(())
}

/// Whether the permitted set survives the change from user 0 to another.
///
/// # Errors
/// None known.
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    control(libc::PR_SET_KEEPCAPS, keep.into(), 0, "keep capabilities").map(drop)
}

/// Forbids this process and all it executes to gain privileges.
///
/// # Errors
/// None known.
pub fn set_no_new_privileges() -> Result<()> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1, 0, "set no_new_privs").map(drop)
}

/// Whether others may look into this process through `/proc` and ptrace.
///
/// # Errors
/// None known.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    control(libc::PR_SET_DUMPABLE, dumpable.into(), 0, "set dumpable").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn names_and_bits_agree() {
        let (set, unknown) = CapabilitySet::from_names(&["CAP_CHOWN", "CAP_BPF", "CAP_NONSENSE", "CHOWN"]);
        assert_eq!(set, CapabilitySet(1 | 1 << 39));
        assert_eq!(unknown, ["CAP_NONSENSE", "CHOWN"]);
        assert_eq!(set.names(), ["CAP_CHOWN", "CAP_BPF"]);
    }

    #[test]
    fn dropped_capabilities_are_gone() {
        let pid = process::fork_child(|| {
            let (kept, _) = CapabilitySet::from_names(&["CAP_CHOWN", "CAP_KILL"]);
            let done = limit_bounding(kept).and_then(|()| set(kept, kept, CapabilitySet::EMPTY));
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let value = format!("{:016x}", kept.0);
            let lines = ["CapPrm", "CapEff", "CapBnd"].map(|name| format!("{name}:\t{value}"));
            i32::from(done.is_err() || !lines.iter().all(|line| status.contains(line)))
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }
}
