//! Making one mount.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::Errno,
    mount::{MountAttrFlags, UnmountFlags},
};
use wharf_sys::{
    mount::{Attributes, DetachedMount, Propagation},
    root::Root,
};

use super::{
    Tree,
    options::Options,
    plan::{PlannedMount, What},
};
use crate::error::{LaunchError, Result};

/// `f_type` of a procfs (`linux/magic.h`).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// What may be mounted inside `/proc`: files whose content is about the machine, shown per container by
/// tools such as lxcfs.
const ALLOWED_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

pub(crate) fn make(tree: &mut Tree, mount: &PlannedMount<'_>, label: &str) -> Result<()> {
    let is_directory = !matches!(&mount.what, What::Bind { is_directory: false, .. });
    let follow = if takes_no_link(mount) { OFlags::NOFOLLOW } else { OFlags::empty() };
    let place = find_place(&tree.root, mount.destination, is_directory, follow)?;
    check_place(place.as_fd(), mount)?;
    match &mount.what {
        What::Bind { tree: copy, source, .. } => match (bind(copy, &mount.options, place.as_fd()), source) {
            (Err(error), Some(source)) if error.errno() == Errno::LOOP => {
                bind_from_here(tree, mount, source, place.as_fd())
            }
            (bound, _) => Ok(bound?),
        },
        What::New { kind, source } => {
            let made = new(kind, source, &mount.options, label)?;
            made.attach(place.as_fd())?;
            spread(&made, &mount.options)?;
            match *kind {
                "proc" if mount.destination == "/proc" => tree.keep_procfs(made),
                "devpts" => tree.devpts = Some(made),
                _ => {}
            }
            Ok(())
        }
        What::CgroupV1 { hierarchies } => cgroup_v1(tree, mount, hierarchies, place.as_fd()),
    }
}

impl Tree {
    fn keep_procfs(&mut self, made: DetachedMount) {
        self.procfs = Some(made);
    }
}

/// Opens what a mount goes over, making it where it is missing.
pub(crate) fn place(root: &Root, path: &str, is_directory: bool) -> Result<OwnedFd> {
    find_place(root, path, is_directory, OFlags::empty())
}

fn find_place(root: &Root, path: &str, is_directory: bool, follow: OFlags) -> Result<OwnedFd> {
    let open = || root.open_at(path, OFlags::PATH | follow, Mode::empty());
    match open() {
        Err(error) if error.errno() == Errno::NOENT => {}
        found => return found.map_err(LaunchError::other),
    }
    let (parent, name) = split(path)?;
    let parent = root.create_dir_all(parent, 0o755).map_err(LaunchError::other)?;
    if !is_directory {
        parent.create_file(name, 0o755).map_err(LaunchError::other)?;
    } else if parent.mkdir(name, 0o755).is_ok() {
        // The mode is as asked for: this process has no umask.
        return parent.open(name, OFlags::PATH | OFlags::DIRECTORY).map_err(LaunchError::other);
    }
    open().map_err(LaunchError::other)
}

pub(crate) fn split(path: &str) -> Result<(&Path, &OsStr)> {
    let path = Path::new(path);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(LaunchError::other(format!("{} cannot be a mount point", path.display()))),
    }
}

/// Whether the mount goes where a link of the image's must not lead it elsewhere.
fn takes_no_link(mount: &PlannedMount<'_>) -> bool {
    matches!(&mount.what, What::New { kind: "proc" | "sysfs", .. })
        || matches!(mount.destination.trim_end_matches('/'), "/proc" | "/sys" | "/dev")
}

/// Refuses places that an image or another container may have prepared: a link where a kernel file system
/// goes (CVE-2019-19921), and anything inside a `/proc`.
fn check_place(place: BorrowedFd<'_>, mount: &PlannedMount<'_>) -> Result<()> {
    let destination = mount.destination.trim_end_matches('/');
    if destination.is_empty() {
        return Err(LaunchError::other("the root itself cannot be mounted over"));
    }
    if takes_no_link(mount) {
        let stat = rustix::fs::fstat(place).map_err(LaunchError::other)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(LaunchError::other(format!("{destination:?} must be an ordinary directory")));
        }
    }
    let is_proc = |fd: BorrowedFd<'_>| rustix::fs::fstatfs(fd).map(|stat| stat.f_type == PROC_SUPER_MAGIC);
    if destination == "/proc" {
        let what_is_proc = match &mount.what {
            What::Bind { tree, .. } => is_proc(tree.as_fd()).map_err(LaunchError::other)?,
            What::New { kind, .. } => *kind == "proc" || *kind == "tmpfs",
            What::CgroupV1 { .. } => false,
        };
        return if what_is_proc {
            Ok(())
        } else {
            Err(LaunchError::other("only a proc may be mounted at /proc"))
        };
    }
    if is_proc(place).map_err(LaunchError::other)? && !ALLOWED_IN_PROC.contains(&destination) {
        let why = format!("{destination:?} cannot be mounted because it is inside /proc");
        return Err(LaunchError::other(why));
    }
    Ok(())
}

fn bind(
    source: &DetachedMount,
    options: &Options<'_>,
    place: BorrowedFd<'_>,
) -> std::result::Result<(), wharf_sys::error::Error> {
    // Attributes first: a read-only mount is never writable, even for an instant.
    let own = options.own.attributes();
    if !own.is_empty() {
        source.set_attr(&own, false)?;
    }
    let below = options.recursive.attributes();
    if !below.is_empty() {
        source.set_attr(&below, true)?;
    }
    let (propagation, recursive) = options.propagation.unwrap_or((Propagation::Private, true));
    source.set_attr(&Attributes::new().propagation(propagation), recursive)?;
    source.attach(place)
}

/// Binds a tree that has the file of a mount namespace mounted in it (snapd keeps some): the kernel attaches none of
/// those in a namespace that is younger, and leaves them out of all copies that a new namespace has.
fn bind_from_here(tree: &Tree, mount: &PlannedMount<'_>, source: &str, place: BorrowedFd<'_>) -> Result<()> {
    let copy = DetachedMount::clone_tree(CWD, source, true)?;
    bind(&copy, &mount.options, place)?;
    // The host's root has the container's mounted over it in here, which came along.
    let identity = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let seen =
        tree.root.open_at(mount.destination, OFlags::PATH, Mode::empty()).map_err(LaunchError::other)?;
    let same = identity(seen.as_fd()).and_then(|seen| Ok(seen == identity(copy.as_fd())?));
    if !same.map_err(LaunchError::other)? {
        let over = format!("/proc/self/fd/{}", seen.as_raw_fd());
        rustix::mount::unmount(over, UnmountFlags::DETACH).map_err(LaunchError::other)?;
    }
    Ok(())
}

fn new(kind: &str, source: &str, options: &Options<'_>, label: &str) -> Result<DetachedMount> {
    let context;
    let mut data = options.data.clone();
    if !label.is_empty() && matches!(kind, "tmpfs" | "devpts" | "mqueue") {
        context = format!("context={label}");
        data.push(&context);
    }
    Ok(DetachedMount::new(kind, source, &data, options.own.initial())?)
}

fn spread(mount: &DetachedMount, options: &Options<'_>) -> Result<()> {
    if let Some((propagation, recursive)) = options.propagation {
        mount.set_attr(&Attributes::new().propagation(propagation), recursive)?;
    }
    Ok(())
}

/// A directory with the container's own group of each hierarchy, and links for those with several
/// controllers (`cpu -> cpu,cpuacct`).
fn cgroup_v1(
    tree: &Tree,
    mount: &PlannedMount<'_>,
    hierarchies: &[(String, DetachedMount)],
    place: BorrowedFd<'_>,
) -> Result<()> {
    let flags = mount.options.own.initial_writable();
    let parent = DetachedMount::new("tmpfs", "cgroup", &["mode=755"], flags)?;
    parent.attach(place)?;
    let top = tree.root.dir(mount.destination).map_err(LaunchError::other)?;
    for (name, group) in hierarchies {
        let name_os = OsStr::new(name);
        top.mkdir(name_os, 0o755).map_err(LaunchError::other)?;
        group.attach_in(top.as_fd(), name)?;
        for controller in name.split(',').filter(|_| name.contains(',')) {
            top.symlink(OsStr::new(controller), name_os).map_err(LaunchError::other)?;
        }
    }
    let mut change = Attributes::new().set(flags).propagation(Propagation::Private);
    if mount.options.own.is_read_only() {
        change = change.set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    }
    parent.set_attr(&change, true)?;
    Ok(())
}
