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

    /// Waits until the new process was executed, or has said why not.
    pub(crate) fn finish(self) -> Result<Report> {
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
                WARNING => report.warnings.push(String::from_utf8_lossy(text).into_owned()),
                CONSOLE => report.console = descriptors.pop(),
                _ => {}
            }
        }
    }
}

impl Sender {
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
