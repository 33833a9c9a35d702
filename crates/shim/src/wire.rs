//! Frames on a socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_sys::socket;

use crate::protocol::MAX_FRAME;

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket's own error; `WouldBlock` when it has to be waited for.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The other side said something that is no frame.
    #[error("malformed frame: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The frame is larger than the other side would accept.
    #[error("frame of {0} bytes is larger than {MAX_FRAME}")]
    TooLarge(usize),
}

impl WireError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Socket(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A frame's bytes.
pub(crate) fn encode(frame: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let bytes = serde_json::to_vec(frame)?;
    if bytes.len() > MAX_FRAME { Err(WireError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// Sends one frame without blocking.
///
/// # Errors
/// [`WireError::Socket`] with `WouldBlock` when the other side has to read first.
pub fn send(
    socket: impl AsFd,
    frame: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    Ok(socket::send_message(socket, &encode(frame)?, descriptors)?)
}

/// Receives one frame without blocking, using `buffer` (of [`MAX_FRAME`] bytes) for its text; `None`: the
/// other side is gone.
///
/// # Errors
/// [`WireError::Socket`] with `WouldBlock` when there is no frame yet.
pub fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
    let (length, descriptors) = socket::receive_message(socket, buffer)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, descriptors)))
}
