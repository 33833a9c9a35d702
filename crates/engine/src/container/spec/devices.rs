//! Device nodes a container gets, and the rules of access that go with them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use wharf_oci::runtime::{Device, DeviceRule};

use super::runtime_error;
use crate::error::{Error, Result};

/// What a device request amounts to.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Granted {
    /// Nodes to make.
    pub nodes: Vec<Device>,
    /// Rules of access, in order.
    pub rules: Vec<DeviceRule>,
}

/// The rules every container starts with: nothing, then making any node and using the harmless ones.
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: kind.to_owned(),
        major,
        minor,
        access: access.to_owned(),
    };
    vec![
        DeviceRule { allow: false, access: "rwm".to_owned(), ..DeviceRule::default() },
        rule("c", Some(1), Some(5), "rwm"),
        rule("c", Some(1), Some(3), "rwm"),
        rule("c", Some(1), Some(9), "rwm"),
        rule("c", Some(1), Some(8), "rwm"),
        rule("c", Some(5), Some(0), "rwm"),
        rule("c", Some(5), Some(1), "rwm"),
        rule("b", None, None, "m"),
        rule("c", None, None, "m"),
        rule("c", Some(136), None, "rwm"),
        rule("c", Some(5), Some(2), "rwm"),
    ]
}

/// The rule that allows everything, of a privileged container.
pub fn allow_all() -> DeviceRule {
    DeviceRule { allow: true, access: "rwm".to_owned(), ..DeviceRule::default() }
}

/// What `--device ON_HOST:IN_CONTAINER:PERMISSIONS` grants: the node, or all nodes below a directory.
///
/// # Errors
/// `error gathering device information while adding custom device "…": …` when it is no device, and runc's words for
/// permissions that are none.
pub fn grant(on_host: &str, in_container: &str, permissions: &str) -> Result<Granted> {
    let failed = |why: &str| {
        Error::internal(format!(
            "error gathering device information while adding custom device \"{on_host}\": {why}"
        ))
    };
    // A link to a device stands for the device, a link inside a directory does not.
    let resolved = std::fs::canonicalize(on_host).map_err(|_| failed("no such file or directory"))?;
    let meta = std::fs::metadata(&resolved).map_err(|_| failed("no such file or directory"))?;
    let mut granted = Granted::default();
    if let Some(device) = node(&meta, in_container) {
        check_permissions(permissions)?;
        granted.add(device, permissions);
    } else if meta.is_dir() {
        below(&resolved, Path::new(in_container), permissions, &mut granted);
    }
    if granted.nodes.is_empty() {
        return Err(failed("not a device node"));
    }
    Ok(granted)
}

/// Every device of the host, for a privileged container.
pub fn all_of_host() -> Vec<Device> {
    let mut granted = Granted::default();
    below(Path::new("/dev"), Path::new("/dev"), "rwm", &mut granted);
    granted.nodes
}

/// The rule in `--device-cgroup-rule`'s form: `c 1:3 rwm`.
///
/// # Errors
/// `invalid device cgroup rule format: '…'`.
pub fn parse_rule(text: &str) -> Result<DeviceRule> {
    let bad = || Error::internal(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    };
    if !matches!(kind, "a" | "b" | "c") || access.len() > 3 || !letters(access) {
        return Err(bad());
    }
    let (major, minor) = (number(major)?, number(minor)?);
    Ok(DeviceRule { allow: true, kind: kind.to_owned(), major, minor, access: access.to_owned() })
}

impl Granted {
    fn add(&mut self, device: Device, permissions: &str) {
        self.rules.push(DeviceRule {
            allow: true,
            kind: device.kind.clone(),
            major: Some(device.major),
            minor: Some(device.minor),
            access: permissions.to_owned(),
        });
        self.nodes.push(device);
    }
}

fn letters(permissions: &str) -> bool {
    !permissions.is_empty() && permissions.bytes().all(|letter| b"rwm".contains(&letter))
}

fn check_permissions(permissions: &str) -> Result<()> {
    if permissions.is_empty() {
        return Err(runtime_error("device access at 16 field cannot be empty"));
    }
    if !letters(permissions) {
        return Err(runtime_error(format_args!("invalid device access: {permissions}")));
    }
    Ok(())
}

/// The node for a device file of the host, if it is one.
fn node(meta: &std::fs::Metadata, path: &str) -> Option<Device> {
    let kind = if meta.file_type().is_char_device() {
        "c"
    } else if meta.file_type().is_block_device() {
        "b"
    } else {
        return None;
    };
    let device = meta.rdev();
    Some(Device {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: i64::from(rustix::fs::major(device)),
        minor: i64::from(rustix::fs::minor(device)),
        file_mode: Some(meta.mode() & 0o7777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    })
}

/// Names below /dev that a container has of its own.
const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Adds the devices below `dir`; what cannot be looked at, or is gone by now, is not there.
fn below(dir: &Path, inside: &Path, permissions: &str, granted: &mut Granted) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        let inside = inside.join(&name);
        if meta.is_dir() {
            if !name.to_str().is_some_and(|name| OWN.contains(&name)) {
                below(&entry.path(), &inside, permissions, granted);
            }
        } else if name != "console" {
            let device = inside.to_str().and_then(|inside| node(&meta, inside));
            if let Some(device) = device.filter(|_| letters(permissions)) {
                granted.add(device, permissions);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_brings_its_node_and_its_rule() {
        let granted = grant("/dev/null", "/dev/n2", "rw").unwrap();
        let (device, rule) = (&granted.nodes[0], &granted.rules[0]);
        assert_eq!(
            (device.path.as_str(), device.kind.as_str(), device.major, device.minor),
            ("/dev/n2", "c", 1, 3)
        );
        assert_eq!((rule.allow, rule.access.as_str(), rule.minor), (true, "rw", Some(3)));
    }

    #[test]
    fn what_is_no_device_is_refused_in_dockers_words() {
        let text = |path| grant(path, "/x", "r").unwrap_err().message().to_owned();
        let why = "error gathering device information while adding custom device";
        assert_eq!(text("/dev/nosuch"), format!("{why} \"/dev/nosuch\": no such file or directory"));
        assert_eq!(text("/etc/hosts"), format!("{why} \"/etc/hosts\": not a device node"));
        assert!(grant("/dev/null", "/x", "").unwrap_err().message().ends_with("field cannot be empty"));
    }

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        for bad in ["x", "c 1:3", "c 1:* q", "c 1:3 rwmr", " c 1:3 r", "d 1:3 r", "c 1:+3 r", "c : r "] {
            let text = format!("invalid device cgroup rule format: '{bad}'");
            assert_eq!(parse_rule(bad).unwrap_err().message(), text);
        }
        let rule = parse_rule("b *:5 w").unwrap();
        assert_eq!((rule.kind.as_str(), rule.major, rule.minor), ("b", None, Some(5)));
        assert!(parse_rule("a *:* rwm").is_ok());
    }

    #[test]
    fn a_privileged_container_sees_the_hosts_devices() {
        let paths: Vec<_> = all_of_host().into_iter().map(|device| device.path).collect();
        assert!(paths.contains(&"/dev/null".to_owned()));
        assert!(!paths.iter().any(|path| path.starts_with("/dev/pts/") || path == "/dev/console"));
    }
}
