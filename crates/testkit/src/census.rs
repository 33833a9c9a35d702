//! What the kernel and the file system still hold for an instance: must be nothing when its suite is over.

use std::path::Path;

/// Everything found that carries `instance` in its name, one line each; empty is good.
pub fn leftovers(instance: &str) -> Vec<String> {
    let mut found = Vec::new();
    mounts(instance, &mut found);
    cgroups(Path::new("/sys/fs/cgroup"), instance, 5, &mut found);
    processes(instance, &mut found);
    links(instance, &mut found);
    found
}

fn mounts(instance: &str, found: &mut Vec<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(table.lines().filter(|line| line.contains(instance)).map(|line| format!("mount: {line}")));
}

fn cgroups(folder: &Path, instance: &str, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        let inside = path.to_string_lossy().contains(instance);
        // The instance's own parent may stay while its daemon lives; what is below it may not.
        if inside && path.parent().is_some_and(|parent| parent.to_string_lossy().contains(instance)) {
            found.push(format!("cgroup: {}", path.display()));
        }
        if depth > 0 {
            cgroups(&path, instance, depth - 1, found);
        }
    }
}

fn processes(instance: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    let own = std::process::id().to_string();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(instance) {
            found.push(format!("process {name}: {line}"));
        }
    }
}

fn links(instance: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    found.extend(names.filter(|name| name.contains(instance)).map(|name| format!("link: {name}")));
}
