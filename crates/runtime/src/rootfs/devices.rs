//! `/dev`: nodes, links and the console.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, openat},
    io::Errno,
    pty::OpenptFlags,
};
use wharf_oci::runtime::Device;
use wharf_sys::{mount::DetachedMount, root::Dir};

use super::{
    Tree,
    mounts::{place, split},
    plan::{PlannedMount, What},
};
use crate::{
    error::{LaunchError, Result},
    launch::Plan,
};

/// A device that every container has.
pub(crate) struct DefaultDevice {
    pub(crate) path: &'static str,
    number: (u32, u32),
}

/// "Default Devices" of the OCI runtime spec.
pub(crate) const DEFAULT: [DefaultDevice; 6] = [
    DefaultDevice { path: "/dev/null", number: (1, 3) },
    DefaultDevice { path: "/dev/zero", number: (1, 5) },
    DefaultDevice { path: "/dev/full", number: (1, 7) },
    DefaultDevice { path: "/dev/random", number: (1, 8) },
    DefaultDevice { path: "/dev/urandom", number: (1, 9) },
    DefaultDevice { path: "/dev/tty", number: (5, 0) },
];

/// Links of `/dev`: name and target.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// A `/dev` of the host is left as it is.
pub(crate) fn wanted(mounts: &[PlannedMount<'_>]) -> bool {
    let dev = |mount: &&PlannedMount<'_>| mount.destination.trim_end_matches('/') == "/dev";
    mounts.iter().filter(dev).all(|mount| !matches!(mount.what, What::Bind { .. }))
}

pub(crate) fn make(tree: &Tree, plan: &Plan<'_>) -> Result<()> {
    let dev = tree.root.dir("/dev").map_err(LaunchError::other)?;
    for device in &DEFAULT {
        let node = Node {
            path: device.path,
            kind: FileType::CharacterDevice,
            number: device.number,
            mode: 0o666,
            owner: (0, 0),
        };
        make_node(tree, plan, &dev, &node)?;
    }
    for device in &plan.linux.devices {
        // Those above have their fixed numbers and modes.
        if !DEFAULT.iter().any(|default| default.path == device.path) {
            make_node(tree, plan, &dev, &Node::of(device)?)?;
        }
    }
    for (name, target) in LINKS {
        match dev.symlink(OsStr::new(name), OsStr::new(target)) {
            Err(error) if error.errno() != Errno::EXIST => return Err(LaunchError::other(error)),
            _ => {}
        }
    }
    Ok(())
}

struct Node<'a> {
    path: &'a str,
    kind: FileType,
    number: (u32, u32),
    mode: u32,
    owner: (u32, u32),
}

impl<'a> Node<'a> {
    fn of(device: &'a Device) -> Result<Self> {
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            other => {
                return Err(LaunchError::other(format!("device {}: unknown type {other:?}", device.path)));
            }
        };
        let number = |n: i64| {
            u32::try_from(n).map_err(|_| LaunchError::other(format!("device {}: number {n}", device.path)))
        };
        Ok(Self {
            path: &device.path,
            kind,
            number: (number(device.major)?, number(device.minor)?),
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            owner: (device.uid.unwrap_or(0), device.gid.unwrap_or(0)),
        })
    }
}

fn make_node(tree: &Tree, plan: &Plan<'_>, dev: &Dir, node: &Node<'_>) -> Result<()> {
    let failed =
        |why: &dyn std::fmt::Display| LaunchError::other(format!("create device {}: {why}", node.path));
    if let Some((_, device)) = plan.host_devices.iter().find(|(path, _)| path == node.path) {
        let place = place(&tree.root, node.path, false)?;
        return device.attach(place.as_fd()).map_err(|error| failed(&error));
    }
    let (parent, name) = split(node.path)?;
    let made;
    let parent = if parent == Path::new("/dev") {
        dev
    } else {
        made = tree.root.create_dir_all(parent, 0o755).map_err(|error| failed(&error))?;
        &made
    };
    match parent.mknod(name, node.kind, node.mode, node.number) {
        Err(error) if error.errno() == Errno::EXIST => {
            let stat = parent.stat(name).map_err(|error| failed(&error))?;
            let same = FileType::from_raw_mode(stat.st_mode) == node.kind
                && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == node.number;
            return if same { Ok(()) } else { Err(failed(&"something else is there")) };
        }
        result => result.map_err(|error| failed(&error))?,
    }
    if node.owner != (0, 0) {
        parent.chown(name, node.owner.0, node.owner.1).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// A new terminal of the container's own: master and slave.
pub(crate) fn open_terminal(devpts: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let failed = |errno| LaunchError::other(format!("open terminal: {}", wharf_sys::error::describe(errno)));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty()).map_err(failed)?;
    rustix::pty::unlockpt(&master).map_err(failed)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    );
    Ok((master, slave.map_err(failed)?))
}

/// Shows the terminal as `/dev/console`. The node is bound by descriptor, never by its name in `/dev/pts`
/// (CVE-2025-52565).
pub(crate) fn make_console(tree: &Tree, slave: BorrowedFd<'_>) -> Result<()> {
    let place = place(&tree.root, "/dev/console", false)?;
    let stat = rustix::fs::fstat(&place).map_err(LaunchError::other)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(LaunchError::other("/dev/console is a link"));
    }
    DetachedMount::clone_tree(slave, "", false)?.attach(place.as_fd())?;
    Ok(())
}
