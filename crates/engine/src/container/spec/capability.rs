//! Capabilities by name: the defaults, and what `--cap-add` and `--cap-drop` make of them.

use crate::error::{Error, Result};

/// All capabilities, by number.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has when nothing is said: Docker's fourteen.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const EVERY: &str = "ALL";

/// Names in the kernel's form, `net_admin` and `CAP_NET_ADMIN` alike; `ALL` stays.
///
/// # Errors
/// `unknown capability: "CAP_FOO"`, without what was being checked.
pub fn normalize(names: &[String]) -> Result<Vec<String>> {
    let one = |name: &String| {
        let upper = name.to_uppercase();
        let full = if upper == EVERY || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if full != EVERY && !ALL.contains(&full.as_str()) {
            return Err(Error::invalid(format!("unknown capability: \"{full}\"")));
        }
        Ok(full)
    };
    names.iter().map(one).collect()
}

/// The capabilities of a container's processes. What the engine itself does not have cannot be given and is left out
/// where all are asked for.
///
/// # Errors
/// As [`normalize`].
pub fn effective(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<String>> {
    if privileged {
        return Ok(held());
    }
    let (add, drop) = (normalize(add)?, normalize(drop)?);
    let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
    if has(&add, EVERY) {
        return Ok(held().into_iter().filter(|name| !has(&drop, name)).collect());
    }
    let defaults = DEFAULT.iter().filter(|name| !has(&drop, EVERY) && !has(&drop, name));
    let mut list: Vec<String> = defaults.map(|name| (*name).to_owned()).collect();
    for name in add {
        if !list.contains(&name) {
            list.push(name);
        }
    }
    Ok(list)
}

/// What this process may hand out: its bounding set (as containers are its descendants).
fn held() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX);
    let held = ALL.iter().enumerate().filter(|(number, _)| mask & (1 << number) != 0);
    held.map(|(_, name)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_come_in_any_form() {
        assert_eq!(
            normalize(&names(&["net_admin", "CAP_CHOWN", "all"])).unwrap(),
            ["CAP_NET_ADMIN", "CAP_CHOWN", "ALL"]
        );
        let error = normalize(&names(&["foo"])).unwrap_err();
        assert_eq!(error.message(), "unknown capability: \"CAP_FOO\"");
        assert_eq!(normalize(&names(&[""])).unwrap_err().message(), "unknown capability: \"CAP_\"");
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(effective(&[], &[], false).unwrap(), DEFAULT);
        let some = effective(&names(&["NET_ADMIN", "chown"]), &names(&["ALL"]), false).unwrap();
        assert_eq!(some, ["CAP_NET_ADMIN", "CAP_CHOWN"]);
        let less = effective(&names(&["ALL"]), &names(&["MKNOD"]), false).unwrap();
        assert!(!less.contains(&"CAP_MKNOD".to_owned()) && less.contains(&"CAP_NET_ADMIN".to_owned()));
    }

    #[test]
    fn nothing_is_promised_that_cannot_be_given() {
        assert!(effective(&[], &[], true).unwrap().iter().all(|name| held().contains(name)));
    }
}
