//! Resource limits (`ulimit`) of the container's processes.

use wharf_oci::runtime::Rlimit;

use super::runtime_error;
use crate::error::Result;

/// The names the kernel knows.
const NAMES: [&str; 16] = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
];

/// Limits in the runtime's form, from (name, soft, hard); -1 means none. The first wins where a name comes twice.
///
/// # Errors
/// `wrong rlimit value: RLIMIT_FOO` for a name the kernel does not know.
pub fn rlimits<'a>(limits: impl Iterator<Item = (&'a str, i64, i64)>) -> Result<Vec<Rlimit>> {
    let mut list: Vec<Rlimit> = Vec::new();
    for (name, soft, hard) in limits {
        let name = name.to_uppercase();
        if !NAMES.contains(&name.as_str()) {
            return Err(runtime_error(format_args!("wrong rlimit value: RLIMIT_{name}")));
        }
        let kind = format!("RLIMIT_{name}");
        if !list.iter().any(|limit| limit.kind == kind) {
            list.push(Rlimit { kind, hard: hard.cast_unsigned(), soft: soft.cast_unsigned() });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_limit() {
        let list = rlimits([("nofile", 100, -1), ("NOFILE", 1, 1)].into_iter()).unwrap();
        assert_eq!(list, [Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 100, hard: u64::MAX }]);
    }

    #[test]
    fn unknown_names_are_refused_as_runc_does() {
        let error = rlimits([("foo", 1, 1)].into_iter()).unwrap_err();
        assert!(error.message().ends_with("runc create failed: wrong rlimit value: RLIMIT_FOO"));
    }
}
