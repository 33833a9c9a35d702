//! Starting a detached helper process from a many-threaded one.

use std::ffi::{CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::pidfd::PidFd;

/// The number of the first descriptor that a helper gets; the others follow it.
pub const FIRST_DESCRIPTOR: i32 = 3;
/// Numbers below this one may be a helper's; the originals are moved above before they are put in place.
const ABOVE: i32 = 64;

/// Executes `executable` in a new session with the given arguments (the program's name first), an empty
/// environment, no signal blocked or ignored, `/dev/null` as standard input and output, the caller's standard
/// error, and `descriptors` as 3, 4, 5 …; the caller's other descriptors must close on exec. The caller's
/// thread rests until the program was executed, and the caller's memory is not copied (`posix_spawn`).
///
/// # Errors
/// What `execve(2)` says of the executable; `EINVAL` for a NUL in an argument.
pub fn spawn(
    executable: BorrowedFd<'_>,
    arguments: &[OsString],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<PidFd> {
    let executable = fcntl_dupfd_cloexec(executable, ABOVE)?;
    let path = CString::new(format!("/proc/self/fd/{}", executable.as_raw_fd()))?;
    let arguments: Vec<CString> =
        arguments.iter().map(|one| CString::new(one.clone().into_vec())).collect::<Result<_, _>>()?;
    let mut argv: Vec<*mut libc::c_char> = arguments.iter().map(|one| one.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let environment = [std::ptr::null_mut()];

    let null = crate::pipe::null()?;
    let moved: Vec<OwnedFd> =
        descriptors.iter().map(|fd| fcntl_dupfd_cloexec(fd, ABOVE)).collect::<Result<_, Errno>>()?;
    let mut actions = Actions::new()?;
    actions.put(null.as_raw_fd(), 0)?;
    actions.put(null.as_raw_fd(), 1)?;
    for (fd, target) in moved.iter().zip(FIRST_DESCRIPTOR..ABOVE) {
        actions.put(fd.as_raw_fd(), target)?;
    }
    let attributes = Attributes::detached()?;

    let mut pid = 0;
    // SAFETY: path and argv point to NUL-terminated strings that live until the call returns, both arrays
    // end in null, and the actions and attributes were initialised.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    PidFd::open(pid)
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises the local, which is used only when that succeeded.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn put(&mut self, fd: i32, target: i32) -> io::Result<()> {
        // SAFETY: the actions were initialised by `new`.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd, target) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: the actions were initialised by `new` and are not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A new session, every signal with its default action and none blocked.
    fn detached() -> io::Result<Self> {
        /// spawn.h of glibc; the `libc` crate lacks it.
        const SETSID: libc::c_int = 0x80;
        let flags = SETSID | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the local, which is used only when that succeeded.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        // SAFETY: sigset_t is plain integers, for which zero is a value; both sets live through the calls,
        // and the attributes are initialised.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            let mut all = none;
            libc::sigemptyset(&raw mut none);
            libc::sigfillset(&raw mut all);
            libc::sigdelset(&raw mut all, libc::SIGKILL);
            libc::sigdelset(&raw mut all, libc::SIGSTOP);
            check(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const none))?;
            check(libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &raw const all))?;
            // All flags fit: the largest is 0x80.
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as libc::c_short))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the attributes were initialised by `detached` and are not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// The spawn functions return an error's number instead of setting `errno`.
fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;
    use crate::pidfd::Ended;
    use crate::pipe::Pipe;

    #[test]
    fn a_helper_gets_its_descriptors_and_no_environment() {
        let shell = File::open("/bin/sh").unwrap();
        let (first, second) = (Pipe::new().unwrap(), Pipe::new().unwrap());
        let script = "echo one >&3; echo two >&4; env | grep -c CARGO >&4; exit 3";
        let arguments = ["sh".into(), "-c".into(), script.into()];
        let child = spawn(shell.as_fd(), &arguments, &[first.write.as_fd(), second.write.as_fd()]).unwrap();
        drop((first.write, second.write));
        let mut text = String::new();
        File::from(first.read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        text.clear();
        File::from(second.read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "two\n0\n");
        assert_eq!(child.wait().unwrap(), Ended::Code(3));
    }

    #[test]
    fn what_cannot_be_executed_is_an_error() {
        let directory = File::open("/").unwrap();
        let error = spawn(directory.as_fd(), &["x".into()], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
