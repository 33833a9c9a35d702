//! Paths that a container may not read, and those it may not write.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
    mount::MountAttrFlags,
};
use wharf_sys::mount::{Attributes, DetachedMount, Propagation};

use super::Tree;
use crate::{
    error::{LaunchError, Result},
    launch::Plan,
};

pub(crate) fn apply(plan: &Plan<'_>, tree: &Tree) -> Result<()> {
    for path in &plan.linux.readonly_paths {
        make_read_only(tree, path)
            .map_err(|error| LaunchError::other(format!("make {path} read-only: {error}")))?;
    }
    let mut covers = Covers::default();
    for path in &plan.linux.masked_paths {
        covers.mask(tree, path).map_err(|error| LaunchError::other(format!("mask {path}: {error}")))?;
    }
    Ok(())
}

/// Opens a path; one that does not exist needs nothing.
fn open(tree: &Tree, path: &str) -> Result<Option<std::os::fd::OwnedFd>> {
    match tree.root.open_at(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(LaunchError::other(error)),
    }
}

fn make_read_only(tree: &Tree, path: &str) -> Result<()> {
    let Some(place) = open(tree, path)? else { return Ok(()) };
    let copy = DetachedMount::clone_tree(place.as_fd(), "", true)?;
    copy.set_attr(&Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY), true)?;
    copy.attach(place.as_fd())?;
    Ok(())
}

/// What masked paths are covered with; made when first needed, then copied.
#[derive(Default)]
struct Covers {
    directory: Option<DetachedMount>,
    file: Option<DetachedMount>,
}

impl Covers {
    fn mask(&mut self, tree: &Tree, path: &str) -> Result<()> {
        let Some(place) = open(tree, path)? else { return Ok(()) };
        let stat = rustix::fs::fstat(&place).map_err(LaunchError::other)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.mask_file(tree, place.as_fd());
        }
        if let Some(cover) = &self.directory {
            return Ok(cover.try_clone()?.attach(place.as_fd())?);
        }
        let options = ["size=0", "nr_inodes=1", "mode=755"];
        let cover = DetachedMount::new("tmpfs", "tmpfs", &options, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        cover.attach(place.as_fd())?;
        self.directory = Some(cover);
        Ok(())
    }

    fn mask_file(&mut self, tree: &Tree, place: BorrowedFd<'_>) -> Result<()> {
        if let Some(cover) = &self.file {
            return Ok(cover.try_clone()?.attach(place)?);
        }
        let cover = null(tree)?;
        cover.attach(place)?;
        self.file = Some(cover);
        Ok(())
    }
}

/// The container's `/dev/null`, verified to be that device (CVE-2025-31133).
fn null(tree: &Tree) -> Result<DetachedMount> {
    let null = tree
        .root
        .open_at("/dev/null", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        .map_err(LaunchError::other)?;
    let stat = rustix::fs::fstat(&null).map_err(LaunchError::other)?;
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || number != (1, 3) {
        return Err(LaunchError::other("/dev/null is not the null device"));
    }
    let copy = DetachedMount::clone_tree(null.as_fd(), "", false)?;
    copy.set_attr(&Attributes::new().propagation(Propagation::Private), false)?;
    Ok(copy)
}
