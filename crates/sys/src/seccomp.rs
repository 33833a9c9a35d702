//! Installing a system call filter (`seccomp(2)`).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::{
    error::{Error, Result},
    process::errno,
};
use rustix::io::Errno;

/// `struct sock_filter`: one instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped where a comparison holds.
    pub jump_true: u8,
    /// Instructions skipped where it does not.
    pub jump_false: u8,
    /// Constant.
    pub value: u32,
}

/// Flags of a filter, see `SECCOMP_FILTER_FLAG_*` in `linux/seccomp.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterFlags(pub u64);

impl FilterFlags {
    /// Applies to all threads.
    pub const TSYNC: u64 = 1;
    /// Logs all actions but allow.
    pub const LOG: u64 = 2;
    /// Leaves speculative execution as it is.
    pub const SPEC_ALLOW: u64 = 4;
    /// Answers with a descriptor for notifications.
    pub const NEW_LISTENER: u64 = 8;
    /// A notified call waits for its answer through non-fatal signals.
    pub const WAIT_KILLABLE_RECV: u64 = 32;
}

/// Filters the system calls of this process and all it executes from now on. With `NEW_LISTENER` answers
/// the descriptor that notifications come from.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN and `no_new_privs`, `EINVAL` for a malformed program.
pub fn install(program: &[Instruction], flags: FilterFlags) -> Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let failed = |errno| Error::new("install seccomp filter", errno);
    let length = u16::try_from(program.len()).map_err(|_| failed(Errno::TOOBIG))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` and the program it points to outlive the call, which only reads them; the layout
    // of `Instruction` is that of `sock_filter`.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags.0, &raw const filter) };
    match RawFd::try_from(result) {
        Ok(fd) if fd >= 0 && flags.0 & FilterFlags::NEW_LISTENER != 0 => {
            // SAFETY: the kernel has just made this descriptor for us alone.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        Ok(0) => Ok(None),
        _ => Err(failed(errno())),
    }
}
