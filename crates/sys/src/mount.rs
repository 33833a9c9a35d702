//! Mounts as owned file descriptors.
//!
//! A [`DetachedMount`] is attached nowhere and vanishes with its last descriptor, so that a failure on
//! the way leaves nothing behind; attaching comes last. See `fsopen(2)`, `open_tree(2)`,
//! `move_mount(2)`, `mount_setattr(2)`.

use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
    path::Arg,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Error, Result},
    namespace::{self, IdMap},
    overlay,
};

/// How a root file system comes to be, so that it can be made again at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Recipe {
    /// A writable directory above read-only ones.
    Overlay {
        /// Read-only directories, the topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// Scratch directory on the same file system as `upper`.
        work: PathBuf,
        /// Never sync: for content that is thrown away after a crash.
        volatile: bool,
    },
    /// Read-only directories shown as one, the topmost first.
    View {
        /// Read-only directories, the topmost first.
        lower: Vec<PathBuf>,
    },
    /// A directory as it is.
    Bind {
        /// The directory.
        source: PathBuf,
    },
    /// Another one with its owners' ids mapped, as a user namespace maps them: what belongs to `inside` on the disk
    /// belongs to `outside` in the mount, and what `outside` makes there belongs to `inside` on the disk.
    Mapped {
        /// The mapping.
        ids: IdMap,
        /// What is mounted.
        recipe: Box<Recipe>,
    },
}

impl Recipe {
    /// Mounts it, attached nowhere.
    ///
    /// # Errors
    /// What the kernel refused; a missing directory is `ENOENT`.
    pub fn mount(&self) -> Result<DetachedMount> {
        match self {
            Self::Mapped { ids, recipe } => recipe.mount_mapped(ids),
            Self::Overlay { lower, upper, work, volatile } => {
                overlay::mount(lower, Some(overlay::Upper { dir: upper, work, volatile: *volatile }))
            }
            Self::View { lower } if lower.len() == 1 => {
                let mount = DetachedMount::clone_tree(CWD, &lower[0], false)?;
                mount.set_attr(&Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY), false)?;
                mount.set_attr(&Attributes::new().propagation(Propagation::Private), false)?;
                Ok(mount)
            }
            Self::View { lower } => overlay::mount(lower, None),
            Self::Bind { source } => {
                let mount = DetachedMount::clone_tree(CWD, source, false)?;
                mount.set_attr(&Attributes::new().propagation(Propagation::Private), false)?;
                Ok(mount)
            }
        }
    }

    /// The same without a mapping.
    pub fn unmapped(self) -> Self {
        match self {
            Self::Mapped { recipe, .. } => recipe.unmapped(),
            plain => plain,
        }
    }

    /// Needs a file system below that can map ids (ext4, xfs, btrfs; tmpfs from 6.3), and 5.19 for an overlay.
    fn mount_mapped(&self, ids: &IdMap) -> Result<DetachedMount> {
        let namespace = namespace::user_namespace(&ids.users, &ids.groups)?;
        match self {
            Self::Overlay { lower, upper, work, volatile } => {
                let upper = overlay::Upper { dir: upper, work, volatile: *volatile };
                overlay::mount_mapped(lower, Some(upper), namespace.as_fd(), ids.root())
            }
            Self::View { lower } if lower.len() > 1 => {
                overlay::mount_mapped(lower, None, namespace.as_fd(), ids.root())
            }
            plain => {
                let mount = plain.mount()?;
                mount.set_attr(&Attributes::new().id_map(namespace.as_fd()), false)?;
                Ok(mount)
            }
        }
    }
}

/// How mount events spread between copies of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// From the original only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and it cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of a mount's attributes (`struct mount_attr`).
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'fd> {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: Option<BorrowedFd<'fd>>,
}

impl Default for Attributes<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The access time settings are one field, not flags; setting any clears the others first.
const ATIME_MASK: u64 = 0x70;

impl<'fd> Attributes<'fd> {
    /// No change.
    pub fn new() -> Self {
        Self { set: 0, clear: 0, propagation: 0, user_namespace: None }
    }

    /// Turns attributes on.
    #[must_use]
    pub fn set(mut self, flags: MountAttrFlags) -> Self {
        self.set |= u64::from(flags.bits());
        if self.set & ATIME_MASK != 0 {
            self.clear |= ATIME_MASK;
        }
        self
    }

    /// Turns attributes off.
    #[must_use]
    pub fn clear(mut self, flags: MountAttrFlags) -> Self {
        self.clear |= u64::from(flags.bits());
        self
    }

    /// Sets an access time mode: 0 relatime, `MOUNT_ATTR_NOATIME`, `MOUNT_ATTR_STRICTATIME`.
    #[must_use]
    pub fn atime(mut self, mode: MountAttrFlags) -> Self {
        self.set = (self.set & !ATIME_MASK) | u64::from(mode.bits());
        self.clear |= ATIME_MASK;
        self
    }

    /// Sets the propagation.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation.bits();
        self
    }

    /// Maps ids as that user namespace does; only for mounts that were never attached.
    #[must_use]
    pub fn id_map(mut self, user_namespace: BorrowedFd<'fd>) -> Self {
        /// `MOUNT_ATTR_IDMAP` of `linux/mount.h`.
        const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
        self.set |= MOUNT_ATTR_IDMAP;
        self.user_namespace = Some(user_namespace);
        self
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` stands for, and those below it if `recursive`.
///
/// # Errors
/// `EINVAL` where `mount` is not the root of a mount.
pub fn set_attributes(mount: BorrowedFd<'_>, change: &Attributes<'_>, recursive: bool) -> Result<()> {
    let attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        userns_fd: change.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a terminated empty string and `attr` outlives the call, which reads exactly
    // the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::new("change mount attributes", crate::process::errno())) }
}

/// A mount without a place.
#[derive(Debug)]
pub struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// Takes over a descriptor from [`fsmount`](rustix::mount::fsmount) or a peer process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the descriptor away; the mount lives as long as it.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Makes a new file system of a kind, with options as mount(8) takes them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(kind: &str, source: &str, options: &[&str], attributes: MountAttrFlags) -> Result<Self> {
        if let Some(mount) = (kind == "overlay").then(|| overlay::of_long_options(options)).flatten() {
            let mount = mount?;
            mount.set_attr(&Attributes::new().set(attributes), false)?;
            return Ok(mount);
        }
        let context =
            fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context(|| format!("open file system {kind}"))?;
        let set = |key: &str, value: Option<&str>| match value {
            Some(value) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, key),
        };
        if !source.is_empty() {
            set("source", Some(source)).context(|| format!("set source of {kind}"))?;
        }
        for option in options {
            let (key, value) = option.split_once('=').map_or((*option, None), |(k, v)| (k, Some(v)));
            set(key, value).context(|| format!("set option {option} of {kind}"))?;
        }
        fsconfig_create(&context).context(|| format!("create file system {kind}"))?;
        Self::from_context(context.as_fd(), attributes)
            .map_err(|error| Error::new(format!("mount {kind}"), error))
    }

    pub(crate) fn from_context(
        context: BorrowedFd<'_>,
        attributes: MountAttrFlags,
    ) -> rustix::io::Result<Self> {
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(Self)
    }

    /// Copies the mount (or, `recursive`, the tree of mounts) at a path; the copy shows the same files.
    ///
    /// # Errors
    /// What the kernel refused, naming the path.
    pub fn clone_tree(dir: BorrowedFd<'_>, path: impl Arg + Copy, recursive: bool) -> Result<Self> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        open_tree(dir, path, flags).map(Self).context(|| format!("clone mount {}", path.to_string_lossy()))
    }

    /// The same for a path in another mount namespace, whose mounts cannot be cloned from here. `path` is looked up in
    /// that namespace's own tree.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn clone_tree_in(namespace: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<Self> {
        let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= libc::AT_RECURSIVE.cast_unsigned();
        }
        // The child shares the table of descriptors, so it only has to say the number.
        let answer = crate::process::fork_sharing_files(|| {
            // SAFETY: plain system calls with a terminated string that outlives them; the namespace and the working
            // directory that change are this child's alone.
            unsafe {
                if libc::unshare(libc::CLONE_FS) != 0
                    || libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) != 0
                {
                    return -i64::from(crate::process::errno().raw_os_error());
                }
                match libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) {
                    fd if fd >= 0 => fd,
                    _ => -i64::from(crate::process::errno().raw_os_error()),
                }
            }
        })
        .context(|| "clone mount of another namespace: start child")?;
        match RawFd::try_from(answer) {
            // SAFETY: the child made this descriptor in the shared table for us and has ended; nobody else knows the
            // number.
            Ok(fd) if fd >= 0 => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => {
                let errno = Errno::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EIO));
                Err(Error::new(format!("clone mount {} of another namespace", path.to_string_lossy()), errno))
            }
        }
    }

    /// A second mount of the same tree. Kernels before 6.15 answer `EINVAL` for one that is detached.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn try_clone(&self) -> Result<Self> {
        Self::clone_tree(self.0.as_fd(), "", true)
    }

    /// Attaches it over the file or directory that `place` refers to. The descriptor goes on naming
    /// the mount.
    ///
    /// # Errors
    /// `EINVAL` where it is attached in another namespace, `ENOTDIR` where one is a directory and the
    /// other is not.
    pub fn attach(&self, place: BorrowedFd<'_>) -> Result<()> {
        attach(self.0.as_fd(), place).context(|| "attach mount")
    }

    /// Attaches it over `name`, a single component, in a directory; a link of that name is not followed.
    ///
    /// # Errors
    /// As [`Self::attach`]; `EINVAL` for a path of several components.
    pub fn attach_in(&self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        if name.contains('/') {
            return Err(Error::new("attach mount", Errno::INVAL));
        }
        move_mount(self.0.as_fd(), "", dir, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .context(|| format!("attach mount {name}"))
    }

    /// Changes attributes, see [`set_attributes`].
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_attr(&self, change: &Attributes<'_>, recursive: bool) -> Result<()> {
        set_attributes(self.0.as_fd(), change, recursive)
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `move_mount(2)` from one descriptor to another.
fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_detached_tmpfs_can_be_written_through_its_descriptor() {
        let mount = DetachedMount::new("tmpfs", "tmpfs", &["size=64k"], MountAttrFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}/file", mount.as_fd().as_raw_fd());
        fs::write(&path, "text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        mount.set_attr(&Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY), true).unwrap();
        assert!(fs::write(&path, "more").is_err());
    }

    #[test]
    fn an_unknown_option_names_itself() {
        let error = DetachedMount::new("tmpfs", "", &["nonsense=1"], MountAttrFlags::empty()).unwrap_err();
        assert_eq!(error.to_string(), "set option nonsense=1 of tmpfs: invalid argument");
    }
}
