//! One stage in namespaces of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use wharf_sys::capability::{self, CapabilitySet};
use wharf_sys::mount::{Attributes, DetachedMount};
use wharf_sys::namespace;
use wharf_sys::process::{self, CloneOptions, Forked, StringList};

use super::super::Failure;

/// A program, and what it may do and see.
pub(super) struct Stage<'a> {
    /// What it may write.
    pub(super) tree: &'a Path,
    /// Whether the tree is all that it sees; else it sees the host too, read-only.
    pub(super) enter: bool,
    /// Files of the host that must be seen.
    pub(super) needed: &'a [&'a Path],
    /// `CLONE_NEW*` bits.
    pub(super) namespaces: u64,
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) environment: &'a [String],
    pub(super) capabilities: &'a [&'a str],
}

impl Stage<'_> {
    /// Runs it to its end; every line that it says for its user goes to `say`, whose failure ends it.
    pub(super) fn run(&self, say: &mut dyn FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let options = CloneOptions { namespaces: self.namespaces, ..CloneOptions::default() };
        let child = match process::clone(&options)? {
            Forked::Parent(child) => child,
            Forked::Child => {
                if let Err(failure) = self.become_it(&writer) {
                    // The parent waits for lines: one that says what failed.
                    let _ = rustix::io::write(&writer, format!("E: {}\n", failure.message).as_bytes());
                }
                process::exit_now(127)
            }
        };
        drop(writer);
        let said = listen(reader, say);
        if said.is_err() {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
        }
        let code = process::wait(child.pid)?;
        match (said?, code) {
            (_, 0) => Ok(()),
            (Some(error), _) => Err(Failure::failed(format!("debootstrap: {error}"))),
            (None, code) => Err(Failure::failed(format!("debootstrap ended with {code}"))),
        }
    }

    /// In the child: never returns, unless something fails.
    fn become_it(&self, output: &OwnedFd) -> Result<(), Failure> {
        // Whoever waits for it gone, it has to go, and all in its pid namespace with it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
        rustix::process::setsid().map_err(std::io::Error::from)?;
        namespace::make_mounts_private()?;
        namespace::set_hostname("localhost")?;
        if self.enter {
            enter(self.tree)?
        } else {
            lock(self.tree, self.needed)?
        }
        let nothing =
            openat(CWD, "/dev/null", OFlags::RDONLY, Mode::empty()).map_err(std::io::Error::from)?;
        rustix::stdio::dup2_stdin(&nothing).map_err(std::io::Error::from)?;
        rustix::stdio::dup2_stdout(output).map_err(std::io::Error::from)?;
        rustix::stdio::dup2_stderr(output).map_err(std::io::Error::from)?;
        process::close_on_exec_from(3)?;
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        process::reset_signals()?;
        limit(self.capabilities)?;
        let program = std::ffi::CString::new(self.program.as_os_str().as_bytes())?;
        let arguments =
            std::iter::once(self.program.display().to_string()).chain(self.arguments.iter().cloned());
        let errno =
            process::execve(&program, &StringList::new(arguments)?, &StringList::new(self.environment)?);
        Err(Failure::failed(format!("run {}: {errno}", self.program.display())))
    }
}

/// Hands on what the tool says; answers the last thing it called an error.
fn listen(
    reader: OwnedFd,
    say: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let mut error = None;
    for line in BufReader::new(File::from(reader)).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        match line.split_once(": ") {
            Some(("E", text)) => error = Some(text.to_owned()),
            Some(("I", text)) => say(text)?,
            Some(("W", text)) => say(&format!("warning: {text}"))?,
            _ => {}
        }
    }
    Ok(error)
}

/// Places of the host that are shared or have sockets.
const HIDDEN: [&str; 2] = ["/tmp", "/run"];

/// Makes all of the host read-only but the tree, and takes away what is in [`HIDDEN`] but the files that are `needed`.
fn lock(tree: &Path, needed: &[&Path]) -> Result<(), Failure> {
    let kept: Vec<(PathBuf, Vec<u8>)> = needed
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .filter(|path| HIDDEN.iter().any(|place| path.starts_with(place)))
        .map(|path| std::fs::read(&path).map(|bytes| (path, bytes)))
        .collect::<Result<_, _>>()?;
    let writable = DetachedMount::clone_tree(CWD, tree, false)?;
    let root =
        openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(std::io::Error::from)?;
    let read_only = Attributes::new().set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    wharf_sys::mount::set_attributes(root.as_fd(), &read_only, true)?;
    for place in HIDDEN {
        let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attach(&DetachedMount::new("tmpfs", "tmpfs", &["size=64m", "mode=1777"], safe)?, Path::new(place))?;
    }
    // It may be below one of them.
    std::fs::create_dir_all(tree)?;
    attach(&writable, tree)?;
    attach(&proc()?, Path::new("/proc"))?;
    for (path, bytes) in kept {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, bytes)?;
    }
    Ok(std::env::set_current_dir("/")?)
}

/// Makes the tree all that there is.
fn enter(tree: &Path) -> Result<(), Failure> {
    let mount = DetachedMount::clone_tree(CWD, tree, false)?;
    attach(&mount, tree)?;
    attach(&proc()?, &tree.join("proc"))?;
    let root =
        openat(CWD, tree, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(std::io::Error::from)?;
    Ok(namespace::pivot_root(root.as_fd())?)
}

fn proc() -> Result<DetachedMount, Failure> {
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(DetachedMount::new("proc", "proc", &[], safe)?)
}

fn attach(mount: &DetachedMount, place: &Path) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(CWD, place, flags, Mode::empty()).map_err(std::io::Error::from)?;
    Ok(mount.attach(place.as_fd())?)
}

/// Leaves no more capabilities than these, for good.
fn limit(names: &[&str]) -> Result<(), Failure> {
    let (asked, _) = CapabilitySet::from_names(names);
    let kept = asked.and(capability::permitted()?);
    capability::limit_bounding(kept)?;
    capability::set(kept, kept, CapabilitySet::EMPTY)?;
    Ok(capability::set_no_new_privileges()?)
}
