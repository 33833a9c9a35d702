//! Volumes that are a `tmpfs`: one for all containers that use the volume, there while one of them runs.
//!
//! It is mounted over the volume's own directory, as Docker does it, so that a container started later, `cp` and
//! copying up all meet the same files, and a daemon that was killed finds it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::mount::{MountAttrFlags, UnmountFlags};
use wharf_sys::mount::{Attributes, DetachedMount, Propagation};

use super::{Volumes, device_mount, directory, lock};
use crate::container::spec::points::{Kind, Point};
use crate::error::{Error, Result};

/// Running containers by volume.
pub(super) type Running = BTreeMap<String, BTreeSet<String>>;

impl Volumes {
    /// Container `id` is about to run with `points`: what is shared is mounted, unless it is already.
    ///
    /// # Errors
    /// What the kernel refused, and documents that cannot be read.
    pub fn enter(&self, id: &str, points: &[Point]) -> Result<()> {
        let _changing = lock(&self.changing);
        for name in volumes(points) {
            let place = directory(&self.data_root, name);
            let Some((kind, device, options)) = device_mount(&place)?.filter(|(kind, ..)| kind == "tmpfs")
            else {
                continue;
            };
            let data = place.join("_data");
            if !is_mounted(&data) {
                mount(&kind, &device, &options, &data).map_err(|error| {
                    Error::internal(format!(
                        "failed to mount local volume: mount {device}:{}: {error}",
                        data.display()
                    ))
                })?;
            }
            lock(&self.running).entry(name.to_owned()).or_default().insert(id.to_owned());
        }
        Ok(())
    }

    /// Container `id` was found running by a new daemon.
    pub fn found_running(&self, id: &str, points: &[Point]) {
        let mut running = lock(&self.running);
        for name in volumes(points) {
            running.entry(name.to_owned()).or_default().insert(id.to_owned());
        }
    }

    /// Container `id` does not run any more: what nobody else uses goes, with all that is in it.
    pub fn leave(&self, id: &str, points: &[Point]) {
        if volumes(points).next().is_none() {
            return;
        }
        let _changing = lock(&self.changing);
        for name in volumes(points) {
            let mut running = lock(&self.running);
            let Some(users) = running.get_mut(name) else { continue };
            users.remove(id);
            if users.is_empty() {
                running.remove(name);
                drop(running);
                self.unmount(name);
            }
        }
    }

    /// Takes away what containers left that ended while no daemon was there.
    pub fn unmount_unused(&self) {
        let _changing = lock(&self.changing);
        for name in self.names() {
            if !lock(&self.running).contains_key(&name) {
                self.unmount(&name);
            }
        }
    }

    fn unmount(&self, name: &str) {
        let place = directory(&self.data_root, name);
        let shared = device_mount(&place).ok().flatten().is_some_and(|(kind, ..)| kind == "tmpfs");
        let data = place.join("_data");
        if shared
            && is_mounted(&data)
            && let Err(error) = rustix::mount::unmount(&data, UnmountFlags::DETACH)
        {
            tracing::warn!("unmount volume {name}: {error}");
        }
    }
}

fn volumes(points: &[Point]) -> impl Iterator<Item = &str> {
    points.iter().filter(|point| point.kind == Kind::Volume).map(|point| point.name.as_str())
}

/// Whether another file system lies over a directory.
fn is_mounted(data: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    data.parent().is_some_and(|parent| device(data).is_some() && device(data) != device(parent))
}

fn mount(kind: &str, device: &str, options: &[String], data: &Path) -> std::io::Result<()> {
    let mut attributes = MountAttrFlags::empty();
    let mut own = Vec::new();
    for option in options.iter().map(String::as_str).filter(|option| !option.is_empty()) {
        match option {
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "rw" | "suid" | "dev" | "exec" | "defaults" => {}
            other => own.push(other),
        }
    }
    let made = DetachedMount::new(kind, device, &own, attributes)?;
    made.set_attr(&Attributes::new().propagation(Propagation::Private), false)?;
    Ok(made.attach(File::open(data)?.as_fd())?)
}
