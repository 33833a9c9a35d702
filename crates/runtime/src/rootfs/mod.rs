//! The container's file system tree, made inside its own mount namespace.
//!
//! invariant: no path string is ever resolved in the container's tree but through [`Root`], whose lookups
//! cannot leave it; mounts are attached to descriptors; `/proc` is written through the mount made here.

pub(crate) mod devices;
pub(crate) mod mask;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod plan;

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    mount::MountAttrFlags,
};
use wharf_sys::{
    mount::{Attributes, DetachedMount, Propagation},
    namespace,
    root::{Root, RootError},
};

use crate::{
    error::{LaunchError, Result},
    launch::Plan,
};

/// The tree while it is being made.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Root,
    /// The root's mount.
    mount: OwnedFd,
    /// A `proc` of the container's pid namespace that nobody else made.
    procfs: Option<DetachedMount>,
    /// The container's terminals.
    pub(crate) devpts: Option<DetachedMount>,
}

impl Tree {
    /// Puts the root in place, cut off from the host's mounts.
    pub(crate) fn enter(root: &DetachedMount) -> Result<Self> {
        namespace::make_mounts_private()?;
        let place = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(LaunchError::other)?;
        root.attach(place.as_fd())?;
        root.set_attr(&Attributes::new().propagation(Propagation::Private), true)?;
        let copy = || root.as_fd().try_clone_to_owned().map_err(LaunchError::other);
        Ok(Self { root: Root::from_fd(copy()?), mount: copy()?, procfs: None, devpts: None })
    }

    /// A `proc` to write through. Looked up in it, a path cannot be redirected by what the image or another
    /// container has put below `/proc` (CVE-2019-16884, CVE-2025-52881).
    pub(crate) fn procfs(&mut self) -> Result<Root> {
        if self.procfs.is_none() {
            self.procfs = Some(DetachedMount::new("proc", "proc", &[], MountAttrFlags::empty())?);
        }
        let procfs = self.procfs.as_ref().map(|mount| mount.as_fd().try_clone_to_owned());
        procfs
            .transpose()
            .map_err(LaunchError::other)?
            .map(Root::from_fd)
            .ok_or_else(|| LaunchError::other("no proc file system"))
    }

    /// Makes the tree this namespace's only one; `read_only` is what the root becomes then.
    pub(crate) fn pivot(&self, read_only: bool, propagation: Option<(Propagation, bool)>) -> Result<()> {
        namespace::pivot_root(self.mount.as_fd())?;
        if read_only {
            let change = Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY);
            wharf_sys::mount::set_attributes(self.mount.as_fd(), &change, false)?;
        }
        if let Some((propagation, recursive)) = propagation {
            let change = Attributes::new().propagation(propagation);
            wharf_sys::mount::set_attributes(self.mount.as_fd(), &change, recursive)?;
        }
        Ok(())
    }
}

/// Everything below the root, in order.
pub(crate) fn build(plan: &Plan<'_>, tree: &mut Tree) -> Result<()> {
    for mount in &plan.mounts {
        mounts::make(tree, mount, &plan.linux.mount_label).map_err(|error| {
            LaunchError::other(format!("error mounting to rootfs at {:?}: {error}", mount.destination))
        })?;
    }
    if devices::wanted(&plan.mounts) {
        devices::make(tree, plan)?;
    }
    Ok(())
}

/// Writes kernel parameters.
pub(crate) fn set_sysctls(plan: &Plan<'_>, tree: &mut Tree) -> Result<()> {
    if plan.linux.sysctl.is_empty() {
        return Ok(());
    }
    let procfs = tree.procfs()?;
    for (name, value) in &plan.linux.sysctl {
        // A name with a slash is one whose parts contain dots (`net/ipv4/conf/eth0.1/…`).
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        write(&procfs, &format!("sys/{path}"), value)
            .map_err(|error| LaunchError::other(format!("error setting sysctl {name}: {error}")))?;
    }
    Ok(())
}

/// Writes a small file of the kernel's.
pub(crate) fn write(root: &Root, path: &str, value: &str) -> std::result::Result<(), RootError> {
    let file = root.open_at(path, OFlags::WRONLY, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop).map_err(|errno| RootError::new("write", path, errno))
}
