//! Processes held by descriptor, so that a reused pid is never mistaken for them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};

/// A process, dead or alive.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It called `exit` with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Ended {
    /// As a shell says it: the code, or 128 and the signal's number.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// From the status word of `wait(2)`.
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl PidFd {
    /// The process that has `pid` now. Safe against reuse only for children that were not waited for.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Another descriptor of the same process.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends signal number `signal`; 0 only asks whether the process can be signalled.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended, `EINVAL` for a number that is no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: pidfd_send_signal(2) reads no memory when its siginfo pointer is null.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Kills it (`SIGKILL`); a process that has ended already is no error.
    ///
    /// # Errors
    /// `EPERM` when the process belongs to someone stronger.
    pub fn kill(&self) -> io::Result<()> {
        match self.signal(Signal::KILL.as_raw()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Waits for the end of a child and reaps it. Only its parent can do that.
    ///
    /// # Errors
    /// `ECHILD` when it is no child of the caller or was reaped before.
    pub fn wait(&self) -> io::Result<Ended> {
        self.wait_with(WaitIdOptions::EXITED)?.ok_or_else(|| Errno::CHILD.into())
    }

    /// As [`Self::wait`], but `None` at once while the child still runs.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn wait_with(&self, options: WaitIdOptions) -> io::Result<Option<Ended>> {
        loop {
            match waitid(WaitId::PidFd(self.0.as_fd()), options) {
                Ok(None) => return Ok(None),
                Ok(Some(status)) => {
                    return Ok(status
                        .exit_status()
                        .map(Ended::Code)
                        .or_else(|| status.terminating_signal().map(Ended::Signal)));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How a process ended that somebody else reaped: what the kernel keeps with the descriptor from 6.15
    /// on (`PIDFD_GET_INFO`). `None`: it still runs, or this kernel does not keep it.
    #[must_use]
    pub fn exit_info(&self) -> Option<Ended> {
        // linux/pidfd.h: struct pidfd_info of version 0 is 64 bytes; mask first, exit_code in its last word.
        #[repr(C)]
        struct Info {
            mask: u64,
            cgroup: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const EXIT: u64 = 1 << 3;
        const GET_INFO: libc::c_ulong = 0xC000_FF0B | ((size_of::<Info>() as libc::c_ulong) << 16);
        let mut info = Info { mask: EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
        // SAFETY: the request's number carries the size of `Info`, and the kernel writes no more than that
        // many bytes to the live, exclusively borrowed value.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as _, &raw mut info) };
        (result == 0 && info.mask & EXIT != 0).then(|| Ended::from_wait_status(info.exit_code))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.0
    }
}

/// Makes orphans among this process's descendants its children, so that it can reap them.
///
/// # Errors
/// None on any supported kernel.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Pid::from_raw(1))?)
}

/// Reaps one child that has ended: its pid and how it ended. `None`: no child has.
///
/// # Errors
/// None but what `wait4(2)` says for a caller without children, which is reported as `None` too.
pub fn reap_any() -> io::Result<Option<(i32, Ended)>> {
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                return Ok(Some((pid.as_raw_nonzero().get(), Ended::from_wait_status(status.as_raw()))));
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps children until none is left, or `patience` is over: those of a process that ends would become another's.
pub fn reap_rest(patience: Duration) {
    const PAUSE: Duration = Duration::from_micros(200);
    let begun = Instant::now();
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if begun.elapsed() < patience => std::thread::sleep(PAUSE),
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[allow(clippy::zombie_processes, reason = "waited for through the descriptor, which is what is tested")]
    fn a_killed_child_says_its_signal() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(pidfd.try_wait().unwrap(), None);
        pidfd.kill().unwrap();
        let ended = pidfd.wait().unwrap();
        assert_eq!(ended, Ended::Signal(9));
        assert_eq!(ended.shell_code(), 137);
        pidfd.kill().unwrap();
        assert_eq!(pidfd.signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    #[allow(clippy::zombie_processes, reason = "waited for through the descriptor, which is what is tested")]
    fn the_kernel_keeps_an_exit_code_after_the_reaping() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pidfd = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(pidfd.wait().unwrap(), Ended::Code(7));
        // From Linux 6.15 on; before it nobody can know.
        assert!(matches!(pidfd.exit_info(), None | Some(Ended::Code(7))));
    }
}
