//! Resource limits (`getrlimit(2)`).

use crate::{
    error::{Error, Result},
    process::errno,
};
use rustix::io::Errno;

/// `RLIMIT_*` by name; numbers are those of the generic ABI, shared by x86 and arm.
const NAMES: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// What became of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Set,
    /// Raising it needs CAP_SYS_RESOURCE, which is missing: these are the values in force.
    Lowered {
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
}

/// Sets a limit of this process by name (`RLIMIT_NOFILE`), `u64::MAX` for none. What the process may not
/// raise is lowered to its own hard limit.
///
/// # Errors
/// `EINVAL` for an unknown name, or a soft limit above the hard one.
pub fn set(name: &str, soft: u64, hard: u64) -> Result<Outcome> {
    let failed = |errno| Error::new(format!("set {name} to {soft}:{hard}"), errno);
    let (_, resource) = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| failed(Errno::INVAL))?;
    if soft > hard {
        return Err(failed(Errno::INVAL));
    }
    match apply(*resource, soft, hard) {
        Err(Errno::PERM) => {
            let current = read(*resource).map_err(failed)?;
            let (soft, hard) = (soft.min(current.rlim_max), hard.min(current.rlim_max));
            apply(*resource, soft, hard).map_err(failed)?;
            Ok(Outcome::Lowered { soft, hard })
        }
        result => result.map(|()| Outcome::Set).map_err(failed),
    }
}

/// This process's own hard limit, `u64::MAX` for none: what a set limit is lowered to without CAP_SYS_RESOURCE.
///
/// # Errors
/// `EINVAL` for an unknown name.
pub fn hard(name: &str) -> Result<u64> {
    let failed = |errno| Error::new(format!("read {name}"), errno);
    let (_, resource) = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| failed(Errno::INVAL))?;
    Ok(read(*resource).map_err(failed)?.rlim_max)
}

fn apply(resource: u32, soft: u64, hard: u64) -> std::result::Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call.
    let result = unsafe { libc::prlimit64(0, resource, &raw const limit, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn read(resource: u32) -> std::result::Result<libc::rlimit64, Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call.
    let result = unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut limit) };
    if result == 0 { Ok(limit) } else { Err(errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn unknown_and_upside_down_limits_are_refused() {
        assert!(set("RLIMIT_NONSENSE", 1, 1).is_err());
        assert_eq!(
            set("RLIMIT_CORE", 2, 1).unwrap_err().to_string(),
            "set RLIMIT_CORE to 2:1: invalid argument"
        );
    }

    #[test]
    fn limits_are_set_or_lowered() {
        let pid = process::fork_child(|| {
            let set_exactly = set("RLIMIT_NOFILE", 100, 200) == Ok(Outcome::Set);
            let raised = set("RLIMIT_NOFILE", 300, 400);
            let fine = matches!(raised, Ok(Outcome::Set | Outcome::Lowered { soft: 200, hard: 200 }));
            i32::from(!(set_exactly && fine))
        });
        assert_eq!(process::wait(pid.unwrap()).unwrap(), 0);
    }
}
