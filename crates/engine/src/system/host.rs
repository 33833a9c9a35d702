//! What the host says of itself.

use std::fs;
use std::path::Path;

use wharf_sys::cgroup::{Layout, Version};

use crate::container::stats::memory_total;

/// The kernel's release.
pub(super) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The host's name.
pub(super) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The architecture in the kernel's words: `x86_64`, `aarch64`.
pub(super) fn architecture() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The architecture in Go's words: `amd64`, `arm64`.
pub(super) fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `PRETTY_NAME` and `VERSION_ID` of the distribution.
pub(super) fn distribution() -> (String, String) {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let of = |key: &str| os_release(&text, key);
    (of("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()), of("VERSION_ID").unwrap_or_default())
}

fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Processors this process may use, as Go's `runtime.NumCPU` counts.
pub(super) fn cpus() -> i64 {
    std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1))
}

/// Bytes of memory.
pub(super) fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    i64::try_from(memory_total(&text)).unwrap_or(0)
}

/// Whether IPv4 packets are forwarded.
pub(super) fn forwards_ipv4() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() == "1")
}

/// How many descriptors this process has open.
pub(super) fn descriptors() -> i64 {
    fs::read_dir("/proc/self/fd").map_or(-1, |list| i64::try_from(list.count()).unwrap_or(-1))
}

/// How many threads this process has.
pub(super) fn threads() -> i64 {
    fs::read_dir("/proc/self/task").map_or(-1, |list| i64::try_from(list.count()).unwrap_or(-1))
}

/// The kind of the file system that holds `path`, as Docker names it.
pub(super) fn file_system(path: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(path) else { return "<unknown>".to_owned() };
    let kind = match found.f_type {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        0x0187 => "autofs",
        _ => "<unknown>",
    };
    kind.to_owned()
}

/// Which limits the kernel can keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) version2: bool,
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpu_quota: bool,
    pub(super) cpu_shares: bool,
    pub(super) cpuset: bool,
    pub(super) pids: bool,
    pub(super) oom_kill_disable: bool,
}

/// Probes the cgroup hierarchies.
pub(super) fn limits() -> Limits {
    let Ok(layout) = Layout::get() else { return Limits::default() };
    if layout.version == Version::V2 {
        return layout.v2.as_deref().map_or_else(Limits::default, limits_v2);
    }
    let dir = |controller: &str| {
        let has = |name: &String| name == controller;
        layout.v1.iter().find(|hierarchy| hierarchy.controllers.iter().any(has)).map(|found| &found.dir)
    };
    let file = |controller: &str, name: &str| dir(controller).is_some_and(|dir| dir.join(name).exists());
    Limits {
        version2: false,
        memory: dir("memory").is_some(),
        swap: file("memory", "memory.memsw.limit_in_bytes"),
        cpu_quota: file("cpu", "cpu.cfs_quota_us"),
        cpu_shares: file("cpu", "cpu.shares"),
        cpuset: dir("cpuset").is_some(),
        pids: dir("pids").is_some(),
        oom_kill_disable: file("memory", "memory.oom_control"),
    }
}

fn limits_v2(dir: &Path) -> Limits {
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_ascii_whitespace().any(|found| found == name);
    Limits {
        version2: true,
        memory: has("memory"),
        // The root group has no such file; whether the kernel accounts swap at all is what counts.
        swap: has("memory") && fs::metadata("/proc/swaps").is_ok(),
        cpu_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
        oom_kill_disable: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_read() {
        let text = "NAME=\"X\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(os_release(text, "PRETTY_NAME").unwrap(), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(os_release(text, "VERSION_ID").unwrap(), "12");
        assert_eq!(os_release(text, "VERSION"), None);
    }

    #[test]
    fn this_host_answers() {
        assert!(!kernel().is_empty() && !name().is_empty() && memory() > 0 && cpus() > 0);
        assert!(descriptors() > 2 && threads() > 0);
    }
}
