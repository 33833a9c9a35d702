//! What the kernel and the file system still hold for an instance: must be nothing when its suite is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Everything found that carries `instance` in its name, one line each; empty is good.
pub fn leftovers(instance: &str) -> Vec<String> {
    let mut found = mounts(instance);
    found.extend(groups(instance).iter().map(|group| format!("cgroup: {}", group.display())));
    found.extend(processes(instance));
    links(instance, &mut found);
    found
}

/// Mounts that this process sees.
pub fn mounts(instance: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(instance)).map(|line| format!("mount: {line}")).collect()
}

/// The instance's control groups in all hierarchies, parents included.
fn groups(instance: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    groups_below(Path::new("/sys/fs/cgroup"), instance, 5, &mut found);
    found
}

fn groups_below(folder: &Path, instance: &str, depth: u32, found: &mut Vec<PathBuf>) {
    for path in entries(folder).filter(|path| path.is_dir() && !path.is_symlink()) {
        if depth > 0 {
            groups_below(&path, instance, depth - 1, found);
        }
        if path.to_string_lossy().contains(instance) {
            found.push(path);
        }
    }
}

/// Control groups of containers that are not `active`.
pub fn stray_groups(instance: &str, active: &BTreeSet<String>) -> Vec<String> {
    let id = |path: &PathBuf| {
        path.components()
            .find_map(|part| part.as_os_str().to_str().filter(|name| is_id(name)).map(str::to_owned))
    };
    let groups = groups(instance).into_iter().filter_map(|path| Some((id(&path)?, path)));
    groups
        .filter(|(id, _)| !active.contains(id))
        .map(|(_, path)| format!("cgroup: {}", path.display()))
        .collect()
}

/// What lies below a daemon's roots that belongs to none of `all` its containers, or for a socket: none of the
/// `active` ones.
pub fn stray_files(
    data: &Path,
    run: &Path,
    all: &BTreeSet<String>,
    active: &BTreeSet<String>,
) -> Vec<String> {
    let none = BTreeSet::new();
    let owners = [
        (data.join("containers"), all),
        (data.join("snapshots/active"), all),
        (data.join("trash"), &none),
        (data.join("ingest"), &none),
        (run.join("c"), active),
    ];
    let stray = |(folder, known): (PathBuf, &BTreeSet<String>)| {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let belongs = |path: &Path| known.contains(name(path).split('@').next().unwrap_or_default());
        entries(&folder)
            .filter(|path| !belongs(path))
            .map(|path| format!("file: {}", path.display()))
            .collect::<Vec<_>>()
    };
    owners.into_iter().flat_map(stray).collect()
}

/// The descriptors process `pid` has open: how many of each kind, where a file's kind is its path.
pub fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for path in entries(Path::new(&format!("/proc/{pid}/fd"))) {
        let Ok(target) = std::fs::read_link(path) else { continue };
        let target = target.to_string_lossy();
        // The daemon's own program may be replaced while it runs.
        let target = target.strip_suffix(" (deleted)").unwrap_or(&target);
        // TLS keeps its source of random numbers once it was needed.
        if target == "/dev/urandom" {
            continue;
        }
        let kind =
            if target.starts_with('/') { target } else { target.split(':').next().unwrap_or_default() };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Processes whose command line contains `text`.
pub fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return found };
    let own = std::process::id().to_string();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(format!("process {name}: {line}"));
        }
    }
    found
}

fn links(instance: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    // Names are short and tell little; what an instance makes carries its name as the alias.
    let alias = format!("wharf:{instance}");
    let is_its = |name: &String| {
        let path = format!("/sys/class/net/{name}/ifalias");
        name.contains(instance) || std::fs::read_to_string(path).is_ok_and(|text| text.trim() == alias)
    };
    found.extend(names.filter(is_its).map(|name| format!("link: {name}")));
    found.extend(tables(instance).into_iter().map(|table| format!("nftables: {table}")));
}

/// Tables of the firewall that carry the instance's name; none are seen where `nft` is not installed.
pub fn tables(instance: &str) -> Vec<String> {
    let Ok(output) = std::process::Command::new("nft").args(["list", "tables"]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.contains(instance)).map(str::to_owned).collect()
}

/// The interfaces of containers of an instance on the host's side: what its bridges carry.
pub fn container_links(instance: &str) -> Vec<String> {
    let mut bridges = Vec::new();
    links(instance, &mut bridges);
    let is_its = |name: &String| {
        let master = std::fs::read_link(format!("/sys/class/net/{name}/master")).unwrap_or_default();
        let master = master.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bridges.iter().any(|bridge| *bridge == format!("link: {master}"))
    };
    let names = entries(Path::new("/sys/class/net"));
    let names = names.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    names.filter(is_its).collect()
}
