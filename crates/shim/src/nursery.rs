//! The daemon's end of the nursery: one process that waits to become supervisors.
//!
//! Starting a program costs more than all else a supervisor does before it serves: a new address space, the C
//! library's and the standard library's beginnings, pages of code. A fork of a process that has all that behind it
//! spares it. The children are the daemon's own (`CLONE_PARENT`), as if it had started them itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::pidfd::PidFd;
use wharf_sys::socket::{self, Kind, MAX_DESCRIPTORS};

use crate::handle::{self, Events, Handle, HandleError, Launching};
use crate::protocol::{Carried, MAX_FRAME, SupervisorConfig};
use crate::wire::WireError;

/// The word after `supervisor` that starts a nursery. What follows it is overwritten by its children, whose
/// arguments shall show which container is theirs.
pub const ROLE: &str = "--nursery";
/// How long a fork may take. One that takes longer is given up, and the nursery with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the nursery is told of a supervisor to be. Beside it travel the daemon's connection and what `given` names.
#[derive(Debug, Serialize, Deserialize)]
pub struct Birth {
    pub config: SupervisorConfig,
    pub given: Vec<Carried>,
}

/// The nursery's answer: the child's pid, its pidfd beside it, or an error number.
#[derive(Debug, Serialize, Deserialize)]
pub enum Born {
    Pid(i32),
    Failed(i32),
}

/// Makes supervisors through a nursery, which is started when the first one is wanted.
#[derive(Debug, Default)]
pub struct Nursery {
    running: Mutex<Option<Running>>,
    /// The cgroup that it and its children live in; empty: the daemon's own.
    group: String,
}

#[derive(Debug)]
struct Running {
    control: OwnedFd,
    child: PidFd,
}

impl Nursery {
    /// One whose supervisors live in a cgroup of their own, so that neither the end of a login session nor a limit
    /// of the daemon's service reaches them.
    pub fn in_group(group: String) -> Self {
        Self { group, ..Self::default() }
    }

    /// Ends the nursery, not its children, and removes the cgroup if nobody is left in it.
    pub fn close(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Ok(group) = Cgroup::open(&self.group) {
            group.remove_unused();
        }
    }

    /// As [`Handle::spawn`]; where there is trouble with the nursery, exactly that. `launch`: asks for the launch too,
    /// unless there was trouble.
    ///
    /// # Errors
    /// As [`Handle::spawn`].
    pub fn spawn(
        &self,
        executable: BorrowedFd<'_>,
        config: &SupervisorConfig,
        given: &[(Carried, BorrowedFd<'_>)],
        launch: bool,
    ) -> Result<(Handle, Events, Option<Launching>), HandleError> {
        let alone =
            || Handle::spawn(executable, config, given).map(|(handle, events)| (handle, events, None));
        if given.len() >= MAX_DESCRIPTORS {
            return alone();
        }
        handle::write_config(config)?;
        let (ours, theirs) = socket::pair(Kind::Messages).map_err(HandleError::Spawn)?;
        let birth = Birth { config: config.clone(), given: given.iter().map(|(kind, _)| *kind).collect() };
        let message = serde_json::to_vec(&birth).map_err(WireError::Malformed)?;
        let beside: Vec<_> = std::iter::once(theirs.as_fd()).chain(given.iter().map(|(_, fd)| *fd)).collect();
        match self.bear(executable, config, &message, &beside) {
            Ok(child) if launch => {
                let (handle, events, launching) = Handle::launching(ours, child)?;
                Ok((handle, events, Some(launching)))
            }
            Ok(child) => {
                let (handle, events) = Handle::over(ours, Some(child)).map_err(HandleError::Spawn)?;
                Ok((handle, events, None))
            }
            Err(_) => alone(),
        }
    }

    fn bear(
        &self,
        executable: BorrowedFd<'_>,
        config: &SupervisorConfig,
        message: &[u8],
        beside: &[BorrowedFd<'_>],
    ) -> io::Result<PidFd> {
        let mut place = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match place.take() {
            Some(running) => running,
            None => Running::start(executable, config, &self.group)?,
        };
        // Kept only if all went well: a nursery that failed once is replaced.
        let child = running.ask(message, beside)?;
        *place = Some(running);
        Ok(child)
    }
}

impl Running {
    fn start(executable: BorrowedFd<'_>, config: &SupervisorConfig, group: &str) -> io::Result<Self> {
        let (control, theirs) = socket::pair(Kind::Messages)?;
        socket::allow_messages_of(&control, MAX_FRAME);
        socket::give_up_after(&control, PATIENCE)?;
        // Together with the role exactly as long as a bundle's path.
        let length = config.bundle.as_os_str().len().saturating_sub(ROLE.len() + 1);
        let arguments = ["wharf".into(), "supervisor".into(), ROLE.into(), "-".repeat(length).into()];
        let child = handle::start_program(executable, &arguments, &[theirs.as_fd()])?;
        if !group.is_empty() {
            // Where the kernel refuses, they live where the daemon does.
            let _stays = Cgroup::create(group).and_then(|group| group.add(child.pid));
        }
        Ok(Self { control, child: child.pidfd.into() })
    }

    fn ask(&self, message: &[u8], beside: &[BorrowedFd<'_>]) -> io::Result<PidFd> {
        socket::send_message(&self.control, message, beside)?;
        let mut answer = [0; 64];
        let (length, mut descriptors) = socket::wait_message(&self.control, &mut answer)?;
        match serde_json::from_slice(&answer[..length])? {
            Born::Pid(_) => {
                descriptors.pop().map(PidFd::from).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Born::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Running {
    /// It would end by itself; its children are not its own.
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            let _reaped_by_another = self.child.wait();
        }
    }
}
