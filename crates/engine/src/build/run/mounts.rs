//! What is mounted in a build's process: made ready below a directory of its own, and taken away with it.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use wharf_build::graph::Access;
use wharf_build::solve::{MountSource, ReadyMount};
use wharf_sys::mount::{DetachedMount, Recipe};
use wharf_sys::mountinfo;
use wharf_sys::namespace::IdMap;
use wharf_sys::root::Root;

use crate::build::{Build, SshSocket};
use crate::container::spec::points::{Kind, Point};

/// The largest secret, bytes: what BuildKit allows.
const LARGEST_SECRET: usize = 500 << 10;

/// The mounts of one process.
pub(super) struct Mounts<'a> {
    build: &'a Build,
    place: PathBuf,
    mounted: Vec<PathBuf>,
    sockets: Vec<SshSocket>,
    /// Where secrets are: memory, mounted with the first.
    secrets: Option<PathBuf>,
}

impl<'a> Mounts<'a> {
    /// Mounts at `place`, which is made when it is needed.
    pub(super) fn new(build: &'a Build, place: PathBuf) -> Self {
        Self { build, place, mounted: Vec::new(), sockets: Vec::new(), secrets: None }
    }

    /// Makes the sources ready, in order; what is optional and not there is left out.
    pub(super) fn prepare(&mut self, mounts: &[ReadyMount]) -> Result<Vec<Point>, String> {
        let mut points = Vec::new();
        for (number, mount) in mounts.iter().enumerate() {
            points.extend(self.point(number, mount)?);
        }
        Ok(points)
    }

    fn point(&mut self, number: usize, mount: &ReadyMount) -> Result<Option<Point>, String> {
        let bind = |source: PathBuf, rw: bool| {
            let mut point = Point::new(Kind::Bind, &mount.destination);
            point.source = source.to_string_lossy().into_owned();
            point.rw = rw;
            point
        };
        let selected = |tree: PathBuf| {
            let subpath = inside(&tree, &mount.selector)?;
            Ok::<_, String>(Some(Point { subpath, ..bind(tree, !mount.read_only) }))
        };
        Ok(match &mount.source {
            MountSource::Tmpfs(size) => {
                let mut point = Point::new(Kind::Tmpfs, &mount.destination);
                // Programs may be run from it, as from BuildKit's.
                point.options = size.map_or("exec".to_owned(), |size| format!("exec,size={size}"));
                Some(point)
            }
            MountSource::Directory(path) if self.ids().is_some() => {
                selected(self.mount(number, Recipe::Bind { source: path.clone() })?)?
            }
            MountSource::Directory(path) => selected(path.clone())?,
            MountSource::Layers(recipe) => selected(self.mount(number, recipe.clone())?)?,
            MountSource::Secret(access) => self.secret(number, access)?.map(|path| bind(path, false)),
            MountSource::Ssh(access) => self.ssh(access)?.map(|path| bind(path, false)),
        })
    }

    fn directory(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.place.join(name);
        let made = fs::DirBuilder::new().recursive(true).create(&path);
        made.map_err(|error| format!("mkdir {}: {error}", path.display()))?;
        Ok(path)
    }

    /// The ids that users of processes stand for, where they are not the host's.
    fn ids(&self) -> Option<&'a IdMap> {
        self.build.builds.config.remap.as_ref()
    }

    /// Whose a file is on the host that belongs to a user of the process's.
    fn owner(&self, access: &Access) -> (u32, u32) {
        let (user, group) = self.ids().map_or((0, 0), IdMap::root);
        (user.saturating_add(access.uid), group.saturating_add(access.gid))
    }

    fn mount(&mut self, number: usize, recipe: Recipe) -> Result<PathBuf, String> {
        let path = self.directory(&number.to_string())?;
        let recipe = match self.ids() {
            Some(ids) => Recipe::Mapped { ids: ids.clone(), recipe: Box::new(recipe) },
            None => recipe,
        };
        let mount = recipe.mount().map_err(|error| format!("mount layers: {error}"))?;
        self.attach(&mount, &path)?;
        Ok(path)
    }

    fn attach(&mut self, mount: &DetachedMount, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("mount at {}: {error}", path.display());
        let place = fs::File::open(path).map_err(|error| failed(&error))?;
        mount.attach(place.as_fd()).map_err(|error| failed(&error))?;
        self.mounted.push(path.to_owned());
        Ok(())
    }

    /// A secret in a file that is nowhere but in memory.
    fn secret(&mut self, number: usize, access: &Access) -> Result<Option<PathBuf>, String> {
        let Some(value) = self.build.client().secret(&access.id)? else {
            return if access.required { Err(format!("secret {}: not found", access.id)) } else { Ok(None) };
        };
        if value.len() > LARGEST_SECRET {
            return Err(format!("secret {} is larger than {LARGEST_SECRET} bytes", access.id));
        }
        let directory = match &self.secrets {
            Some(directory) => directory.clone(),
            None => {
                let path = self.directory("secrets")?;
                let flags = MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let memory = DetachedMount::new("tmpfs", "tmpfs", &["mode=0700"], flags)
                    .map_err(|error| format!("mount memory for secrets: {error}"))?;
                self.attach(&memory, &path)?;
                self.secrets.insert(path).clone()
            }
        };
        let path = directory.join(number.to_string());
        let (user, group) = self.owner(access);
        let written = (|| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&value)?;
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
            file.set_permissions(fs::Permissions::from_mode(access.mode))
        })();
        written.map_err(|error: std::io::Error| format!("write secret {}: {error}", access.id))?;
        Ok(Some(path))
    }

    fn ssh(&mut self, access: &Access) -> Result<Option<PathBuf>, String> {
        let (user, group) = self.owner(access);
        match self.build.client().ssh(&access.id, user, group, access.mode)? {
            Some(socket) => {
                let path = socket.path.clone();
                self.sockets.push(socket);
                Ok(Some(path))
            }
            None if access.required => Err(format!("no SSH key \"{}\" forwarded from the client", access.id)),
            None => Ok(None),
        }
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            if let Err(error) = unmount(path, UnmountFlags::DETACH) {
                // Removing the directory would remove what is mounted there; the next start sweeps it.
                tracing::warn!("unmount {}: {error}", path.display());
                return;
            }
        }
        match fs::remove_dir_all(&self.place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("remove {}: {error}", self.place.display());
            }
            _ => {}
        }
    }
}

/// A path inside a tree that others wrote, without links; empty: all of it.
fn inside(base: &Path, selector: &str) -> Result<String, String> {
    if selector.trim_matches('/').is_empty() {
        return Ok(String::new());
    }
    let found = Root::open(base).and_then(|root| {
        root.stat_follow(selector)?;
        root.canonicalize(selector)
    });
    let inside = found.map_err(|error| format!("failed to mount {selector}: {error}"))?;
    Ok(inside.strip_prefix("/").unwrap_or(&inside).to_string_lossy().into_owned())
}

/// Unmounts what is mounted below a directory.
///
/// # Errors
/// When something is, or may be, mounted there still: removing the directory would remove what that shows.
pub(super) fn sweep(places: &Path) -> std::io::Result<()> {
    let table = mountinfo::read().map_err(|error| error.errno())?;
    for mount in table.iter().rev().filter(|mount| mount.place.starts_with(places)) {
        unmount(&mount.place, UnmountFlags::DETACH)?;
    }
    Ok(())
}
