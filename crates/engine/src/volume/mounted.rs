//! Volumes that have to be mounted before they can be used: those of the local driver with a device, and those of
//! plugins.
//!
//! What has a device is mounted over the volume's own directory while a container that uses it runs, as Docker does it,
//! so that a container started later, `cp` and copying up all meet the same files, and a daemon that was killed finds it
//! again. A plugin mounts once for each container, whose id is the id that the protocol wants; that is written down
//! before it is asked, so that no mount is ever forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use wharf_sys::mount::{Attributes, DetachedMount, Propagation};

use super::disk::{self, Stored};
use super::options::DeviceMount;
use super::{Volumes, directory, host, lock};
use crate::container::spec::points::{Kind, Point};
use crate::error::{Error, Result};

/// Running containers by volume.
pub(super) type Running = BTreeMap<String, BTreeSet<String>>;

/// Where each volume of a container is on the host.
pub type Sources = BTreeMap<String, PathBuf>;

/// Volumes that are mounted for something else than a container's run; given back when it is dropped, which sleeps.
#[derive(Debug)]
pub struct Lent {
    volumes: Arc<Volumes>,
    id: String,
    points: Vec<Point>,
    sources: Sources,
}

impl Lent {
    /// Where a volume is.
    pub fn source(&self, point: &Point) -> Option<PathBuf> {
        self.sources.get(&point.name).filter(|_| point.kind == Kind::Volume).cloned()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = self.volumes.leave(&self.id, &self.points);
        self.volumes.give_back(&left);
    }
}

impl Volumes {
    /// Container `id` is about to run with `points`: what has to be mounted is, unless it is already. Answers where each
    /// volume is. Sleeps, as long as a file server or a plugin likes.
    ///
    /// # Errors
    /// What the kernel or the plugin refused, in Docker's words; `get NAME: no such volume`.
    pub fn enter(&self, id: &str, points: &[Point]) -> Result<Sources> {
        let mut sources = Sources::new();
        for name in volumes(points) {
            if !sources.contains_key(name) {
                sources.insert(name.to_owned(), self.enter_one(id, name)?);
            }
        }
        Ok(sources)
    }

    /// Mounts the volumes at `points` for a moment, where any has to be.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn lend(self: &Arc<Self>, points: &[Point]) -> Result<Option<Lent>> {
        let unusual = |name: &str| self.stored(name).is_ok_and(|stored| !stored.is_plain());
        if !volumes(points).any(unusual) {
            return Ok(None);
        }
        let mut lent = Lent {
            volumes: self.clone(),
            id: super::random_name(),
            points: points.to_vec(),
            sources: Sources::new(),
        };
        lent.sources = self.enter(&lent.id, points)?;
        Ok(Some(lent))
    }

    pub(super) fn enter_one(&self, id: &str, name: &str) -> Result<PathBuf> {
        let turn = self.turn(name);
        let _turn = lock(&turn);
        let stored = self.stored(name)?;
        let place = directory(&self.data_root, name).join("_data");
        if stored.is_plain() {
            return Ok(place);
        }
        if let Some(plugin) = &stored.plugin {
            let path = self.mounted_by(plugin, name, &stored, id)?;
            lock(&self.running).entry(name.to_owned()).or_default().insert(id.to_owned());
            return Ok(path);
        }
        let Some(device) = stored.device() else { return Ok(place) };
        let used = lock(&self.running).contains_key(name);
        // What the last container left is on its way out.
        if !used {
            unmount(name, &place);
        }
        if !is_mounted(&place) {
            mount(&device, &place)?;
        }
        lock(&self.running).entry(name.to_owned()).or_default().insert(id.to_owned());
        Ok(place)
    }

    /// Has a plugin mount a volume for a container, if it did not yet.
    fn mounted_by(&self, plugin: &str, name: &str, stored: &Stored, id: &str) -> Result<PathBuf> {
        if let Some(path) = stored.mounted.get(id).filter(|path| !path.is_empty()) {
            return Ok(PathBuf::from(path));
        }
        let failed = |why: &dyn std::fmt::Display| {
            Error::internal(format!("error while mounting volume '{}': {why}", self.plugin_path(name)))
        };
        let driver = self.plugins.driver(plugin).map_err(|error| failed(&error))?;
        self.note_mount(name, id, Some(String::new()))?;
        let path = match driver.mount(name, id) {
            Ok(path) => path,
            Err(fault) => {
                // It may have mounted it all the same: the note stays until it said otherwise.
                if driver.unmount(name, id).is_ok() || matches!(fault, super::plugin::Fault::Refused { .. }) {
                    self.note_mount(name, id, None)?;
                }
                return Err(failed(&fault));
            }
        };
        self.note_mount(name, id, Some(path.clone()))?;
        Ok(PathBuf::from(path))
    }

    fn note_mount(&self, name: &str, id: &str, path: Option<String>) -> Result<()> {
        let mut stored = self.stored(name)?;
        match path {
            Some(path) => stored.mounted.insert(id.to_owned(), path),
            None => stored.mounted.remove(id),
        };
        disk::write(&directory(&self.data_root, name), &stored)?;
        lock(&self.state).volumes.insert(name.to_owned(), stored);
        Ok(())
    }

    fn plugin_path(&self, name: &str) -> String {
        lock(&self.plugin_paths).get(name).cloned().unwrap_or_default()
    }

    /// Where a volume is for container `id`, as far as that is known.
    pub fn source(&self, id: &str, point: &Point) -> PathBuf {
        let state = lock(&self.state);
        let mounted = state.volumes.get(&point.name).and_then(|stored| stored.mounted.get(id));
        match mounted.filter(|path| point.kind == Kind::Volume && !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(&point.source),
        }
    }

    /// Container `id` was found running by a new daemon.
    pub fn found_running(&self, id: &str, points: &[Point]) {
        let mut running = lock(&self.running);
        for name in volumes(points) {
            running.entry(name.to_owned()).or_default().insert(id.to_owned());
        }
    }

    /// Container `id` does not run any more. Answers the volumes that nobody else uses and that have to be given back,
    /// by [`Self::give_back`].
    #[must_use]
    pub fn leave(&self, id: &str, points: &[Point]) -> Vec<String> {
        let mut running = lock(&self.running);
        let mut left: Vec<String> = Vec::new();
        for name in volumes(points) {
            let Some(users) = running.get_mut(name) else { continue };
            users.remove(id);
            if users.is_empty() {
                running.remove(name);
            }
            if !left.iter().any(|known| known == name) {
                left.push(name.to_owned());
            }
        }
        drop(running);
        let state = lock(&self.state);
        left.retain(|name| state.volumes.get(name).is_some_and(|stored| !stored.is_plain()));
        left
    }

    /// Unmounts what no running container uses. Sleeps, as long as a plugin likes.
    pub fn give_back(&self, names: &[String]) {
        for name in names {
            let turn = self.turn(name);
            let _turn = lock(&turn);
            if let Err(error) = self.give_back_one(name) {
                tracing::warn!("unmount volume {name}: {error}");
            }
        }
    }

    /// The same for one, whose turn the caller has.
    pub(super) fn give_back_one(&self, name: &str) -> Result<()> {
        let Ok(stored) = self.stored(name) else { return Ok(()) };
        let used = lock(&self.running).get(name).cloned().unwrap_or_default();
        if let Some(plugin) = &stored.plugin {
            for id in stored.mounted.keys().filter(|id| !used.contains(*id)) {
                let driver = self.plugins.driver(plugin)?;
                driver.unmount(name, id).map_err(|fault| Error::internal(fault.to_string()))?;
                self.note_mount(name, id, None)?;
            }
        } else if used.is_empty() && stored.device().is_some() {
            unmount(name, &directory(&self.data_root, name).join("_data"));
        }
        Ok(())
    }

    /// Gives back what containers left that ended while no daemon was there.
    pub fn unmount_unused(&self) {
        let state = lock(&self.state);
        let unusual = state.volumes.iter().filter(|(_, stored)| match &stored.plugin {
            Some(_) => !stored.mounted.is_empty(),
            None => stored.device().is_some(),
        });
        let names: Vec<String> = unusual.map(|(name, _)| name.clone()).collect();
        drop(state);
        self.give_back(&names);
    }
}

fn volumes(points: &[Point]) -> impl Iterator<Item = &str> {
    points.iter().filter(|point| point.kind == Kind::Volume).map(|point| point.name.as_str())
}

/// Whether something is mounted over a directory.
fn is_mounted(data: &Path) -> bool {
    let mount = |path: &Path| {
        statx(CWD, path, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id).ok()
    };
    data.parent().is_some_and(|parent| mount(data).is_some() && mount(data) != mount(parent))
}

fn unmount(name: &str, data: &Path) {
    if is_mounted(data)
        && let Err(error) = rustix::mount::unmount(data, UnmountFlags::DETACH)
    {
        tracing::warn!("unmount volume {name}: {error}");
    }
}

/// Mounts a device over a volume's directory.
fn mount(asked: &DeviceMount, data: &Path) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| {
        let (kind, device, options) = asked;
        let (attributes, rest) = split(options);
        let mut with = match flags(options, attributes) {
            0 => String::new(),
            flags => format!(", flags: {flags:#x}"),
        };
        if !rest.is_empty() {
            with += &format!(", data: {}", rest.join(","));
        }
        Error::internal(format!(
            "error while mounting volume '{0}': failed to mount local volume: mount {device}:{0}{with}: {why}{1}",
            data.display(),
            hint(kind)
        ))
    };
    let made = if asked.0 == "none" { bind(asked) } else { file_system(asked) };
    let made = made.map_err(|error| failed(&error))?;
    made.set_attr(&Attributes::new().propagation(Propagation::Private), true)
        .map_err(|error| failed(&error))?;
    let place = File::open(data).map_err(|error| failed(&error))?;
    made.attach(place.as_fd()).map_err(|error| failed(&error))
}

/// The flags that mount(2) would be given, which Docker tells.
fn flags(options: &[String], attributes: MountAttrFlags) -> u32 {
    let has = |flag| attributes.contains(flag);
    let pairs = [
        (has(MountAttrFlags::MOUNT_ATTR_RDONLY), 0x1),
        (has(MountAttrFlags::MOUNT_ATTR_NOSUID), 0x2),
        (has(MountAttrFlags::MOUNT_ATTR_NODEV), 0x4),
        (has(MountAttrFlags::MOUNT_ATTR_NOEXEC), 0x8),
        (has(MountAttrFlags::MOUNT_ATTR_NOATIME), 0x400),
        (has(MountAttrFlags::MOUNT_ATTR_NODIRATIME), 0x800),
        (options.iter().any(|option| option == "bind" || option == "rbind"), 0x1000),
        (options.iter().any(|option| option == "rbind"), 0x4000),
    ];
    pairs.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum()
}

/// What to know about kinds that this kernel does not have.
fn hint(kind: &str) -> String {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let listed = known.lines().any(|line| line.rsplit('\t').next() == Some(kind));
    if listed || kind == "none" { String::new() } else { format!(" (the kernel does not have {kind})") }
}

/// The options that are the mount's own, and the rest.
fn split(options: &[String]) -> (MountAttrFlags, Vec<&str>) {
    let (mut attributes, mut rest) = (MountAttrFlags::empty(), Vec::new());
    for option in options.iter().map(String::as_str).filter(|option| !option.is_empty()) {
        match option {
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "nodiratime" => attributes |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "rw" | "suid" | "dev" | "exec" | "defaults" | "bind" | "rbind" | "private" | "rprivate" => {}
            other => rest.push(other),
        }
    }
    (attributes, rest)
}

fn bind((_, device, options): &DeviceMount) -> std::io::Result<DetachedMount> {
    let recursive = options.iter().any(|option| option == "rbind");
    let source = rustix::fs::open(device.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| std::io::Error::other(wharf_sys::error::describe(errno)))?;
    let made = DetachedMount::clone_tree(source.as_fd(), "", recursive)?;
    let (attributes, _) = split(options);
    if !attributes.is_empty() {
        made.set_attr(&Attributes::new().set(attributes), false)?;
    }
    Ok(made)
}

fn file_system((kind, device, options): &DeviceMount) -> std::io::Result<DetachedMount> {
    let (attributes, rest) = split(options);
    let resolved: Vec<String> =
        rest.into_iter().map(|option| resolve(kind, option)).collect::<Result<_, _>>()?;
    let mut own: Vec<&str> = resolved.iter().map(String::as_str).collect();
    // One that is read-only as a whole can stand on a device that cannot be written.
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        own.insert(0, "ro");
    }
    Ok(DetachedMount::new(kind, device, &own, attributes)?)
}

/// A network file system's server by its address: the kernel knows no names.
fn resolve(kind: &str, option: &str) -> std::io::Result<String> {
    match option.strip_prefix("addr=") {
        Some(server) if kind.starts_with("nfs") || kind == "cifs" => {
            let found = host::addresses(server).map_err(|error| {
                std::io::Error::new(
                    error.kind(),
                    format!("error resolving passed in network volume address: {error}"),
                )
            })?;
            let address = found.first().map(IpAddr::to_string);
            Ok(format!("addr={}", address.as_deref().unwrap_or(server)))
        }
        _ => Ok(option.to_owned()),
    }
}
