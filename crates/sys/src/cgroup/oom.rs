//! Being told when the kernel runs out of memory for a group, while the group lives.
//!
//! Version 1: an eventfd registered at `cgroup.event_control` for `memory.oom_control`
//! (`admin-guide/cgroup-v1/memory.rst`, 9). Version 2: a change of `memory.events` makes the open file ready
//! for `EPOLLPRI` (`admin-guide/cgroup-v2.rst`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{CWD, Mode, OFlags, openat},
};

use super::{Cgroup, files};
use crate::{
    epoll::EventFlags,
    error::{Context, Result},
};

/// Becomes ready when the kernel lacked memory for a group, and when the group is removed. What happened then
/// is counted by [`Cgroup::oom_kills`], perhaps a moment later.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    flags: EventFlags,
}

impl Cgroup {
    /// Begins to watch; `None` where memory is not accounted for.
    ///
    /// # Errors
    /// `ENOENT` where the group does not exist, `EMFILE` when descriptors run out.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let open = |path: &std::path::Path| {
            openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("open {}", path.display()))
        };
        if let Some(dir) = self.controller("memory") {
            let control = open(&dir.join("memory.oom_control"))?;
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(|| "make eventfd")?;
            let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
            files::write(&dir.join("cgroup.event_control"), &line)?;
            return Ok(Some(OomWatch { fd, flags: EventFlags::IN }));
        }
        let file = self.unified()?.join("memory.events");
        if !file.exists() {
            return Ok(None);
        }
        let watch = OomWatch { fd: open(&file)?, flags: EventFlags::PRI };
        watch.acknowledge();
        Ok(Some(watch))
    }
}

impl OomWatch {
    /// What to wait for.
    pub fn flags(&self) -> EventFlags {
        self.flags
    }

    /// Makes it not ready until something happens again.
    pub fn acknowledge(&self) {
        // The counters are read elsewhere; here only the reading counts.
        let mut buffer = [0; 512];
        let _nothing_new = if self.flags == EventFlags::PRI {
            rustix::io::pread(&self.fd, &mut buffer, 0)
        } else {
            rustix::io::read(&self.fd, &mut buffer[..8])
        };
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
