//! Mounts a container's tree for this process alone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;
use wharf_sys::mount::{Attributes, DetachedMount, Propagation};
use wharf_sys::namespace::{self, IdMap, flags};
use wharf_sys::root::{Root, RootError};

use super::{Base, Failure, Tree, Volume};

/// Makes the tree. It lives in a mount namespace that ends with this process, and no mount event leaves that.
pub(super) fn mount(tree: &Tree) -> Result<Root, Failure> {
    let base = match &tree.base {
        Base::Recipe(recipe) => recipe.mount()?,
        Base::Process(pid) => root_of(*pid)?,
    };
    namespace::unshare(flags::MOUNT)?;
    namespace::make_mounts_private()?;
    let mut volumes: Vec<&Volume> = tree.volumes.iter().collect();
    volumes.sort_by_key(|volume| volume.destination.components().count());
    // All sources before the root: it may cover some of them.
    let sources = volumes.iter().map(|volume| copy(volume).map_err(|failure| about(volume, failure)));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    // Mounts can be attached only to what is attached itself.
    base.attach(Root::open(&tree.place)?.as_fd())?;
    let root = Root::from_fd(base.into_fd());
    for (volume, source) in volumes.into_iter().zip(&sources) {
        attach(&root, volume, source).map_err(|failure| about(volume, failure))?;
    }
    tree.ids.as_ref().map_or(Ok(()), enter)?;
    Ok(root)
}

/// Becomes root of a user namespace with these ids. What is outside of them is nobody's, and cannot be given away.
fn enter(ids: &IdMap) -> Result<(), Failure> {
    let namespace = namespace::user_namespace(&ids.users, &ids.groups)?;
    namespace::join(namespace.as_fd(), flags::USER)?;
    let failed = |errno| Failure::failed(format!("become root of user namespace: {errno}"));
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed)
}

/// The mount that a process has as its root, without the mounts in it. It can be copied only from inside the process's
/// mount namespace, so this process visits that for one call.
fn root_of(pid: i32) -> Result<DetachedMount, Failure> {
    let own = namespace::open(Path::new("/proc/self/ns/mnt"))?;
    let other = namespace::open(Path::new(&format!("/proc/{pid}/ns/mnt")))?;
    let root = Root::open(format!("/proc/{pid}/root"))?;
    namespace::join(other.as_fd(), flags::MOUNT)?;
    let copied = DetachedMount::clone_tree(root.as_fd(), "", false);
    namespace::join(own.as_fd(), flags::MOUNT)?;
    let copied = copied?;
    copied.set_attr(&Attributes::new().propagation(Propagation::Private), false)?;
    // The rule about read-only containers is kept by path; volumes' mount points may have to be made.
    copied.set_attr(&Attributes::new().clear(MountAttrFlags::MOUNT_ATTR_RDONLY), false)?;
    Ok(copied)
}

fn about(volume: &Volume, failure: Failure) -> Failure {
    Failure::failed(format!("mount {}: {}", volume.destination.display(), failure.message))
}

/// A copy of a volume's mount, not attached yet.
fn copy(volume: &Volume) -> Result<DetachedMount, Failure> {
    let mount = DetachedMount::clone_tree(source(volume)?.as_fd(), "", true)?;
    mount.set_attr(&Attributes::new().propagation(Propagation::Private), true)?;
    if volume.read_only {
        mount.set_attr(&Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY), true)?;
    }
    if let Some(ids) = &volume.ids {
        let namespace = namespace::user_namespace(&ids.users, &ids.groups)?;
        mount.set_attr(&Attributes::new().id_map(namespace.as_fd()), false)?;
    }
    Ok(mount)
}

fn attach(root: &Root, volume: &Volume, source: &DetachedMount) -> Result<(), Failure> {
    let stat = rustix::fs::fstat(source).map_err(|errno| RootError::new("stat", &volume.source, errno))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(source.attach(place(root, &volume.destination, is_dir)?.as_fd())?)
}

fn source(volume: &Volume) -> Result<OwnedFd, Failure> {
    if volume.subpath.as_os_str().is_empty() {
        let opened = rustix::fs::openat(CWD, &volume.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        return Ok(opened.map_err(|errno| RootError::new("open", &volume.source, errno))?);
    }
    Ok(Root::open(&volume.source)?.open_at(&volume.subpath, OFlags::PATH, Mode::empty())?)
}

/// The mount point, made where a container that never ran does not have it yet.
fn place(root: &Root, destination: &Path, is_dir: bool) -> Result<OwnedFd, Failure> {
    match root.open_at(destination, OFlags::PATH, Mode::empty()) {
        Err(error) if error.is_not_found() => {}
        found => return Ok(found?),
    }
    if is_dir {
        root.create_dir_all(destination, 0o755)?;
    } else if let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) {
        root.create_dir_all(parent, 0o755)?.create_file(name, 0o755)?;
    }
    Ok(root.open_at(destination, OFlags::PATH, Mode::empty())?)
}
