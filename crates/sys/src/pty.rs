//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// The two sides of a pseudo-terminal; both close on exec.
#[derive(Debug)]
pub struct Pty {
    /// The side that types and watches.
    pub master: OwnedFd,
    /// The side that a process has as its terminal.
    pub slave: OwnedFd,
}

impl Pty {
    /// A new pseudo-terminal of the mount namespace's `/dev/pts`. The other side is opened by descriptor
    /// (`TIOCGPTPEER`), never by a path that someone could replace.
    ///
    /// # Errors
    /// `ENOENT` without a `/dev/ptmx`, `ENOSPC` when `kernel.pty.max` is reached.
    pub fn open() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&master)?;
        let slave =
            ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        Ok(Self { master, slave })
    }
}

/// Sets a terminal's size in characters; the kernel tells its foreground processes (`SIGWINCH`).
///
/// # Errors
/// `ENOTTY` when `terminal` is none.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// A terminal's size as (rows, columns).
///
/// # Errors
/// `ENOTTY` when `terminal` is none.
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let size = tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_terminal_translates_newlines_and_has_a_size() {
        let pty = Pty::open().unwrap();
        resize(&pty.master, 24, 80).unwrap();
        assert_eq!(size(&pty.slave).unwrap(), (24, 80));
        File::from(pty.slave).write_all(b"hi\n").unwrap();
        let mut text = [0; 4];
        File::from(pty.master).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hi\r\n");
    }
}
