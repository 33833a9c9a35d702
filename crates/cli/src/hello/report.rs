//! What isolates this process, read from `/proc` and `/sys` alone.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The capabilities of Linux by number (`linux/capability.h`).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The whole report, a line or a few for each kind of isolation.
pub(super) fn report() -> String {
    let status = read("/proc/self/status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let mut text = String::from("Hello from inside a Wharf container.\n\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16}{value}");
    };
    line("pid", &format!("{} (of {} here)", std::process::id(), processes()));
    line("hostname", read("/proc/sys/kernel/hostname").trim());
    line(
        "user",
        &format!(
            "uid {}, gid {}, groups {}",
            first(&field("Uid:")),
            first(&field("Gid:")),
            or_none(&field("Groups:"))
        ),
    );
    line("namespaces", &namespaces());
    line("cgroup", &cgroup_limits());
    line("mounts", &mounts());
    line("capabilities", &capabilities(&field("CapEff:")));
    line("seccomp", if field("Seccomp:") == "2" { "filtered" } else { "none" });
    line("new privileges", if field("NoNewPrivs:") == "1" { "never" } else { "as the file system allows" });
    line("addresses", &addresses());
    text
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn first(field: &str) -> &str {
    field.split_whitespace().next().unwrap_or("?")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn processes() -> usize {
    let numeric = |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    fs::read_dir("/proc")
        .map_or(0, |entries| entries.flatten().filter(|entry| numeric(&entry.file_name())).count())
}

fn namespaces() -> String {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let link = |name: &&str| {
        fs::read_link(format!("/proc/self/ns/{name}")).ok().map(|link| link.to_string_lossy().into_owned())
    };
    names.iter().filter_map(link).collect::<Vec<_>>().join(" ")
}

/// The limits as version 2 or version 1 of control groups shows them in here.
fn cgroup_limits() -> String {
    let limit = |name: &str, v2: &str, v1: &str| {
        let value = [v2, v1]
            .iter()
            .map(|path| read(format!("/sys/fs/cgroup/{path}")))
            .find(|text| !text.is_empty())?;
        let value = value.trim();
        // Version 1 says "no limit" as the largest multiple of a page.
        let unlimited = value.starts_with("max") || value == "-1" || value.len() >= 18;
        Some(format!("{name} {}", if unlimited { "unlimited" } else { value }))
    };
    let limits = [
        limit("memory", "memory.max", "memory/memory.limit_in_bytes"),
        limit("cpu", "cpu.max", "cpu/cpu.cfs_quota_us"),
        limit("pids", "pids.max", "pids/pids.max"),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if limits.is_empty() { "limits not visible".into() } else { limits.join(", ") }
}

fn mounts() -> String {
    let table = read("/proc/self/mounts");
    let points: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let root = table.lines().find(|line| line.split(' ').nth(1) == Some("/"));
    let kind = root.and_then(|line| line.split(' ').nth(2)).unwrap_or("?");
    format!("{} (root is {kind}): {}", points.len(), points.join(" "))
}

fn capabilities(mask: &str) -> String {
    let Ok(mask) = u64::from_str_radix(mask, 16) else { return "?".into() };
    let held: Vec<&str> = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect();
    if held.is_empty() { "none".into() } else { held.join(" ") }
}

/// Addresses from the kernel's routing tables: `fib_trie` for IPv4, `if_inet6` for IPv6.
fn addresses() -> String {
    let mut found = Vec::new();
    let trie = read("/proc/net/fib_trie");
    let mut candidate = "";
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            candidate = address;
        } else if line.contains("host LOCAL") && !found.contains(&candidate.to_owned()) {
            found.push(candidate.to_owned());
        }
    }
    for line in read("/proc/net/if_inet6").lines() {
        let bits = line.split(' ').next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        found.extend(bits.map(|bits| std::net::Ipv6Addr::from(bits).to_string()));
    }
    or_none(&found.join(" ")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_every_kind_of_isolation() {
        let text = report();
        for word in ["pid", "hostname", "user", "namespaces", "cgroup", "mounts", "capabilities", "addresses"]
        {
            assert!(text.contains(word), "{word}");
        }
        assert_eq!(capabilities("0000000000000021"), "chown kill");
    }
}
