//! What the new process tells the one that made it, until exec closes the socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use wharf_sys::socket::{self, Kind};

use crate::error::{LaunchError, Result};

/// The largest message: an error or a warning.
const MESSAGE_MAX: usize = 16 * 1024;

/// Kinds of message, their first byte.
const FAILED: u8 = b'F';
const WARNING: u8 = b'W';
const CONSOLE: u8 = b'C';
const GO: u8 = b'G';
const CREATED: u8 = b'H';

/// The side of whoever waits.
#[derive(Debug)]
pub(crate) struct Receiver(OwnedFd);

/// The side of the new process.
#[derive(Debug)]
pub(crate) struct Sender(OwnedFd);

/// All that was told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) console: Option<OwnedFd>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn channel() -> Result<(Receiver, Sender)> {
    let (ours, theirs) = socket::pair(Kind::Messages).map_err(LaunchError::other)?;
    Ok((Receiver(ours), Sender(theirs)))
}

impl Receiver {
    /// Lets the new process go on past [`Sender::wait`].
    pub(crate) fn release(&self) -> Result<()> {
        socket::send_message(&self.0, &[GO], &[]).map_err(LaunchError::other)
    }

    /// Waits until the new process was executed, or has said why not. When it says that its tree stands,
    /// `created` is called, and what that answers is passed on.
    pub(crate) fn finish(self, created: impl Fn() -> Result<i32>) -> Result<Report> {
        let mut report = Report::default();
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let (length, mut descriptors) =
                socket::wait_message(&self.0, &mut buffer).map_err(LaunchError::other)?;
            let Some((kind, text)) = buffer[..length].split_first() else { return Ok(report) };
            match *kind {
                FAILED => {
                    return Err(serde_json::from_slice(text).unwrap_or_else(LaunchError::other));
                }
                CREATED => {
                    let [a, b, c, d] = created()?.to_le_bytes();
                    socket::send_message(&self.0, &[GO, a, b, c, d], &[]).map_err(LaunchError::other)?;
                }
                WARNING => report.warnings.push(String::from_utf8_lossy(text).into_owned()),
                CONSOLE => report.console = descriptors.pop(),
                _ => {}
            }
        }
    }
}

impl Sender {
    /// Says that the tree stands and waits for [`Receiver::finish`] to let it go on, with a number.
    pub(crate) fn created(&self) -> Result<i32> {
        socket::send_message(&self.0, &[CREATED], &[]).map_err(LaunchError::other)?;
        let mut answer = [0; 5];
        match socket::wait_message(&self.0, &mut answer) {
            Ok((5, _)) => Ok(i32::from_le_bytes([answer[1], answer[2], answer[3], answer[4]])),
            Ok(_) => Err(LaunchError::other("a hook failed")),
            Err(error) => Err(LaunchError::other(error)),
        }
    }

    /// Waits for [`Receiver::release`].
    pub(crate) fn wait(&self) -> Result<()> {
        match socket::wait_message(&self.0, &mut [0; 1]) {
            Ok((1, _)) => Ok(()),
            Ok(_) => Err(LaunchError::other("launch was given up")),
            Err(error) => Err(LaunchError::other(error)),
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        let message = [&[WARNING], text.as_bytes()].concat();
        // Whoever would read it is gone: then nobody is to be warned.
        let _ = socket::send_message(&self.0, &message[..message.len().min(MESSAGE_MAX)], &[]);
    }

    pub(crate) fn send_console(&self, master: BorrowedFd<'_>) -> Result<()> {
        socket::send_message(&self.0, &[CONSOLE], &[master]).map_err(LaunchError::other)
    }

    pub(crate) fn fail(&self, error: &LaunchError) {
        let mut message = vec![FAILED];
        let written = serde_json::to_writer(&mut message, error);
        // The exit code of this process is what is left when even this cannot be said.
        let _ = written.map(|()| socket::send_message(&self.0, &message, &[]));
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
