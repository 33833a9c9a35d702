//! The part of mounting that needs the host's view: bind sources become descriptors here.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use wharf_oci::runtime::{Linux, Mount, Spec};
use wharf_sys::{
    cgroup::{Cgroup, Layout, Version},
    mount::DetachedMount,
    namespace,
};

use super::{devices, options::Options};
use crate::{
    error::{LaunchError, Result},
    launch::id_range,
};

/// A mount with everything about it that could be decided beforehand.
#[derive(Debug)]
pub(crate) struct PlannedMount<'a> {
    pub(crate) destination: &'a str,
    pub(crate) options: Options<'a>,
    pub(crate) what: What<'a>,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// A copy of something of the host. `source`: where it is, if all that is mounted below it comes along.
    Bind { tree: DetachedMount, is_directory: bool, source: Option<&'a str> },
    /// A new file system, made inside the container's namespaces.
    New { kind: &'a str, source: &'a str },
    /// The container's own part of each version 1 hierarchy, by the name of its mount point.
    CgroupV1 { hierarchies: Vec<(String, DetachedMount)> },
}

pub(crate) fn prepare<'a>(spec: &'a Spec, cgroup: Option<&Cgroup>) -> Result<Vec<PlannedMount<'a>>> {
    spec.mounts.iter().map(|mount| prepare_one(mount, spec, cgroup)).collect()
}

fn prepare_one<'a>(mount: &'a Mount, spec: &'a Spec, cgroup: Option<&Cgroup>) -> Result<PlannedMount<'a>> {
    let options = Options::parse(&mount.options);
    let failed = |why: &dyn std::fmt::Display| {
        LaunchError::other(format!(
            "error mounting {:?} to rootfs at {:?}: {why}",
            mount.source, mount.destination
        ))
    };
    let what = if options.bind.is_some() || mount.kind == "bind" {
        let (tree, is_directory) = bind_source(mount, &options).map_err(|error| failed(&error))?;
        let mapped = options.id_map || !mount.uid_mappings.is_empty();
        if mapped {
            id_map(&tree, mount, spec).map_err(|error| failed(&error))?;
        }
        let trusted = mount.source_base.is_empty() && in_another_container(&mount.source).is_none();
        let whole = options.bind == Some(true) && !mapped && trusted;
        What::Bind { tree, is_directory, source: whole.then_some(mount.source.as_str()) }
    } else if mount.kind == "cgroup" {
        cgroup_view(cgroup).map_err(|error| failed(&error))?
    } else {
        What::New {
            kind: &mount.kind,
            source: if mount.source.is_empty() { &mount.kind } else { &mount.source },
        }
    };
    Ok(PlannedMount { destination: &mount.destination, options, what })
}

fn bind_source(mount: &Mount, options: &Options<'_>) -> Result<(DetachedMount, bool)> {
    if let Some((process, path)) = in_another_container(&mount.source) {
        let namespace = namespace::open(&PathBuf::from(format!("/proc/{process}/ns/mnt")))?;
        let path = std::ffi::CString::new(path).map_err(LaunchError::other)?;
        use std::os::fd::AsFd;
        let tree = DetachedMount::clone_tree_in(namespace.as_fd(), &path, options.bind == Some(true))?;
        let stat = rustix::fs::fstat(tree.as_fd()).map_err(LaunchError::other)?;
        return Ok((tree, FileType::from_raw_mode(stat.st_mode) == FileType::Directory));
    }
    let source = open_source(mount).map_err(|errno| LaunchError::other(wharf_sys::error::describe(errno)))?;
    let stat = rustix::fs::fstat(&source).map_err(LaunchError::other)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    use std::os::fd::AsFd;
    let tree = DetachedMount::clone_tree(source.as_fd(), "", options.bind == Some(true))?;
    Ok((tree, is_directory))
}

/// What a bind shows. A container that puts a link where a place inside its volume was found leads nowhere with it.
fn open_source(mount: &Mount) -> rustix::io::Result<OwnedFd> {
    let (flags, mode) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let base = PathBuf::from(&mount.source_base);
    let Ok(inside) = Path::new(&mount.source).strip_prefix(&base) else { return Err(Errno::XDEV) };
    if mount.source_base.is_empty() || inside.as_os_str().is_empty() {
        return openat(CWD, &mount.source, flags, mode);
    }
    let base = openat(CWD, &base, flags | OFlags::DIRECTORY, mode)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        // A rename elsewhere makes the kernel give up (openat2(2)).
        match openat2(&base, inside, flags, mode, resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// `/proc/PID/root/PATH`: a mount of another container (its `/dev/shm`), taken out of that one's namespace.
fn in_another_container(source: &str) -> Option<(&str, &str)> {
    let (process, _) = source.strip_prefix("/proc/")?.split_once("/root/")?;
    let number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| (process, &source["/proc/".len() + process.len() + "/root".len()..]))
}

/// The mount's own mapping, or the container's.
fn id_map(tree: &DetachedMount, mount: &Mount, spec: &Spec) -> Result<()> {
    use std::os::fd::AsFd;
    let linux = spec.linux.as_ref();
    let (mut users, mut groups) = (&mount.uid_mappings, &mount.gid_mappings);
    if let (true, Some(linux)) = (users.is_empty(), linux) {
        (users, groups) = (&linux.uid_mappings, &linux.gid_mappings);
    }
    let ranges = |list: &[wharf_oci::runtime::IdMapping]| list.iter().map(id_range).collect::<Vec<_>>();
    let namespace = namespace::user_namespace(&ranges(users), &ranges(groups))?;
    let change = wharf_sys::mount::Attributes::new().id_map(namespace.as_fd());
    tree.set_attr(&change, true).map_err(|error| match error.errno() {
        rustix::io::Errno::INVAL => LaunchError::other("its file system cannot map owners (idmap)"),
        _ => error.into(),
    })
}

/// A `sysfs` shows, and belongs to, the network namespace that it was mounted in. A user namespace may not mount one of
/// a network namespace that is not its own, so it is made here, by a process that has joined that one.
pub(crate) fn keep_sysfs(mounts: &mut [PlannedMount<'_>]) -> Result<()> {
    for mount in mounts {
        if let What::New { kind: "sysfs", source } = mount.what {
            let attributes = mount.options.own.initial();
            let tree = DetachedMount::new("sysfs", source, &mount.options.data, attributes)?;
            mount.what = What::Bind { tree, is_directory: true, source: None };
        }
    }
    Ok(())
}

/// A container sees its own group as the root, in whichever form this machine has.
fn cgroup_view<'a>(cgroup: Option<&Cgroup>) -> Result<What<'a>> {
    let layout = Layout::get()?;
    if layout.version == Version::V2 {
        return Ok(What::New { kind: "cgroup2", source: "cgroup" });
    }
    let Some(cgroup) = cgroup else { return Ok(What::CgroupV1 { hierarchies: Vec::new() }) };
    let mut hierarchies = Vec::new();
    for (root, own) in layout.v1.iter().zip(cgroup.v1_directories()) {
        let Some(name) = root.dir.file_name() else { continue };
        let tree = DetachedMount::clone_tree(CWD, own, false)?;
        hierarchies.push((name.to_string_lossy().into_owned(), tree));
    }
    Ok(What::CgroupV1 { hierarchies })
}

/// Copies of the host's device nodes that a container gets, for where it may not make its own.
pub(crate) fn host_devices(linux: &Linux) -> Result<Vec<(String, DetachedMount)>> {
    let paths = devices::DEFAULT.iter().map(|device| PathBuf::from(device.path));
    let extra = linux.devices.iter().map(|device| PathBuf::from(&device.path));
    paths
        .chain(extra)
        .map(|path| Ok((path.to_string_lossy().into_owned(), DetachedMount::clone_tree(CWD, &path, false)?)))
        .collect()
}
