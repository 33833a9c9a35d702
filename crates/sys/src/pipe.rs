//! Pipes whose ends close on exec.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The two ends of a pipe.
#[derive(Debug)]
pub struct Pipe {
    /// What is written to `write` comes out here.
    pub read: OwnedFd,
    /// The end to write to.
    pub write: OwnedFd,
}

impl Pipe {
    /// A new pipe; both ends are blocking and close on exec.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors run out.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { read, write })
    }
}

/// Asks for a pipe that holds `bytes`. The kernel refuses above `pipe-max-size` or the user's quota, and
/// the pipe then keeps the size it has, which only costs throughput.
pub fn grow(end: impl AsFd, bytes: usize) {
    let _smaller_pipe_works_too = fcntl_setpipe_size(end, bytes);
}

/// Makes reads and writes on this open file return at once (`O_NONBLOCK`, shared by its duplicates).
///
/// # Errors
/// As `fcntl(2)`; none for a valid descriptor.
pub fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(end, true)?)
}

/// `/dev/null`, for a process without standard input.
///
/// # Errors
/// As `open(2)`.
pub fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_go_through() {
        let pipe = Pipe::new().unwrap();
        grow(&pipe.write, 1 << 20);
        File::from(pipe.write).write_all(b"hello").unwrap();
        let mut text = String::new();
        File::from(pipe.read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn an_empty_nonblocking_pipe_says_so() {
        let pipe = Pipe::new().unwrap();
        set_nonblocking(&pipe.read).unwrap();
        let error = File::from(pipe.read).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
