//! Descriptors that a process was started with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that were taken already.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes ownership of a descriptor that whoever started this process had placed at `number` (3 to 63), and
/// lets it close on exec. To be called first thing in a program, before it opens anything itself.
///
/// # Errors
/// `EBADF` when there is none, or it was taken before.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    let bit =
        u32::try_from(number).ok().filter(|n| (3..64).contains(n)).map(|n| 1_u64 << n).ok_or_else(bad)?;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(bad());
    }
    // SAFETY: fcntl with F_SETFD touches no memory, and fails for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, came from the parent process, and TAKEN says that nobody took it before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
