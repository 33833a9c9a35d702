//! The loop of a container's pid 1: start a program, pass signals on, collect what ends.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    process::{self, StringList, errno, exit_code},
};

/// Signals that speak of a fault of this process itself; all others are passed on.
const OWN: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Runs a program until it ends and answers its exit code.
pub fn run(args: &[OsString]) -> i32 {
    match start(args).and_then(|(child, signals)| watch(child, &signals)) {
        Ok(code) => code,
        Err(error) => {
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("init: {error}\n").as_bytes());
            match error.errno() {
                Errno::NOENT => 127,
                Errno::ACCESS | Errno::NOEXEC => 126,
                _ => 1,
            }
        }
    }
}

/// All signals that are waited for instead of being delivered.
fn waited_for() -> libc::sigset_t {
    // SAFETY: `sigset_t` is plain data that `sigfillset` fills; the others change it in place.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        for signal in OWN {
            libc::sigdelset(&raw mut set, signal);
        }
        set
    }
}

fn start(args: &[OsString]) -> Result<(i32, libc::sigset_t)> {
    let Some(name) = args.first() else { return Err(Error::new("no program given", Errno::INVAL)) };
    let list = StringList::new(args)?;
    let signals = waited_for();
    // SAFETY: `signals` outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const signals, std::ptr::null_mut()) };
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::new("make pipe", errno))?;
    let child = process::fork_child(|| {
        let failed = exec_in_foreground(name, &list);
        let _ = rustix::io::write(&writer, &failed.raw_os_error().to_ne_bytes());
        127
    })?;
    drop(writer);
    let mut answer = [0; 4];
    match rustix::io::read(&reader, &mut answer) {
        Ok(4) => {
            let errno = Errno::from_raw_os_error(i32::from_ne_bytes(answer));
            Err(Error::new(format!("exec {}", name.to_string_lossy()), errno))
        }
        _ => Ok((child, signals)),
    }
}

/// The program leads its own process group, in the foreground of the terminal if there is one.
fn exec_in_foreground(name: &OsString, args: &StringList) -> Errno {
    if rustix::process::setpgid(None, None).is_ok() {
        let stdin = rustix::stdio::stdin();
        let _no_terminal = rustix::termios::tcsetpgrp(stdin, rustix::process::getpid());
    }
    if let Err(error) = process::reset_signals() {
        return error.errno();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut failed = Errno::NOENT;
    let directories = path.as_bytes().split(|byte| *byte == b':');
    let direct = name.as_bytes().contains(&b'/');
    let candidates: Vec<Vec<u8>> = if direct {
        vec![name.as_bytes().to_vec()]
    } else {
        directories.map(|dir| [dir, b"/", name.as_bytes()].concat()).collect()
    };
    let Ok(env) = StringList::new(std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    })) else {
        return Errno::INVAL;
    };
    for candidate in candidates {
        let Ok(candidate) = std::ffi::CString::new(candidate) else { return Errno::INVAL };
        let errno = process::execve(&candidate, args, &env);
        if errno != Errno::NOENT {
            failed = errno;
        }
    }
    failed
}

fn watch(child: i32, signals: &libc::sigset_t) -> Result<i32> {
    loop {
        let mut signal = 0;
        // SAFETY: both pointers refer to values that outlive the call.
        unsafe { libc::sigwait(std::ptr::from_ref(signals), &raw mut signal) };
        if signal != libc::SIGCHLD {
            // SAFETY: no memory is involved. The child's whole group gets it only from the terminal.
            unsafe { libc::kill(child, signal) };
        }
        if let Some(code) = collect(child)? {
            return Ok(code);
        }
    }
}

/// Collects all that has ended; the code if the program was among it.
fn collect(child: i32) -> Result<Option<i32>> {
    let mut answer = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => return Ok(answer),
            -1 => {
                return match errno() {
                    Errno::CHILD => Ok(answer),
                    errno => Err(Error::new("wait for processes", errno)),
                };
            }
            pid if pid == child => answer = Some(exit_code(status)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(args: &[&str]) -> i32 {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        process::wait(process::fork_child(|| run(&args)).unwrap()).unwrap()
    }

    #[test]
    fn it_ends_as_its_program_does() {
        assert_eq!(code_of(&["sh", "-c", "sleep 0.01 & exit 7"]), 7);
        assert_eq!(code_of(&["sh", "-c", "kill -TERM $$"]), 143);
        assert_eq!(code_of(&["/no/such/program"]), 127);
        assert_eq!(code_of(&["/etc/passwd"]), 126);
    }

    #[test]
    fn signals_are_passed_on() {
        assert_eq!(
            code_of(&["sh", "-c", "trap 'exit 5' USR1; kill -USR1 $PPID; while true; do sleep 0.01; done"]),
            5
        );
    }
}
